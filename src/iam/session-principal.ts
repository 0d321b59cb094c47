import type { PolicyDocument } from '../domain/policy-document.ts'
import type { Iam } from './client.ts'
import { IamError, isIamError } from './errors.ts'
import { expiryOfName } from './names.ts'
import type { Credentials, PrincipalPlan, PrincipalProvisioner } from './principal.ts'
import { minSessionSeconds, sessionSeconds, type RoleProfile } from './role-profile.ts'
import { poll } from './settling.ts'

export interface SessionPrincipalOptions {
  iam: Iam
  profiles: Record<string, RoleProfile>
  /** Of the session names, which are those of users. */
  prefix: string
  /** Epoch ms. */
  now: () => number
}

/**
 * A role session per grant: one call, no user to clean up. The grant's name is the session's name and source identity.
 * A session cannot be changed; it can be revoked only where the service may put a policy on the role.
 */
export const sessionPrincipals = ({ iam, profiles, prefix, now }: SessionPrincipalOptions): PrincipalProvisioner => {
  const assume = async ({ ref, policy, tags }: PrincipalPlan, until: number): Promise<Credentials> => {
    const profile = profileOf(ref.roleArn)
    const expiresAt = Number(tags['job-access:expires'] ? Date.parse(tags['job-access:expires']) : 0)
    const keys = await iam.assumeRole({
      roleArn: profile.roleArn,
      sessionName: ref.name,
      sourceIdentity: ref.name,
      policy: JSON.stringify(policy),
      durationSeconds: sessionSeconds(expiresAt, now()),
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

  const profileOf = (roleArn: string | null): RoleProfile => {
    const profile = Object.values(profiles).find(profile => profile.roleArn === roleArn)
    if (!profile) throw new IamError('other', 'AssumeRole', 'ProfileUnknown', roleArn)
    return profile
  }

  const fixed = (operation: string) => { throw new IamError('unsupported', operation, 'SessionIsFixed', undefined) }

  return {
    create: async (plan, until) => ({ ref: plan.ref, credentials: plan.withKey ? await assume(plan, until) : null }),
    replacePolicy: async () => fixed('replacePolicy'),
    mintKey: (plan, _keep, until) => assume(plan, until),
    deleteKey: async () => fixed('deleteKey'),
    pruneKeys: async () => [],

    async teardown ({ ref }, until) {
      const profile = profileOf(ref.roleArn)
      if (!profile.revocable) return 'irrevocable'
      const document = JSON.stringify(revocation(ref.name, now()))
      try {
        await iam.putRolePolicy(roleName(profile.roleArn), ref.name, document, until)
      } catch (error) {
        // The role's inline policies are full (10,240 characters): no more sessions can be revoked until some have ended.
        if (isIamError(error, 'limit')) return 'irrevocable'
        throw error
      }
      return 'gone'
    },

    ready: (_ref, credentials, until) => poll(() => iam.callerIdentity(credentials, until), until),
    // A session leaves nothing behind; what revoked it does: a policy on the role, to be removed once the session is over.
    async * list (until) {
      for (const { roleArn } of Object.values(profiles).filter(profile => profile.revocable)) {
        for (const name of await iam.listRolePolicies(roleName(roleArn), until())) {
          const windowEnds = expiryOfName(prefix, name)
          // Whoever put another policy on the role put it there for a reason. A session may outlive its window, if not what it may do.
          if (windowEnds === undefined) continue
          const expiresAt = windowEnds + minSessionSeconds * 1000
          yield { ref: { name, path: '/', policyArn: null, roleArn }, expiresAt, createdAt: null }
        }
      }
    },
    async discard (ref, until) {
      try {
        await iam.deleteRolePolicy(roleName(ref.roleArn ?? ''), ref.name, until)
      } catch (error) {
        // Another replica reconciles too.
        if (!isIamError(error, 'gone')) throw error
      }
    },
    exists: async () => true,
    policyEnd: async () => undefined,
    async ping (until) { await iam.callerIdentity(undefined, until) }
  }
}

/**
 * Denies this one session everything. AWS documents the statement by token issue time alone, which ends every session of the
 * role: IAM User Guide, "Revoke IAM role temporary security credentials". The source identity narrows it to the grant, which gets no
 * further session: so the instant can lie ahead, lest a session outlive it whose issue time STS took from a clock ahead of ours.
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

/** With clocks further apart AWS takes no signature (IAM User Guide, "AWS Signature Version 4 for API requests"). */
const mostSkewMs = 5 * 60_000

export const roleName = (arn: string): string => arn.slice(arn.lastIndexOf('/') + 1)
