import { problems, type ProblemCode } from '../src/problems.ts'

/** The words of each operation, and the problems that only it has. generate.ts adds the problems that follow from its parameters. */

interface Operation {
  tag: 'policies' | 'grants' | 'workers' | 'service'
  summary: string
  description: string
  problems?: readonly ProblemCode[]
}

/** Rendering checks the whole request, so each of these findings may be the answer. */
const findings = (Object.keys(problems) as ProblemCode[]).filter(code => problems[code][0] === 422 && code !== 'question-invalid')
/** Of every operation that gives access, or more of it: the policy is proven, made at the provider, and audited. */
const ofAccess = ['policy-unproven', 'iam-refused', 'iam-unavailable', 'audit-unavailable', 'clock-wrong'] as const
const ofQuestion = ['question-invalid', 'time-invalid'] as const
const ofDelivery = ['not-acceptable', 'grant-state', 'policy-too-large', ...ofAccess] as const
const ofRepeat = ['key-delivered', 'too-many-grants', 'too-many-managed-policies', 'idempotency-busy', 'ledger-unavailable'] as const

const delivered = 'Only this answer has the credentials: the service does not keep them. The field `format`, or else `Accept`, ' +
  'chooses JSON, an env block, an AWS profile, `credential_process` JSON or a Kubernetes Secret.'

const ended = 'IAM: DeleteAccessKey first, then DeleteUserPolicy (managed: DetachUserPolicy, DeletePolicy), then DeleteUser. 200: ' +
  'nothing is left. 202: the provider did not finish; the service tries again by itself, and you may send the request again. For a ' +
  'grant that has ended the answer is 200 with the grant unchanged. With attach `session` the ' +
  'role gets a Deny for the grant’s sessions, if its profile is revocable; otherwise it is 202 until the last of them ends, see `notice`.'

