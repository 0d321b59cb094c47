import { aws } from './aws.ts'
import type { Dialect } from './dialect.ts'

/** LocalStack 4.14: AWS's calls, nothing enforced. */
export const localstack: Dialect = { ...aws, name: 'localstack' }
