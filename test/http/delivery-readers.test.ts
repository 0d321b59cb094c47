import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { IAMClient } from '@aws-sdk/client-iam'
import fc from 'fast-check'
import t from 'tap'
import { parse } from 'yaml'
import { deliver } from '../../src/http/delivery.ts'
import type { Grant } from '../../src/domain/grant.ts'

/** Every format, read by what reads it at its destination: the reader gets the very strings that were delivered. */

const folder = mkdtempSync(join(tmpdir(), 'delivery-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** What YAML 1.1 reads as something else than a string, without quotes. */
const odd = [
  '20261125_01', 'yes', 'no', 'on', 'off', 'Y', 'n', '0b101', '0x1F', '017', '0o17', '1e3', '1_000', '1:30:00', '12.5', '.inf', '.nan', '~', 'null',
  'Null', 'true', 'False', '2026-11-25', '2026-11-25T01:00:00Z', '=', '<<', '-', '+1', '1.', '+.5', '/', 'a:', 'a:b', '@a', '0', '0.0', '1e+3', '685_230.15'
]
const from = (characters: string, minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...characters), minLength, maxLength })
const alphanumeric = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'
const jobId = fc.oneof(
  fc.constantFrom(...odd).filter(text => /^[A-Za-z0-9][A-Za-z0-9._:/@=+-]*$/.test(text)),
  fc.tuple(from(alphanumeric, 1, 1), from('eE01._:/@=+-xb []#%"\'$~\\', 0, 20)).map(parts => parts.join(''))
)
const secret = fc.oneof(fc.constantFrom(...odd).filter(text => /^[A-Za-z0-9/+=._-]+$/.test(text)), from(`${alphanumeric}/+=._-`, 1, 60))
const deliveries = fc.record({
  jobId,
  accessKeyId: secret,
  secretAccessKey: secret,
  sessionToken: fc.option(secret, { nil: undefined }),
  endpoint: fc.option(fc.constantFrom<string[]>('https://s3.example.com:9000', 'http://[2001:db8::1]:80/a'), { nil: undefined }),
  region: fc.option(fc.constantFrom<string[]>('auto', 'on', 'eu-west-1', '1e3'), { nil: undefined }),
  notice: fc.option(fc.constantFrom<string[]>('yes', '# no: "quoted"', "it's", 'a: b'), { nil: null })
})
type One = typeof deliveries extends fc.Arbitrary<infer T> ? T : never
const seed = 20261125

const textOf = (format: Parameters<typeof deliver>[0], one: One) => {
  const { jobId, accessKeyId, secretAccessKey, sessionToken, endpoint, region, notice } = one
  return deliver(
    format,
    { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }), expiresAt: null },
    { id: '01k00000000000000000000000', jobId, expiresAt: Date.parse('2025-07-16T04:00:00Z') } as Grant,
    { ...(endpoint !== undefined && { endpoint }), ...(region !== undefined && { region }) },
    notice
  )
}

const environmentOf = ({ accessKeyId, secretAccessKey, sessionToken, endpoint, region }: One) => ({
  AWS_ACCESS_KEY_ID: accessKeyId,
  AWS_SECRET_ACCESS_KEY: secretAccessKey,
  ...(sessionToken !== undefined && { AWS_SESSION_TOKEN: sessionToken }),
  ...(endpoint !== undefined && { AWS_ENDPOINT_URL_S3: endpoint, S3_ENDPOINT_URL: endpoint }),
  ...(region !== undefined && { AWS_REGION: region })
})

const example: One = {
  jobId: 'job', accessKeyId: 'AKIAEXAMPLE', secretAccessKey: 'abc', sessionToken: undefined, endpoint: undefined, region: undefined, notice: null
}

t.test('kubernetes-secret, in YAML 1.1 as kubectl reads it, and in YAML 1.2', async t => {
  const holds = (one: One) => {
    const text = textOf('kubernetes-secret', one)
    for (const version of ['1.1', '1.2'] as const) {
      const { kind, metadata, stringData } = parse(text, { version })
      t.equal(kind, 'Secret')
      t.strictSame(metadata.annotations, {
        'job-access/job': one.jobId,
        'job-access/expires': '2025-07-16T04:00:00Z',
        ...(one.notice !== null && { 'job-access/notice': one.notice })
      })
      t.strictSame(stringData, environmentOf(one))
    }
  }
  for (const text of odd) holds({ ...example, jobId: text })
  fc.assert(fc.property(deliveries, holds), { seed, numRuns: 200 })
})

