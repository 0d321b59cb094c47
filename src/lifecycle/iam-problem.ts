import type { IamError } from '../iam/errors.ts'
import { Problem } from '../problems.ts'

/** What a caller is told of a failed IAM call. */
export const iamProblem = (cause: IamError): Problem => {
  if (['throttled', 'conflict', 'unavailable'].includes(cause.kind)) {
    return new Problem('iam-unavailable', { detail: `${cause.operation} did not succeed in time.`, retryAfterSeconds: 5, cause })
  }
  const hint = refusalHints[cause.kind] ?? 'See the service’s log under this request id.'
  return new Problem('iam-refused', { detail: `${cause.operation} was refused (${cause.providerCode}).`, hint, cause })
}

const refusalHints: Partial<Record<IamError['kind'], string>> = {
  denied: 'The service’s own role may not do this: compare it with the policy in docs/operating.md.',
  limit: 'A quota of the account is used up: see the users, keys and policies that it holds.',
  credentials: 'The service’s own credentials are not valid at the provider.'
}
