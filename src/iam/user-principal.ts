import type { PrincipalRef } from '../ledger/grant.ts'
import type { PolicyDocument } from '../policy/document.ts'
import type { Iam } from './client.ts'
import { IamError, isIamError } from './errors.ts'
import { expiryOfPath } from './names.ts'
import { inlinePolicyName, settleMs, type Carrier, type Credentials, type Principals } from './principal.ts'
import { policyEnd } from './policy-end.ts'
import { mintOne, poll, settling } from './settling.ts'

export interface UserPrincipalOptions {
  iam: Iam
  /** All our users live below it, e.g. `/job-access/`. */
  pathBase: string
  permissionsBoundary?: string
  /** Whether CreateUser takes Tags and PermissionsBoundary here. */
  tagged: boolean
  /** Clock of the age rule, epoch ms. */
  now: () => number
}

/** AWS's own shape: an IAM user per grant. Create is two round trips deep, revoke kills the key with its first call. */
export const userPrincipals = ({ iam, pathBase, permissionsBoundary, tagged, now }: UserPrincipalOptions): Principals => {
  const key = async (ref: PrincipalRef, keep: string[], until: number): Promise<Credentials> => {
    const minted = await mintOne(() => iam.createAccessKey(ref.name, until), () => prune(ref, keep, until), until)
    return { ...minted, expiresAt: null }
  }

  const prune = async (ref: PrincipalRef, keep: string[], until: number): Promise<string[]> => {
    const strangers = (await iam.listAccessKeys(ref.name, until)).filter(id => !keep.includes(id))
    await Promise.all(strangers.map(id => ignoring('gone')(iam.deleteAccessKey(ref.name, id, until))))
    return strangers
  }

  const put = async (ref: PrincipalRef, carrier: Carrier, policy: PolicyDocument, until: number): Promise<string | null> => {
    const document = JSON.stringify(policy)
    if (carrier === 'inline') {
      await settling(() => iam.putUserPolicy(ref.name, inlinePolicyName, document, until), until)
      return null
    }
    const arn = await managed(ref, document, until)
    await settling(() => iam.attachUserPolicy(ref.name, arn, until), until)
    return arn
  }

  const managed = async (ref: PrincipalRef, document: string, until: number): Promise<string> => {
    try {
      return await iam.createPolicy({ name: ref.name, path: ref.path, document }, until)
    } catch (error) {
      // Only an earlier attempt of this very grant can hold this name. What it carried may differ: renew it.
      if (!isIamError(error, 'exists')) throw error
      const arn = await findPolicy(ref, until)
      if (!arn) throw error
      await newVersion(arn, document, until)
      return arn
    }
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

  const findPolicy = async (ref: PrincipalRef, until: number): Promise<string | undefined> => {
    let marker: string | undefined
    do {
      const page = await iam.listPolicies(ref.path, marker, until)
      const found = page.policies.find(policy => policy.name === ref.name)
      if (found) return found.arn
      marker = page.marker
    } while (marker)
    return undefined
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
      // A policy of our path is ours alone and goes; what somebody else attached is only detached.
      ...attached.map(arn => arn.includes(`:policy${ref.path}`)
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
    async create ({ ref, carrier, policy, tags, withKey }, until) {
      await ignoring('exists')(iam.createUser({
        name: ref.name,
        path: ref.path,
        tags: tagged ? tags : {},
        ...(tagged && permissionsBoundary && { permissionsBoundary })
      }, until))
      // Side by side: a key without a policy opens nothing. Both must have settled before a failure may be torn down.
      const [policyArn, credentials] = await both(put(ref, carrier, policy, until), withKey ? key(ref, [], until) : null)
      return { ref: { ...ref, policyArn }, credentials }
    },

    async replacePolicy (ref, carrier, policy, until) {
      if (carrier === 'managed' && ref.policyArn) await newVersion(ref.policyArn, JSON.stringify(policy), until)
      else await iam.putUserPolicy(ref.name, inlinePolicyName, JSON.stringify(policy), until)
      return ref
    },

    mintKey: ({ ref }, keep, until) => key(ref, keep, until),

    async deleteKey (ref, accessKeyId, until) {
      await ignoring('gone')(iam.deleteAccessKey(ref.name, accessKeyId, until))
    },

    pruneKeys: prune,

    async teardown ({ ref, keyIds, mintedAt }, until) {
      const old = now() - mintedAt >= settleMs
      try {
        if (keyIds) await Promise.all(keyIds.map(id => ignoring('gone')(iam.deleteAccessKey(ref.name, id, until))))
        else await prune(ref, [], until)
        if (ref.policyArn) await removePolicy(ref.name, ref.policyArn, until)
        else await ignoring('gone')(iam.deleteUserPolicy(ref.name, inlinePolicyName, until))
        await deleteUser(ref, until)
        return 'gone'
      } catch (error) {
        if (isIamError(error, 'gone')) return old ? await withoutUser(ref, until) : 'unsure'
        // Under rights bound to a path, a user that does not exist is "denied" instead: its ARN has no path. Ask the list.
        if (isIamError(error, 'denied') && old && !(await listedAt(ref, until))) return await withoutUser(ref, until)
        throw error
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

    ready: (credentials, until) => poll(() => iam.callerIdentity(credentials, until), until),

    async * list (until) {
      let marker: string | undefined
      do {
        const page = await iam.listUsers(pathBase, marker, until())
        for (const { name, path, createdAt } of page.users) {
          yield { ref: { name, path, policyArn: null, roleArn: null }, expiresAt: expiryOfPath(pathBase, path), createdAt }
        }
        marker = page.marker
      } while (marker)
    },

    async policyEnd (ref, until) {
      const inline = await optional(iam.getUserPolicy(ref.name, inlinePolicyName, until))
      if (inline !== undefined) return policyEnd(inline)
      const [arn] = (await iam.listAttachedUserPolicies(ref.name, until)).filter(arn => arn.includes(`:policy${ref.path}`))
      return arn ? policyEnd(await iam.getPolicyDocument(arn, until)) : undefined
    },

    async ping (until) {
      await iam.listUsers(`${pathBase}0/`, undefined, until)
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
    const arn = ref.policyArn ?? await findPolicy(ref, until)
    if (arn) await ignoring('gone')(deleteManaged(arn, until))
    return 'gone'
  }
}

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
