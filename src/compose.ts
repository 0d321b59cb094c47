import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { ulid } from 'ulid'
import { systemActor } from './audit/event.ts'
import { auditFaults, auditOptions, type AuditConfig } from './audit/config.ts'
import { openAudit, type Audit } from './audit/log.ts'
import type { Config } from './config.ts'
import { ConfigError, readProfiles } from './config.ts'
import { startEmbeddedIam, type EmbeddedIam } from './embedded-iam/server.ts'
import { openGuardrails, type GuardrailsInForce } from './guardrails/reload.ts'
import { atMostEvery } from './http/at-most-every.ts'
import { inContext } from './http/log-context.ts'
import { recorder } from './audit/recorder.ts'
import type { Service } from './http/service.ts'
import { createIam } from './iam/client.ts'
import { dialects } from './iam/dialects/index.ts'
import { keyProvisioner } from './iam/key-provisioner.ts'
import type { PrincipalProvisioner } from './iam/provisioner.ts'
import { sessionProvisioner } from './iam/session-provisioner.ts'
import { userProvisioner } from './iam/user-provisioner.ts'
import { withoutSts } from './iam/without-sts.ts'
import { loadIdentity, type IdentityConfig } from './identity/config.ts'
import { mintToken } from './identity/tokens.ts'
import { openLedger } from './ledger/open.ts'
import type { GrantDeps, Log } from './lifecycle/deps.ts'
import type { Rules } from './lifecycle/prepare.ts'
import type { Metrics } from './metrics/metrics.ts'

/** The parts of a running service, put together from its configuration. */
export interface Composed {
  service: Service
  deps: GrantDeps
  /** Every kind of principal of this deployment, for reconciliation. */
  principals: PrincipalProvisioner[]
  guardrails: GuardrailsInForce
  /** The token of this one run; null: identities are configured. Printed once, kept nowhere. */
  generatedToken: string | null
  close: () => Promise<void>
}

export interface ComposeOptions {
  log: Log
  metrics?: Metrics
}

/** Longer than any operation's deadline twice over (an issue and its teardown), so that a lapsed claim means a crash. */
const leaseMargin = 3

