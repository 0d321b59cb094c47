import type { Caller } from '../../src/guardrails/guardrails.ts'
import type { AccessSpec, Entry } from '../../src/domain/access-spec.ts'

export const now = new Date('2025-07-16T00:00:00Z')
export const at = { now }

export const nlp: Caller = { id: 'token:nlp', kind: 'token', teams: ['nlp'], attributes: {} }

export const entry = (part: Partial<Entry> = {}): Entry => ({
  pointer: '/access/0',
  sid: 'A',
  bucket: 'acmeco-data',
  prefix: '',
  level: 'read',
  list: part.level !== 'write',
  acl: false,
  delete: false,
  kmsKeyArns: [],
  ...part
})

/** A read-only job of team nlp for three hours from one IPv4 address, its entries at /access/0, /access/1, ... */
export const asked = (part: Partial<AccessSpec> = {}): AccessSpec => {
  const entries = part.entries ?? [entry()]
  return {
    partition: 'aws',
    job: { id: 'j1', team: 'nlp', labels: {} },
    window: { notBefore: '2025-07-16T00:00:00Z', notAfter: '2025-07-16T03:00:00Z', outputNotAfter: '2025-07-16T03:10:00Z' },
    source: { kind: 'ip', cidrs: ['203.0.113.42/32'] },
    layout: 'everywhere',
    attach: 'auto',
    ...part,
    entries: entries.map((item, index) => ({ ...item, pointer: `/access/${index}` }))
  }
}
