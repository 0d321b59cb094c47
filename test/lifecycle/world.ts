import { CreateRoleCommand, IAMClient } from '@aws-sdk/client-iam'
import { isDeepStrictEqual } from 'node:util'
import { pino } from 'pino'
import type { Test } from 'tap'
import { startTestIam, type TestIam, type TestIamOptions } from '../embedded-iam/levers/start.ts'
import { createIam, type Iam, type IamClientOptions, type Key } from '../../src/iam/client.ts'
import { compose } from '../../src/compose.ts'
import { readConfig, type AccountConfig } from '../../src/config.ts'
import type { Credentials } from '../../src/iam/provisioner.ts'
import type { RoleProfile } from '../../src/iam/role-profile.ts'
import type { Clock } from '../../src/iam/retry.ts'
import type { Grant } from '../../src/domain/grant.ts'
import type { Ledger, NewEvent } from '../../src/ledger/ledger.ts'
import { openLedger } from '../../src/ledger/open.ts'
import type { Caller, GrantDeps } from '../../src/lifecycle/deps.ts'
import type { Order } from '../../src/lifecycle/issue.ts'
import { reconcile, type ReconcileOptions, type ReconcileReport } from '../../src/lifecycle/reconcile.ts'
import { sweep, type SweepOptions, type SweepReport } from '../../src/lifecycle/sweep.ts'
import { logOptions } from '../../src/log.ts'
import type { Limits } from '../../src/policy/limits.ts'
import { guideRequest, type GrantRequest } from '../../src/request.ts'
import { callerNamed, countedIds, deploymentWith, inForce } from '../harness.ts'

/**
 * One provider and one ledger that outlive the replicas of the service working on them. Time is one clock that moves when a
 * test moves it, or when the service waits: a deadline of 15 s passes at once, and a lease of 45 s like in production is
 * always longer.
 */
export interface World {
  /** With a pool: one of its two accounts. */
  iam: TestIam
  /** The accounts of the pool; without one: the only account, which has no name. */
  accounts: ReadonlyArray<string | undefined>
  /** The same world, looked at in another account. */
  at: (account: string | undefined) => World
  store: Ledger
  /** The provider as a bystander asks it. */
  ask: Iam
  clock: { now: number, advance: (ms: number) => void }
  /** Everything that any replica logged, as pino writes it. */
  log: string[]
  /** Every secret that the provider handed to a replica. */
  secrets: Set<string>
  /** A replica that nothing disturbs. */
  healthy: Replica
  replica: (options?: ReplicaOptions) => Promise<Replica>
  /** Time passes. */
  pass: (ms: number) => Promise<SweepReport>
}

export interface Replica {
  deps: GrantDeps
  /** From now on nothing of it comes back, and nothing leaves it. */
  die: () => void
  died: Promise<void>
  /** Ledger calls in order: `begin`, `claim`, `update active`, `record active`, ... */
  calls: string[]
  /** Stands before every ledger call. */
  intercept: Intercept | null
}

export type Intercept = (call: string, effect: () => Promise<unknown>) => Promise<unknown>

export interface ReplicaOptions {
  /** Real ms that one HTTP call may take. */
  attemptMs?: number
  outstanding?: GrantDeps['outstanding']
}

export interface WorldOptions extends TestIamOptions {
  limits?: Partial<Limits>
  profiles?: Record<string, RoleProfile>
  ledgerUrl?: string
  /** A provider that another world stopped working on. */
  on?: TestIam
  /** Two accounts, a and b, with equal room, so that a grant goes to a first. The world's `iam` is this one. */
  pool?: 'a' | 'b'
}

export const deadlineMs = 15_000
export const leaseMs = 45_000
export const startOfTime = Date.parse('2025-07-16T00:30:00Z')
export const owner: Caller = callerNamed('token:nlp', ['*'])
export const roleArn = 'arn:aws:iam::000000000000:role/jobs'
export const role: RoleProfile = { name: 'default', roleArn, maxSessionSeconds: 43_200, chained: false, revocable: true }

