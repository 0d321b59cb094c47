import type { ProblemCode } from '../problems.ts'

/**
 * What is true after an operation that failed halfway, for whoever reads its error: in an incident the caller must know which key
 * still works. A code alone cannot tell, since each operation undoes something else.
 */

/** Failures of the service or of what it depends on. A refusal comes before anything was done. */
const failures = [
  'iam-unavailable', 'iam-refused', 'ledger-unavailable', 'audit-unavailable', 'policy-unproven', 'clock-wrong', 'internal'
] as const
type Failure = typeof failures[number]

type Sentences = Partial<Record<Failure, string>> & { other: string }

const unread = { other: 'Nothing was changed.' }
const ending: Sentences = {
  other: 'The grant may not have ended, and its key may still work: send the request again. After its window the policy allows nothing.'
}

/** AWS has no call that ends one session. */
const session = 'A session that was made may last until its end: nobody has its key.'

/** By operationId. An operation that is missing here changes nothing. */
const sentences: Record<string, Sentences> = {
  issueGrant: {
    other: 'No key was delivered. What the request made is deleted, now or by the sweeper. If the grant existed, its earlier key may be ' +
      `deleted, too. ${session}`
  },
  joinGrant: {
    other: 'No key was delivered. What the request made is deleted, now or by the sweeper. If the worker had a key, it may be deleted, ' +
      `too. The keys of other workers still work. ${session}`
  },
  endWorker: ending,
  fetchCredentials: {
    other: 'No key was delivered. A key that the request made is deleted, now or by the sweeper. The grant stays: fetch again. ' + session
  },
  rotateGrant: {
    'ledger-unavailable': 'No new key was delivered, and one that was made is deleted. The current key was not deleted, but may be ' +
      `once the ledger answers: rotate again then. ${session}`,
    other: 'No new key was delivered, and one that was made is deleted, now or by the sweeper. The current key still works. If an ' +
      `earlier one was in its overlap, it may be deleted. ${session}`
  },
  changeGrant: {
    'ledger-unavailable': 'Whether the change holds is not known: read the grant. The key was not deleted.',
    'policy-unproven': 'Nothing was changed. The key was not deleted.',
    other: 'The change does not hold: if IAM has taken it, the sweeper puts the policy of before back. The key was not deleted.'
  },
  completeGrant: ending,
  revokeGrant: ending,
  listGrants: unread,
  getGrant: unread,
  listGrantEvents: unread,
  explainGrant: unread,
  getBlastRadius: unread,
  checkGrant: unread,
  listWorkers: unread,
  getWorker: unread
}

/** Undefined: the error's own words say everything. */
export const whatHolds = (operationId: string | undefined, code: ProblemCode): string | undefined => {
  const row = operationId !== undefined && Object.hasOwn(sentences, operationId) ? sentences[operationId] : undefined
  const failure = failures.find(failure => failure === code)
  return failure && row && (row[failure] ?? row.other)
}
