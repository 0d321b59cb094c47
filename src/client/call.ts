import { urlFault } from '../secure-url.ts'
import { NoAnswerError, ProblemError } from './problem.ts'

export interface ClientOptions {
  /** Where the service is, e.g. `https://job-access.example.com`. */
  url: string
  /** Bearer token; a function is asked before every attempt, so that a token which is renewed in a file counts. */
  token: string | (() => string | Promise<string>)
  /** Send the token over plain http beyond loopback too. Default: false. */
  allowHttp?: boolean
  /** Longest time of one call with its retries, in ms. Default: 60,000. */
  deadlineMs?: number
  /** Longest time of one attempt, in ms. The service bounds its own work at 15 s. Default: 30,000. */
  attemptMs?: number
  /** Once aborted no further attempt is begun; the one under way is awaited, so that what it did is known. */
  lastAttempt?: AbortSignal
  /** For tests and proxies. */
  fetch?: typeof fetch
  /** For tests: waits so many ms, or until the signal. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<void>
}

export interface Call {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  path: string
  body?: object
  headers?: Record<string, string>
  /** May be sent again when its answer was lost. */
  repeatable: boolean
}

export interface HttpAnswer { status: number, headers: Headers, text: string }

export type Caller = (call: Call) => Promise<HttpAnswer>

/** @throws TypeError when the URL may not carry a token. */
export const caller = (options: ClientOptions): Caller => {
  const fault = urlFault(options.url)
  if (fault && !(options.allowHttp && new URL(options.url).protocol === 'http:')) throw new TypeError(`The service’s URL ${fault}.`)
  const base = options.url.replace(/\/+$/, '')
  const { deadlineMs = 60_000, attemptMs = 30_000, lastAttempt, sleep = sleepFor } = options
  const send = options.fetch ?? fetch

  const attempt = async ({ method, path, body, headers }: Call, timeoutMs: number): Promise<HttpAnswer> => {
    const token = typeof options.token === 'string' ? options.token : await options.token()
    // fetch would say the same, with the token in its message.
    if (!/^[\x21-\x7e]+$/.test(token)) throw new TypeError('The token is empty, or has characters that a header cannot carry.')
    // Not AbortSignal.timeout(), whose timer stays after the answer.
    const limit = new AbortController()
    const timer = setTimeout(() => limit.abort(new DOMException('Time is up.', 'TimeoutError')), timeoutMs)
    try {
      const response = await send(base + path, {
        method,
        headers: {
          accept: 'application/json',
          ...headers,
          authorization: `Bearer ${token}`,
          ...(body && { 'content-type': 'application/json' })
        },
        ...(body && { body: JSON.stringify(body) }),
        // The token and the request are for this address only.
        redirect: 'error',
        signal: limit.signal
      })
      const answer = { status: response.status, headers: response.headers, text: await response.text() }
      if (response.ok) return answer
      throw problemOf(answer, base)
    } catch (error) {
      if (error instanceof ProblemError || error instanceof NoAnswerError) throw error
      throw new NoAnswerError(`${base} did not answer: ${reasonOf(error)}.`, { cause: error })
    } finally {
      clearTimeout(timer)
    }
  }

  return async call => {
    const until = Date.now() + deadlineMs
    for (let tries = 0; ; tries++) {
      try {
        return await attempt(call, Math.max(1, Math.min(attemptMs, until - Date.now())))
      } catch (error) {
        const waitMs = waitBefore(error, tries, call.repeatable)
        if (waitMs === undefined || lastAttempt?.aborted || Date.now() + waitMs >= until) throw error
        await sleep(waitMs, lastAttempt)
        if (lastAttempt?.aborted) throw error
      }
    }
  }
}

/** How long to wait before the next attempt, in ms; undefined: there is none. */
const waitBefore = (error: unknown, tries: number, repeatable: boolean): number | undefined => {
  // Doubling, with a quarter of chance, so that a cluster’s jobs do not come back together.
  const backoffMs = Math.min(8_000, 250 * 2 ** Math.min(tries, 5)) * (1 + Math.random() / 4)
  if (error instanceof ProblemError) {
    const asked = error.retryAfterSeconds
    if (error.status === 409) return asked === undefined ? undefined : asked * 1000
    if (error.status === 429 || error.status === 503) return asked === undefined ? backoffMs : asked * 1000
    return undefined
  }
  if (!(error instanceof NoAnswerError)) return undefined
  if (error.status !== undefined) return repeatable && [429, 502, 503, 504].includes(error.status) ? backoffMs : undefined
  return repeatable || neverSent(error.cause) ? backoffMs : undefined
}

const problemOf = ({ status, headers, text }: HttpAnswer, base: string): ProblemError | NoAnswerError => {
  if (!headers.get('content-type')?.startsWith('application/problem+json')) {
    return new NoAnswerError(`${base} answered ${status}, but not as job-access does.`, { status })
  }
  const after = headers.get('retry-after')
  return new ProblemError(JSON.parse(text), after !== null && /^\d+$/.test(after) ? Number(after) : undefined)
}

const causeCode = (error: unknown): string | undefined => {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined
}

const unconnected = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']
const neverSent = (error: unknown): boolean => unconnected.includes(causeCode(error) ?? '')

const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return 'unknown'
  if (error.name === 'TimeoutError') return 'time is up'
  return causeCode(error) ?? (error.cause instanceof Error ? error.cause.message : error.message)
}

const sleepFor = (ms: number, signal?: AbortSignal): Promise<void> => new Promise(resolve => {
  const done = () => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', done)
    resolve()
  }
  const timer = setTimeout(done, ms)
  signal?.addEventListener('abort', done)
})