export const world = async (t: Test, options: WorldOptions = {}): Promise<World> => {
  const { limits, profiles = {}, ledgerUrl = ':memory:', on, pool, ...iamOptions } = options
  const clock = { now: startOfTime, advance (ms: number) { clock.now += ms } }
  const iam = on ?? await startTestIam({ now: () => new Date(clock.now), ...iamOptions })
  const other = pool && await startTestIam({ now: () => new Date(clock.now), ...iamOptions })
  const servers = other && { a: pool === 'a' ? iam : other, b: pool === 'a' ? other : iam }
  const store = await openLedger({ url: ledgerUrl })
  const log: string[] = []
  const secrets = new Set<string>()
  const clients: Iam[] = []
  t.teardown(async () => {
    for (const client of clients) client.close()
    await store.close()
    if (!on) await iam.stop()
    await other?.stop()
  })
  if (Object.keys(profiles).length > 0 && !on) for (const server of [iam, other]) if (server) await makeRole(server)
  const deployment = deploymentWith(limits, profiles)
  const newId = countedIds()

  /**
   * update() adds the change to the grant that it is given. Had that been altered since it was read, the result would not be as stored.
   * Only a difference is an assertion: there are too many updates to report each.
   */
  const sameAsStored = async (updated: Grant, name: string) => {
    const stored = await store.get(updated.id)
    const asStored = JSON.parse(JSON.stringify(updated)) as Grant
    if (stored?.version === updated.version && !isDeepStrictEqual(asStored, stored)) t.strictSame(asStored, stored, name)
  }

  const replica = async ({ attemptMs = 10_000, outstanding = { perOwner: 1000, total: 1000 } }: ReplicaOptions = {}): Promise<Replica> => {
    const dying = Promise.withResolvers<void>()
    let dead = false
    const living = async <T>(work: () => Promise<T>): Promise<T> => {
      if (dead) return never()
      try {
        return await work()
      } finally {
        // Whatever came of it, nobody is left to hear it.
        if (dead) await never()
      }
    }
    const waiting: Clock = {
      now: () => clock.now,
      pause: ms => living(async () => {
        clock.advance(ms)
        await new Promise(resolve => setImmediate(resolve))
      })
    }
    const callingOn = ({ url, admin }: TestIam, heard?: IamClientOptions['onCall']): Iam => {
      const client = createIam({
        region: 'us-east-1',
        endpoint: url,
        stsEndpoint: url,
        credentials: admin,
        attemptMs,
        now: waiting.now,
        sleep: waiting.pause,
        random: () => 1,
        ...(heard && { onCall: heard })
      })
      clients.push(client)
      return each(client, (_name, args, call) => living(async () => {
        const answer = await call(...args)
        if (isKey(answer)) secrets.add(answer.secretAccessKey)
        return answer
      }), ['close'])
    }
    const heard = async <T>(name: string, effect: () => Promise<T>): Promise<T> => living(async () => {
      it.calls.push(name)
      return it.intercept ? await it.intercept(name, effect) as T : effect()
    })
    const { deps } = await compose({
      ...config,
      JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: outstanding.perOwner,
      JOB_ACCESS_MAX_GRANTS: outstanding.total,
      accounts: pool && accounts.map(account => ({ ...account, profiles }))
    }, {
      log: pino(logOptions('trace'), { write (line: string) { log.push(line) } }),
      overrides: {
        now: waiting.now,
        clock: waiting,
        newId,
        embedded: iam,
        ...(servers
          ? { servers, iamIn: (account, heard) => callingOn(account === 'a' ? servers.a : servers.b, heard) }
          : { iam: callingOn(iam) }),
        ledger: each(store, (name, args, call) => heard(ledgerCall(name, args), async () => {
          const answer = await call(...args)
          if (name === 'update') await sameAsStored(answer as Grant, ledgerCall(name, args))
          return answer
        }), ['close', 'inhabited']),
        auditPort: { changed: (_grant, event) => heard(`record ${event.action}`, async () => {}) },
        guardrails,
        authenticator: nobody,
        deployment,
        leaseMs
      }
    })
    const it: Replica = {
      deps,
      die () {
        dead = true
        dying.resolve()
      },
      died: dying.promise,
      calls: [],
      intercept: null
    }
    return it
  }

  const healthy = await replica()
  const asking = ({ url, admin }: TestIam): Iam => {
    const ask = createIam({ region: 'us-east-1', endpoint: url, stsEndpoint: url, credentials: admin, sleep: async () => {} })
    clients.push(ask)
    return ask
  }
  const ask = asking(iam)
  const elsewhere = other && { iam: other, ask: asking(other) }
  const found: World = {
    iam,
    accounts: pool ? ['a', 'b'] : [undefined],
    at: account => account === undefined || account === pool ? found : { ...found, ...elsewhere },
    store,
    ask,
    clock,
    log,
    secrets,
    healthy,
    replica,
    pass (ms) {
      clock.advance(ms)
      return swept(healthy)
    }
  }
  return found
}

