import type { Problem as ProblemBody } from './schema.ts'

export type ProblemCode = ProblemBody['code']

/** The service refused the request, or cannot answer it now: RFC 9457 problem details as an error. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError'
  readonly status: number
  /** Stable, for programs. */
  readonly code: ProblemCode
  /** What to do about it. */
  readonly hint: string | undefined
  /** JSON pointer (RFC 6901) of the request's field. */
  readonly pointer: string | undefined
  /** Every fault of the request; the first one is also this error's. */
  readonly errors: NonNullable<ProblemBody['errors']>
  /** To find the call in the service's log and audit. */
  readonly requestId: string
  readonly retryAfterSeconds: number | undefined

  constructor (body: ProblemBody, retryAfterSeconds?: number) {
    super(body.detail)
    this.status = body.status
    this.code = body.code
    this.hint = body.hint
    this.pointer = body.pointer
    this.errors = body.errors ?? []
    this.requestId = body.requestId
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/**
 * No answer of the service: the network failed, time was up, or something else answered (`status`).
 * Whether the call was done is unknown.
 */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError'
  readonly status: number | undefined

  constructor (message: string, { status, cause }: { status?: number, cause?: unknown } = {}) {
    super(message, { cause })
    this.status = status
  }
}