t.test('env, in a shell', async t => {
  const cases = fc.sample(deliveries, { seed, numRuns: 60 })
  const names = Object.keys(environmentOf({ ...example, sessionToken: 'a', endpoint: 'a', region: 'a' }))
  cases.forEach((one, index) => { writeFileSync(join(folder, `${index}.env`), textOf('env', one)) })
  // Each file in a shell of its own, as nothing of the one before may be left.
  const script = `for i in $(seq 0 ${cases.length - 1}); do (. "$0/$i.env"; printf '%s|' ${names.map(name => `"$${name}"`).join(' ')}; echo); done`
  const lines = execFileSync('sh', ['-c', script, folder], { env: { PATH: process.env.PATH } }).toString().trim().split('\n')
  cases.forEach((one, index) => {
    const expected: Record<string, string> = environmentOf(one)
    t.equal(lines[index], `${names.map(name => expected[name] ?? '').join('|')}|`)
  })
})

t.test('aws-profile, in the SDK, and in Python’s configparser where there is a Python', async t => {
  const cases = fc.sample(deliveries, { seed, numRuns: 60 })
  const expected = ({ accessKeyId, secretAccessKey, sessionToken, endpoint, region }: One) => ({
    aws_access_key_id: accessKeyId,
    aws_secret_access_key: secretAccessKey,
    ...(sessionToken !== undefined && { aws_session_token: sessionToken }),
    ...(endpoint !== undefined && { endpoint_url: endpoint }),
    ...(region !== undefined && { region })
  })
  const files = cases.map((one, index) => {
    const filepath = join(folder, `${index}.credentials`)
    writeFileSync(filepath, textOf('aws-profile', one))
    return filepath
  })
  for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_PROFILE']) delete process.env[name]
  process.env.AWS_CONFIG_FILE = '/dev/null'
  for (const [index, one] of cases.entries()) {
    process.env.AWS_SHARED_CREDENTIALS_FILE = files[index]
    const client = new IAMClient({ region: 'us-east-1' })
    const { accessKeyId, secretAccessKey, sessionToken } = await client.config.credentials()
    client.destroy()
    t.strictSame([accessKeyId, secretAccessKey, sessionToken], [one.accessKeyId, one.secretAccessKey, one.sessionToken])
  }
  let python: string
  try {
    python = execFileSync('python3', ['-c', readProfiles, ...files], { maxBuffer: 1e7 }).toString()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return t.comment('there is no python3')
  }
  t.strictSame(JSON.parse(python), cases.map(expected))
})

/** As botocore/configloader.py reads the file. */
const readProfiles = `
import configparser, json, sys
def read(path):
    parser = configparser.RawConfigParser(default_section=None)
    parser.read([path])
    return dict(parser.items('default'))
print(json.dumps([read(path) for path in sys.argv[1:]]))
`

t.test('credential-process, in JSON', async t => {
  fc.assert(fc.property(deliveries, one => {
    const { accessKeyId, secretAccessKey, sessionToken } = one
    t.strictSame(JSON.parse(textOf('credential-process', one)), {
      Version: 1,
      AccessKeyId: accessKeyId,
      SecretAccessKey: secretAccessKey,
      ...(sessionToken !== undefined && { SessionToken: sessionToken }),
      Expiration: '2025-07-16T04:00:00Z'
    })
  }), { seed, numRuns: 50 })
})

t.test('what a shell would take for something else is refused, also from the configuration', async t => {
  for (const endpoint of ['https://s3.example.com/$(id)', 'https://s3.example.com/?a&b', 'https://a b', 'https://a\nB=c', 'https://~']) {
    t.throws(() => textOf('env', { ...example, endpoint }), { code: 'internal' }, endpoint)
  }
})
