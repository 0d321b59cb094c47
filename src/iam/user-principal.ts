import type { PolicyAttachment } from '../domain/access-spec.ts'
import type { PrincipalRef } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import type { Iam, ListedUser } from './client.ts'
import type { Dialect } from '../policy/dialect.ts'
import { IamError, isIamError } from './errors.ts'
import { expiryOfName, expiryOfPath } from './names.ts'
import { inlinePolicyName, settleMs, type Credentials, type PrincipalProvisioner } from './principal.ts'
import { latest, policyEnd } from './policy-end.ts'
import { mintOne, poll, realTime, settling, type Waiting } from './settling.ts'
import { grantOf, replaceByTwin, twinOf, type NamedPolicy } from './twin-policies.ts'

export type UserPrincipalOptions = Naming & {
  iam: Iam
  permissionsBoundary?: string
  /** Whether CreateUser takes Tags and PermissionsBoundary here. */
  tagged: boolean
  /** Clock of the age rule, epoch ms. */
  now: () => number
  /** Clock of the deadlines. Default: the real one. */
  waiting?: Waiting
} & Partial<Pick<Dialect, 'policyVersions' | 'identityProbe' | 'selfService'>> // default: those of AWS

/** What tells our users from others: the path below which they live, or, where paths are dropped, the start of their names. */
type Naming = { pathBase: string, prefix?: undefined } | { prefix: string, pathBase?: undefined }

