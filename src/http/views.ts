import type { Grant } from '../ledger/grant.ts'
import type { Delivery } from '../lifecycle/issue.ts'
import type { Warning } from '../policy/warnings.ts'
import { isoSeconds } from './delivery.ts'
import type { GrantView } from './schemas.ts'

/** What a caller sees of a grant: everything but what only the lifecycle needs. */
export const grantView = (grant: Grant): GrantView => ({
  id: grant.id,
  state: grant.state,
  job: grant.admitted.job,
  owner: grant.owner,
  user: { name: grant.principal.name, path: grant.principal.path, roleArn: grant.principal.roleArn },
  accessKeyId: grant.accessKeyId,
  previousKey: grant.previousKeyId && grant.previousKeyDiesAt !== null
    ? { accessKeyId: grant.previousKeyId, diesAt: iso(grant.previousKeyDiesAt) }
    : null,
  window: grant.admitted.window,
  layout: grant.admitted.layout,
  attach: grant.attach,
  policy: grant.policy,
  policyHash: grant.policyHash,
  createdAt: iso(grant.createdAt),
  updatedAt: iso(grant.updatedAt),
  issueAt: grant.issueAt === null ? null : iso(grant.issueAt),
  deliveredAt: grant.deliveredAt === null ? null : iso(grant.deliveredAt)
})

export const deliveryView = ({ grant, credentials }: Delivery, notice: string | null, extra: { warnings: Warning[], ready?: boolean }) => ({
  grant: grantView(grant),
  credentials: credentials && {
    accessKeyId: credentials.accessKeyId,
    secretAccessKey: credentials.secretAccessKey,
    ...(credentials.sessionToken && { sessionToken: credentials.sessionToken }),
    expiration: isoSeconds(credentials.expiresAt ?? grant.expiresAt)
  },
  ...(extra.ready !== undefined && { ready: extra.ready }),
  warnings: extra.warnings,
  notice
})

export const iso = (epochMs: number): string => new Date(epochMs).toISOString()
