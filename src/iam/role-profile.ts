import type { Grant } from '../domain/grant.ts'

/** What grants of attach `session` assume; the rendered policy is the session policy. */
export interface RoleProfile {
  name: string
  /** Null: none. The session is one of the service's own user; see `roleless` of a dialect. */
  roleArn: string | null
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

/** To the end of the window, as far as one session reaches: the next one goes on from there. A shorter window ends it by the policy. */
export const sessionSeconds = (profile: RoleProfile, expiresAt: number, now: number): number =>
  Math.max(minSessionSeconds, Math.min(longestSession(profile), Math.ceil((expiresAt - now) / 1000)))

/**
 * When a session stops working that STS ends at `stsEnd`, epoch ms: with the window, since the policy allows nothing outside it. Only in
 * layout `guide` the reads last as long as the session.
 */
export const endOfSession = (stsEnd: number, { spec, expiresAt }: Pick<Grant, 'spec' | 'expiresAt'>): number =>
  spec.layout === 'guide' ? stsEnd : Math.min(stsEnd, expiresAt)

/**
 * When the last session of a grant stops working, at the latest, epoch ms; 0: it never had one. An earlier release gave one session for
 * the whole window and did not note its end.
 */
export const sessionEnd = (grant: Pick<Grant, 'spec' | 'expiresAt' | 'deliveredAt' | 'sessionsEndAt'>): number => {
  const { sessionsEndAt, deliveredAt, expiresAt } = grant
  if (sessionsEndAt !== null || deliveredAt === null) return sessionsEndAt ?? 0
  return endOfSession(Math.max(expiresAt, deliveredAt + minSessionSeconds * 1000), grant)
}

/** The profile that a grant was given: several may have one role. If its name is gone, another one of its role. */
export const profileOfGrant = (
  profiles: Record<string, RoleProfile>, roleArn: string | null, name: string | undefined
): RoleProfile | undefined => {
  const ofRole = Object.values(profiles).filter(profile => profile.roleArn === roleArn)
  return ofRole.find(profile => profile.name === name) ?? ofRole[0]
}
