import { readFileSync } from 'node:fs'
import t from 'tap'
import { auditFaults, AuditConfigSchema, auditOptions, readKey } from '../../src/audit/config.ts'

const good: [string, unknown][] = [
  ['a path', { path: 'audit/audit' }],
  ['everything', { path: 'audit/audit', hmacKeyFile: 'k', fsync: 'batch', maxBytes: 1_048_576 }]
]
for (const [name, config] of good) t.test(`takes ${name}`, async t => t.same(auditFaults(config), []))

const bad: [string, unknown, string][] = [
  ['no path', {}, '/path'],
  ['an empty path', { path: '' }, '/path'],
  ['an unknown field', { path: 'a', key: 'x' }, '/key'],
  ['another fsync', { path: 'a', fsync: 'never' }, '/fsync'],
  ['tiny files', { path: 'a', maxBytes: 1000 }, '/maxBytes']
]
for (const [name, config, pointer] of bad) {
  t.test(`refuses ${name}`, async t => t.ok(auditFaults(config).some(fault => fault.pointer === pointer), JSON.stringify(auditFaults(config))))
}

t.test('the sinks of an older config are refused, and it is said what to do', async t => {
  t.strictSame(auditFaults({ path: 'a', sinks: [] }), [{ pointer: '/sinks', message: 'was removed: a log shipper sends the files, see docs/audit.md' }])
})

t.test('options: the key from its file', async t => {
  const options = auditOptions({ path: 'audit/audit', hmacKeyFile: 'k', fsync: 'batch', maxBytes: 2_000_000 },
    { instance: 'a', now: () => 0, readFile: path => Buffer.from(path === 'k' ? `${'0a'.repeat(32)}\n` : '') })
  t.match(options, { path: 'audit/audit', instance: 'a', fsync: 'batch', maxBytes: 2_000_000, hmacKey: Buffer.alloc(32, 10) })
  t.throws(() => auditOptions({ path: 'a', hmacKeyFile: '/nowhere' }, { instance: 'a', now: () => 0 }), /ENOENT/)
})

t.test('a key is hex or bytes', async t => {
  t.equal(readKey(Buffer.from(`${'0A'.repeat(32)}\n`)).length, 32)
  t.equal(readKey(Buffer.from('0a'.repeat(31))).length, 62, 'too short for hex: the text itself')
  t.same(readKey(Buffer.alloc(32, 255)), Buffer.alloc(32, 255))
})

const text = readFileSync(new URL('../../docs/audit.md', import.meta.url), 'utf8')

t.test('every field is explained in the docs', async t => {
  for (const field of Object.keys(AuditConfigSchema.properties)) t.match(text, new RegExp(`\`${field}\`|"${field}"`), field)
})