export const compose = async (config: Config, { log, metrics }: ComposeOptions): Promise<Composed> => {
  const closers: Array<() => Promise<unknown>> = []
  try {
    return await build()
  } catch (error) {
    await closeAll()
    throw error
  }

  async function closeAll () {
    for (const close of closers.reverse()) await close().catch(err => log.error({ err }, 'closing failed'))
  }

  async function build (): Promise<Composed> {
    const now = () => new Date()
    const guardrails = await openGuardrails(config.JOB_ACCESS_GUARDRAILS ?? openSet)
    const rules = rulesOf(config)
    const { identity, generatedToken } = identityOf(config)
    const authenticator = loadIdentity(identity, { now })

    const stored = await openLedger({ url: config.ledgerUrl })
    closers.push(() => stored.close())
    metrics?.watchLedger(stored)
    const ledger = metrics ? metrics.timed(stored) : stored
    const audit = await auditOf(config, log)
    if (audit) closers.push(() => audit.close())
    if (audit) metrics?.watchAudit(audit)
    const embedded = config.JOB_ACCESS_PROVIDER === 'embedded' ? await startEmbeddedIam() : null
    if (embedded) closers.push(() => embedded.stop())

    const iam = createIam({
      region: config.AWS_REGION,
      ...(config.iamEndpoint && { endpoint: config.iamEndpoint }),
      // Where an STS beside the IAM is a danger, that one is looked for.
      ...(config.iamEndpoint && !rules.dialect.holdsWithSts && { stsEndpoint: config.iamEndpoint }),
      ...(embedded && { endpoint: embedded.url, stsEndpoint: embedded.url, credentials: embedded.admin }),
      ...(metrics && { onCall: metrics.iamCall })
    })
    closers.push(async () => iam.close())
    const epoch = () => Date.now()
    const { principals, paths, tagged, policyVersions, identityProbe, selfService, holdsWithSts } = rules.dialect
    const plain = principals === 'keys'
      ? keyProvisioner({ iam, prefix: config.JOB_ACCESS_USER_PREFIX, now: epoch })
      : userProvisioner({
        iam,
        ...(paths ? { pathBase: config.JOB_ACCESS_PATH } : { prefix: config.JOB_ACCESS_USER_PREFIX }),
        tagged,
        policyVersions,
        identityProbe,
        selfService,
        now: epoch,
        ...(config.JOB_ACCESS_BOUNDARY_ARN && { permissionsBoundary: config.JOB_ACCESS_BOUNDARY_ARN })
      })
    const users = holdsWithSts ? plain : withoutSts(plain, iam)
    const sessions = sessionProvisioner({ iam, profiles: rules.profiles, prefix: config.JOB_ACCESS_USER_PREFIX, now: epoch })

    const recorded = recorder(audit, log)
    const records = metrics ? metrics.counted(recorded) : recorded
    const deps: GrantDeps = {
      now: epoch,
      newId: () => ulid().toLowerCase(),
      deadline: () => Date.now() + config.JOB_ACCESS_IAM_DEADLINE_MS,
      ledger,
      principals: attachment => attachment === 'session' ? sessions : users,
      rules: () => rules,
      naming: { userPrefix: config.JOB_ACCESS_USER_PREFIX, pathBase: paths ? config.JOB_ACCESS_PATH : null },
      outstanding: { perOwner: config.JOB_ACCESS_MAX_GRANTS_PER_IDENTITY, total: config.JOB_ACCESS_MAX_GRANTS },
      leaseMs: config.JOB_ACCESS_IAM_DEADLINE_MS * leaseMargin,
      record: (grant, event) => records.changed(grant, event),
      log: inContext(metrics ? metrics.heard(log) : log)
    }
    records.noted({ actor: systemActor('service'), requestId: null, action: 'service.start', outcome: 'done', detail: { provider: config.JOB_ACCESS_PROVIDER } })
    return {
      deps,
      principals: [users, sessions],
      guardrails,
      generatedToken,
      service: {
        deps,
        authenticator,
        guardrails: () => guardrails.current(),
        recorder: records,
        s3: {
          ...(config.JOB_ACCESS_S3_ENDPOINT && { endpoint: config.JOB_ACCESS_S3_ENDPOINT }),
          ...(config.JOB_ACCESS_S3_REGION && { region: config.JOB_ACCESS_S3_REGION })
        },
        notice: noticeOf(embedded),
        // Whoever reaches the port may ask whether the service is ready, and IAM's rate is the account's.
        pingIam: atMostEvery(1_000, epoch, () => users.ping(Date.now() + 2_000)),
        ratePerMinute: config.JOB_ACCESS_RATE_PER_MINUTE,
        refusalsPerMinute: config.JOB_ACCESS_REFUSALS_PER_MINUTE,
        trustProxy: config.JOB_ACCESS_TRUST_PROXY ?? false
      },
      close: closeAll
    }
  }
}

const noticeOf = (embedded: EmbeddedIam | null): string | null =>
  embedded ? 'Credentials of the embedded IAM, for development: they open nothing at AWS or anywhere else.' : null

const rulesOf = (config: Config): Rules => {
  const file = config.JOB_ACCESS_PROFILES
  return { limits: config.limits, dialect: dialects[config.dialect], profiles: file ? readProfiles(readFileSync(file, 'utf8'), file) : {} }
}

const identityOf = (config: Config): { identity: unknown, generatedToken: string | null } => {
  if (config.JOB_ACCESS_IDENTITY) return { identity: readJson(config.JOB_ACCESS_IDENTITY), generatedToken: null }
  const { token, sha256 } = mintToken('generated', randomBytes)
  const identity: IdentityConfig = { tokens: [{ id: 'generated', sha256, teams: ['*'] }], issuers: [] }
  return { identity, generatedToken: token }
}

const auditOf = async (config: Config, log: Log): Promise<Audit | null> => {
  if (!config.audited) return null
  const file = config.JOB_ACCESS_AUDIT
  const settings: unknown = file ? readJson(file) : { path: 'audit/audit' }
  const faults = auditFaults(settings)
  if (faults.length > 0) throw new ConfigError(faults.map(({ pointer, message }) => `${file ?? ''}${pointer}: ${message}`))
  const options = auditOptions(settings as AuditConfig, { instance: config.instance, hostname: hostname(), now: () => new Date() })
  return openAudit({ ...options, onProblem: message => log.error({}, `audit: ${message}`) })
}

/** @throws ConfigError */
const readJson = (file: string): unknown => {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new ConfigError([`${file}: ${error instanceof SyntaxError ? 'is not JSON' : 'cannot be read'}`])
  }
}

/** Team isolation alone: what holds when no guardrails are configured. Beside src and dist alike. */
const openSet = join(import.meta.dirname, '..', 'guardrails', 'open.cedar')
