import type { Iam } from './client.ts'
import { IamError } from './errors.ts'
import { ignoring } from './retry.ts'

export interface NamedPolicy { arn: string, name: string }

const suffix = '-b'

/** The name of the grant that a policy belongs to. No grant's name ends with the suffix. */
export const grantNameOf = (policyName: string): string =>
  policyName.endsWith(suffix) ? policyName.slice(0, -suffix.length) : policyName

/** A grant's policy has one of two names: the grant's name, or the spare name. This gives the other one, by name or by ARN. */
export const otherNameOf = (policy: string): string => grantNameOf(policy) === policy ? policy + suffix : grantNameOf(policy)

/**
 * For providers that cannot change a managed policy: makes a second one under the other name, attaches it, and deletes the first.
 * A crash may leave both; the grant then has two policies until the next change, or until it ends.
 * @param current the grant's policies, as the provider lists them
 * @param known the ARN of the one that the ledger knows
 * @param entitiesOf the users or keys that a policy is attached to, or may be
 * @returns the ARN of the new policy
 * @throws IamError `gone` when the grant has no policy
 */
export const swapPolicy = async (
  iam: Iam, current: NamedPolicy[], known: string | null, document: string, entitiesOf: (arn: string) => Promise<string[]>, until: number
): Promise<string> => {
  const old = current.find(({ arn }) => arn === known) ?? current[0]
  if (!old) throw new IamError('gone', 'ListPolicies', 'NoSuchEntity', undefined)
  const move = async (from: string, to: string) => {
    for (const entity of await entitiesOf(from)) {
      // The new one first: the job must not lose its access in between.
      await iam.attachUserPolicy(entity, to, until)
      await ignoring('gone', iam.detachUserPolicy(entity, from, until))
    }
    await ignoring('gone', iam.deletePolicy(from, until))
  }
  // An earlier swap that was interrupted: some of the keys may have its policy already.
  for (const { arn } of current) if (arn !== old.arn) await move(arn, old.arn)
  const arn = await iam.createPolicy({ name: otherNameOf(old.name), document }, until)
  await move(old.arn, arn)
  return arn
}
