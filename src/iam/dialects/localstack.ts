import { aws } from './aws.ts'
import type { Dialect } from '../../policy/dialect.ts'

/**
 * LocalStack 4.14: AWS's calls, nothing enforced, neither policies nor sizes nor secrets. Its GetCallerIdentity takes every key, and
 * answers for an unknown one with somebody else's ARN: that the answer names the user is what tells the key is known.
 */
export const localstack: Dialect = { ...aws, name: 'localstack' }