/** AWS's own shape: an IAM user per grant. Create is two round trips deep, revoke kills the key with its first call. */
export const userPrincipals = (options: UserPrincipalOptions): PrincipalProvisioner => {
  const { iam, permissionsBoundary, tagged, now, waiting = realTime } = options
  const { policyVersions = true, identityProbe = 'sts', selfService = false } = options
  // The list is narrowed to the path by the provider; what it lists there and we cannot read is told as foreign.
  const ours: { listed: string, expiryOf: (user: ListedUser) => number | undefined, isOurs: (user: ListedUser) => boolean } =
    options.pathBase !== undefined
      ? { listed: options.pathBase, expiryOf: ({ path }) => expiryOfPath(options.pathBase, path), isOurs: () => true }
      : {
          listed: '/',
          expiryOf: ({ name }) => expiryOfName(options.prefix, name),
          isOurs: ({ name }) => expiryOfName(options.prefix, name) !== undefined
        }

  const key = async (ref: PrincipalRef, keep: string[], until: number): Promise<Credentials> => {
    const minted = await mintOne(() => iam.createAccessKey(ref.name, until), () => prune(ref, keep, until), until, waiting)
    return { ...minted, expiresAt: null }
  }

  const prune = async (ref: PrincipalRef, keep: string[], until: number): Promise<string[]> => {
    const pruned: string[] = []
    for (;;) {
      const strangers = (await iam.listAccessKeys(ref.name, until)).filter(id => !keep.includes(id))
      await Promise.all(strangers.map(id => ignoring('gone')(iam.deleteAccessKey(ref.name, id, until))))
      pruned.push(...strangers)
      // A stranger's key may have made another one before it was deleted.
      if (!selfService || strangers.length === 0) return pruned
    }
  }

  const put = async (ref: PrincipalRef, attachment: PolicyAttachment, policy: PolicyDocument, until: number): Promise<string | null> => {
    const document = JSON.stringify(policy)
    if (attachment === 'inline') {
      await settling(() => iam.putUserPolicy(ref.name, inlinePolicyName, document, until), until, waiting)
      return null
    }
    const arn = await managed(ref, document, until)
    await settling(() => iam.attachUserPolicy(ref.name, arn, until), until, waiting)
    return arn
  }

  const managed = async (ref: PrincipalRef, document: string, until: number): Promise<string> => {
    try {
      return await iam.createPolicy({ name: ref.name, path: ref.path, document }, until)
    } catch (error) {
      // Only an earlier attempt of this very grant can hold this name. What it carried may differ: renew it.
      if (!isIamError(error, 'exists')) throw error
      return change({ ...ref, policyArn: null }, document, until)
    }
  }

  /** Gives the grant's managed policy another text. Returns its ARN, which may be another one then. */
  const change = async (ref: PrincipalRef, document: string, until: number): Promise<string> => {
    if (!policyVersions) {
      return replaceByTwin(iam, await findPolicies(ref, until), ref.policyArn, document, async () => [ref.name], until)
    }
    const arn = ref.policyArn ?? (await findPolicies(ref, until))[0]?.arn
    if (!arn) throw new IamError('gone', 'ListPolicies', 'NoSuchEntity', undefined)
    await newVersion(arn, document, until)
    return arn
  }

  const newVersion = async (arn: string, document: string, until: number): Promise<void> => {
    try {
      await iam.createPolicyVersion(arn, document, until)
    } catch (error) {
      // A managed policy keeps five versions (IAM quotas page).
      if (!isIamError(error, 'limit')) throw error
      await dropOldVersions(arn, until)
      await iam.createPolicyVersion(arn, document, until)
    }
  }

  const dropOldVersions = async (arn: string, until: number) => {
    const old = (await iam.listPolicyVersions(arn, until)).filter(version => !version.isDefault)
    await Promise.all(old.map(version => ignoring('gone')(iam.deletePolicyVersion(arn, version.id, until))))
  }

  const findPolicies = async (ref: PrincipalRef, until: number): Promise<NamedPolicy[]> => {
    const most = policyVersions ? 1 : 2
    const found: NamedPolicy[] = []
    let marker: string | undefined
    do {
      const page = await iam.listPolicies(ref.path, marker, until)
      found.push(...page.policies.filter(policy => grantOf(policy.name) === ref.name))
      marker = page.marker
    } while (marker && found.length < most)
    return found
  }

  /** Without a known ARN it may still be there: a crash, or an answer that was lost. */
  const policiesOf = async (ref: PrincipalRef, until: number): Promise<string[]> => {
    if (!ref.policyArn) return (await findPolicies(ref, until)).map(policy => policy.arn)
    return policyVersions ? [ref.policyArn] : [ref.policyArn, twinOf(ref.policyArn)]
  }

  const removePolicy = async (name: string, arn: string, until: number) => {
    await ignoring('gone')(iam.detachUserPolicy(name, arn, until))
    await ignoring('gone')(deleteManaged(arn, until))
  }

  const deleteManaged = async (arn: string, until: number) => {
    try {
      await iam.deletePolicy(arn, until)
    } catch (error) {
      if (!isIamError(error, 'delete-conflict')) throw error
      await dropOldVersions(arn, until)
      await iam.deletePolicy(arn, until)
    }
  }

  /** Everything that may hang on the user, whoever hung it there. */
  const strip = async (ref: PrincipalRef, until: number) => {
    await prune(ref, [], until)
    const [inline, attached] = await Promise.all([iam.listUserPolicies(ref.name, until), iam.listAttachedUserPolicies(ref.name, until)])
    await Promise.all([
      ...inline.map(name => ignoring('gone')(iam.deleteUserPolicy(ref.name, name, until))),
      // The policy of our name is ours alone and goes; what somebody else attached is only detached.
      ...attached.map(arn => isPolicyOf(ref, arn)
        ? removePolicy(ref.name, arn, until)
        : ignoring('gone')(iam.detachUserPolicy(ref.name, arn, until)))
    ])
  }

  const listedAt = async (ref: PrincipalRef, until: number): Promise<boolean> => {
    let marker: string | undefined
    do {
      const page = await iam.listUsers(ref.path, marker, until)
      if (page.users.some(user => user.name === ref.name)) return true
      marker = page.marker
    } while (marker)
    return false
  }

  return {
    async create ({ ref, attachment, policy, tags, withKey }, until) {
      await ignoring('exists')(iam.createUser({
        name: ref.name,
        path: ref.path,
        tags: tagged ? tags : {},
        ...(tagged && permissionsBoundary && { permissionsBoundary })
      }, until))
      // Side by side: a key without a policy opens nothing. Both must have settled before a failure may be torn down.
      const [policyArn, credentials] = await both(put(ref, attachment, policy, until), withKey ? key(ref, [], until) : null)
      return { ref: { ...ref, policyArn }, credentials }
    },

    async replacePolicy (ref, attachment, policy, until) {
      const document = JSON.stringify(policy)
      if (attachment === 'inline') {
        await iam.putUserPolicy(ref.name, inlinePolicyName, document, until)
        return ref
      }
      return { ...ref, policyArn: await change(ref, document, until) }
    },

    mintKey: ({ ref }, keep, until) => key(ref, keep, until),

    async deleteKey (ref, accessKeyId, keep, until) {
      await ignoring('gone')(iam.deleteAccessKey(ref.name, accessKeyId, until))
      // Whoever had the key may have made others with it.
      if (selfService) await prune(ref, keep, until)
    },

    pruneKeys: prune,

    async teardown ({ ref, attachment, keyIds, mintedAt }, until) {
      const old = now() - mintedAt >= settleMs
      try {
        if (keyIds) await Promise.all(keyIds.map(id => ignoring('gone')(iam.deleteAccessKey(ref.name, id, until))))
        else await prune(ref, [], until)
        if (attachment === 'managed') for (const arn of await policiesOf(ref, until)) await removePolicy(ref.name, arn, until)
        else await ignoring('gone')(iam.deleteUserPolicy(ref.name, inlinePolicyName, until))
        await deleteUser(ref, until)
        return 'gone'
      } catch (error) {
        // Under rights bound to a path, a user that does not exist is "denied" instead: its ARN has no path. Ask the list.
        const gone = isIamError(error, 'gone') || (isIamError(error, 'denied') && !(await listedAt(ref, until)))
        if (!gone) throw error
        return old ? await withoutUser(ref, until) : 'unsure'
      }
    },

    async discard (ref, until) {
      await ignoring('gone')(prune(ref, [], until))
      await ignoring('gone')(deleteUser(ref, until))
      await withoutUser(ref, until)
    },

    async exists (ref, until) {
      try {
        return await optional(iam.getUser(ref.name, until)) !== undefined
      } catch (error) {
        // "Denied" may be a missing user, see teardown().
        if (isIamError(error, 'denied')) return listedAt(ref, until)
        throw error
      }
    },

    async ready (ref, credentials, until) {
      if (identityProbe === null) return false
      const whose = identityProbe === 'sts' ? iam.callerIdentity : iam.ownUser
      return poll(async () => {
        const arn = await whose(credentials, until)
        // LocalStack answers for a key that it does not know, too: with another identity.
        if (!arn.endsWith(`/${ref.name}`)) throw new IamError('credentials', 'ready', 'AnotherIdentity', undefined)
      }, until, waiting)
    },

    async * list (until) {
      let marker: string | undefined
      do {
        const page = await iam.listUsers(ours.listed, marker, until())
        for (const user of page.users.filter(ours.isOurs)) {
          const { name, path, createdAt } = user
          yield { ref: { name, path, policyArn: null, roleArn: null }, expiresAt: ours.expiryOf(user), createdAt }
        }
        marker = page.marker
      } while (marker)
    },

    async policyEnd (ref, until) {
      const inline = await optional(iam.getUserPolicy(ref.name, inlinePolicyName, until))
      if (inline !== undefined) return policyEnd(inline)
      const own = (await iam.listAttachedUserPolicies(ref.name, until)).filter(arn => isPolicyOf(ref, arn))
      const ends = await Promise.all(own.map(async arn => policyEnd(await iam.getPolicyDocument(arn, until))))
      return latest(ends)
    },

    async ping (until) {
      // Neither is there; the shorter answer is asked for.
      if (options.pathBase !== undefined) await iam.listUsers(`${options.pathBase}0/`, undefined, until)
      else await optional(iam.getUser(`${options.prefix}-ping`, until))
    }
  }

  async function deleteUser (ref: PrincipalRef, until: number) {
    try {
      await iam.deleteUser(ref.name, until)
    } catch (error) {
      if (!isIamError(error, 'delete-conflict')) throw error
      await strip(ref, until)
      await iam.deleteUser(ref.name, until)
    }
  }

  /** The user is gone; a managed policy that was never attached may not be. */
  async function withoutUser (ref: PrincipalRef, until: number): Promise<'gone'> {
    for (const arn of await policiesOf(ref, until)) await ignoring('gone')(deleteManaged(arn, until))
    return 'gone'
  }
}

/** By its name, which no other policy has: providers differ in what they keep of a path. */
const isPolicyOf = (ref: PrincipalRef, arn: string): boolean => grantOf(arn).endsWith(`/${ref.name}`)

const ignoring = (...kinds: IamError['kind'][]) => async (call: Promise<unknown>): Promise<void> => {
  try {
    await call
  } catch (error) {
    if (!isIamError(error, ...kinds)) throw error
  }
}

const optional = async <T>(call: Promise<T>): Promise<T | undefined> => {
  try {
    return await call
  } catch (error) {
    if (isIamError(error, 'gone')) return undefined
    throw error
  }
}

/** Promise.all that waits for the slower one also when the faster one failed. */
const both = async <A, B>(a: Promise<A>, b: Promise<B> | B): Promise<[A, B]> => {
  const [first, second] = await Promise.allSettled([a, b])
  if (first.status === 'rejected') throw first.reason
  if (second.status === 'rejected') throw second.reason
  return [first.value, second.value]
}
