import type { Grant } from '../domain/grant.ts'
import type { Credentials } from '../iam/provisioner.ts'
import { endOfSession, profileOfGrant, sessionEnd, sessionSeconds } from '../iam/role-profile.ts'
import type { GrantDeps } from './deps.ts'

/**
 * Until when the role sessions of a grant may work. A session cannot be looked up at the provider, so the ledger must know it before
 * STS is asked. Both functions give a part of a commit, which is empty for other grants.
 */

type SessionGrant = Pick<Grant, 'attach' | 'spec' | 'principal' | 'expiresAt' | 'deliveredAt' | 'sessionsEndAt'>
type SessionsEnd = Partial<Pick<Grant, 'sessionsEndAt'>>

/** For the commit before a session is asked for: STS may be asked as long as the operation's lease lasts. */
export const beforeSession = (deps: GrantDeps, grant: SessionGrant): SessionsEnd => {
  const { attach, spec, principal, expiresAt } = grant
  const profile = attach === 'session' ? profileOfGrant(deps.deployment.profiles, principal.roleArn, spec.profile) : undefined
  // Without a profile STS is not asked.
  if (!profile) return {}
  const latest = deps.now() + deps.leaseMs + sessionSeconds(profile, expiresAt, deps.now()) * 1000
  return { sessionsEndAt: Math.max(sessionEnd(grant), endOfSession(latest, grant)) }
}

/**
 * For the commit before its delivery: the end that STS stated, by its own clock.
 * @param before the grant as it was before beforeSession()
 */
export const afterSession = (before: SessionGrant, credentials: Credentials | null): SessionsEnd =>
  before.attach === 'session' && credentials?.expiresAt
    ? { sessionsEndAt: Math.max(sessionEnd(before), endOfSession(credentials.expiresAt, before)) }
    : {}
