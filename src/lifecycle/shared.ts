import { IamError } from '../iam/errors.ts'
import type { SharedPolicies } from '../iam/provisioner.ts'
import type { GrantDeps } from './deps.ts'

/**
 * The managed policies that the workers of a job share.
 * @throws IamError `unsupported` where a job from before meets a provider, put into the configuration since, that has no such policies
 */
export const sharedOf = ({ provisioners }: GrantDeps): SharedPolicies => {
  const { shared } = provisioners.managed
  if (!shared) throw new IamError('unsupported', 'CreatePolicyVersion', 'NoManagedPolicies', undefined)
  return shared
}
