import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { auditKey } from '../../src/audit/chain.ts'
import type { AuditEvent, NewAuditEvent } from '../../src/audit/event.ts'
import { verifyChain, type VerifyOptions } from '../../src/audit/verify-chain.ts'

/** What an audit has written into a directory. */
export const auditFiles = (dir: string) => readdirSync(dir).filter(name => name.endsWith('.jsonl')).sort().map(name => join(dir, name))

export const auditLines = (dir: string): (AuditEvent & { prev: string, hash: string })[] =>
  auditFiles(dir).flatMap(path => readFileSync(path, 'utf8').split('\n').filter(line => line !== '').map(line => JSON.parse(line)))

export const verifyDir = (dir: string, instance: string, options: VerifyOptions = {}) =>
  verifyChain(instance, auditFiles(dir).map(name => ({ name, bytes: readFileSync(name) })).filter(({ bytes }) => bytes.length > 0), options)

export const issued = (requestId: string, more: Partial<NewAuditEvent> = {}): NewAuditEvent => ({
  requestId,
  actor: { id: 'token:ci', kind: 'token', ip: '198.51.100.7' },
  action: 'grant.issue',
  outcome: 'done',
  team: 'nlp',
  jobId: 'wiki-finetune-42',
  grantId: '01jz0000000000000000000000',
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  ...more
})

export const secret = Buffer.alloc(32, 7)
export const key = auditKey(secret)
export const otherKey = auditKey(Buffer.alloc(32, 8))
