import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { openConfiguredAudit } from './audit/config.ts'
import { systemActor } from './audit/event.ts'
import type { Audit } from './audit/log.ts'
import { auditRecorder } from './audit/recorder.ts'
import { managedPoliciesOf, readProfiles, s3Of, type AccountConfig, type Config } from './config.ts'
import { readConfigFile } from './config-file.ts'
import { startEmbeddedIam, type EmbeddedIam } from './embedded-iam/server.ts'
import { openGuardrails, type GuardrailsInForce } from './guardrails/reload.ts'
import { atMostEvery } from './http/at-most-every.ts'
import { inContext } from './http/log-context.ts'
import type { Service } from './http/service.ts'
import { withAbacTags } from './iam/abac-tags.ts'
import { healthOf, inAccounts, type Health } from './iam/accounts.ts'
import { createIam, type DatedAnswer, type Iam, type IamClientOptions } from './iam/client.ts'
import { statusOf } from './iam/errors.ts'
import { newGrantId } from './iam/names.ts'
import { createPacer, inTurn } from './iam/pace.ts'
import { checkRoleBoundaries } from './iam/role-boundary.ts'
import { keyProvisioner } from './iam/key-provisioner.ts'
import type { PrincipalProvisioner } from './iam/provisioner.ts'
import { sessionProvisioner } from './iam/session-provisioner.ts'
import { userProvisioner } from './iam/user-provisioner.ts'
import { countedAbsence, withoutSts } from './iam/without-sts.ts'
import { loadIdentity, mintToken } from './identity/authenticator.ts'
import { IdentityConfigSchema, type IdentityConfig } from './identity/config.ts'
import type { Authenticator } from './identity/identity.ts'
import type { Ledger } from './ledger/ledger.ts'
import { openLedger } from './ledger/open.ts'
import { watchClocks, type Clocks, type Reference } from './lifecycle/clock.ts'
import type { Account, AuditPort, Deployment, GrantDeps, Log } from './lifecycle/deps.ts'
import { fairTurns } from './lifecycle/turns.ts'
import { systemClock, type Clock } from './iam/retry.ts'
import type { Metrics } from './metrics/metrics.ts'

/** The parts of a running service, put together from its configuration. Server, commands, tests and benches all start here. */
export interface Composed {
  service: Service
  deps: GrantDeps
  guardrails: GuardrailsInForce
  clocks: Clocks
  /** The IAM of this process; null: a provider outside. */
  embedded: EmbeddedIam | null
  iam: Iam
  /** The token of this one run; null: identities are configured. Printed once, kept nowhere. */
  generatedToken: string | null
  /** Closes what compose() opened; what was passed in stays open. */
  close: () => Promise<void>
}

export interface ComposeOptions {
  log: Log
  metrics?: Metrics
  /** The ledger must be there: a command beside the service must not make another one. */
  mustExist?: boolean
  overrides?: Overrides
}

/** Parts that a test or a bench brings along instead of those of the configuration. */
export interface Overrides {
  /** The clock of windows and leases, epoch ms. */
  now?: () => number
  /** This machine's clock as it is compared with others. Default: the real one. */
  wall?: () => number
  /** The clock by which waiting is measured, and the pause between two tries. */
  clock?: Clock
  newId?: () => string
  embedded?: EmbeddedIam
  iam?: Iam
  /** With a pool: the embedded IAM of each account. */
  servers?: Record<string, EmbeddedIam>
  /** With a pool: the client of each account, which tells `heard` of its calls. */
  iamIn?: (account: string, heard: Health['heard']) => Iam
  ledger?: Ledger
  audit?: Audit
  /** In the place of the audit, what the operations on grants tell it. */
  auditPort?: Partial<AuditPort>
  guardrails?: GuardrailsInForce
  authenticator?: Authenticator
  deployment?: Partial<Deployment>
  leaseMs?: number
}

/** An operation takes two deadlines at the most (an issue and its teardown): a lease of three means that a lapsed one is a crash. */
const leaseDeadlines = 3

