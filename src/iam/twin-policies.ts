import type { Iam } from './client.ts'
import { IamError, isIamError } from './errors.ts'

/**
 * For providers that cannot change a managed policy: a second one, under the twin's name, takes over from the first.
 * A crash may leave both; a grant then has two policies until the next change, or its end.
 */
export interface NamedPolicy { arn: string, name: string }

const suffix = '-b'

/** The grant that a policy belongs to: no grant's name ends like a twin's. */
export const grantOf = (policyName: string): string => policyName.endsWith(suffix) ? policyName.slice(0, -suffix.length) : policyName

/** The other of two twins, by name or by ARN. */
export const twinOf = (policy: string): string => grantOf(policy) === policy ? policy + suffix : grantOf(policy)

/**
 * @param current the grant's policies, as the provider lists them
 * @param known the one that the ledger knows
 * @param entitiesOf the users or keys that a policy is attached to, or may be
 * @returns the ARN of the policy that has taken over
 * @throws IamError `gone` when there is none to take over from
 */
export const replaceByTwin = async (
  iam: Iam, current: NamedPolicy[], known: string | null, document: string, entitiesOf: (arn: string) => Promise<string[]>, until: number
): Promise<string> => {
  const old = current.find(({ arn }) => arn === known) ?? current[0]
  if (!old) throw new IamError('gone', 'ListPolicies', 'NoSuchEntity', undefined)
  const move = async (from: string, to: string) => {
    for (const entity of await entitiesOf(from)) {
      // First the new one: a job must not be locked out in between.
      await iam.attachUserPolicy(entity, to, until)
      await gone(iam.detachUserPolicy(entity, from, until))
    }
    await gone(iam.deletePolicy(from, until))
  }
  // What an earlier change left half-way; some of the keys may be there already.
  for (const { arn } of current) if (arn !== old.arn) await move(arn, old.arn)
  const arn = await iam.createPolicy({ name: twinOf(old.name), document }, until)
  await move(old.arn, arn)
  return arn
}

const gone = async (call: Promise<unknown>): Promise<void> => {
  try {
    await call
  } catch (error) {
    if (!isIamError(error, 'gone')) throw error
  }
}
