import type { PolicyDocument } from '../domain/policy-document.ts'
import type { Iam } from './client.ts'
import { IamError, isIamError } from './errors.ts'
import { ignoring, poll } from './retry.ts'
import { expiryOfName, withExpiry } from './names.ts'
import type { Credentials, PrincipalPlan, PrincipalProvisioner } from './provisioner.ts'
import { minSessionSeconds, profileOfGrant, sessionSeconds, type RoleProfile } from './role-profile.ts'

interface SessionProvisionerOptions {
  iam: Iam
  profiles: Record<string, RoleProfile>
  /** Start of every session name. */
  prefix: string
  /** Epoch ms. */
  now: () => number
}

/**
 * Role sessions, one after the other: one call each, no user to clean up. The grant's name is their name and source identity.
 * A session cannot be changed; it can be revoked only where the service may put a policy on the role.
 */
export const sessionProvisioner = ({ iam, profiles, prefix, now }: SessionProvisionerOptions): PrincipalProvisioner => {
  const assume = async ({ ref, policy, tags, session }: PrincipalPlan, until: number): Promise<Credentials> => {
    const profile = profileOf(ref.roleArn, session?.profile)
    const keys = await iam.assumeRole({
      roleArn: profile.roleArn,
      sessionName: ref.name,
      sourceIdentity: ref.name,
      policy: JSON.stringify(policy),
      durationSeconds: sessionSeconds(profile, session?.windowEnd ?? 0, now()),
      tags,
      ...(profile.externalId && { externalId: profile.externalId })
    }, until)
    return {
      accessKeyId: keys.accessKeyId,
      secretAccessKey: keys.secretAccessKey,
      sessionToken: keys.sessionToken,
      expiresAt: keys.expiresAt
    }
  }

  const profileOf = (roleArn: string | null, name?: string): RoleProfile => {
    const profile = profileOfGrant(profiles, roleArn, name)
    if (!profile) throw new IamError('other', 'AssumeRole', 'ProfileUnknown', roleArn)
    return profile
  }

  const unchangeable = (operation: string) => { throw new IamError('unsupported', operation, 'SessionIsFixed', undefined) }

  return {
    create: async (plan, until) => ({ ref: plan.ref, credentials: plan.withKey ? await assume(plan, until) : null, lost: false }),
    replacePolicy: async () => unchangeable('replacePolicy'),
    mintKey: async (plan, _keep, until) => ({ credentials: await assume(plan, until), lost: false }),
    deleteKey: async () => unchangeable('deleteKey'),
    pruneKeys: async () => [],
    keys: async () => [],

    async teardown ({ ref, sessionsEndAt }, until) {
      // There is no role that could deny it anything.
      if (ref.roleArn === null) return 'irrevocable'
      const profile = profileOf(ref.roleArn)
      if (!profile.revocable) return 'irrevocable'
      const document = JSON.stringify(revocation(ref.name, now()))
      try {
        // It must stay as long as a session may last, and no longer, since the role has little room: list() reads that from its name.
        const name = sessionsEndAt ? withExpiry(ref.name, sessionsEndAt) : ref.name
        await iam.putRolePolicy(roleName(ref.roleArn), name, document, until)
      } catch (error) {
        // The role's inline policies have no room left (10,240 characters): no more sessions can be revoked until some have ended.
        if (isIamError(error, 'limit')) return 'irrevocable'
        throw error
      }
      return 'gone'
    },

    ready: (_ref, credentials, until) => poll(() => iam.callerIdentity(credentials, until), until),
    // A session leaves nothing behind, but its revocation does: a policy on the role, to be removed once the session is over.
    async * list (until) {
      for (const { roleArn, revocable } of Object.values(profiles)) {
        if (!revocable || roleArn === null) continue
        for (const name of await iam.listRolePolicies(roleName(roleArn), until())) {
          const stated = expiryOfName(prefix, name)
          // Other policies of the role are not ours.
          if (stated === undefined) continue
          // Earlier releases stated the end of the window, which a session of the shortest length may outlive. STS has its own clock.
          const expiresAt = stated + minSessionSeconds * 1000
          yield { ref: { name, path: '/', policyArn: null, roleArn }, expiresAt, createdAt: null }
        }
      }
    },
    async discard (ref, until) {
      // Another replica may reconcile at the same time.
      await ignoring('gone', iam.deleteRolePolicy(roleName(ref.roleArn ?? ''), ref.name, until))
    },
    exists: async () => true,
    policyEnd: async () => undefined,
    // A store that has STS for AssumeRole alone says so: that is an answer, too. MinIO (cmd/sts-handlers.go) and RustFS
    // (admin/handlers/sts.rs) check the signature first, and then call the action an invalid parameter, with a 400.
    async ping (until) {
      try {
        await iam.callerIdentity(undefined, until)
      } catch (error) {
        if (!isIamError(error, 'unsupported', 'malformed')) throw error
      }
    }
  }
}

/**
 * Denies this one session everything. AWS documents the statement by token issue time alone, which ends every session of the
 * role: IAM User Guide, "Revoke IAM role temporary security credentials". The source identity narrows it to this grant. The grant
 * gets no further session, so the instant can lie ahead: STS's clock, which dates the sessions, may be ahead of ours.
 */
export const revocation = (sessionName: string, at: number): PolicyDocument => ({
  Version: '2012-10-17',
  Statement: [{
    Effect: 'Deny',
    Action: ['*'],
    Resource: ['*'],
    Condition: {
      StringEquals: { 'aws:SourceIdentity': sessionName },
      DateLessThan: { 'aws:TokenIssueTime': new Date(at + mostSkewMs).toISOString().replace(/\.\d+/, '') }
    }
  }]
})

/** AWS refuses signatures when the clocks are further apart (IAM User Guide, "AWS Signature Version 4 for API requests"). */
const mostSkewMs = 5 * 60_000

const roleName = (arn: string): string => arn.slice(arn.lastIndexOf('/') + 1)
