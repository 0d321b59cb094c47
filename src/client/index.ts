import { caller, type Call, type Caller, type ClientOptions } from './call.ts'
import { NoAnswerError } from './problem.ts'
import type {
  BlastRadius, ChangeGrantData, CheckPolicyData, Delivery, Grant, GrantEvents, GrantPage, IssueGrantData, JoinGrantData, ListGrantsData,
  ListWorkersData, PolicyExplanation, Question, RenderedPolicy, RenderPolicyData, Verdict
} from './schema.ts'

/** The typed client of job-access: one method per operation, types from its OpenAPI document, retries that honour Retry-After. */

export type GrantRequest = Omit<IssueGrantData['body'], 'format'>
export type JoinRequest = Omit<JoinGrantData['body'], 'format'>
export type PolicyRequest = RenderPolicyData['body']
export type Change = ChangeGrantData['body']
export type ListQuery = NonNullable<ListGrantsData['query']>
export type WorkersQuery = NonNullable<ListWorkersData['query']>
export type PolicyQuestion = CheckPolicyData['body']

/** Credentials as text: what a shell, an AWS profile, `credential_process` or `kubectl apply` takes. */
export const mediaTypes = {
  env: 'text/x-env',
  'aws-profile': 'text/x-aws-credentials',
  'credential-process': 'application/vnd.aws.credential-process+json',
  'kubernetes-secret': 'application/yaml'
} as const
export type TextFormat = keyof typeof mediaTypes

export interface DeliveryText {
  grantId: string
  /** In the format asked for. It holds the secret. */
  text: string
  /** With waitUntilReady: whether the provider knew the key in time. */
  ready?: boolean
}

export interface IssueOptions {
  /**
   * The same key gets the same grant, with a fresh key; every other key of it dies. Default: a new one per call, kept over its
   * retries. null: none is sent, and the job itself is the key. A repeated request then ends a key that was delivered only if it has
   * `attempt` or `replace`; without them it is not sent again when its answer was lost.
   */
  idempotencyKey?: string | null
}

export interface Client {
  /** Issues a grant; its credentials are in this answer and nowhere else. */
  issue: (request: GrantRequest, options?: IssueOptions) => Promise<Delivery>
  /** The same as text. A scheduled grant has no credentials yet, hence no text. */
  issueAs: (format: TextFormat, request: Omit<GrantRequest, 'issueAt'>, options?: IssueOptions) => Promise<DeliveryText>
  get: (id: string) => Promise<Grant>
  list: (query?: ListQuery) => Promise<GrantPage>
  events: (id: string) => Promise<GrantEvents>
  /** Its policy, statement by statement, in plain English. */
  explain: (id: string) => Promise<PolicyExplanation>
  blastRadius: (id: string) => Promise<BlastRadius>
  /** The job has ended. State `revoked`: the key is dead; `revoking`: the service goes on by itself. May be called twice. */
  complete: (id: string) => Promise<Grant>
  revoke: (id: string) => Promise<Grant>
  /** A fresh key; the old one dies after so many seconds. Not sent again when its answer is lost, since that would kill the old key. */
  rotate: (id: string, overlapSeconds?: number) => Promise<Delivery>
  rotateAs: (format: TextFormat, id: string, overlapSeconds?: number) => Promise<DeliveryText>
  /** The credentials of a scheduled grant (`issueAt`), once. */
  credentials: (id: string) => Promise<Delivery>
  /** Moves the window or changes the source; the key stays. */
  extend: (id: string, change: Change) => Promise<Grant>
  /**
   * Joins a job of workers: a key of the worker's own, in this answer and nowhere else. A lost answer is asked for again only if the
   * request has `attempt` or `replace`, since that ends the key which was lost.
   */
  join: (jobGrantId: string, request: JoinRequest) => Promise<Delivery>
  joinAs: (format: TextFormat, jobGrantId: string, request: JoinRequest) => Promise<DeliveryText>
  /** The workers of a job, newest first, those that have ended too. */
  workers: (jobGrantId: string, query?: WorkersQuery) => Promise<GrantPage>
  /** The grant of the worker that joined last under this name. */
  worker: (jobGrantId: string, name: string) => Promise<Grant>
  /**
   * This worker's key dies now; the job and its other workers go on. May be called twice. With `attempt` a later start of it is never
   * ended: 409 `worker-replaced`.
   */
  endWorker: (jobGrantId: string, name: string, query?: { attempt?: string }) => Promise<Grant>
  check: (id: string, question: Question) => Promise<Verdict>
  checkPolicy: (question: PolicyQuestion) => Promise<Verdict>
  /** Renders without issuing; with preflight it refuses what issue would refuse. */
  policy: (request: PolicyRequest, options?: { preflight?: boolean }) => Promise<RenderedPolicy>
}

/**
 * @returns a client; every method rejects with ProblemError (an answer of the service) or NoAnswerError.
 * @throws TypeError when the URL may not carry a token.
 */
