import { readFileSync } from 'node:fs'
import t from 'tap'
import { auditFaults, AuditConfigSchema, auditOptions, HttpSinkSchema, readKey, SyslogSinkSchema, type AuditConfig } from '../../src/audit/config.ts'

const http = { type: 'http', name: 'siem', url: 'https://siem.example/audit' }
const syslog = { type: 'syslog', name: 'log', protocol: 'tls', host: 'log.example', port: 6514 }
const withSinks = (...sinks: object[]) => ({ path: 'audit/audit', sinks })

const good: [string, unknown][] = [
  ['a path', { path: 'audit/audit' }],
  ['everything', { ...withSinks({ ...http, bearerFile: 'b', maxLines: 5, timeoutSeconds: 3 }, { ...syslog, caFile: 'c', maxLines: 5, timeoutSeconds: 3 }), hmacKeyFile: 'k', fsync: 'batch', maxBytes: 1_048_576 }],
  ['plain http on loopback', withSinks({ ...http, url: 'http://127.0.0.1:9000/' })],
  ['udp', withSinks({ ...syslog, protocol: 'udp' })]
]
for (const [name, config] of good) t.test(`takes ${name}`, async t => t.same(auditFaults(config), []))

const bad: [string, unknown, string][] = [
  ['no path', {}, '/path'],
  ['an empty path', { path: '' }, '/path'],
  ['an unknown field', { path: 'a', key: 'x' }, '/key'],
  ['another fsync', { path: 'a', fsync: 'never' }, '/fsync'],
  ['tiny files', { path: 'a', maxBytes: 1000 }, '/maxBytes'],
  ['an unknown sink', withSinks({ ...http, type: 'kafka' }), '/sinks/0'],
  ['a sink without name', withSinks({ ...http, name: '' }), '/sinks/0'],
  ['a name with a slash', withSinks({ ...http, name: '../x' }), '/sinks/0'],
  ['the same name twice', withSinks(http, { ...syslog, name: 'siem' }), '/sinks/1/name'],
  ['plain http', withSinks({ ...http, url: 'http://siem.example/' }), '/sinks/0/url'],
  ['a password in the address', withSinks({ ...http, url: 'https://u:p@siem.example/' }), '/sinks/0/url'],
  ['an authority for tcp', withSinks({ ...syslog, protocol: 'tcp', caFile: 'c' }), '/sinks/0/caFile'],
  ['a port too high', withSinks({ ...syslog, port: 65_536 }), '/sinks/0']
]
for (const [name, config, pointer] of bad) {
  t.test(`refuses ${name}`, async t => t.ok(auditFaults(config).some(fault => fault.pointer === pointer), JSON.stringify(auditFaults(config))))
}

t.test('options: the key from its file, a sink for each', async t => {
  const files: Record<string, string> = { k: `${'0a'.repeat(32)}\n`, c: 'PEM', b: 'token' }
  const options = auditOptions({
    ...withSinks({ ...http, bearerFile: 'b', maxLines: 5 }, { ...syslog, caFile: 'c' }), hmacKeyFile: 'k', fsync: 'batch', maxBytes: 2_000_000
  } as AuditConfig, { instance: 'a', hostname: 'h', now: () => new Date(0), readFile: path => Buffer.from(files[path] ?? '') })
  t.match(options, { path: 'audit/audit', instance: 'a', fsync: 'batch', maxBytes: 2_000_000, hmacKey: Buffer.alloc(32, 10) })
  t.same(options.sinks?.map(({ name, maxLines }) => [name, maxLines]), [['siem', 5], ['log', 100]])
  t.throws(() => auditOptions({ path: 'a', hmacKeyFile: '/nowhere' }, { instance: 'a', hostname: 'h', now: () => new Date(0) }), /ENOENT/)
})

t.test('a key is hex or bytes', async t => {
  t.equal(readKey(Buffer.from(`${'0A'.repeat(32)}\n`)).length, 32)
  t.equal(readKey(Buffer.from('0a'.repeat(31))).length, 62, 'too short for hex: the text itself')
  t.same(readKey(Buffer.alloc(32, 255)), Buffer.alloc(32, 255))
})

const text = readFileSync(new URL('../../docs/audit.md', import.meta.url), 'utf8')

t.test('every field is explained in the docs', async t => {
  for (const { properties } of [AuditConfigSchema, HttpSinkSchema, SyslogSinkSchema]) {
    for (const field of Object.keys(properties)) t.match(text, new RegExp(`\`${field}\`|"${field}"`), field)
  }
})
