import type { Test } from 'tap'
import { buildApp } from '../src/http/app.ts'
import { startTestIam, type TestIam } from './embedded-iam/levers/start.ts'
import { loadGuardrails, type Guardrails } from '../src/guardrails/guardrails.ts'
import { recorder } from '../src/audit/recorder.ts'
import type { Service } from '../src/http/service.ts'
import { createIam, type Iam } from '../src/iam/client.ts'
import { dialects } from '../src/iam/dialects/index.ts'
import type { RoleProfile } from '../src/iam/role-profile.ts'
import { sessionProvisioner } from '../src/iam/session-provisioner.ts'
import { userProvisioner } from '../src/iam/user-provisioner.ts'
import { loadIdentity } from '../src/identity/config.ts'
import { mintToken } from '../src/identity/tokens.ts'
import type { Ledger } from '../src/ledger/ledger.ts'
import { openLedger } from '../src/ledger/open.ts'
import type { GrantDeps, Log } from '../src/lifecycle/deps.ts'
import { defaultLimits, type Limits } from '../src/policy/admit.ts'
import { guideRequest, type GrantRequest } from '../src/request.ts'
import { holdToDocument } from './http/documented.ts'

/** A whole service on the embedded IAM and a ledger in memory, with a clock that only the test moves. */

export const openSet = '@id("open") permit (principal, action, resource);'
export const startOfTime = Date.parse('2025-07-16T00:30:00Z')

export interface BenchOptions {
  guardrails?: string
  limits?: Partial<Limits>
  ledger?: (ledger: Ledger) => Ledger
  ledgerUrl?: string
  iam?: TestIam
  profiles?: Record<string, RoleProfile>
  outstanding?: GrantDeps['outstanding']
  ratePerMinute?: number
  refusalsPerMinute?: number
  deadlineMs?: number
  leaseMs?: number
  boundary?: string
  log?: Log
  now?: () => number
}

export interface Bench {
  iam: TestIam
  client: Iam
  ledger: Ledger
  deps: GrantDeps
  service: Service
  clock: { now: number, advance: (ms: number) => void }
  tokens: { nlp: string, vision: string, admin: string }
}

export const silent: Log = { info () {}, warn () {}, error () {} }

export const bench = async (t: Test, options: BenchOptions = {}): Promise<Bench> => {
  const clock = { now: startOfTime, advance (ms: number) { clock.now += ms } }
  const now = options.now ?? (() => clock.now)
  const iam = options.iam ?? await startTestIam()
  if (!options.iam) t.teardown(() => iam.stop())
  const client = createIam({ region: 'us-east-1', endpoint: iam.url, stsEndpoint: iam.url, credentials: iam.admin, attemptMs: options.deadlineMs ? options.deadlineMs / 2 : 5_000 })
  t.teardown(() => client.close())
  const stored = await openLedger({ url: options.ledgerUrl ?? ':memory:' })
  t.teardown(() => stored.close())
  const ledger = options.ledger ? options.ledger(stored) : stored
  const log = options.log ?? silent
  const rules = { limits: { ...defaultLimits, ...options.limits }, dialect: dialects.aws, profiles: options.profiles ?? {} }
  const users = userProvisioner({ iam: client, pathBase: '/job-access/', tagged: true, now, ...(options.boundary && { permissionsBoundary: options.boundary }) })
  const sessions = sessionProvisioner({ iam: client, profiles: rules.profiles, prefix: 'ja', now })
  const records = recorder(null, log)
  let ids = 0
  const deps: GrantDeps = {
    now,
    newId: () => `01k0000000000000${String(ids++).padStart(10, '0')}`,
    deadline: () => Date.now() + (options.deadlineMs ?? 15_000),
    ledger,
    principals: attachment => attachment === 'session' ? sessions : users,
    rules: () => rules,
    naming: { userPrefix: 'ja', pathBase: '/job-access/' },
    outstanding: options.outstanding ?? { perOwner: 1000, total: 1000 },
    leaseMs: options.leaseMs ?? 60_000,
    record: (grant, event) => records.changed(grant, event),
    log
  }
  const nlp = mintToken('nlp')
  const vision = mintToken('vision')
  const admin = mintToken('admin')
  const authenticator = loadIdentity({
    tokens: [
      { id: 'nlp', sha256: nlp.sha256, teams: ['nlp'] },
      { id: 'vision', sha256: vision.sha256, teams: ['vision'] },
      { id: 'admin', sha256: admin.sha256, teams: ['*'] }
    ],
    issuers: []
  }, { now: () => new Date(now()) })
  const guardrails: Guardrails = loadGuardrails(options.guardrails ?? openSet, 'test.cedar')
  const service: Service = {
    deps,
    authenticator,
    guardrails: () => guardrails,
    recorder: records,
    s3: {},
    notice: null,
    pingIam: () => users.ping(Date.now() + 2_000),
    ratePerMinute: options.ratePerMinute ?? 1_000_000,
    refusalsPerMinute: options.refusalsPerMinute ?? 1_000_000,
    trustProxy: false
  }
  return { iam, client, ledger, deps, service, clock, tokens: { nlp: nlp.token, vision: vision.token, admin: admin.token } }
}

export const appOf = async (t: Test, { service }: Pick<Bench, 'service'>, logger: Parameters<typeof buildApp>[1]['logger'] = false) => {
  let requests = 0
  const app = await buildApp(service, { logger, newRequestId: () => `req-${++requests}`, onRoute: route => holdToDocument(t, route) })
  t.teardown(() => app.close())
  await app.ready()
  return app
}

/** The guide's job, over HTTP. */
export const guideJob = (change: Partial<GrantRequest> = {}): GrantRequest => ({ ...guideRequest, ...change })

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
