import type { Grant } from '../domain/grant.ts'
import type { AccessSpec } from '../domain/access-spec.ts'
import type { Finding } from '../problems.ts'

/** A role that grants of attach `session` assume; the rendered policy is the session policy. */
export interface RoleProfile {
  name: string
  roleArn: string
  /** The role's MaxSessionDuration, seconds. */
  maxSessionSeconds: number
  /** Our own credentials are a role session: STS then allows one hour at most (STS API, AssumeRole, "role chaining"). */
  chained: boolean
  /** We may put policies on the role, so that one session can be revoked by its source identity. */
  revocable: boolean
  externalId?: string
}

/** STS's shortest session, seconds (STS API, AssumeRole, DurationSeconds). */
export const minSessionSeconds = 900
const chainedSeconds = 3600

export const longestSession = ({ chained, maxSessionSeconds }: RoleProfile): number =>
  chained ? Math.min(chainedSeconds, maxSessionSeconds) : maxSessionSeconds

/** A session starts when it is issued and must last to the end of the window. A shorter window ends it by the policy. */
export const sessionSeconds = (expiresAt: number, now: number): number =>
  Math.max(minSessionSeconds, Math.ceil((expiresAt - now) / 1000))

/**
 * When the sessions of a grant end by themselves, epoch ms: with the window, since the policy allows nothing outside it. Only in
 * layout `guide` the reads last as long as the session.
 */
export const sessionEnd = ({ spec, expiresAt, deliveredAt }: Pick<Grant, 'spec' | 'expiresAt' | 'deliveredAt'>): number =>
  spec.layout === 'guide' ? Math.max(expiresAt, (deliveredAt ?? 0) + minSessionSeconds * 1000) : expiresAt

export const sessionUnfit = (profile: RoleProfile, spec: AccessSpec, now: number): Finding[] => {
  const needed = sessionSeconds(Date.parse(spec.window.outputNotAfter), now)
  const longest = longestSession(profile)
  if (needed <= longest) return []
  return [{
    code: 'session-unfit',
    pointer: '/window',
    detail: `A session until ${spec.window.outputNotAfter} takes ${needed} s; profile ${profile.name} allows ${longest} s` +
      (profile.chained ? ', since the service itself runs under a role session.' : '.'),
    hint: 'Use attach auto: a user’s key has no such limit, and its window can be extended.'
  }]
}
