import type { PolicyAttachment } from '../domain/access-spec.ts'
import type { PrincipalRef } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import type { Iam, ListedUser } from './client.ts'
import type { Dialect } from '../policy/dialect.ts'
import { ownPart } from '../policy/render.ts'
import { allDone, didDelete, ignoring, remedied, createOneKey, poll, retryUntilVisible, systemClock, type Clock } from './retry.ts'
import { IamError, isIamError } from './errors.ts'
import { expiryOfName, expiryOfPath } from './names.ts'
import { inlinePolicyName, settleMs, type Minted, type PrincipalProvisioner, type SharedPolicies } from './provisioner.ts'
import { latest, policyEnd } from './policy-end.ts'
import { grantNameOf, otherNameOf, swapPolicy, type NamedPolicy } from './policy-swap.ts'

export type UserProvisionerOptions = Naming & {
  iam: Iam
  permissionsBoundary?: string
  /** Whether CreateUser takes Tags here. */
  tagged: boolean
  /** Tells how old a principal is, epoch ms. */
  now: () => number
  /** Clock of the deadlines. Default: the real one. */
  clock?: Clock
} & Partial<Pick<Dialect, 'managedPolicies' | 'policyVersions' | 'identityProbe' | 'selfService'>> // default: those of AWS

/** How our users differ from others: by the path that they are under or, where the provider drops paths, by the start of their names. */
type Naming = { pathBase: string, prefix?: undefined } | { prefix: string, pathBase?: undefined }

