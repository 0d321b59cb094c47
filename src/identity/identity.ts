import { ProblemError } from '../problems.ts'

/** Who asks: what a verified bearer token says, and nothing the caller says otherwise. */
export interface Identity {
  /** `token:<id>` or `oidc:<issuer name>#<sub>`: stable, unique, safe to log. */
  id: string
  kind: 'token' | 'oidc'
  /** Teams whose grants this identity may touch; `*` is every team (administrators). Never empty. */
  teams: string[]
  /** For guardrails: `namespace`, `repository`, ... as configured. OIDC identities always have `issuer`, the configured name. */
  attributes: Record<string, string>
  /** Epoch milliseconds at which the token itself ends; null: never. */
  expiresAt: number | null
}

export interface Authenticator {
  /**
   * Takes the raw Authorization header. Rejects with ProblemError `unauthenticated` (always with the same text, whatever
   * failed) or ProblemError `identity-unavailable` (the issuer of this token cannot be asked for its keys).
   * `onRefusal` is told the reason of this one refusal, e.g. to log it under the request's id.
   */
  authenticate(authorizationHeader: string | undefined, onRefusal?: OnRefusal): Promise<Identity>
}

/** Why a token was refused: for the log and the audit, never for the caller. */
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

/** Details are short, free of control characters and never hold the token or a part of its signature. */
export type RefusalDetails = Record<string, string | number>
export type OnRefusal = (reason: RefusalReason, details: RefusalDetails) => void

/** What a verifier throws; the authenticator turns it into a problem and reports it. */
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

/** One text for every cause, so that a caller cannot probe which check stopped it. */
export function unauthenticated (): ProblemError {
  return new ProblemError('unauthenticated', {
    detail: 'The Authorization header carries no token that this service accepts.',
    hint: 'Send `Authorization: Bearer <token>` with a static token or a fresh JWT of a configured issuer, made for this audience. ' +
      'The service’s log says why it was refused, under the id of this request.'
  })
}

export function identityUnavailable (retryAfterSeconds: number): ProblemError {
  return new ProblemError('identity-unavailable', {
    detail: 'The keys of the token’s issuer cannot be had at the moment, so the token can be neither accepted nor refused.',
    hint: 'Send the request again with the same token.',
    retryAfterSeconds
  })
}

// RFC 6750 section 2.1: b64token. Anything else in a header is a trick or a mistake.
const bearer = /^bearer +([A-Za-z0-9\-._~+/]+=*)$/i

/** The token of a Bearer header (RFC 9110 section 11.4: the scheme ignores case, one or more spaces follow it). */
export function bearerToken (header: string | undefined): string {
  if (header === undefined || header === '') throw new TokenRefusedError('header-missing')
  const token = bearer.exec(header)?.[1]
  if (token === undefined) throw new TokenRefusedError('header-malformed')
  return token
}
