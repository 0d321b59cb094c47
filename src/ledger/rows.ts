import type { Generated, Selectable } from 'kysely'
import type { PolicyAttachment } from '../domain/access-spec.ts'
import type { GrantEvent } from '../domain/events.ts'
import type { Ending, Grant, GrantState } from '../domain/grant.ts'

/**
 * The tables as the database has them, and the way between a row and a grant.
 * Instants are epoch milliseconds; what is a structure in the grant is JSON text (never jsonb: it would
 * reorder the keys of a policy, and policyHash is over its text).
 */
export interface Tables {
  grants: GrantTable
  grant_events: EventTable
  grant_counts: CountTable
}

export interface GrantTable {
  id: string
  state: GrantState
  ending: Ending | null
  owner: string
  team: string
  job_id: string
  idempotency_key: string | null
  request_hash: string
  admitted: string
  policy: string
  policy_hash: string
  attach: PolicyAttachment
  principal_name: string
  principal_path: string
  principal_policy_arn: string | null
  principal_role_arn: string | null
  access_key_id: string | null
  previous_key_id: string | null
  previous_key_dies_at: number | null
  issue_at: number | null
  minted_at: number | null
  delivered_at: number | null
  not_before: number
  expires_at: number
  created_at: number
  updated_at: number
  due_at: number | null
  attempts: number
  claimed_until: number | null
  version: Generated<number>
}

/** An event's number is the version its grant had after it: unique, in order, and with no sequence to maintain. */
export interface EventTable {
  grant_id: string
  version: number
  at: number
  actor: string
  action: string
  request_id: string | null
  policy_hash: string | null
  detail: string
}

/** Outstanding grants of an owner; owner '' holds the total. Kept in the same transaction as the grants. */
export interface CountTable {
  owner: string
  outstanding: number
}

export type GrantRow = Selectable<GrantTable>

const plainColumns = {
  id: 'id',
  state: 'state',
  ending: 'ending',
  owner: 'owner',
  team: 'team',
  jobId: 'job_id',
  idempotencyKey: 'idempotency_key',
  requestHash: 'request_hash',
  policyHash: 'policy_hash',
  attach: 'attach',
  accessKeyId: 'access_key_id',
  previousKeyId: 'previous_key_id',
  previousKeyDiesAt: 'previous_key_dies_at',
  issueAt: 'issue_at',
  mintedAt: 'minted_at',
  deliveredAt: 'delivered_at',
  notBefore: 'not_before',
  expiresAt: 'expires_at',
  createdAt: 'created_at',
  updatedAt: 'updated_at',
  dueAt: 'due_at',
  attempts: 'attempts',
  claimedUntil: 'claimed_until',
  version: 'version'
} as const satisfies Record<Exclude<keyof Grant, 'spec' | 'policy' | 'principal'>, keyof GrantTable>

/**
 * The columns of what is given of a grant. Throws TypeError on a field no grant has, or one that is undefined:
 * neither may be dropped in silence.
 */
export function columnsOf<P extends Partial<Grant>> (part: P): Partial<GrantRow> {
  const row: Record<string, unknown> = {}
  for (const [field, value] of Object.entries(part)) {
    if (value === undefined) throw new TypeError(`Grant field ${field} is undefined`)
    if (field === 'policy') row.policy = JSON.stringify(value)
    else if (field === 'spec') row.admitted = JSON.stringify(value)
    else if (field === 'principal') Object.assign(row, principalColumns(value as Grant['principal']))
    else if (Object.hasOwn(plainColumns, field)) row[plainColumns[field as keyof typeof plainColumns]] = value
    else throw new TypeError(`A grant has no field ${field}`)
  }
  return row
}

const principalColumns = (principal: Grant['principal']) => ({
  principal_name: principal.name,
  principal_path: principal.path,
  principal_policy_arn: principal.policyArn,
  principal_role_arn: principal.roleArn
})

export const grantOf = (row: GrantRow): Grant => ({
  id: row.id,
  state: row.state,
  ending: row.ending,
  owner: row.owner,
  team: row.team,
  jobId: row.job_id,
  idempotencyKey: row.idempotency_key,
  requestHash: row.request_hash,
  spec: JSON.parse(row.admitted),
  policy: JSON.parse(row.policy),
  policyHash: row.policy_hash,
  attach: row.attach,
  principal: {
    name: row.principal_name,
    path: row.principal_path,
    policyArn: row.principal_policy_arn,
    roleArn: row.principal_role_arn
  },
  accessKeyId: row.access_key_id,
  previousKeyId: row.previous_key_id,
  previousKeyDiesAt: row.previous_key_dies_at,
  issueAt: row.issue_at,
  mintedAt: row.minted_at,
  deliveredAt: row.delivered_at,
  notBefore: row.not_before,
  expiresAt: row.expires_at,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  dueAt: row.due_at,
  attempts: row.attempts,
  claimedUntil: row.claimed_until,
  version: row.version
})

export const eventOf = (row: Selectable<EventTable>): GrantEvent => ({
  grantId: row.grant_id,
  at: row.at,
  actor: row.actor,
  action: row.action,
  requestId: row.request_id,
  policyHash: row.policy_hash,
  detail: JSON.parse(row.detail)
})
