import { aws } from './aws.ts'
import { ceph } from './ceph.ts'
import type { Dialect, DialectName } from '../../policy/dialect.ts'
import { localstack } from './localstack.ts'
import { seaweedfs } from './seaweedfs.ts'
import { tigris } from './tigris.ts'
import { versitygw } from './versitygw.ts'

export const dialects: Record<DialectName, Dialect> = { aws, localstack, ceph, seaweedfs, versitygw, tigris }
