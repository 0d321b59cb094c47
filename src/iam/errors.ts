/** What a failed IAM or STS call means for us. The provider's own error stays in `cause`. */
export type IamErrorKind =
  | 'throttled' // not done; again later
  | 'conflict' // not done: a concurrent change of the same entity; again at once
  | 'unavailable' // may have been done: 5xx, a lost connection, a timeout, an answer that is none of IAM's
  | 'gone' // the entity is not there, or not yet visible
  | 'exists'
  | 'delete-conflict' // the entity still has keys, policies or versions
  | 'limit'
  | 'denied' // also: a missing entity, when our own rights are bound to a path
  | 'malformed'
  | 'credentials' // the key that signed the call is unknown, wrong or expired
  | 'skewed' // not done: our clock and the provider's are too far apart for its check of signatures
  | 'unsupported' // the provider has no such call
  | 'other'

export class IamError extends Error {
  override name = 'IamError'
  readonly kind: IamErrorKind
  readonly operation: string
  readonly providerCode: string
  /** The call changed nothing: it was refused, and so was every try of it before. */
  readonly definite: boolean
  /** With kind `skewed`: how far our clock is ahead of the answer's Date, ms; undefined: it had none. */
  readonly aheadMs: number | undefined

  constructor (kind: IamErrorKind, operation: string, providerCode: string, cause: unknown, definite = true, aheadMs?: number) {
    super(`${operation}: ${kind} (${providerCode}${aheadMs === undefined ? '' : `, our clock is ahead by ${aheadMs} ms`})`, { cause })
    this.kind = kind
    this.operation = operation
    this.providerCode = providerCode
    this.definite = definite && kind !== 'unavailable'
    this.aheadMs = aheadMs
  }
}

export const isIamError = (error: unknown, ...kinds: IamErrorKind[]): error is IamError =>
  error instanceof IamError && (kinds.length === 0 || kinds.includes(error.kind))

/** The HTTP status of the failed call's answer; undefined: there was none. The SDK's error, which is the cause of ours, has it. */
export const statusOf = (error: unknown): number | undefined => error instanceof Error
  ? (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode ?? statusOf(error.cause)
  : undefined

/** By the error's name first. Ceph 16 answers without a name; then the HTTP status decides. */
export const kindOf = (name: string, status: number | undefined): IamErrorKind => (isNamed(name) && byName[name]) || byStatus(status)

/** IAM itself named the error. Without a name another server may have answered, e.g. a proxy, after IAM did what it was asked. */
export const isNamed = (name: string): boolean => Object.hasOwn(byName, name)

const byName: Record<string, IamErrorKind> = {
  Throttling: 'throttled',
  ThrottlingException: 'throttled',
  TooManyRequestsException: 'throttled',
  RequestLimitExceeded: 'throttled',
  SlowDown: 'throttled',
  ConcurrentModification: 'conflict',
  ConcurrentModificationException: 'conflict',
  EntityTemporarilyUnmodifiable: 'conflict',
  EntityTemporarilyUnmodifiableException: 'conflict',
  NoSuchEntity: 'gone',
  NoSuchEntityException: 'gone',
  EntityAlreadyExists: 'exists',
  EntityAlreadyExistsException: 'exists',
  DeleteConflict: 'delete-conflict',
  DeleteConflictException: 'delete-conflict',
  LimitExceeded: 'limit',
  LimitExceededException: 'limit',
  AccessDenied: 'denied',
  AccessDeniedException: 'denied',
  MalformedPolicyDocument: 'malformed',
  MalformedPolicyDocumentException: 'malformed',
  PackedPolicyTooLarge: 'malformed',
  PackedPolicyTooLargeException: 'malformed',
  InvalidInput: 'malformed',
  InvalidInputException: 'malformed',
  ValidationError: 'malformed',
  ValidationException: 'malformed',
  InvalidClientTokenId: 'credentials',
  SignatureDoesNotMatch: 'credentials',
  InvalidAccessKeyId: 'credentials',
  RequestTimeTooSkewed: 'skewed',
  RequestExpired: 'skewed',
  RequestInTheFuture: 'skewed',
  ExpiredToken: 'credentials',
  ExpiredTokenException: 'credentials',
  CredentialsProviderError: 'credentials',
  InvalidAction: 'unsupported',
  NotImplemented: 'unsupported'
}

const byStatus = (status: number | undefined): IamErrorKind => {
  if (status === undefined || status >= 500 || status < 400) return 'unavailable'
  switch (status) {
    case 400: return 'malformed'
    case 403: return 'denied'
    case 404: return 'gone'
    case 405: return 'unsupported'
    case 409: return 'exists'
    case 429: return 'throttled'
    default: return 'other'
  }
}