const config = readConfig({ JOB_ACCESS_IAM_DEADLINE_MS: String(deadlineMs) })
const accounts = ['a', 'b'].map((name): AccountConfig => ({
  name,
  closed: false,
  earlier: false,
  endpoint: undefined,
  stsEndpoint: undefined,
  region: config.AWS_REGION,
  awsProfile: undefined,
  role: undefined,
  path: config.JOB_ACCESS_PATH,
  userPrefix: config.JOB_ACCESS_USER_PREFIX,
  boundaryArn: undefined,
  users: 1000,
  managedPolicies: undefined,
  profiles: {},
  s3: {}
}))
const guardrails = inForce()
const nobody = { authenticate: () => Promise.reject(new Error('nothing here asks over HTTP')) }

/** The same object, every method of it passed through `wrap`. */
const each = <T extends object>(
  target: T, wrap: (name: string, args: unknown[], call: (...args: unknown[]) => Promise<unknown>) => unknown, but: string[]
): T =>
  new Proxy(target, {
    get (object, name) {
      const method = Reflect.get(object, name) as (...args: unknown[]) => Promise<unknown>
      if (but.includes(String(name))) return method
      return (...args: unknown[]) => wrap(String(name), args, method.bind(object))
    }
  })

const ledgerCall = (name: string, args: unknown[]): string => name === 'update' ? `update ${(args[2] as NewEvent).action}` : name

const isKey = (answer: unknown): answer is Key => typeof answer === 'object' && answer !== null && 'secretAccessKey' in answer

export const never = <T>(): Promise<T> => new Promise(() => {})

export const makeRole = async (iam: TestIam, RoleName = 'jobs'): Promise<void> => {
  const Principal = { AWS: `arn:aws:iam::${iam.accountId}:root` }
  const trust = { Effect: 'Allow', Principal, Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity'] }
  await byHand({ iam }, client => client.send(new CreateRoleCommand({
    RoleName,
    MaxSessionDuration: role.maxSessionSeconds,
    AssumeRolePolicyDocument: JSON.stringify({ Version: '2012-10-17', Statement: [trust] })
  })))
}

export const sweepFast: SweepOptions = { concurrency: 4, perSecond: 100_000 }
export const swept = ({ deps }: Replica, options: Partial<SweepOptions> = {}): Promise<SweepReport> =>
  sweep(deps, { ...sweepFast, ...options }, new AbortController().signal)

export const reconciled = ({ deps }: Replica, options: Partial<ReconcileOptions> = {}): Promise<ReconcileReport> =>
  reconcile(deps, { dryRun: false, graceMs: 3_600_000, concurrency: 4, perSecond: 100_000, ...options })

/** The guide's job, three hours from now. */
export const jobRequest = (change: Partial<GrantRequest> = {}): GrantRequest => ({ ...guideRequest, ...change })

export const orderOf = (request: GrantRequest, idempotencyKey?: string): Order =>
  ({ request, ...(idempotencyKey !== undefined && { idempotencyKey }) })

export const refusalOf = (work: Promise<unknown>): Promise<unknown> => work.then(() => 'not refused', error => error)

export const at = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+/, '')

/** Who a key is, by the provider; undefined: nobody. */
export const identityOf = ({ ask }: World, key: Credentials | null): Promise<string | undefined> =>
  key ? ask.callerIdentity(key, Infinity).catch(() => undefined) : Promise.resolve(undefined)

export const arnOf = (grant: Grant): string => grant.attach === 'session'
  ? `arn:aws:sts::000000000000:assumed-role/jobs/${grant.principal.name}`
  : `arn:aws:iam::000000000000:user${grant.principal.path}${grant.principal.name}`

export const rows = ({ store }: World): Promise<Grant[]> => store.list({}, { limit: 200 })

/** What the service asked the provider, from the n-th call on. */
export const actions = ({ iam }: World, from = 0): string[] =>
  iam.calls.slice(from).map(({ action }) => action).filter(action => !['GetCallerIdentity', 'CreateRole'].includes(action))

/** Does what a person at the provider's console would. */
export const byHand = async ({ iam }: Pick<World, 'iam'>, work: (client: IAMClient) => Promise<unknown>): Promise<void> => {
  const client = new IAMClient({ endpoint: iam.url, region: 'us-east-1', credentials: iam.admin })
  try {
    await work(client)
  } finally {
    client.destroy()
  }
}
