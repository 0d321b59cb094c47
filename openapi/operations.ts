import { problems, type ProblemCode } from '../src/problems.ts'

/** What /docs says of each operation: in words, and which problems are its own; openapi.ts adds those that follow from its shape. */

interface Operation {
  tag: 'policies' | 'grants' | 'service'
  summary: string
  description: string
  problems?: readonly ProblemCode[]
}

/** A request is admitted whole wherever it is rendered, so any of its findings may be the answer. */
const findings = (Object.keys(problems) as ProblemCode[]).filter(code => problems[code][0] === 422 && code !== 'question-invalid')
/** Whatever gives access, or more of it, is proven, made at the provider, and not given when it cannot be audited. */
const ofAccess = ['policy-unproven', 'iam-refused', 'iam-unavailable', 'audit-unavailable'] as const
const ofQuestion = ['question-invalid', 'time-invalid'] as const
const ofDelivery = ['not-acceptable', 'grant-state', 'policy-too-large', ...ofAccess] as const

const delivered = 'The credentials are in this answer and nowhere else: the service keeps none. `Accept`, or the field `format`, which ' +
  'wins, chooses JSON, an env block, an AWS profile, `credential_process` JSON or a Kubernetes Secret.'

const ended = 'IAM: DeleteAccessKey first, then DeleteUserPolicy (managed: DetachUserPolicy, DeletePolicy), then DeleteUser. 200: ' +
  'nothing is left. 202: the provider did not let us finish; the service goes on by itself, and asking again is allowed. Of a grant ' +
  'that has ended the answer is 200 and the grant as it is. A role session has no key: see its `notice`.'

export const operations = {
  renderPolicy: {
    tag: 'policies',
    summary: 'Render the policy of a request, without issuing anything',
    description: 'The policy that POST /v1/grants would issue for this request, with its size against IAM’s limits, one plain sentence ' +
      'per statement, and warnings. No IAM call, nothing is written: send it as often as you like. With `preflight` the guardrails are ' +
      'asked and the policy is proven too, so that what POST /v1/grants would refuse is refused here.',
    problems: [...findings, 'forbidden', 'policy-unproven']
  },
  checkPolicy: {
    tag: 'policies',
    summary: 'Would this request be allowed by the policy of that request, and which statement decides',
    description: 'Renders the policy of `request` and decides `question` by it: allowed or not, by which statements, and why. It is the ' +
      'word of this one policy; bucket policies, boundaries and SCPs are not known here. No IAM call, nothing is written.',
    problems: [...findings, ...ofQuestion]
  },
  issueGrant: {
    tag: 'grants',
    summary: 'Issue a job its access: a fresh user with the rendered policy, and its key, once',
    description: 'Admits the request, asks the guardrails, renders the policy and proves it, commits the grant, then makes it at the ' +
      'provider. IAM: CreateUser, then PutUserPolicy (managed: CreatePolicy, AttachUserPolicy) and CreateAccessKey side by side; ' +
      'AssumeRole with `attach: session`. Whatever fails is torn down, and no live key is left.\n\n' +
      `${delivered}\n\n` +
      'Safe to send again: the same `Idempotency-Key` (without one: the same job, per identity) with the same request is the same ' +
      'grant, 200, with a fresh key; the one before is deleted first. With another request it is 409 `idempotency-conflict`. With ' +
      '`issueAt` the grant is scheduled, and `credentials` is null: fetch them from then on.',
    problems: [...findings, ...ofDelivery, 'forbidden', 'too-many-grants', 'idempotency-conflict', 'idempotency-busy', 'ledger-unavailable']
  },
  listGrants: {
    tag: 'grants',
    summary: 'List the grants of your teams, newest first',
    description: 'From the ledger, without an IAM call; grants that have ended are among them. Give `next` as `after` for the next page.',
    problems: ['forbidden', 'ledger-unavailable']
  },
  getGrant: {
    tag: 'grants',
    summary: 'One grant with its policy',
    description: 'As the ledger has it, without an IAM call. A grant of another team is 404, like one that never was.'
  },
  listGrantEvents: {
    tag: 'grants',
    summary: 'The history of a grant',
    description: 'Every change, oldest first: who did what, under which request id, with which policy. No event is ever changed, and ' +
      'none holds a secret.'
  },
  explainGrant: {
    tag: 'grants',
    summary: 'The policy of a grant in plain words, statement by statement',
    description: 'Read from the policy itself, for people who do not read IAM. No IAM call.'
  },
  getBlastRadius: {
    tag: 'grants',
    summary: 'What a thief of this key could do now',
    description: 'Decides many requests by the grant’s policy, from its source and from elsewhere, now and later, in the buckets that ' +
      'it names and in their look-alikes: what is open, from where, until when. No IAM call.'
  },
  checkGrant: {
    tag: 'grants',
    summary: 'Would this request be allowed by the grant’s policy, and which statement decides',
    description: 'Decides one request by the policy of the grant, as POST /v1/policies/check does. It does not look at the grant’s ' +
      'state. No IAM call.',
    problems: ofQuestion
  },
  changeGrant: {
    tag: 'grants',
    summary: 'Move the window or change the source of a live grant; the key stays',
    description: 'The whole request is admitted, guarded, rendered and proven again with the change; what is not given stays as it was. ' +
      'IAM: one PutUserPolicy (managed: CreatePolicyVersion). Should it fail, the service puts the policy before back. The same change ' +
      'sent twice is one change. A role session cannot be changed.',
    problems: [...findings, ...ofAccess, 'grant-state']
  },
  rotateGrant: {
    tag: 'grants',
    summary: 'A fresh key; the old one dies after the overlap',
    description: 'IAM: CreateAccessKey; the key before is deleted when `overlapSeconds` are over, with 0 before this answer. A user ' +
      'holds two keys ' +
      `at the most, so one whose overlap still runs is deleted first. Not idempotent: every call is another key.\n\n${delivered}`,
    problems: ofDelivery
  },
  fetchCredentials: {
    tag: 'grants',
    summary: 'The credentials of a scheduled grant, once, from issueAt on',
    description: 'For a grant that was issued with `issueAt`, by the identity that asked for it, unless your guardrails say otherwise. Before that instant it is 409 `grant-state` with Retry-After; a second ' +
      'time it is 409 too: the key has been delivered, and POST …/rotate gives a fresh one. IAM: CreateAccessKey, and the user where ' +
      'the service has not ' +
      `made it yet.\n\n${delivered}`,
    problems: ofDelivery
  },
  completeGrant: {
    tag: 'grants',
    summary: 'The job has ended: its key dies now. May be called twice',
    description: `For the job, or its orchestrator, whatever its exit code. ${ended}`,
    problems: ['grant-state']
  },
  revokeGrant: {
    tag: 'grants',
    summary: 'Revoke a grant: its key dies now. May be called twice',
    description: `For people, e.g. when a key has leaked; the history says \`revoked\` instead of \`completed\`. ${ended}`,
    problems: ['grant-state']
  },
  getHealth: {
    tag: 'service',
    summary: 'The process lives',
    description: 'For liveness probes: asks nobody else.'
  },
  getReadiness: {
    tag: 'service',
    summary: 'IAM and the ledger answer',
    description: 'For readiness probes: one read-only IAM call, two seconds at the most, and one query of the ledger. 503 names the ' +
      'check that failed; why is in the log.'
  }
} as const satisfies Record<string, Operation>

export type OperationId = keyof typeof operations