export const compose = async (
  config: Config, { log, metrics, mustExist = false, overrides = {} }: ComposeOptions
): Promise<Composed> => {
  const closers: Array<() => Promise<unknown>> = []
  const closeAll = async () => {
    for (const close of closers.splice(0).reverse()) await close().catch(err => log.error({ err }, 'closing failed'))
  }
  /** What is opened here is closed here. */
  const opened = <T>(part: T, close: (part: T) => unknown): T => {
    closers.push(async () => close(part))
    return part
  }

  const wire = async (): Promise<Composed> => {
    const { wall = Date.now, clock = systemClock } = overrides
    const heard: Record<Reference, DatedAnswer[]> = { provider: [], ledger: [] }
    const clocks = watchClocks({
      ours: overrides.now ?? Date.now,
      wall,
      monotonic: performance.now.bind(performance),
      mostMs: config.JOB_ACCESS_MAX_CLOCK_SKEW_SECONDS * 1000,
      heard,
      ask: { provider: () => answerOf(pingIam()), ledger: () => heardFrom(stored, heard.ledger) },
      changed (wrong) {
        if (wrong) log.error({ ...wrong }, 'this machine’s clock is wrong: nothing is issued, changed or swept')
        else log.info({}, 'this machine’s clock is right again')
        recorded.noted({
          actor: systemActor('service'),
          requestId: null,
          action: wrong ? 'clock.wrong' : 'clock.right',
          outcome: wrong ? 'failed' : 'done',
          ...(wrong && { detail: { reference: wrong.reference, aheadSeconds: Math.round(wrong.aheadMs / 1000) } })
        })
      }
    })
    const { now } = clocks
    const guardrails = overrides.guardrails ?? await openGuardrails(config.JOB_ACCESS_GUARDRAILS ?? openSet)
    const deployment = { ...deploymentOf(config), ...overrides.deployment }
    const { dialect } = deployment
    const { authenticator, generatedToken } = overrides.authenticator
      ? { authenticator: overrides.authenticator, generatedToken: null }
      : authenticatorOf(config, now)

    const stored = overrides.ledger ?? opened(await openLedger({ url: config.ledgerUrl, mustExist }), ledger => ledger.close())
    metrics?.watchLedger(stored)
    const audit = overrides.audit ??
      (config.audited ? await openConfiguredAudit(config.JOB_ACCESS_AUDIT, config.instance, log) : null)
    if (audit && !overrides.audit) opened(audit, log => log.close())
    if (audit) metrics?.watchAudit(audit)
    const embedded = overrides.embedded ?? (config.JOB_ACCESS_PROVIDER === 'embedded' && !overrides.iam
      ? opened(await startEmbeddedIam(), iam => iam.stop())
      : null)

    const wrapped = (provisioner: PrincipalProvisioner) => inTurn(withAbacTags(provisioner, config.JOB_ACCESS_ABAC_TAGS))
    const wireAccount = async (settings: AccountConfig, server: EmbeddedIam | null, given?: Iam): Promise<WiredAccount> => {
      const health = healthOf(clock.now)
      const iam = given ?? overrides.iamIn?.(settings.name, health.heard) ??
        opened(iamOf(settings, dialect, server, metrics, heard.provider, clock, health), client => client.close())
      const { profiles, path, userPrefix, users: most, managedPolicies: managed } = settings
      await refuseUnboundedRoles(settings, iam, log, clock)
      const sessions = wrapped(sessionProvisioner({ iam, profiles, prefix: userPrefix, now }))
      const users = dialect.principals === 'sessions' ? sessions : wrapped(usersOrKeys(settings, dialect, iam, now, clock))
      return {
        ...settings,
        iam,
        provisioners: { inline: users, managed: users, session: sessions },
        naming: { userPrefix, pathBase: dialect.paths ? path : null },
        quota: { users: most, managed },
        isWell: health.isWell,
        ping: atMostEvery(1_000, now, () => users.ping(clock.now() + 2_000))
      }
    }
    const only = config.accounts
      ? undefined
      : await wireAccount({ ...onlyAccount(config), profiles: deployment.profiles }, embedded, overrides.iam)
    const accounts = await Promise.all((config.accounts ?? []).map(async (settings, index) => {
      const given = overrides.servers?.[settings.name]
      return wireAccount(settings, given ?? (index > 0 && embedded ? opened(await startEmbeddedIam(), iam => iam.stop()) : embedded))
    }))
    const before = accounts.find(({ earlier }) => earlier)
    const earlier = before?.name
    const [first] = only ? [only] : accounts
    // The schema of the accounts lets no file be without one.
    if (!first) throw new Error('There is no account.')
    const { iam } = first
    const pooled = (attachment: keyof GrantDeps['provisioners']) =>
      inAccounts(new Map(accounts.map(({ name, provisioners }) => [name, provisioners[attachment]])), earlier)
    const pooledUsers = pooled('inline')
    const pingIam = async () => { await (only ? only.ping() : Promise.any(accounts.map(({ ping }) => ping()))) }
    await refuseUnknownAccounts(stored, accounts, earlier, config.accounts !== undefined)
    const recorder = auditRecorder(audit, log)
    const counted = metrics ? metrics.counted(recorder) : recorder
    const recorded = { ...counted, ...overrides.auditPort }
    metrics?.watchClocks(clocks)
    const deps: GrantDeps = {
      now,
      clock: clocks,
      waitingNow: clock.now,
      deadlineMs: config.JOB_ACCESS_IAM_DEADLINE_MS,
      leaseMs: overrides.leaseMs ?? config.JOB_ACCESS_IAM_DEADLINE_MS * leaseDeadlines,
      newId: overrides.newId ?? newGrantId,
      turn: fairTurns(),
      ledger: metrics ? metrics.timed(stored) : stored,
      provisioners: only?.provisioners ?? { inline: pooledUsers, managed: pooledUsers, session: pooled('session') },
      ...(!only && { pool: { accounts, earlier } }),
      guardrails,
      audit: recorded,
      deployment,
      naming: first.naming,
      outstanding: {
        perOwner: config.JOB_ACCESS_MAX_GRANTS_PER_IDENTITY,
        // With a pool, each account has its own.
        total: only ? config.JOB_ACCESS_MAX_GRANTS : Infinity,
        managed: only?.quota.managed
      },
      log: inContext(metrics ? metrics.watchLog(log) : log)
    }
    recorded.noted({
      actor: systemActor('service'),
      requestId: null,
      action: 'service.start',
      outcome: 'done',
      detail: { provider: config.JOB_ACCESS_PROVIDER }
    })
    return {
      deps,
      guardrails,
      clocks,
      embedded,
      iam,
      generatedToken,
      service: {
        deps,
        authenticator,
        audit: recorded,
        // Of grants that name no account.
        s3: (before ?? first).s3,
        ...(!only && { accounts: accounts.map(({ name, s3, isWell, ping }) => ({ name, s3, isWell, ping })) }),
        notice: embedded ? 'Credentials of the embedded IAM, for development: they open nothing at AWS or anywhere else.' : null,
        // Whoever reaches the port may ask whether the service is ready: IAM's rate is the account's, and the disk is everybody's.
        readiness: mapValues({
          iam: pingIam,
          ledger: () => deps.ledger.ping(),
          clock: () => clocks.check(),
          ...(audit && { audit: () => audit.check() })
        }, check => atMostEvery(1_000, now, check)),
        ratePerMinute: config.JOB_ACCESS_RATE_PER_MINUTE,
        refusalsPerMinute: config.JOB_ACCESS_REFUSALS_PER_MINUTE,
        trustProxy: config.JOB_ACCESS_TRUST_PROXY ?? false
      },
      close: closeAll
    }
  }

  try {
    return await wire()
  } catch (error) {
    await closeAll()
    throw error
  }
}

