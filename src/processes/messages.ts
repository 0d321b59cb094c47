import type { AdminKeys } from '../embedded-iam/server.ts'
import type { AuditAnswer, AuditQuestion } from './remote-audit.ts'

/** What the processes of one service say to each other, over the channel that node:cluster opens. */

interface SharedIam { url: string, admin: AdminKeys, accountId: string }

/** What a process needs that all of them share. */
export interface Shared {
  /** Its number, from 1; a process that takes the place of another has the same. */
  number: number
  ledgerUrl: string
  audited: boolean
  embedded: SharedIam | null
  /** With several accounts: the embedded IAM of each. */
  servers: Record<string, SharedIam>
  /** Of the token of this run; null: identities are configured. */
  tokenSha256: string | null
}

export type ToWorker =
  | { kind: 'begin', shared: Shared }
  /** Sweep and reconcile: one process alone does. */
  | { kind: 'tend' }
  /** Read the guardrails again. */
  | { kind: 'reload' }
  | { kind: 'stop' }
  | { kind: 'metrics', id: number }
  | AuditAnswer

export type ToPrimary =
  | { kind: 'listening', address: string }
  /** The answer to `metrics`; null: they could not be read. */
  | { kind: 'measured', id: number, metrics: object[] | null }
  | AuditQuestion