export const createClient = (options: ClientOptions): Client => {
  const call = caller(options)
  const get = <T>(path: string) => json<T>(call, { method: 'GET', path, repeatable: true })
  const post = <T>(path: string, body?: object, repeatable = true) =>
    json<T>(call, { method: 'POST', path, repeatable, ...(body && { body }) })
  const keyed = ({ idempotencyKey = crypto.randomUUID() }: IssueOptions): Record<string, string> =>
    idempotencyKey === null ? {} : { 'idempotency-key': idempotencyKey }
  const issuing = (request: GrantRequest, how: IssueOptions) =>
    ({ path: '/v1/grants', headers: keyed(how), repeatable: how.idempotencyKey !== null || saysWhyAgain(request) })
  return {
    issue: (body, how = {}) => json(call, { ...issuing(body, how), method: 'POST', body }),
    issueAs: (format, request, how = {}) => textIn(format, call, { ...issuing(request, how), body: { ...request, format } }),
    get: id => get(grantPath(id)),
    list: (query = {}) => get(`/v1/grants?${parameters(query)}`),
    events: id => get(`${grantPath(id)}/events`),
    explain: id => get(`${grantPath(id)}/explanation`),
    blastRadius: id => get(`${grantPath(id)}/blast-radius`),
    complete: id => post(`${grantPath(id)}/complete`),
    revoke: id => json(call, { method: 'DELETE', path: grantPath(id), repeatable: true }),
    rotate: (id, overlapSeconds = 0) => post(`${grantPath(id)}/rotate`, { overlapSeconds }, false),
    rotateAs: (format, id, overlapSeconds = 0) =>
      textIn(format, call, { path: `${grantPath(id)}/rotate`, body: { overlapSeconds, format }, repeatable: false }),
    credentials: id => post(`${grantPath(id)}/credentials`, {}, false),
    extend: (id, body) => json(call, { method: 'PATCH', path: grantPath(id), body, repeatable: true }),
    join: (id, request) => json(call, { ...joining(id, request), method: 'POST', body: request }),
    joinAs: (format, id, request) => textIn(format, call, { ...joining(id, request), body: { ...request, format } }),
    workers: (id, query = {}) => get(`${grantPath(id)}/workers?${parameters(query)}`),
    worker: (id, name) => get(workerPath(id, name)),
    endWorker: (id, name, query = {}) =>
      json(call, { method: 'DELETE', path: `${workerPath(id, name)}?${parameters(query)}`, repeatable: true }),
    check: (id, question) => post(`${grantPath(id)}/check`, question),
    checkPolicy: question => post('/v1/policies/check', question),
    policy: (request, { preflight = false } = {}) => post(`/v1/policies${preflight ? '?preflight=true' : ''}`, request)
  }
}

/** A key that was lost with its answer is ended by the same request only if that says why. A job of workers has no key. */
const saysWhyAgain = ({ attempt, replace, workers }: Pick<GrantRequest, 'attempt' | 'replace' | 'workers'>): boolean =>
  attempt !== undefined || replace === true || workers !== undefined

const joining = (id: string, request: JoinRequest) => ({ path: `${grantPath(id)}/workers`, repeatable: saysWhyAgain(request) })

const parameters = (query: ListQuery | WorkersQuery | { attempt?: string }) =>
  new URLSearchParams(Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]))

const grantPath = (id: string) => `/v1/grants/${encodeURIComponent(id)}`
const workerPath = (id: string, name: string) => `${grantPath(id)}/workers/${encodeURIComponent(name)}`

/** The body is the one that the OpenAPI document names: the service serialises by it, so it is not checked again here. */
const json = async <T>(call: Caller, what: Call): Promise<T> => {
  const { status, headers, text } = await call(what)
  if (!headers.get('content-type')?.startsWith('application/json')) {
    throw new NoAnswerError('The answer is not JSON: is this the service’s address?', { status })
  }
  return JSON.parse(text) as T
}

const textIn = async (format: TextFormat, call: Caller, what: Omit<Call, 'method'>): Promise<DeliveryText> => {
  const { status, headers, text } = await call({ ...what, method: 'POST', headers: { ...what.headers, accept: mediaTypes[format] } })
  const grantId = headers.get('job-access-grant')
  if (grantId === null || !headers.get('content-type')?.startsWith(mediaTypes[format])) {
    throw new NoAnswerError(`The answer is not ${mediaTypes[format]}: is this the service’s address?`, { status })
  }
  const ready = headers.get('job-access-ready')
  return { grantId, text, ...(ready !== null && { ready: ready === 'true' }) }
}

export { NoAnswerError, ProblemError, type ProblemCode } from './problem.ts'
export type { ClientOptions } from './call.ts'
export type {
  BlastRadius, Credentials, Delivery, Grant, GrantEvents, GrantPage, Policy, PolicyExplanation, Question, RenderedPolicy, Verdict
} from './schema.ts'