/** The same names, each with another value. */
const mapValues = <T, U>(record: Record<string, T>, change: (value: T) => U): Record<string, U> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]))

/** With a pool, the profiles of all accounts: each names its role, which is in one of them. */
const deploymentOf = (config: Config): Deployment => ({
  limits: config.limits,
  dialect: config.dialect,
  profiles: config.accounts
    ? Object.fromEntries(config.accounts.flatMap(({ name, profiles }) =>
      Object.values(profiles).map(profile => [`${name}/${profile.name}`, profile])))
    : config.JOB_ACCESS_PROFILES ? readProfiles(config.JOB_ACCESS_PROFILES, config.dialect) : {}
})

interface WiredAccount extends Account, Pick<AccountConfig, 'earlier' | 's3'> { iam: Iam }

/** The account of the environment's variables, of a service without a pool. */
const onlyAccount = (config: Config): Omit<AccountConfig, 'profiles'> => ({
  name: '',
  closed: false,
  earlier: false,
  endpoint: config.iamEndpoint,
  // Where an STS beside the IAM is a danger, that one is looked for.
  stsEndpoint: config.dialect.holdsWithSts ? config.stsEndpoint : config.iamEndpoint,
  region: config.AWS_REGION,
  awsProfile: undefined,
  role: undefined,
  path: config.JOB_ACCESS_PATH,
  userPrefix: config.JOB_ACCESS_USER_PREFIX,
  boundaryArn: config.JOB_ACCESS_BOUNDARY_ARN,
  users: config.JOB_ACCESS_MAX_GRANTS,
  managedPolicies: managedPoliciesOf(config),
  s3: s3Of(config.JOB_ACCESS_S3_ENDPOINT, config.JOB_ACCESS_S3_REGION)
})

