/**
 * Everything that can happen to a grant, in the order of its life. The list is closed: audit, metrics and the documentation
 * have a table with one entry for each, so that the compiler or a test finds an event that one of them does not know.
 */
export const grantEventActions = [
  // issue
  'pending', 'minting', 'active', 'issue-failed',
  // another key for the same grant
  'rekeying', 'delivered', 'rekey-failed',
  'rotating', 'rotated', 'previous-key-deleted', 'rotate-failed',
  // another window or source
  'extending', 'extended', 'extend-failed', 'workers-left', 'behind-job',
  // the end
  'revoking', 'attempt-failed', 'unsure', 'irrevocable', 'revoked', 'expired', 'failed',
  // after an operation that did not come to its end
  'overtaken', 'repaired', 'released'
] as const
export type GrantEventAction = (typeof grantEventActions)[number]

/** One line of a grant's append-only history. Never a secret. */
export interface GrantEvent {
  grantId: string
  /** Epoch milliseconds. */
  at: number
  /** Identity id, or `sweeper`, `reconcile`, `service`. */
  actor: string
  /** A GrantEventAction; an older release may have written another one. */
  action: string
  requestId: string | null
  policyHash: string | null
  /** Key ids, reasons, error codes. */
  detail: Record<string, string | number | boolean | null>
}

export interface NewGrantEvent extends Omit<GrantEvent, 'grantId' | 'at'> { action: GrantEventAction }
