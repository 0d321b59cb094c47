/**
 * Every error a caller can see: a stable code, its HTTP status and its title, in one table.
 * docs/errors.md is generated from it. Detail that helps an attacker goes to the log, not here.
 * Wire form: RFC 9457 (application/problem+json).
 */
export const problems = {
  // the request as such
  'request-invalid': [400, 'The request does not fit the schema.'],
  'request-malformed': [400, 'The body is not valid JSON.'],
  'request-too-large': [413, 'The body is larger than the service reads.'],
  'media-type-unsupported': [415, 'The body must be application/json.'],
  'not-acceptable': [406, 'No credential format matches the Accept header.'],
  'route-unknown': [404, 'There is no such route.'],
  'method-not-allowed': [405, 'The route exists, but not with this method.'],
  // who asks
  unauthenticated: [401, 'A valid bearer token is required.'],
  forbidden: [403, 'The guardrails do not allow this.'],
  'rate-limited': [429, 'Too many requests from this identity.'],
  'too-many-grants': [429, 'Too many outstanding grants.'],
  // what is asked: findings of policy/admit.ts
  'access-missing': [422, 'The request asks for no bucket.'],
  'bucket-invalid': [422, 'Not a bucket name by S3’s rules.'],
  'bucket-refused': [422, 'This service does not grant access to that bucket.'],
  'prefix-invalid': [422, 'The prefix has a character or form that is not allowed.'],
  'access-duplicate': [422, 'The same bucket and prefix is asked for twice.'],
  'sid-duplicate': [422, 'Two statements would carry the same Sid.'],
  'option-without-write': [422, 'The option needs a level that writes.'],
  'kms-key-invalid': [422, 'Not the ARN of a KMS key in this partition.'],
  'label-invalid': [422, 'The label cannot be a tag of an IAM user.'],
  'time-invalid': [422, 'Not an instant to the second with a zone.'],
  'window-invalid': [422, 'The window has no valid end.'],
  'window-over': [422, 'The window ends in the past.'],
  'window-too-long': [422, 'The window is longer than this service allows.'],
  'window-too-far': [422, 'The window starts later than this service allows.'],
  'source-missing': [422, 'The request binds the access to no source address.'],
  'source-ambiguous': [422, 'sourceIps and vpc exclude each other.'],
  'ip-invalid': [422, 'Not an IP address or CIDR.'],
  'ip-host-bits': [422, 'The CIDR has host bits set.'],
  'ip-everyone': [422, 'The CIDR covers every address.'],
  'ip-too-wide': [422, 'The CIDR is wider than this service allows.'],
  'ip-private': [422, 'aws:SourceIp never is a private address.'],
  'vpc-incomplete': [422, 'vpc needs a VPC id or an endpoint id.'],
  'layout-unfit': [422, 'The layout cannot express this request.'],
  'policy-too-large': [422, 'The policy is larger than IAM takes.'],
  'dialect-unfit': [422, 'The configured provider cannot express this request.'],
  'session-unfit': [422, 'A role session cannot express this request.'],
  // grants
  'grant-unknown': [404, 'There is no such grant.'],
  'grant-state': [409, 'The grant’s state does not allow this.'],
  'idempotency-conflict': [409, 'The idempotency key was used with another request.'],
  'idempotency-busy': [409, 'The same request is being handled.'],
  // us
  'identity-unavailable': [503, 'The identity issuer did not answer.'],
  'policy-unproven': [500, 'The rendered policy is not what was asked; nothing was issued.'],
  'iam-refused': [502, 'The IAM service refused a call.'],
  'iam-unavailable': [503, 'The IAM service did not answer in time; no live key was left.'],
  'ledger-unavailable': [503, 'The ledger did not answer; no live key was left.'],
  'shutting-down': [503, 'The service is shutting down.'],
  internal: [500, 'Something failed that should not; nothing is known to be left over.']
} as const satisfies Record<string, readonly [number, string]>

export type ProblemCode = keyof typeof problems

/** One thing wrong with one field of the request. */
export interface Finding {
  code: ProblemCode
  /** RFC 6901 pointer into the request body, '' for the whole. */
  pointer: string
  detail: string
  /** What to do about it. */
  hint: string
}

export interface ProblemInit {
  detail?: string
  hint?: string
  pointer?: string
  findings?: Finding[]
  retryAfterSeconds?: number
  cause?: unknown
}

export class Problem extends Error {
  readonly code: ProblemCode
  readonly status: number
  readonly init: ProblemInit

  constructor (code: ProblemCode, init: ProblemInit = {}) {
    super(init.detail ?? problems[code][1], { cause: init.cause })
    this.name = 'Problem'
    this.code = code
    this.status = problems[code][0]
    this.init = init
  }

  static of (findings: Finding[]): Problem {
    const [first] = findings
    if (!first) return new Problem('internal')
    return new Problem(first.code, { detail: first.detail, hint: first.hint, pointer: first.pointer, findings })
  }
}
