import type {
  BlastRadius, ChangeGrantData, CheckGrantData, Delivery, Grant, GrantEvents, GrantPage, IssueGrantData, PolicyExplanation, Problem,
  RenderedPolicy, RenderPolicyData, RotateGrantData, Verdict
} from '../client/schema.ts'

/** A request as the form knows it. */
export type GrantRequest = RenderPolicyData['body']
/** The same while it is filled in: the service says what is missing or wrong. */
export type Draft = { [name in keyof IssueGrantData['body']]?: unknown }

interface Options { body?: object, headers?: Record<string, string>, signal?: AbortSignal }

/**
 * The token lives in this variable alone: not in the URL, which is logged, nor in local or session storage, which every page of this origin
 * can read, Swagger UI and its dependencies among them. A reload asks for it again.
 */
let token: string | null = null

/** By how many milliseconds the service's clock is ahead of the browser's: windows are the service's. */
let ahead = 0

export const now = (): number => Date.now() + ahead

/** What the service refused, or why it could not be asked. */
export class Refusal extends Error {
  readonly problem: Problem
  readonly retryAfterSeconds: number | null
  constructor (problem: Problem, retryAfterSeconds: number | null = null) {
    super(problem.detail)
    this.problem = problem
    this.retryAfterSeconds = retryAfterSeconds
  }
}

let signedOut: (refusal: Refusal) => void = () => {}
/** The service knows the token no more, e.g. since it has expired. */
export const whenSignedOut = (handler: (refusal: Refusal) => void): void => { signedOut = handler }

export const isSignedIn = (): boolean => token !== null

export const signOut = (): void => { token = null }

/** Asks for one grant, which any valid token may do for its own teams. */
export const signIn = async (candidate: string): Promise<void> => {
  await ask(candidate, 'GET', 'v1/grants?limit=1')
  token = candidate
}

/** What a grant's page shows. */
export interface GrantDetails { grant: Grant, workers: Grant[], explained: PolicyExplanation, radius: BlastRadius, history: GrantEvents }

export const grantDetails = async (id: string, signal: AbortSignal): Promise<GrantDetails> => {
  const path = `v1/grants/${id}`
  const [grant, explained, radius, history] = await Promise.all([
    call<Grant>('GET', path, { signal }),
    call<PolicyExplanation>('GET', `${path}/explanation`, { signal }),
    call<BlastRadius>('GET', `${path}/blast-radius`, { signal }),
    call<GrantEvents>('GET', `${path}/events`, { signal })
  ])
  return { grant, workers: grant.workers === null ? [] : await liveWorkers(id, signal), explained, radius, history }
}

/** Those that hold a key, or are about to. */
export const liveWorkers = async (id: string, signal: AbortSignal): Promise<Grant[]> => {
  const workers: Grant[] = []
  for (let after: string | null | undefined = ''; typeof after === 'string';) {
    const page: GrantPage = await call('GET', `v1/grants/${id}/workers?state=live&limit=200${after && `&after=${after}`}`, { signal })
    workers.push(...page.grants)
    after = page.next
  }
  return workers
}

/** Of a later start than the one that was seen, nothing is ended. */
export const endWorker = ({ name, grantId }: NonNullable<Grant['worker']>, attempt: string | null): Promise<Grant> => {
  const meant = attempt === null ? '' : `?attempt=${encodeURIComponent(attempt)}`
  return call('DELETE', `v1/grants/${grantId}/workers/${encodeURIComponent(name)}${meant}`)
}

export const listGrants = (query: URLSearchParams, signal: AbortSignal): Promise<GrantPage> => call('GET', `v1/grants?${query}`, { signal })

/** When its key is made, and by which role, is no part of a policy. */
export const renderPolicy = (
  { issueAt: _issueAt, profile: _profile, ...body }: Draft, { preflight, signal }: { preflight: boolean, signal: AbortSignal }
): Promise<RenderedPolicy> =>
  call('POST', preflight ? 'v1/policies?preflight=true' : 'v1/policies', { body, signal })

