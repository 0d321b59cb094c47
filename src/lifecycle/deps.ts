import type { NewGrantEvent } from '../domain/events.ts'
import type { PolicyAttachment } from '../domain/access-spec.ts'
import type { Grant } from '../domain/grant.ts'
import type { GuardrailDecision, Guardrails } from '../guardrails/guardrails.ts'
import type { PrincipalProvisioner } from '../iam/provisioner.ts'
import type { RoleProfile } from '../iam/role-profile.ts'
import type { Identity } from '../identity/identity.ts'
import type { Ledger, OutstandingLimits } from '../ledger/ledger.ts'
import type { Dialect } from '../policy/dialect.ts'
import type { Limits } from '../policy/limits.ts'
import type { Clocks } from './clock.ts'
import type { Turn } from './turns.ts'

/**
 * Everything that the operations on a grant work with. It is passed in, so that a test states the clock, the ids, IAM and the
 * ledger. Instants are epoch milliseconds.
 */
export interface GrantDeps {
  /** The clock of windows and leases. */
  now: () => number
  /** Whether that clock is right: while it is wrong, nothing is issued, changed or swept. */
  clock: Pick<Clocks, 'wrong'>
  /** The clock by which waiting is measured and deadlines are kept. No setting of the machine's clock moves it. */
  waitingNow: () => number
  /** How long the IAM calls of one operation may take. */
  deadlineMs: number
  /** How long an operation holds a grant. Longer than its deadline, so that a lapsed lease means a crash. */
  leaseMs: number
  /** A ULID. */
  newId: () => string
  /** Comes before everything that computes for long: see turns.ts. */
  turn: Turn
  ledger: Ledger
  /** With a pool, each goes to the account of the principal. */
  provisioners: Record<PolicyAttachment, PrincipalProvisioner>
  /** Absent: there is one account, without a name. */
  pool?: Pool
  /** The guardrails in force now; a reload replaces them. */
  guardrails: { readonly current: Guardrails }
  audit: AuditPort
  deployment: Deployment
  /** `pathBase` is null where the provider keeps no paths. */
  naming: { userPrefix: string, pathBase: string | null }
  outstanding: OutstandingLimits
  log: Log
}

/** Several accounts that share the grants among them: see pool.ts. */
export interface Pool {
  accounts: Account[]
  /** The account of the grants from when there was no pool. */
  earlier: string | undefined
}

export interface Account {
  name: string
  /** Takes no new grants; those that it has go on. */
  closed: boolean
  /** Those of this account alone. */
  provisioners: GrantDeps['provisioners']
  naming: GrantDeps['naming']
  profiles: Deployment['profiles']
  /** How many users it may have, and how many managed policies: undefined, no limit of ours. */
  quota: { users: number, managed: number | undefined }
  /** Whether its last calls were answered, those for sessions of this role included. False: it is the last choice. */
  isWell: (roleArn?: string | null) => boolean
  /** Rejects while the account does not answer, or refuses our credentials. */
  ping: () => Promise<unknown>
}

/** What a deployment holds every request against: its ceilings, what its provider can express, and its roles. */
export interface Deployment {
  limits: Limits
  dialect: Dialect
  profiles: Record<string, RoleProfile>
}

/** What the operations tell the audit. */
export interface AuditPort {
  /** A decision of the guardrails, or of the team check before them. */
  decided: (
    caller: Caller, action: AuthorisedAction, decision: GuardrailDecision, about: { team: string, jobId?: string, grantId?: string }
  ) => void
  /** A committed change of a grant. Rejects where the change gives access and cannot be audited: then it must not stand. */
  changed: (grant: Grant, event: NewGrantEvent) => Promise<void>
}

export type AuthorisedAction = 'issue' | 'extend' | 'join' | 'render' | 'view' | 'rotate' | 'revoke' | 'collect'

export interface Log {
  info: (fields: object, message: string) => void
  warn: (fields: object, message: string) => void
  error: (fields: object, message: string) => void
}

/** Who acts: the identity behind a request, or a part of the service: `sweeper`, `reconcile`. */
export interface Actor { id: string, requestId: string | null }

/** An actor with a verified token. */
export interface Caller extends Actor, Omit<Identity, 'expiresAt'> {
  requestId: string
  /** Address the request came from. */
  ip: string
  /** Why `ip` is perhaps a proxy's address, so that no key may be bound to it; absent: it is the caller's own. */
  unobserved?: string
}
