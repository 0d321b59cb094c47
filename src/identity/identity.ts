import { ProblemError } from '../problems.ts'

/** The caller, as a verified bearer token describes it. Nothing else in the request has any influence. */
export interface Identity {
  /** `token:<id>` or `oidc:<issuer name>#<sub>`: stable, unique, safe to log. */
  id: string
  kind: 'token' | 'oidc'
  /** Teams whose grants this identity may use. `*`: every team (administrators). Never empty. */
  teams: string[]
  /** For guardrails: `namespace`, `repository`, ... as configured. OIDC identities always have `issuer`, the configured name. */
  attributes: Record<string, string>
  /** Epoch milliseconds at which the token expires; null: never. */
  expiresAt: number | null
}

export interface Authenticator {
  /**
   * Takes the raw Authorization header. Rejects with ProblemError `unauthenticated`, always with the same text, or with
   * ProblemError `identity-unavailable` when the keys of the token's issuer cannot be fetched.
   * `onRefusal` gets the reason of a refusal, e.g. to log it with the id of the request.
   */
  authenticate(authorizationHeader: string | undefined, onRefusal?: OnRefusal): Promise<Identity>
}

/** Why a token was refused. For the log and the audit only: the caller never sees it. */
export type RefusalReason =
  | 'header-missing'
  | 'header-malformed'
  | 'token-oversize'
  | 'token-malformed'
  | 'token-unknown'
  | 'token-expired'
  | 'token-not-yet-valid'
  | 'token-too-old'
  | 'issuer-unknown'
  | 'issuer-down'
  | 'header-refused'
  | 'algorithm-refused'
  | 'key-unknown'
  | 'key-unfit'
  | 'signature-wrong'
  | 'audience-wrong'
  | 'claim-missing'
  | 'claim-wrong'
  | 'team-missing'

/** Short, without control characters, and never with the token or a part of its signature. */
export type RefusalDetails = Record<string, string | number>
export type OnRefusal = (reason: RefusalReason, details: RefusalDetails) => void

/** Thrown by the verification of tokens. The authenticator reports it and answers with a problem. */
export class TokenRefusedError extends Error {
  override name = 'TokenRefusedError'
  readonly reason: RefusalReason
  readonly details: RefusalDetails

  constructor (reason: RefusalReason, details: RefusalDetails = {}) {
    super(reason)
    this.reason = reason
    this.details = details
  }
}

/** The same text for every reason, so that a caller cannot find out which check failed. */
export function unauthenticated (): ProblemError {
  return new ProblemError('unauthenticated', {
    detail: 'The Authorization header carries no token that this service accepts.',
    hint: 'Send `Authorization: Bearer <token>` with a static token or a fresh JWT of a configured issuer, made for this audience. ' +
      'The service’s log says why it was refused, under the id of this request.'
  })
}

export function identityUnavailable (retryAfterSeconds: number): ProblemError {
  return new ProblemError('identity-unavailable', {
    detail: 'The keys of the token’s issuer cannot be fetched at the moment, so the token cannot be verified.',
    hint: 'Send the request again with the same token.',
    retryAfterSeconds
  })
}

/** The issuer could not be reached, or its answer was not valid. */
export class IssuerUnavailableError extends Error {
  override name = 'IssuerUnavailableError'
  /** Its configured name. */
  readonly issuer: string
  readonly retryAfterSeconds: number

  constructor (issuer: string, message: string, retryAfterSeconds: number, cause?: unknown) {
    super(message, { cause })
    this.issuer = issuer
    this.retryAfterSeconds = retryAfterSeconds
  }
}
