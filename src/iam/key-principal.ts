import type { PrincipalRef } from '../domain/grant.ts'
import type { Iam } from './client.ts'
import { IamError, isIamError } from './errors.ts'
import { expiryOfName } from './names.ts'
import { latest, policyEnd } from './policy-end.ts'
import { settleMs, type Credentials, type PrincipalPlan, type PrincipalProvisioner } from './principal.ts'
import { mintOne } from './settling.ts'
import { grantOf, replaceByTwin, type NamedPolicy } from './twin-policies.ts'

export interface KeyPrincipalOptions {
  iam: Iam
  /** Start of every policy name. */
  prefix: string
  /** Clock of the age rule, epoch ms. */
  now: () => number
}

/**
 * Providers without users (Tigris): the grant's name is its policy's name, and the policy attaches to access keys. A key
 * opens nothing until then, so that a key lost before it was attached is harmless; one lost after is found through the policy.
 */
export const keyPrincipals = ({ iam, prefix, now }: KeyPrincipalOptions): PrincipalProvisioner => {
  const mint = async (until: number): Promise<Credentials> =>
    ({ ...await mintOne(() => iam.createAccessKey(undefined, until), async () => [], until), expiresAt: null })

  async function * policies (until: () => number) {
    let marker: string | undefined
    do {
      const page = await iam.listPolicies('/', marker, until())
      yield * page.policies
      marker = page.marker
    } while (marker)
  }

  /** The grant's policies: one, or two while a change was cut short. */
  const policiesOf = async ({ name }: PrincipalRef, until: number): Promise<NamedPolicy[]> => {
    const found: NamedPolicy[] = []
    for await (const policy of policies(() => until)) if (grantOf(policy.name) === name) found.push(policy)
    return found
  }

  const arnOf = async (ref: PrincipalRef, until: number): Promise<string | undefined> =>
    ref.policyArn ?? (await policiesOf(ref, until))[0]?.arn

  const policy = async ({ ref, policy }: PrincipalPlan, until: number): Promise<string> => {
    try {
      return await iam.createPolicy({ name: ref.name, document: JSON.stringify(policy) }, until)
    } catch (error) {
      // Only an earlier attempt of this very grant can hold this name.
      const arn = isIamError(error, 'exists') ? await arnOf({ ...ref, policyArn: null }, until) : undefined
      if (!arn) throw error
      return arn
    }
  }

  const deleteKey = (id: string, until: number) => gone(iam.deleteAccessKey(undefined, id, until))

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
    const strangers = (await iam.listEntitiesForPolicy(arn, until)).filter(id => !keep.includes(id))
    await Promise.all(strangers.map(async id => {
      await deleteKey(id, until)
      await gone(iam.detachUserPolicy(id, arn, until))
    }))
    return strangers
  }

  const prune = async (ref: PrincipalRef, keep: string[], until: number): Promise<string[]> => {
    const found = await policiesOf(ref, until)
    return [...new Set((await Promise.all(found.map(({ arn }) => pruneOf(arn, keep, until)))).flat())]
  }

  const removePolicy = async (arn: string, until: number) => {
    await pruneOf(arn, [], until)
    await gone(iam.deletePolicy(arn, until))
  }

  const remove = async (ref: PrincipalRef, keyIds: string[], until: number): Promise<boolean> => {
    await Promise.all(keyIds.map(id => deleteKey(id, until)))
    const found = await policiesOf(ref, until)
    await Promise.all(found.map(({ arn }) => removePolicy(arn, until)))
    return found.length > 0
  }

  return {
    async create (plan, until) {
      const [arn, minted] = await Promise.allSettled([policy(plan, until), plan.withKey ? mint(until) : null])
      if (arn.status === 'rejected' || minted.status === 'rejected') {
        // A key without a policy opens nothing; but nobody would ever find it again.
        if (minted.status === 'fulfilled' && minted.value) await deleteKey(minted.value.accessKeyId, until)
        throw arn.status === 'rejected' ? arn.reason : (minted as PromiseRejectedResult).reason
      }
      if (minted.value) await attach(minted.value.accessKeyId, arn.value, until)
      return { ref: { ...plan.ref, policyArn: arn.value }, credentials: minted.value }
    },

    /** CreatePolicyVersion is not among the documented calls. */
    async replacePolicy (ref, _carrier, changed, until) {
      const document = JSON.stringify(changed)
      const entitiesOf = (arn: string) => iam.listEntitiesForPolicy(arn, until)
      return { ...ref, policyArn: await replaceByTwin(iam, await policiesOf(ref, until), ref.policyArn, document, entitiesOf, until) }
    },

    async mintKey (plan, keep, until) {
      const arn = await arnOf(plan.ref, until)
      if (!arn) throw new IamError('gone', 'ListPolicies', 'NoSuchEntity', undefined)
      await pruneOf(arn, keep, until)
      const credentials = await mint(until)
      await attach(credentials.accessKeyId, arn, until)
      return credentials
    },

    deleteKey: (_ref, id, _keep, until) => deleteKey(id, until),
    pruneKeys: prune,

    async teardown ({ ref, keyIds, mintedAt }, until) {
      const found = await remove(ref, keyIds ?? [], until)
      return found || now() - mintedAt >= settleMs ? 'gone' : 'unsure'
    },

    async discard (ref, until) { await remove(ref, [], until) },
    exists: async (ref, until) => (await policiesOf(ref, until)).length > 0,
    // Nothing answers for a key here without using it.
    ready: async () => false,

    async * list (until) {
      for await (const { name, path, arn } of policies(until)) {
        const grant = grantOf(name)
        const expiresAt = expiryOfName(prefix, grant)
        if (expiresAt !== undefined) yield { ref: { name: grant, path, policyArn: arn, roleArn: null }, expiresAt, createdAt: null }
      }
    },

    async policyEnd (ref, until) {
      const found = await policiesOf(ref, until)
      return latest(await Promise.all(found.map(async ({ arn }) => policyEnd(await iam.getPolicyDocument(arn, until)))))
    },

    async ping (until) { await iam.listPolicies('/', undefined, until) }
  }
}

const gone = async (call: Promise<unknown>): Promise<void> => {
  try {
    await call
  } catch (error) {
    if (!isIamError(error, 'gone')) throw error
  }
}