/** An IAM user per grant, as at AWS. Create takes two round trips, one after the other; the first call of a teardown deletes the key. */
export const userProvisioner = (options: UserProvisionerOptions): PrincipalProvisioner => {
  const { iam, permissionsBoundary, tagged, now, clock = systemClock } = options
  const { managedPolicies = true, policyVersions = true, identityProbe = 'sts', selfService = false } = options
  // By path: the provider lists only what is under our path, and a name there that is not ours is reported as foreign.
  const ours: { listed: string, expiryOf: (user: ListedUser) => number | undefined, isOurs: (user: ListedUser) => boolean } =
    options.pathBase !== undefined
      ? { listed: options.pathBase, expiryOf: ({ path }) => expiryOfPath(options.pathBase, path), isOurs: () => true }
      : {
          listed: '/',
          expiryOf: ({ name }) => expiryOfName(options.prefix, name),
          isOurs: ({ name }) => expiryOfName(options.prefix, name) !== undefined
        }

  const mint = async (ref: PrincipalRef, keep: string[], until: number): Promise<Minted> => {
    const pruned = () => prune(ref, { keep, known: [] }, until)
    const { key, lost } = await createOneKey(() => iam.createAccessKey(ref.name, until), pruned, until, clock)
    return { credentials: { ...key, expiresAt: null }, lost }
  }

  const prune: PrincipalProvisioner['pruneKeys'] = async (ref, { keep, known }, until) => {
    const asked = new Set(keep)
    const deleted: string[] = []
    const kill = async (ids: string[]): Promise<void> => {
      const fresh = ids.filter(id => !asked.has(id))
      for (const id of fresh) asked.add(id)
      const did = await Promise.all(fresh.map(id => didDelete(iam.deleteAccessKey(ref.name, id, until))))
      deleted.push(...fresh.filter((_id, index) => did[index]))
    }
    for (;;) {
      const before = asked.size
      const [listed] = await allDone([iam.listAccessKeys(ref.name, until), kill(known)])
      await kill(listed)
      // An unknown key may have made another one before it was deleted.
      if (!selfService || asked.size === before) return deleted
    }
  }

  const put = async (ref: PrincipalRef, attachment: PolicyAttachment, policy: PolicyDocument, until: number): Promise<string | null> => {
    const attach = (arn: string) => retryUntilVisible(() => iam.attachUserPolicy(ref.name, arn, until), until, clock)
    if (attachment === 'inline') {
      const document = inlineOf(ref, policy)
      const inline = retryUntilVisible(() => iam.putUserPolicy(ref.name, inlinePolicyName, document, until), until, clock)
      const shared = sharedArn(ref)
      await allDone([inline, shared === null ? null : attach(shared)])
      return shared
    }
    const arn = await managed(ref, JSON.stringify(policy), until)
    await attach(arn)
    return arn
  }

  const managed = async (ref: PrincipalRef, document: string, until: number): Promise<string> => {
    try {
      return await iam.createPolicy({ name: ref.name, path: ref.path, document }, until)
    } catch (error) {
      // Only an earlier attempt for this grant can have made it, perhaps with another text.
      if (!isIamError(error, 'exists')) throw error
      return change({ ...ref, policyArn: null }, document, until)
    }
  }

  /** Gives the grant's managed policy another text. Returns its ARN, which may be another one then. */
  const change = async (ref: PrincipalRef, document: string, until: number): Promise<string> => {
    if (!policyVersions) {
      return swapPolicy(iam, await findPolicies(ref, until), ref.policyArn, document, async () => [ref.name], until)
    }
    const arn = ref.policyArn ?? (await findPolicies(ref, until))[0]?.arn
    if (!arn) throw new IamError('gone', 'ListPolicies', 'NoSuchEntity', undefined)
    // A managed policy has at most five versions (IAM quotas page).
    await remedied('limit', () => iam.createPolicyVersion(arn, document, until), () => deleteOldVersions(arn, until))
    return arn
  }

  const deleteOldVersions = async (arn: string, until: number) => {
    const old = (await iam.listPolicyVersions(arn, until)).filter(version => !version.isDefault)
    await Promise.all(old.map(version => ignoring('gone', iam.deletePolicyVersion(arn, version.id, until))))
  }

  const attachedTo = async (ref: PrincipalRef, until: number): Promise<string[]> =>
    managedPolicies ? iam.listAttachedUserPolicies(ref.name, until) : []

  const findPolicies = async (ref: PrincipalRef, until: number): Promise<NamedPolicy[]> => {
    if (!managedPolicies) return []
    const most = policyVersions ? 1 : 2
    const found: NamedPolicy[] = []
    let marker: string | undefined
    do {
      const page = await iam.listPolicies(ref.path, marker, until)
      found.push(...page.policies.filter(policy => grantNameOf(policy.name) === ref.name))
      marker = page.marker
    } while (marker && found.length < most)
    return found
  }

  /** Without a known ARN there may still be a policy: after a crash, or when its answer was lost. */
  const policiesOf = async (ref: PrincipalRef, until: number): Promise<string[]> => {
    // The policy of its job is not its own: others may have it.
    if (sharedArn(ref) !== null) return []
    if (!ref.policyArn) return (await findPolicies(ref, until)).map(policy => policy.arn)
    return policyVersions ? [ref.policyArn] : [ref.policyArn, otherNameOf(ref.policyArn)]
  }

  const removePolicy = async (name: string, arn: string, until: number) => {
    await ignoring('gone', iam.detachUserPolicy(name, arn, until))
    await ignoring('gone', deleteManaged(arn, until))
  }

  const deleteManaged = (arn: string, until: number) =>
    remedied('delete-conflict', () => iam.deletePolicy(arn, until), () => deleteOldVersions(arn, until))

  /** Removes all keys and policies of the user, whoever gave them to it. */
  const strip = async (ref: PrincipalRef, until: number) => {
    await prune(ref, everyKey, until)
    const [inline, attached] = await Promise.all([iam.listUserPolicies(ref.name, until), attachedTo(ref, until)])
    // A policy with the grant's name is ours: it is deleted. Any other policy is only detached.
    await Promise.all(attached.map(arn => isPolicyOf(ref, arn)
      ? removePolicy(ref.name, arn, until)
      : ignoring('gone', iam.detachUserPolicy(ref.name, arn, until))))
    // After them: the inline policy of a worker takes away from what its job's policy allows.
    await Promise.all(inline.map(name => ignoring('gone', iam.deleteUserPolicy(ref.name, name, until))))
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
      await ignoring('exists', iam.createUser({
        name: ref.name,
        path: ref.path,
        tags: tagged ? tags : {},
        ...(permissionsBoundary && { permissionsBoundary })
      }, until))
      // At the same time, since nobody has the key before all of them have succeeded. All must have ended before a failure is torn down.
      const [policyArn, minted] = await allDone([put(ref, attachment, policy, until), withKey ? mint(ref, [], until) : null])
      return { ref: { ...ref, policyArn }, credentials: minted?.credentials ?? null, lost: minted?.lost ?? false }
    },

    async replacePolicy (ref, attachment, policy, until) {
      if (attachment === 'inline') {
        await iam.putUserPolicy(ref.name, inlinePolicyName, inlineOf(ref, policy), until)
        // Not at the same time: here somebody may have the key. An operation that died may not have come to attach it.
        const shared = sharedArn(ref)
        if (shared !== null) await iam.attachUserPolicy(ref.name, shared, until)
        return ref
      }
      return { ...ref, policyArn: await change(ref, JSON.stringify(policy), until) }
    },

    mintKey: ({ ref }, keep, until) => mint(ref, keep, until),

    async deleteKey (ref, accessKeyId, keep, until) {
      const deleted = await didDelete(iam.deleteAccessKey(ref.name, accessKeyId, until))
      // The key may have made other keys.
      if (selfService) await prune(ref, { keep, known: [] }, until)
      return deleted
    },

    pruneKeys: prune,
    keys: (ref, until) => iam.listAccessKeys(ref.name, until),

    async teardown ({ ref, attachment, keyIds, others, mintedAt }, until) {
      const old = now() - mintedAt >= settleMs
      try {
        if (others) await prune(ref, { keep: [], known: keyIds }, until)
        // A key that is not known yet hinders the deletion of its user.
        else await Promise.all(keyIds.map(id => didDelete(iam.deleteAccessKey(ref.name, id, until))))
        if (attachment === 'managed') for (const arn of await policiesOf(ref, until)) await removePolicy(ref.name, arn, until)
        else {
          // First what allows, then what takes away from it.
          const shared = sharedArn(ref)
          if (shared !== null) await ignoring('gone', iam.detachUserPolicy(ref.name, shared, until))
          await ignoring('gone', iam.deleteUserPolicy(ref.name, inlinePolicyName, until))
        }
        await deleteUser(ref, until)
        return 'gone'
      } catch (error) {
        // With rights that are bound to a path, IAM answers "denied" for a missing user, whose ARN has no path. So ask the list.
        const gone = isIamError(error, 'gone') || (isIamError(error, 'denied') && !(await listedAt(ref, until)))
        if (!gone) throw error
        return old ? deletePolicies(ref, until) : 'unsure'
      }
    },

    async discard (ref, until) {
      await ignoring('gone', prune(ref, everyKey, until))
      await ignoring('gone', deleteUser(ref, until))
      await deletePolicies(ref, until)
    },

    async exists (ref, until) {
      try {
        return await ignoring('gone', iam.getUser(ref.name, until)) !== undefined
      } catch (error) {
        // "denied" may mean a missing user, see teardown().
        if (isIamError(error, 'denied')) return listedAt(ref, until)
        throw error
      }
    },

    async ready (ref, credentials, until) {
      if (identityProbe === null) return false
      const whose = identityProbe === 'sts' ? iam.callerIdentity : iam.ownUser
      return poll(async () => {
        const arn = await whose(credentials, until)
        // LocalStack also answers for a key that it does not know: with another identity.
        if (!arn.endsWith(`/${ref.name}`)) throw new IamError('credentials', 'ready', 'AnotherIdentity', undefined)
      }, until, clock)
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
      const inline = await ignoring('gone', iam.getUserPolicy(ref.name, inlinePolicyName, until))
      const stated = inline === undefined ? undefined : policyEnd(inline)
      if (stated !== undefined) return stated
      // The inline policy of a worker states no end: the policy of its job does, which is made as ours are, whatever its name.
      const own = (await attachedTo(ref, until)).filter(arn => isPolicyOf(ref, arn) || isUnderPath(arn))
      const ends = await Promise.all(own.map(async arn => policyEnd(await iam.getPolicyDocument(arn, until))))
      return latest(ends)
    },

    async ping (until) {
      // Neither exists, so that the answer is short.
      if (options.pathBase !== undefined) await iam.listUsers(`${options.pathBase}0/`, undefined, until)
      else await ignoring('gone', iam.getUser(`${options.prefix}-ping`, until))
    },

    ...(options.pathBase !== undefined && managedPolicies && policyVersions && { shared: sharedUnder(options.pathBase) })
  }

  function sharedUnder (pathBase: string): SharedPolicies {
    return {
      create: async (ref, policy, until) => ({ ...ref, policyArn: await managed(ref, JSON.stringify(policy), until) }),
      has: async ({ policyArn }, policy, until) =>
        policyArn !== null && await iam.getPolicyDocument(policyArn, until) === JSON.stringify(policy),
      async replace (ref, policy, until) { await change(ref, JSON.stringify(policy), until) },
      async remove (ref, mintedAt, until) {
        const old = now() - mintedAt >= settleMs
        let deleted = false
        for (const arn of await policiesOf(ref, until)) deleted = await didDelete(deleteManaged(arn, until)) || deleted
        return deleted || old ? 'gone' : 'unsure'
      },
      async * list (until) {
        let marker: string | undefined
        do {
          // VersityGW, asked as AWS, does not know the call: it has none.
          const page = await ignoring('unsupported', iam.listPolicies(pathBase, marker, until()))
          if (!page) return
          for (const { arn, name, path } of page.policies) {
            yield { ref: { name: grantNameOf(name), path, policyArn: arn, roleArn: null }, expiresAt: expiryOfPath(pathBase, path) }
          }
          marker = page.marker
        } while (marker)
      },
      end: async ({ policyArn }, until) => policyArn === null ? undefined : policyEnd(await iam.getPolicyDocument(policyArn, until))
    }
  }

  function isUnderPath (arn: string): boolean {
    return options.pathBase !== undefined && arn.includes(`:policy${options.pathBase}`)
  }

  async function deleteUser (ref: PrincipalRef, until: number) {
    await remedied('delete-conflict', () => iam.deleteUser(ref.name, until), () => strip(ref, until))
  }

  /** After the user is gone: deletes a managed policy that was never attached to it. */
  async function deletePolicies (ref: PrincipalRef, until: number): Promise<'gone'> {
    for (const arn of await policiesOf(ref, until)) await ignoring('gone', deleteManaged(arn, until))
    return 'gone'
  }
}

/** What of a policy is inline in the user of `ref`. */
const inlineOf = (ref: PrincipalRef, policy: PolicyDocument): string =>
  JSON.stringify(sharedArn(ref) === null ? policy : ownPart(policy))

/** The managed policy of its job, of a worker that shares it. */
const sharedArn = (ref: PrincipalRef): string | null =>
  ref.policyArn !== null && !isPolicyOf(ref, ref.policyArn) ? ref.policyArn : null

const everyKey = { keep: [], known: [] }

/** By its name, which no other policy has: not every provider keeps the path. */
const isPolicyOf = (ref: PrincipalRef, arn: string): boolean => grantNameOf(arn).endsWith(`/${ref.name}`)