export const operations = {
  renderPolicy: {
    tag: 'policies',
    summary: 'Render the policy of a request, without issuing anything',
    description: 'The policy that POST /v1/grants would issue for this request, with its size against IAM’s limits, one plain sentence ' +
      'per statement, and warnings. It makes no IAM call and writes nothing. With `preflight` it also asks the guardrails and proves ' +
      'the policy, and so refuses what POST /v1/grants would refuse.',
    problems: [...findings, 'forbidden', 'policy-unproven']
  },
  checkPolicy: {
    tag: 'policies',
    summary: 'Would this request be allowed by the policy of that request, and which statement decides',
    description: 'Renders the policy of `request` and decides `question` by it: allowed or not, by which statements, and why. Only this ' +
      'policy decides; the service does not know bucket policies, boundaries and SCPs. It makes no IAM call and writes nothing.',
    problems: [...findings, ...ofQuestion]
  },
  issueGrant: {
    tag: 'grants',
    summary: 'Issue a job its access: a fresh user with the rendered policy, and its key, once',
    description: 'Checks the request, asks the guardrails, renders the policy and proves it, writes the grant to the ledger, then makes ' +
      'the user at the provider. IAM: CreateUser, then PutUserPolicy (managed: CreatePolicy, AttachUserPolicy) and CreateAccessKey side by side; ' +
      'AssumeRole with `attach: session`. If a call fails, the service undoes the others: now or, while IAM does not answer, by the sweeper.\n\n' +
      `${delivered}\n\n` +
      'You may send it again. The same `Idempotency-Key` is a retry: it gets the same grant, 200, with a fresh key; the previous key is ' +
      'deleted first. Without that header the grant is found by job and identity. A key that was delivered is then deleted only for ' +
      'another `attempt`, the same `attempt` again, or `replace`; else the answer is 409 `key-delivered`. Another window or source ' +
      'changes the grant; another bucket, level or label is 409 `idempotency-conflict`. With `issueAt` the grant is scheduled, and ' +
      '`credentials` is null: fetch them at that time or later. With `workers` it is null too: each worker joins the grant.',
    problems: [...findings, ...ofDelivery, ...ofRepeat, 'forbidden', 'idempotency-conflict']
  },
  joinGrant: {
    tag: 'workers',
    summary: 'Join a job as one of its workers: a fresh user with a key that works from this worker’s source alone, once',
    description: 'The policy is the job’s, bound to the source of this worker: `sourceIps`, `vpc`, or `observed`. The stages are those of ' +
      'POST /v1/grants, and so are the IAM calls. The guardrails decide on `join`, with the worker’s name and source, and on every entry.\n\n' +
      `${delivered}\n\n` +
      'Under a name that has a key the answer is 409 `key-delivered`, unless the request says that the key may end: the same ' +
      '`attempt` is a retry, another one says that the process before is gone, `replace` needs no reason. Another source is fine then. ' +
      'No request ends the key of another name.',
    problems: [...findings, ...ofDelivery, ...ofRepeat, 'forbidden', 'workers-full']
  },
  listWorkers: {
    tag: 'workers',
    summary: 'The workers of a job, newest first: who has a key, from where, since when',
    description: 'From the ledger, without an IAM call. The list includes workers that have ended; `state=live` leaves those ' +
      'out. Each has a grant id of its own, which the routes of grants take.',
    problems: ['forbidden', 'ledger-unavailable']
  },
  getWorker: {
    tag: 'workers',
    summary: 'One worker of a job, by its name',
    description: 'The grant of the worker that joined last under this name. From the ledger, without an IAM call.',
    problems: ['worker-unknown']
  },
  endWorker: {
    tag: 'workers',
    summary: 'End one worker: delete its key now. The job and its other workers go on. May be called twice',
    description: ended,
    problems: ['worker-unknown', 'worker-replaced', 'grant-state']
  },
  listGrants: {
    tag: 'grants',
    summary: 'List the grants of your teams, newest first',
    description: 'From the ledger, without an IAM call. The list includes grants that have ended, and no workers. Give `next` as `after` for the next page.',
    problems: ['forbidden', 'ledger-unavailable']
  },
  getGrant: {
    tag: 'grants',
    summary: 'One grant with its policy',
    description: 'From the ledger, without an IAM call. For a grant of another team the answer is 404, as if it did not exist.'
  },
  listGrantEvents: {
    tag: 'grants',
    summary: 'The history of a grant',
    description: 'Every change, oldest first: who did what, with which request id and which policy. Events are never changed, and none ' +
      'has a secret.'
  },
  explainGrant: {
    tag: 'grants',
    summary: 'The policy of a grant in plain words, statement by statement',
    description: 'Made from the policy itself, for people who do not read IAM policies. No IAM call.'
  },
  getBlastRadius: {
    tag: 'grants',
    summary: 'What somebody who has stolen this key could do now',
    description: 'Decides many requests by the grant’s policy: from its source and from other addresses, now and later, in its buckets and ' +
      'in buckets with similar names. The answer says what is allowed, from where, and until when. ' +
      'Of a scheduled grant it says what the key will open from `issueAt` on. No IAM call.'
  },
  checkGrant: {
    tag: 'grants',
    summary: 'Would this request be allowed by the grant’s policy, and which statement decides',
    description: 'Decides one request by the policy of the grant, as POST /v1/policies/check does, whatever the state of the grant. ' +
      'No IAM call.',
    problems: ofQuestion
  },
  changeGrant: {
    tag: 'grants',
    summary: 'Move the window or change the source of a live grant; the key stays',
    description: 'The service checks, renders and proves the whole request again with the change, and asks the guardrails again; a field ' +
      'that you do not give keeps its value. IAM: one PutUserPolicy (managed: CreatePolicyVersion). If it fails, the service restores ' +
      'the previous policy. The same change sent twice is one change.\n\n' +
      'With attach `session` there is no IAM call: the next session has the change, and `notice` says until when those before it live. An ' +
      'end before that time is refused, since a session cannot be changed.\n\n' +
      'The window of a job of workers is brought to every worker; 202: some have it not yet, and the service goes on by itself.',
    problems: [...findings, ...ofAccess, 'grant-state']
  },
  rotateGrant: {
    tag: 'grants',
    summary: 'A fresh key; the old one is deleted after the overlap',
    description: 'IAM: CreateAccessKey. The old key is deleted after `overlapSeconds`; with 0, before this answer. A user has two keys ' +
      'at most, so a key whose overlap still runs is deleted first. Not idempotent: every call makes another key.\n\n' +
      'With attach `session` it is the next session: AssumeRole, for what is left of the window, at most as long as the role profile ' +
      `allows. The session before it lives on to its own end, whatever the overlap.\n\n${delivered}`,
    problems: ofDelivery
  },
  fetchCredentials: {
    tag: 'grants',
    summary: 'The credentials of a scheduled grant, once, from issueAt on',
    description: 'For a grant that was issued with `issueAt`. Only the identity that asked for it may fetch them, unless your guardrails ' +
      'say otherwise. Before that time the answer is 409 `grant-state` with Retry-After. The second time it is 409 too, since the key ' +
      'has been delivered: POST …/rotate gives a fresh one. IAM: CreateAccessKey, and before it CreateUser if the user does not ' +
      `exist yet.\n\n${delivered}`,
    problems: ofDelivery
  },
  completeGrant: {
    tag: 'grants',
    summary: 'The job has ended: delete its key now. May be called twice',
    description: `The job or its orchestrator calls it, whatever the exit code of the job. ${ended}`,
    problems: ['grant-state']
  },
  revokeGrant: {
    tag: 'grants',
    summary: 'Revoke a grant: delete its key now. May be called twice',
    description: `For people, e.g. when a key has leaked; the history says \`revoked\` instead of \`completed\`. ${ended}`,
    problems: ['grant-state']
  },
  getHealth: {
    tag: 'service',
    summary: 'The process runs',
    description: 'For liveness probes. It depends on nothing outside the process.'
  },
  getReadiness: {
    tag: 'service',
    summary: 'A grant could be issued',
    description: 'For readiness probes: one read-only IAM call, within two seconds, one write to the ledger, the audit, and whether the clock ' +
      'agrees with the provider’s. 503 names the check that failed; the log has the reason.'
  }
} as const satisfies Record<string, Operation>

export type OperationId = keyof typeof operations
