import type { Test } from 'tap'
import type { Audit } from '../src/audit/log.ts'
import { compose, type Composed, type ComposeOptions } from '../src/compose.ts'
import { readConfig } from '../src/config.ts'
import { startTestIam, type TestIam } from './embedded-iam/levers/start.ts'
import { loadGuardrails } from '../src/guardrails/guardrails.ts'
import type { GuardrailsInForce } from '../src/guardrails/reload.ts'
import { buildApp } from '../src/http/app.ts'
import { createIam, type Iam } from '../src/iam/client.ts'
import { dialects } from '../src/iam/dialects/index.ts'
import type { RoleProfile } from '../src/iam/role-profile.ts'
import { loadIdentity } from '../src/identity/authenticator.ts'
import { mintToken } from '../src/identity/authenticator.ts'
import type { Ledger } from '../src/ledger/ledger.ts'
import { openLedger } from '../src/ledger/open.ts'
import type { Caller, Deployment, GrantDeps, Log } from '../src/lifecycle/deps.ts'
import { normaliseRequest, proveAccess, renderAccess, type NormalisedRequest, type ProvenAccess } from '../src/lifecycle/access.ts'
import type { Authorised } from '../src/domain/access-spec.ts'
import type { Metrics } from '../src/metrics/metrics.ts'
import { defaultLimits, type Limits } from '../src/policy/limits.ts'
import { guideRequest, type GrantRequest, type PolicyRequest } from '../src/request.ts'
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
  audit?: Pick<Audit, 'record'>
  log?: Log
  metrics?: ComposeOptions['metrics']
  onCall?: Metrics['iamCall']
  now?: () => number
}

export interface Bench extends Pick<Composed, 'service' | 'deps'> {
  iam: TestIam
  client: Iam
  ledger: Ledger
  clock: { now: number, advance: (ms: number) => void }
  tokens: { nlp: string, vision: string, admin: string }
}

export const silent: Log = { info () {}, warn () {}, error () {} }

export const bench = async (t: Test, options: BenchOptions = {}): Promise<Bench> => {
  const clock = { now: startOfTime, advance (ms: number) { clock.now += ms } }
  const now = options.now ?? (() => clock.now)
  const iam = options.iam ?? await startTestIam({ now: () => new Date(now()) })
  if (!options.iam) t.teardown(() => iam.stop())
  const client = createIam({ region: 'us-east-1', endpoint: iam.url, stsEndpoint: iam.url, credentials: iam.admin, attemptMs: options.deadlineMs ? options.deadlineMs / 2 : 5_000, ...(options.onCall && { onCall: options.onCall }) })
  t.teardown(() => client.close())
  const stored = await openLedger({ url: options.ledgerUrl ?? ':memory:' })
  t.teardown(() => stored.close())
  const ledger = options.ledger ? options.ledger(stored) : stored
  const nlp = mintToken('nlp')
  const vision = mintToken('vision')
  const admin = mintToken('admin')
  const { perOwner = 1000, total = 1000 } = options.outstanding ?? {}
  const config = readConfig({
    JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: String(perOwner),
    JOB_ACCESS_MAX_GRANTS: String(total),
    JOB_ACCESS_RATE_PER_MINUTE: String(options.ratePerMinute ?? 1_000_000),
    JOB_ACCESS_REFUSALS_PER_MINUTE: String(options.refusalsPerMinute ?? 1_000_000),
    JOB_ACCESS_BOUNDARY_ARN: options.boundary
  })
  const { service, deps, close } = await compose({ ...config, JOB_ACCESS_IAM_DEADLINE_MS: options.deadlineMs ?? 15_000 }, {
    log: options.log ?? silent,
    ...(options.metrics && { metrics: options.metrics }),
    overrides: {
      now,
      newId: countedIds(),
      embedded: iam,
      iam: client,
      ledger,
      ...(options.audit && { audit: options.audit as Audit }),
      guardrails: inForce(options.guardrails ?? openSet),
      authenticator: loadIdentity({
        tokens: [
          { id: 'nlp', sha256: nlp.sha256, teams: ['nlp'] },
          { id: 'vision', sha256: vision.sha256, teams: ['vision'] },
          { id: 'admin', sha256: admin.sha256, teams: ['*'] }
        ],
        issuers: []
      }, { now: () => new Date(now()) }),
      deployment: deploymentWith(options.limits, options.profiles),
      leaseMs: options.leaseMs ?? 60_000
    }
  })
  t.teardown(close)
  service.notice = null
  return { iam, client, ledger, deps, service, clock, tokens: { nlp: nlp.token, vision: vision.token, admin: admin.token } }
}

/** Guardrails that nothing reloads. */
export const inForce = (text = openSet): GuardrailsInForce => {
  const guardrails = loadGuardrails(text, 'test.cedar')
  return { current: guardrails, reload: async () => ({ ok: true, guardrails, changed: false }) }
}

/** Ids that a test can foresee. */
export const countedIds = () => {
  let ids = 0
  return () => `01k0000000000000${String(ids++).padStart(10, '0')}`
}

export const deploymentWith = (limits: Partial<Limits> = {}, profiles: Record<string, RoleProfile> = {}): Deployment =>
  ({ limits: { ...defaultLimits, ...limits }, dialect: dialects.aws, profiles })

/** The access of a request that nobody was asked to permit. */
export const accessOf = (deployment: Deployment, request: PolicyRequest | GrantRequest, now: number): ProvenAccess =>
  proveAccess(renderAccess(deployment, normaliseRequest(deployment, request, now) as NormalisedRequest<Authorised>))

export const callerNamed = (id: string, teams: string[], requestId = 'req-1'): Caller =>
  ({ id, kind: 'token', teams, attributes: {}, requestId, ip: '192.0.2.1' })

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
