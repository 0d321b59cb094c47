import type { IamError } from '../iam/errors.ts'
import { saying } from './clock.ts'
import { ProblemError } from '../problems.ts'

/** What a caller is told of a failed IAM call. */
export const iamProblem = (cause: IamError): ProblemError => {
  if (['throttled', 'conflict', 'unavailable'].includes(cause.kind)) {
    return new ProblemError('iam-unavailable', { detail: `${cause.operation} did not succeed in time.`, retryAfterSeconds: 5, cause })
  }
  if (cause.kind === 'skewed') {
    return new ProblemError('clock-wrong', {
      detail: `${cause.operation} was refused (${cause.providerCode}) for the time of its signature. ` + (cause.aheadMs === undefined
        ? 'The clocks of service and provider disagree.'
        : saying({ reference: 'provider', aheadMs: cause.aheadMs })),
      retryAfterSeconds: 30,
      cause
    })
  }
  if (cause.providerCode.startsWith('PackedPolicyTooLarge')) {
    // It is not documented how STS packs policy and tags: only its answer tells that they do not fit.
    return ProblemError.of([{
      code: 'policy-too-large',
      pointer: '/attach',
      detail: 'STS packs the session’s policy and tags, and they are too large.',
      hint: 'Ask for fewer entries, shorter prefixes or fewer labels, or use attach auto: a user’s policy may be larger.'
    }])
  }
  const hint = (cause.operation === 'AssumeRole' ? roleHints : refusalHints)[cause.kind] ?? 'See the service’s log under this request id.'
  return new ProblemError('iam-refused', { detail: `${cause.operation} was refused (${cause.providerCode}).`, hint, cause })
}

const roleHints: Partial<Record<IamError['kind'], string>> = {
  denied: 'The role’s trust policy must let the service do sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity; without a role, ' +
    'the store must let the service’s user assume it: see docs/dialects.md.',
  malformed: 'Compare the role’s MaxSessionDuration with maxSessionSeconds of its profile.',
  credentials: 'The service’s own credentials are not valid at the provider.'
}

const refusalHints: Partial<Record<IamError['kind'], string>> = {
  denied: 'The service’s own role may not do this: compare it with the policy in docs/operating.md.',
  limit: 'A quota of the account is used up: see the users, keys and policies that it holds.',
  credentials: 'The service’s own credentials are not valid at the provider.'
}