/** Nobody would end these grants: their keys would work until the window closes, and the users would stay. */
const refuseUnknownAccounts = async (
  ledger: Pick<Ledger, 'inhabited'>, accounts: Array<{ name: string }>, earlier: string | undefined, isPool: boolean
): Promise<void> => {
  const unknown = (await ledger.inhabited())
    .filter(({ account = earlier }) => account === undefined ? isPool : !accounts.some(({ name }) => name === account))
  if (unknown.length === 0) return
  const of = unknown.map(({ account = 'the account from before the pool', grants }) => `${grants} in ${account}`)
  throw new Error('JOB_ACCESS_ACCOUNTS_FILE: grants that have not ended are in accounts that it does not have, so that nothing could end ' +
    `them: ${of.join(', ')}. Name these accounts there with "closed": true until their grants have ended; ` +
    'that from before the pool is the one with "earlier": true. See docs/accounts.md.')
}

/** A refusal is an answer, too: it has a date. */
const answerOf = (ping: Promise<void>): Promise<void> => ping.catch(error => {
  if (statusOf(error) === undefined) throw error
})

const heardFrom = async (ledger: Pick<Ledger, 'time'>, heard: Pick<DatedAnswer[], 'push'>): Promise<void> => {
  const askedAt = performance.now()
  const theirs = await ledger.time()
  if (theirs !== null) heard.push({ theirs, precisionMs: 1, askedAt, heardAt: performance.now() })
}

/** A role that the service may change and assume, without the boundary, is a way to every right in the account. */
const refuseUnboundedRoles = async ({ boundaryArn, profiles }: AccountConfig, iam: Iam, log: Log, clock: Clock): Promise<void> => {
  if (!boundaryArn) return
  const { unsafe, unread } = await checkRoleBoundaries(iam, profiles, boundaryArn, clock.now() + 5_000)
  if (unsafe.length > 0) {
    throw new Error(`JOB_ACCESS_PROFILES: ${unsafe.join('; ')}. The role of a revocable profile needs ${boundaryArn}, ` +
      'or the service could give it every right: see docs/dialects.md.')
  }
  for (const fields of unread) log.warn(fields, 'the boundary of a session role could not be read: check it by hand')
}

const iamOf = (
  { name, endpoint, stsEndpoint, region, awsProfile, role }: AccountConfig, dialect: Deployment['dialect'], embedded: EmbeddedIam | null,
  metrics: Metrics | undefined, heard: NonNullable<IamClientOptions['heard']>, clock: Clock, health: Health
): Iam => createIam({
  heard,
  now: clock.now,
  sleep: clock.pause,
  region,
  pacers: { iam: createPacer(clock), sts: createPacer(clock) },
  ...(endpoint && { endpoint }),
  ...(stsEndpoint && { stsEndpoint }),
  ...(awsProfile !== undefined && { profile: awsProfile }),
  ...(role && { role }),
  ...(embedded && { endpoint: embedded.url, stsEndpoint: embedded.url, credentials: embedded.admin }),
  ...((metrics || name !== '') && {
    onCall (made) {
      const call = dialect.holdsWithSts ? made : countedAbsence(made)
      health.heard(call)
      metrics?.iamCall(call, name === '' ? undefined : name)
    }
  })
})

/** Users with their keys, or, where the provider has no users, keys alone. */
const usersOrKeys = (
  { path, userPrefix, boundaryArn }: AccountConfig, dialect: Deployment['dialect'], iam: Iam, now: () => number, clock: Clock
): PrincipalProvisioner => {
  const { principals, paths, tagged, managedPolicies, policyVersions, identityProbe, selfService, holdsWithSts } = dialect
  const provisioner = principals === 'keys'
    ? keyProvisioner({ iam, prefix: userPrefix, now, clock })
    : userProvisioner({
      iam,
      ...(paths ? { pathBase: path } : { prefix: userPrefix }),
      tagged,
      managedPolicies,
      policyVersions,
      identityProbe,
      selfService,
      now,
      clock,
      ...(boundaryArn && { permissionsBoundary: boundaryArn })
    })
  return holdsWithSts ? provisioner : withoutSts(provisioner, iam, clock)
}

const authenticatorOf = (config: Config, now: () => number): { authenticator: Authenticator, generatedToken: string | null } => {
  const clock = { now: () => new Date(now()) }
  const file = config.JOB_ACCESS_IDENTITY
  if (file) return { authenticator: loadIdentity(readConfigFile(file, IdentityConfigSchema), { ...clock, file }), generatedToken: null }
  const { token, sha256 } = mintToken('generated', randomBytes)
  const identity: IdentityConfig = { tokens: [{ id: 'generated', sha256, teams: ['*'] }], issuers: [] }
  return { authenticator: loadIdentity(identity, clock), generatedToken: token }
}

/** Team isolation alone: what holds when no guardrails are configured. Beside src and dist alike. */
const openSet = join(import.meta.dirname, '..', 'guardrails', 'open.cedar')
