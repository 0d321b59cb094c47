import type { AuditRecorder } from '../audit/recorder.ts'
import type { Authenticator } from '../identity/identity.ts'
import type { GrantDeps } from '../lifecycle/deps.ts'
import type { S3Target } from './delivery.ts'

/** An account of the pool: what its jobs need to reach S3, and whether its last calls were answered. */
export interface ServiceAccount {
  name: string
  s3: S3Target
  isWell: () => boolean
  ping: () => Promise<unknown>
}

/** Everything the routes need, passed in. */
export interface Service {
  deps: GrantDeps
  authenticator: Authenticator
  audit: AuditRecorder
  /** What jobs need besides the key to reach S3. */
  s3: S3Target
  /** The accounts of the pool; absent: there is one, which has no name. */
  accounts?: ServiceAccount[]
  /** A sentence about the provider for every delivery; null: none. */
  notice: string | null
  /** What a new grant needs, by the name that /readyz gives it. Each rejects while no grant could be issued. */
  readiness: Record<string, () => Promise<unknown>>
  ratePerMinute: number
  /** Refused tokens per minute from one address; those beyond are not logged and audited one by one. */
  refusalsPerMinute: number
  trustProxy: string | false
}
