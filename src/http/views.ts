import { sessionEnd } from '../iam/role-profile.ts'
import type { Grant } from '../domain/grant.ts'
import type { Rendered } from '../lifecycle/access.ts'
import type { Delivery } from '../lifecycle/provision.ts'
import { explainPolicy } from '../policy/explain.ts'
import type { Warning } from '../policy/normalise.ts'
import { endOf, isoSeconds } from './delivery.ts'
import type { GrantView } from './schemas.ts'

/** What a caller sees of a grant: everything but what only the lifecycle needs. */
export const grantView = (grant: Grant): GrantView => ({
  id: grant.id,
  state: grant.state,
  job: grant.spec.job,
  owner: grant.owner,
  user: { name: grant.principal.name, path: grant.principal.path, roleArn: grant.principal.roleArn },
  accessKeyId: grant.accessKeyId,
  previousKey: grant.previousKeyId && grant.previousKeyDiesAt !== null
    ? { accessKeyId: grant.previousKeyId, diesAt: iso(grant.previousKeyDiesAt) }
    : null,
  window: grant.spec.window,
  layout: grant.spec.layout,
  attach: grant.attach,
  policy: grant.policy,
  policyHash: grant.policyHash,
  createdAt: iso(grant.createdAt),
  updatedAt: iso(grant.updatedAt),
  issueAt: grant.issueAt === null ? null : iso(grant.issueAt),
  deliveredAt: grant.deliveredAt === null ? null : iso(grant.deliveredAt),
  notice: noticeOf(grant)
})

/** `revoking` until its end is how a session is kept that nobody can end early. */
const noticeOf = (grant: Grant): string | null => {
  const irrevocable = grant.state === 'revoking' && grant.attach === 'session' && grant.dueAt === sessionEnd(grant)
  return irrevocable ? `This session cannot be revoked: its keys work until ${isoSeconds(grant.dueAt ?? 0)}, when they end by themselves.` : null
}

/** What a delivery warns of besides its policy. */
export interface LifecycleWarning { code: 'session-lives-on', detail: string }

export const deliveryView = ({ grant, credentials }: Delivery, notice: string | null, extra: { warnings: Array<Warning | LifecycleWarning>, ready?: boolean }) => ({
  grant: grantView(grant),
  credentials: credentials && {
    accessKeyId: credentials.accessKeyId,
    secretAccessKey: credentials.secretAccessKey,
    ...(credentials.sessionToken && { sessionToken: credentials.sessionToken }),
    expiration: isoSeconds(endOf(credentials, grant))
  },
  ...(extra.ready !== undefined && { ready: extra.ready }),
  warnings: extra.warnings,
  notice
})

export const renderedView = (
  { policy, measure, attachment, spec, warnings, probes }: Rendered & { probes?: number }, sizes: { inline?: number, managed?: number }
) => ({
  policy,
  size: { characters: measure.characters, limits: { inline: sizes.inline ?? 0, managed: sizes.managed ?? 0 }, sha256: measure.sha256 },
  attach: attachment,
  window: spec.window,
  proof: probes === undefined ? null : { probes },
  explanation: explainPolicy(policy),
  warnings
})

export const iso = (epochMs: number): string => new Date(epochMs).toISOString()