/** With the same key it is the same grant, however often it is asked for. */
export const issueGrant = (body: Draft, key: string): Promise<Delivery> =>
  call('POST', 'v1/grants', { body, headers: { 'idempotency-key': key } })

/** Would the grant's policy allow it? */
export const checkGrant = (id: string, body: CheckGrantData['body']): Promise<Verdict> => call('POST', `v1/grants/${id}/check`, { body })

export const completeGrant = (id: string): Promise<Grant> => call('POST', `v1/grants/${id}/complete`)

export const rotateGrant = (id: string, body: RotateGrantData['body']): Promise<Delivery> =>
  call('POST', `v1/grants/${id}/rotate`, { body })

export const changeGrant = (id: string, body: ChangeGrantData['body']): Promise<Grant> => call('PATCH', `v1/grants/${id}`, { body })

/** The part of the OpenAPI document that has the guide's request. */
interface Document {
  paths: {
    '/v1/policies': { post: { requestBody: { content: { 'application/json': { examples: { guide: { value: GrantRequest } } } } } } }
  }
}

export const guideRequest = async (signal: AbortSignal): Promise<GrantRequest> => {
  const { paths } = await call<Document>('GET', 'openapi.json', { signal })
  return paths['/v1/policies'].post.requestBody.content['application/json'].examples.guide.value
}

/**
 * @param path relative to the service, so that it works behind a proxy's prefix
 * @returns what the OpenAPI document says of the operation
 * @throws {Refusal}
 */
const call = async <Answer>(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, options: Options = {}): Promise<Answer> => {
  const used = token
  const answer = await ask(used, method, path, options).catch((error: unknown) => {
    if (error instanceof Refusal && error.problem.status === 401 && token === used) {
      token = null
      signedOut(error)
    }
    throw error
  })
  // Whoever signed out while it was asked, or after, is not to be shown a secret.
  if (token !== used) throw new Refusal(locally('Signed out.', 'What was asked may have been done.', 'Sign in, and look.'))
  return answer as Answer
}

const ask = async (bearer: string | null, method: string, path: string, { body, headers, signal }: Options = {}): Promise<unknown> => {
  const response = await fetch(new URL(`../${path}`, import.meta.url), {
    method,
    headers: {
      accept: 'application/json',
      ...(bearer !== null && { authorization: `Bearer ${bearer}` }),
      ...(body && { 'content-type': 'application/json' }),
      ...headers
    },
    ...(body && { body: JSON.stringify(body) }),
    ...(signal && { signal }),
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error'
  }).catch((error: unknown) => {
    if (signal?.aborted) throw error
    throw new Refusal(locally('The service did not answer.', 'It may be down, or the network.', 'Look at the connection, and try again.'))
  })
  readClock(response)
  const answer: unknown = await response.json().catch(() => null)
  if (response.ok && answer !== null) return answer
  const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN)
  throw new Refusal(problemOf(answer, response.status), Number.isFinite(retryAfter) ? retryAfter : null)
}

const problemOf = (answer: unknown, status: number): Problem => isProblem(answer)
  ? answer
  : locally('Something between here and the service answered.', `Status ${status}, without a reason.`,
    'Ask who runs the service or its proxy.', status)

/** What is between here and the service may answer JSON as well. */
const isProblem = (answer: unknown): answer is Problem => typeof answer === 'object' && answer !== null &&
  'detail' in answer && typeof answer.detail === 'string' && 'title' in answer && typeof answer.title === 'string'

const locally = (title: string, detail: string, hint: string, status = 0): Problem =>
  ({ type: 'about:blank', code: 'internal', title, detail, hint, status, requestId: '' })

/** To the second, as Date has it; less than two are the network's. */
const readClock = (response: Response): void => {
  const said = Date.parse(response.headers.get('date') ?? '')
  if (!Number.isNaN(said)) ahead = Math.abs(said - Date.now()) < 2_000 ? 0 : said - Date.now()
}
