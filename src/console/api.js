// @ts-check

/** @typedef {import('../client/schema.ts').Problem} Problem */

/**
 * The token lives in this variable alone: not in the URL, which is logged, nor in local or session storage, which every page of this origin
 * can read, Swagger UI and its dependencies among them. A reload asks for it again.
 *
 * @type {string | null}
 */
let token = null

/** By how many milliseconds the service's clock is ahead of the browser's: windows are the service's. */
let ahead = 0

export const now = () => Date.now() + ahead

/** What the service refused, or why it could not be asked. */
export class Refusal extends Error {
  /**
   * @param {Problem} problem
   * @param {number | null} retryAfterSeconds
   */
  constructor (problem, retryAfterSeconds = null) {
    super(problem.detail)
    this.problem = problem
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** @type {(refusal: Refusal) => void} */
let signedOut = () => {}
/** The service knows the token no more, e.g. since it has expired. @param {(refusal: Refusal) => void} handler */
export const whenSignedOut = handler => { signedOut = handler }

export const isSignedIn = () => token !== null

export const signOut = () => { token = null }

/**
 * Asks for one grant, which any valid token may do for its own teams.
 *
 * @param {string} candidate
 */
export const signIn = async candidate => {
  await ask(candidate, 'GET', 'v1/grants?limit=1')
  token = candidate
}

/**
 * @param {'GET' | 'POST' | 'PATCH'} method
 * @param {string} path relative to the service, so that it works behind a proxy's prefix
 * @param {{ body?: unknown, headers?: Record<string, string>, signal?: AbortSignal }} [options]
 * @returns {Promise<any>} what the OpenAPI document says of the operation
 * @throws {Refusal}
 */
export const call = async (method, path, options = {}) => {
  const used = token
  const answer = await ask(used, method, path, options).catch(error => {
    if (error instanceof Refusal && error.problem.status === 401 && token === used) {
      token = null
      signedOut(error)
    }
    throw error
  })
  // Whoever signed out while it was asked, or after, is not to be shown a secret.
  if (token !== used) throw new Refusal(locally('Signed out.', 'What was asked may have been done.', 'Sign in, and look.'))
  return answer
}

/**
 * @param {string | null} bearer
 * @param {'GET' | 'POST' | 'PATCH'} method
 * @param {string} path
 * @param {{ body?: unknown, headers?: Record<string, string>, signal?: AbortSignal }} [options]
 */
const ask = async (bearer, method, path, { body, headers = {}, signal } = {}) => {
  const response = await fetch(new URL(`../${path}`, import.meta.url), {
    method,
    headers: {
      accept: 'application/json',
      ...(bearer !== null && { authorization: `Bearer ${bearer}` }),
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
    ...(signal && { signal }),
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error'
  }).catch(error => {
    if (signal?.aborted) throw error
    throw new Refusal(locally('The service did not answer.', 'It may be down, or the network.', 'Look at the connection, and try again.'))
  })
  readClock(response)
  const answer = await response.json().catch(() => null)
  if (response.ok && answer !== null) return answer
  const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN)
  throw new Refusal(problemOf(answer, response.status), Number.isFinite(retryAfter) ? retryAfter : null)
}

/**
 * @param {any} answer
 * @param {number} status
 * @returns {Problem}
 */
const problemOf = (answer, status) => typeof answer?.detail === 'string' && typeof answer.title === 'string'
  ? answer
  : locally('Something between here and the service answered.', `Status ${status}, without a reason.`, 'Ask who runs the service or its proxy.',
    status)

/**
 * @param {string} title
 * @param {string} detail
 * @param {string} hint
 * @returns {Problem}
 */
const locally = (title, detail, hint, status = 0) =>
  ({ type: 'about:blank', code: 'internal', title, detail, hint, status, requestId: '' })

/** To the second, as Date has it; less than two are the network's. @param {Response} response */
const readClock = response => {
  const said = Date.parse(response.headers.get('date') ?? '')
  if (!Number.isNaN(said)) ahead = Math.abs(said - Date.now()) < 2_000 ? 0 : said - Date.now()
}
