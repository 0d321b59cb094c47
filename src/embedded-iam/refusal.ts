/**
 * The error codes this server answers with, and their HTTP status. Codes and numbers are those of the SDK's own
 * model (`awsQueryError` in client-iam and client-sts) where it has them; the rest are AWS's common errors.
 * @see https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
 */
const statuses = {
  AccessDenied: 403,
  ConcurrentModification: 409,
  DeleteConflict: 409,
  EntityAlreadyExists: 409,
  ExpiredToken: 403,
  IncompleteSignature: 400,
  InternalFailure: 500,
  InvalidAction: 400,
  InvalidClientTokenId: 403,
  InvalidInput: 400,
  LimitExceeded: 409,
  MalformedPolicyDocument: 400,
  MissingAuthenticationToken: 403,
  NoSuchEntity: 404,
  PackedPolicyTooLarge: 400,
  RequestEntityTooLarge: 413,
  ServiceFailure: 500,
  ServiceUnavailable: 503,
  SignatureDoesNotMatch: 403,
  Throttling: 400,
  ValidationError: 400
} as const

type RefusalCode = keyof typeof statuses

/** Why a call was refused, as it goes over the wire. The message may echo names, never a secret. */
export class Refusal extends Error {
  readonly code: RefusalCode
  readonly status: number
  /** Set when it is a user that is missing: a path-scoped caller at AWS sees AccessDenied instead. */
  readonly missingUser: boolean

  constructor (code: RefusalCode, message: string, missingUser = false) {
    super(message)
    this.name = 'Refusal'
    this.code = code
    this.status = statuses[code]
    this.missingUser = missingUser
  }
}

/** HTTP status of a code, 400 for one that is not in the table. */
export function statusOf (code: string): number {
  return Object.hasOwn(statuses, code) ? statuses[code as RefusalCode] : 400
}
