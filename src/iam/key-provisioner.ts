import type { PrincipalRef } from '../domain/grant.ts'
import type { Iam } from './client.ts'
import { IamError, isIamError } from './errors.ts'
import { allDone, didDelete, ignoring, createOneKey, systemClock, type Clock } from './retry.ts'
import { expiryOfName } from './names.ts'
import { latest, policyEnd } from './policy-end.ts'
import { settleMs, type Minted, type PrincipalPlan, type PrincipalProvisioner } from './provisioner.ts'
import { grantNameOf, swapPolicy, type NamedPolicy } from './policy-swap.ts'

interface KeyProvisionerOptions {
  iam: Iam
  /** Start of every policy name. */
  prefix: string
  /** Tells how old a principal is, epoch ms. */
  now: () => number
  /** Clock of the deadlines. Default: the real one. */
  clock?: Clock
}

/**
 * Providers without users (Tigris): the policy has the grant's name and is attached to access keys. A key without a policy allows
 * nothing, so that a key whose answer was lost is harmless. A key that was lost later is found through the policy.
 */
export const keyProvisioner = ({ iam, prefix, now, clock = systemClock }: KeyProvisionerOptions): PrincipalProvisioner => {
  const mint = async (until: number): Promise<Minted> => {
    const { key } = await createOneKey(() => iam.createAccessKey(undefined, until), async () => [], until, clock)
    return { credentials: { ...key, expiresAt: null }, lost: false }
  }

  async function * policies (until: () => number) {
    let marker: string | undefined
    do {
      const page = await iam.listPolicies('/', marker, until())
      yield * page.policies
      marker = page.marker
    } while (marker)
  }

  /** The grant's policies: one, or two after a swap that was interrupted. */
  const policiesOf = async ({ name }: PrincipalRef, until: number): Promise<NamedPolicy[]> => {
    const found: NamedPolicy[] = []
    for await (const policy of policies(() => until)) if (grantNameOf(policy.name) === name) found.push(policy)
    return found
  }

  const arnOf = async (ref: PrincipalRef, until: number): Promise<string | undefined> =>
    ref.policyArn ?? (await policiesOf(ref, until))[0]?.arn

  const policy = async ({ ref, policy }: PrincipalPlan, until: number): Promise<string> => {
    const document = JSON.stringify(policy)
    try {
      return await iam.createPolicy({ name: ref.name, document }, until)
    } catch (error) {
      if (!isIamError(error, 'exists')) throw error
      // Only an earlier attempt for this grant can have made it. The grant may have been changed since.
      const arn = await arnOf({ ...ref, policyArn: null }, until)
      if (arn && JSON.stringify(JSON.parse(await iam.getPolicyDocument(arn, until))) === document) return arn
      return swap({ ...ref, policyArn: null }, document, until)
    }
  }

  /** CreatePolicyVersion is not among the documented calls: a second policy takes over. */
  const swap = async (ref: PrincipalRef, document: string, until: number): Promise<string> =>
    swapPolicy(iam, await policiesOf(ref, until), ref.policyArn, document, arn => iam.listEntitiesForPolicy(arn, until), until)

  const deleteKey = (id: string, until: number) => didDelete(iam.deleteAccessKey(undefined, id, until))

  const attach = async (keyId: string, arn: string, until: number): Promise<void> => {
    try {
      await iam.attachUserPolicy(keyId, arn, until)
    } catch (error) {
      await deleteKey(keyId, until)
      throw error
    }
  }

  /** Deletes the keys that a policy is attached to, but those in `keep`. */
  const pruneOf = async (arn: string, keep: string[], until: number): Promise<string[]> => {
    const unknown = (await iam.listEntitiesForPolicy(arn, until)).filter(id => !keep.includes(id))
    const did = await Promise.all(unknown.map(async id => {
      const deleted = await deleteKey(id, until)
      await ignoring('gone', iam.detachUserPolicy(id, arn, until))
      return deleted
    }))
    return unknown.filter((_id, index) => did[index])
  }

  const keysOf = async (ref: PrincipalRef, until: number): Promise<string[]> => {
    const found = await policiesOf(ref, until)
    return [...new Set((await Promise.all(found.map(({ arn }) => iam.listEntitiesForPolicy(arn, until)))).flat())]
  }

  const prune: PrincipalProvisioner['pruneKeys'] = async (ref, { keep, known }, until) => {
    const dying = known.filter(id => !keep.includes(id))
    const did = await Promise.all(dying.map(id => deleteKey(id, until)))
    const found = await policiesOf(ref, until)
    const pruned = (await Promise.all(found.map(({ arn }) => pruneOf(arn, keep, until)))).flat()
    return [...new Set([...dying.filter((_id, index) => did[index]), ...pruned])]
  }

  const removePolicy = async (arn: string, until: number) => {
    await pruneOf(arn, [], until)
    await ignoring('gone', iam.deletePolicy(arn, until))
  }

  const remove = async (ref: PrincipalRef, keyIds: string[], until: number): Promise<boolean> => {
    await Promise.all(keyIds.map(id => deleteKey(id, until)))
    const found = await policiesOf(ref, until)
    await Promise.all(found.map(({ arn }) => removePolicy(arn, until)))
    return found.length > 0
  }

  return {
    async create (plan, until) {
      const minting = plan.withKey ? mint(until) : null
      const [policyArn, minted] = await allDone([policy(plan, until), minting]).catch(async error => {
        // A key without a policy allows nothing; but nobody could find it again.
        const key = await minting?.catch(() => null)
        if (key) await deleteKey(key.credentials.accessKeyId, until)
        throw error
      })
      if (minted) await attach(minted.credentials.accessKeyId, policyArn, until)
      return { ref: { ...plan.ref, policyArn }, credentials: minted?.credentials ?? null, lost: false }
    },

    replacePolicy: async (ref, _attachment, changed, until) =>
      ({ ...ref, policyArn: await swap(ref, JSON.stringify(changed), until) }),

    async mintKey (plan, keep, until) {
      const arn = await arnOf(plan.ref, until)
      if (!arn) throw new IamError('gone', 'ListPolicies', 'NoSuchEntity', undefined)
      await pruneOf(arn, keep, until)
      const minted = await mint(until)
      await attach(minted.credentials.accessKeyId, arn, until)
      return minted
    },

    deleteKey: (_ref, id, _keep, until) => deleteKey(id, until),
    pruneKeys: prune,
    keys: keysOf,

    async teardown ({ ref, keyIds, mintedAt }, until) {
      const found = await remove(ref, keyIds, until)
      return found || now() - mintedAt >= settleMs ? 'gone' : 'unsure'
    },

    async discard (ref, until) { await remove(ref, [], until) },
    exists: async (ref, until) => (await policiesOf(ref, until)).length > 0,
    // No call tells whose a key is.
    ready: async () => false,

    async * list (until) {
      for await (const { name, path, arn } of policies(until)) {
        const grantName = grantNameOf(name)
        const expiresAt = expiryOfName(prefix, grantName)
        if (expiresAt !== undefined) yield { ref: { name: grantName, path, policyArn: arn, roleArn: null }, expiresAt, createdAt: null }
      }
    },

    async policyEnd (ref, until) {
      const found = await policiesOf(ref, until)
      return latest(await Promise.all(found.map(async ({ arn }) => policyEnd(await iam.getPolicyDocument(arn, until)))))
    },

    async ping (until) { await iam.listPolicies('/', undefined, until) }
  }
}
