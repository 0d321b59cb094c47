import type { DyingKey, Grant } from '../domain/grant.ts'
import { settleMs, type TeardownTarget } from '../iam/provisioner.ts'
import { sessionEnd } from '../iam/role-profile.ts'

/**
 * Which keys of a grant may still live. IAM is eventually consistent: for some minutes neither "NoSuchEntity" nor a list is proof. So
 * the ledger keeps each key that was to be deleted until the provider has deleted it, or five minutes have passed.
 */

const soonMs = 5_000

/** Keys that are to die from now on; null stands for a key that a call may still make. The sweeper asks soon. */
export const dying = (ids: Array<string | null>, now: number): DyingKey[] =>
  ids.map(id => ({ id, since: now, askAt: now + soonMs }))

/** The same, after an operation that failed: with the key that it made, if it knows of one, and one that a call of it may still make. */
export const withLate = (keys: DyingKey[], made: string | null, now: number): DyingKey[] =>
  [...keys.filter(({ id }) => id !== null), ...dying(made === null ? [null] : [made, null], now)]

/** After a look at the provider: the keys whose death is not certain, and when to look again. Each wait is as long as all before it. */
export const stillDying = (keys: DyingKey[], deleted: string[], now: number): DyingKey[] => keys
  .filter(({ id, since }) => now - since < settleMs && (id === null || !deleted.includes(id)))
  .map(({ id, since }) => ({ id, since, askAt: Math.min(since + settleMs, now + Math.max(soonMs, now - since)) }))

export const idsOf = (keys: DyingKey[]): string[] => keys.flatMap(({ id }) => id ?? [])

/** The keys that the ledger gives a grant, and those that are not certainly dead. */
export const keyIdsOf = ({ accessKeyId, previousKeyId, dyingKeys }: Pick<Grant, 'accessKeyId' | 'previousKeyId' | 'dyingKeys'>): string[] =>
  [...new Set([accessKeyId, previousKeyId, ...idsOf(dyingKeys)].filter(id => id !== null))]

/** What a teardown of the grant must remove. Without a key in the ledger there may be one that it does not know: after a crash. */
export const targetOf = (grant: Grant): TeardownTarget => ({
  ref: grant.principal,
  attachment: grant.attach,
  keyIds: keyIdsOf(grant),
  others: grant.accessKeyId === null || grant.dyingKeys.some(({ id }) => id === null),
  mintedAt: grant.mintedAt ?? grant.createdAt,
  ...(grant.attach === 'session' && { sessionsEndAt: sessionEnd(grant) })
})
