import { transitions, type Grant, type GrantState } from '../../src/domain/grant.ts'
import type { GrantChange, Ledger, NewEvent, NewGrant } from '../../src/ledger/ledger.ts'

export const states = Object.keys(transitions) as GrantState[]
export const isEnd = (state: GrantState): boolean => transitions[state].length === 0

export const unlimited = { perOwner: 1_000_000, total: 1_000_000 }

/** Epoch ms. The ledger itself never reads a clock. */
export const start = Date.UTC(2025, 6, 16)

let created = 0

/** A valid new grant. Its id is greater than all earlier ones. */
export function newGrant (given: Partial<NewGrant> = {}): NewGrant {
  const id = given.id ?? `01k0${String(++created).padStart(22, '0')}`
  return {
    id,
    ending: null,
    endReason: null,
    owner: 'token:ci',
    team: 'nlp',
    jobId: `job-${created}`,
    idempotencyKey: null,
    attempt: null,
    maxWorkers: null,
    parentId: null,
    worker: null,
    spec: {
      partition: 'aws',
      job: { id: `job-${created}`, team: 'nlp', labels: {} },
      entries: [],
      window: { notBefore: '2025-07-16T00:00:00Z', notAfter: '2025-07-16T03:00:00Z', outputNotAfter: '2025-07-16T03:00:00Z' },
      source: { kind: 'any' },
      layout: 'everywhere',
      attach: 'inline'
    },
    policy: { Version: '2012-10-17', Statement: [] },
    policyHash: 'b'.repeat(64),
    attach: 'inline',
    principal: { name: `job-${id}`, path: '/job-access/nlp/', policyArn: null, roleArn: null },
    accessKeyId: null,
    previousKeyId: null,
    previousKeyDiesAt: null,
    dyingKeys: [],
    issueAt: null,
    mintedAt: null,
    deliveredAt: null,
    sessionsEndAt: null,
    notBefore: start,
    expiresAt: start + 10_800_000,
    createdAt: start,
    dueAt: start + 60_000,
    attempts: 0,
    claimedUntil: null,
    ...given
  }
}

export const event = (action: string, given: Partial<NewEvent> = {}): NewEvent =>
  ({ actor: 'token:ci', action, requestId: 'req-1', policyHash: null, detail: {}, ...given })

export async function begun (ledger: Ledger, given: Partial<NewGrant> = {}): Promise<Grant> {
  const result = await ledger.begin(newGrant(given), event('pending'), unlimited)
  if (result.outcome !== 'created') throw new Error(`begin: ${result.outcome}`)
  return result.grant
}

/** The change to a state, with the fields that must change too. */
export const changeTo = (state: GrantState): GrantChange =>
  isEnd(state) ? { state, dueAt: null, claimedUntil: null } : { state }

export const moved = (ledger: Ledger, grant: Grant, state: GrantState): Promise<Grant> =>
  ledger.update(grant, changeTo(state), event(state), start + 1)

const ways: Record<GrantState, GrantState[]> = {
  pending: [],
  active: ['active'],
  revoking: ['revoking'],
  revoked: ['revoking', 'revoked'],
  expired: ['revoking', 'expired'],
  failed: ['failed']
}

/** A new grant, brought to that state by legal changes. */
export async function grantIn (ledger: Ledger, state: GrantState, given: Partial<NewGrant> = {}): Promise<Grant> {
  let grant = await begun(ledger, given)
  for (const next of ways[state]) grant = await moved(ledger, grant, next)
  return grant
}
