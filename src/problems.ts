/**
 * Every error a caller can see: a stable code, its HTTP status, its title and the remedy, in one table.
 * docs/errors.md is generated from it. Detail that helps an attacker goes to the log, not here.
 * Wire form: RFC 9457 (application/problem+json).
 */
export const problems = {
  // the request as such
  'request-invalid': [400, 'The request does not fit the schema.', 'Correct the field that `pointer` names. The service ignores, drops and converts nothing.'],
  'request-malformed': [400, 'The body is not valid JSON.', 'Send one JSON object.'],
  'request-too-large': [413, 'The body is too large.', 'Send at most 64 KiB.'],
  'media-type-unsupported': [415, 'The body must be application/json, in UTF-8, without Content-Encoding.', 'Send `content-type: application/json` and the body as it is.'],
  'not-acceptable': [406, 'No credential format matches the Accept header.', 'Accept `application/json` or one of the media types that `hint` names, or give `format`.'],
  'route-unknown': [404, 'There is no such route.', 'See /docs for the routes.'],
  'method-not-allowed': [405, 'The route exists, but not with this method.', 'Use a method of the Allow header.'],
  // the caller
  unauthenticated: [401, 'A valid bearer token is required.', 'Send `Authorization: Bearer <token>` with a token that this service knows.'],
  forbidden: [403, 'The guardrails do not allow this.', 'Ask for less access, or ask the owner of the guardrails; `detail` names the policy that decided.'],
  'rate-limited': [429, 'Too many requests from this identity.', 'Send the request again after Retry-After.'],
  'too-many-grants': [429, 'Too many grants have not ended yet.', 'Complete the grants of jobs that have ended.'],
  'too-many-managed-policies': [429, 'Too many grants have a managed policy.', 'Ask for a policy that fits inline, or send the request again after Retry-After.'],
  // the content of the request: findings of policy/normalise.ts
  'access-missing': [422, 'The request names no bucket.', 'Name at least one dataset, base model, output or access entry.'],
  'bucket-invalid': [422, 'This is not a bucket name by S3’s rules.', 'Give only the name of the bucket: no ARN, no wildcard, no variable.'],
  'bucket-refused': [422, 'This service does not grant access to that bucket.', 'Ask for a bucket that this service may grant, or ask its operator to allow this one.'],
  'prefix-invalid': [422, 'The prefix has a character or a form that is not allowed.', 'Do what the hint says: it names the character, where it stands, and what to ask for instead.'],
  'place-ambiguous': [422, 'prefix, key and keyPrefix exclude each other.', 'Give one of them in an entry, or none for the whole bucket.'],
  'access-duplicate': [422, 'The request names the same bucket and prefix twice.', 'Name them once, with the level that covers both.'],
  'sid-duplicate': [422, 'Two statements would have the same Sid.', 'Give another sid, or none. Only entries with equal rights share one.'],
  'client-unfit': [422, 'A client of the request needs what the entry excludes.', 'Leave the option out, or name no such client for this entry.'],
  'option-without-write': [422, 'The option needs a level that writes.', 'Leave the option out, or ask for a level that writes.'],
  'option-without-read': [422, 'The option needs a level that reads.', 'Leave the option out, or ask for a level that reads.'],
  'option-unfit': [422, 'The option does not fit the rest of its entry.', 'Do what the hint says: options are never ignored.'],
  'kms-key-invalid': [422, 'This is not the ARN of a KMS key in this partition.', 'Give the key’s ARN, not an alias.'],
  'kms-key-refused': [422, 'This service does not grant the use of that KMS key.', 'Ask for a key that this service may grant, or ask its operator to allow this one.'],
  'label-invalid': [422, 'The label cannot be a tag of an IAM user.', 'Rename the label.'],
  'time-invalid': [422, 'This is not a time to the second with a zone.', 'Write it like `2025-07-16T01:00:00Z` or `2025-07-16T03:00:00+02:00`.'],
  'window-invalid': [422, 'The window is not valid.', 'Give either notAfter, later than notBefore, or durationSeconds.'],
  'window-over': [422, 'The window ends in the past.', 'End the window in the future.'],
  'window-too-long': [422, 'The window is longer than this service allows.', 'Ask for a shorter window now, and extend the grant while the job runs.'],
  'lifetime-too-long': [422, 'The grant would live longer than this service allows.', 'End the window sooner. A job that runs longer needs a new grant.'],
  'window-too-far': [422, 'The window starts later than this service allows.', 'Send the request again when the start is nearer.'],
  'source-missing': [422, 'The request binds the access to no source address.', 'Give sourceIps, vpc, or both.'],
  'source-ambiguous': [422, 'A stated source and an observed one exclude each other.', 'Leave out `source`, or sourceIps and vpc.'],
  'source-unobserved': [422, 'The service cannot tell from which address the request came.', 'State sourceIps or vpc. The operator of the proxy lets it set X-Forwarded-For to the client’s address alone, without a port, and names in JOB_ACCESS_TRUST_PROXY only proxies.'],
  'ip-invalid': [422, 'This is not an IP address or CIDR.', 'Give an address like `203.0.113.42`, `203.0.113.0/24` or `2001:db8::/64`.'],
  'ip-host-bits': [422, 'The CIDR has host bits set.', 'Use the corrected CIDR of the hint.'],
  'ip-everyone': [422, 'The CIDR covers every address.', 'Give the addresses that the job uses.'],
  'ip-too-wide': [422, 'The CIDR is wider than this service allows.', 'Give a narrower CIDR.'],
  'ip-private': [422, 'aws:SourceIp is never a private address.', 'Give the public address, e.g. of the NAT gateway; for VPC endpoints use `vpc`.'],
  'vpc-incomplete': [422, 'vpc needs a VPC or an endpoint.', 'Every VPC may use the same private addresses: give the VPC or its endpoint too.'],
  'vpc-arn-invalid': [422, 'This is not the ARN of a VPC in this partition.', 'Give the ARN as arn:aws:ec2:<region>:<account>:vpc/vpc-<id>.'],
  'workers-unfit': [422, 'A job of workers has no key and no source of its own.', 'Leave the field out: each worker states it when it joins.'],
  'layout-unfit': [422, 'The layout cannot express this request.', 'Use layout `everywhere` or `guarded`.'],
  'policy-too-large': [422, 'The policy is larger than IAM allows.', 'Do what the hint names, which has been rendered and measured, or ask for fewer or shorter entries.'],
  'dialect-unfit': [422, 'The configured provider cannot express this request.', 'See docs/dialects.md for what the provider can express.'],
  'session-unfit': [422, 'A role session cannot express this request.', 'Use attach `auto`: a user’s key has no such limit.'],
  'question-invalid': [422, 'A policy cannot decide this question.', 'Give an IAM action, and a key when the action is on an object.'],
  // grants
  'grant-unknown': [404, 'There is no such grant.', 'List the grants of your teams with GET /v1/grants.'],
  'worker-unknown': [404, 'The job has no worker of this name.', 'List the workers of the job with GET /v1/grants/:id/workers.'],
  'worker-replaced': [409, 'Another start of the worker has its key.', 'Nothing was ended. To end the worker whichever start it is, leave `attempt` out.'],
  'workers-full': [409, 'The job has as many workers as it may have.', 'End a worker that is gone, or join under its name with another attempt.'],
  'key-delivered': [409, 'The key of this job or worker was delivered already.', 'Send the attempt that this start is, or replace, or an Idempotency-Key.'],
  'grant-state': [409, 'The grant’s state does not allow this.', 'Read the grant’s state. With Retry-After, send the request again after it.'],
  'idempotency-conflict': [409, 'The idempotency key was used with another request.', 'Send a new Idempotency-Key, or complete the earlier grant.'],
  'idempotency-busy': [409, 'The service is still working on the same request.', 'Send the same request again after Retry-After; you get the same grant.'],
  // the service and what it depends on
  'identity-unavailable': [503, 'The identity issuer did not answer.', 'Send the request again with the same token.'],
  'policy-unproven': [500, 'The rendered policy is not what was asked for.', 'The caller can do nothing. An alert tells the operator: see docs/operating.md.'],
  'iam-refused': [502, 'The IAM service refused a call.', 'The operator must look at the role of the service and at the quotas of the account; the log has the reason.'],
  'iam-unavailable': [503, 'The IAM service did not answer in time.', 'Send the same request again after Retry-After.'],
  'ledger-unavailable': [503, 'The ledger did not answer.', 'Send the same request again after Retry-After.'],
  'audit-unavailable': [503, 'The audit log cannot be written, so no access is given.', 'Send the same request again after Retry-After. The operator finds help in docs/operating.md#jobaccessauditbroken.'],
  'clock-wrong': [503, 'The clock of the service disagrees with the provider’s.', 'Send the request again after Retry-After; another replica may have the right time. Grants can be ended meanwhile. The operator finds help in docs/operating.md#jobaccessclockwrong.'],
  'shutting-down': [503, 'The service is shutting down.', 'Send the request again; another replica answers it.'],
  internal: [500, 'The service failed unexpectedly.', 'Report it with the requestId.']
} as const satisfies Record<string, readonly [number, string, string]>

export type ProblemCode = keyof typeof problems

/** RFC 6901: the pointer of a field, whatever its name. */
export const pointerTo = (parent: string, name: string): string => `${parent}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`

/** One thing wrong with one field of the request. */
export interface Finding {
  code: ProblemCode
  /** RFC 6901 pointer into the request body, '' for the whole. */
  pointer: string
  detail: string
  /** What to do about it. */
  hint: string
}

interface ProblemInit {
  detail?: string
  hint?: string
  pointer?: string
  findings?: Finding[]
  retryAfterSeconds?: number
  cause?: unknown
}

export class ProblemError extends Error {
  readonly code: ProblemCode
  readonly status: number
  readonly init: ProblemInit

  constructor (code: ProblemCode, init: ProblemInit = {}) {
    super(init.detail ?? problems[code][1], { cause: init.cause })
    this.name = 'ProblemError'
    this.code = code
    this.status = problems[code][0]
    this.init = { hint: problems[code][2], ...init }
  }

  static of (findings: Finding[]): ProblemError {
    const [first] = findings
    if (!first) return new ProblemError('internal')
    return new ProblemError(first.code, { detail: first.detail, hint: first.hint, pointer: first.pointer, findings })
  }
}
