import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import { EnvSchema, ceilingsOf, profileFaults, readConfig, readProfiles } from '../src/config.ts'
import { ConfigError, configFaults, readConfigFile } from '../src/config-file.ts'

/** The lines that an operator reads. */
const faultsOf = (env: Record<string, string>): string[] => {
  try {
    readConfig(env)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const lines = error.message.split('\n').slice(1).map(line => line.trim())
    if (lines.length !== error.faults.length) throw new Error(error.message)
    return lines
  }
}

t.test('defaults: loopback, embedded IAM, everything in memory', async t => {
  t.match(readConfig({}), {
    HOST: '127.0.0.1', PORT: 8080, JOB_ACCESS_PROVIDER: 'embedded', ledgerUrl: ':memory:', audited: false, exposed: false, dialect: { name: 'aws' }
  })
  t.ok(Object.isFrozen(readConfig({})))
})

t.test('with a real provider, ledger and audit are files', async t => {
  const config = readConfig({ JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::111122223333:policy/b' })
  t.match(config, { ledgerUrl: 'job-access.sqlite', audited: true })
})

const good = { JOB_ACCESS_PROVIDER: 'localstack', AWS_ENDPOINT_URL: 'http://127.0.0.1:4566', JOB_ACCESS_IDENTITY: 'i.json', JOB_ACCESS_GUARDRAILS: 'g.cedar' }
const refusals: Array<[string, Record<string, string>, RegExp]> = [
  ['a misspelled ceiling', { JOB_ACCESS_MAX_WINDOW_SECOND: '60' }, /^JOB_ACCESS_MAX_WINDOW_SECOND: is not a known variable/],
  ['not a number', { PORT: '80a' }, /^PORT: must be integer/],
  ['a fraction', { PORT: '80.5' }, /^PORT: must be integer/],
  ['out of range', { PORT: '70000' }, /^PORT: must be <= 65535/],
  ['not a boolean', { JOB_ACCESS_ALLOW_ANY_SOURCE: 'yes' }, /^JOB_ACCESS_ALLOW_ANY_SOURCE: must be boolean/],
  ['an empty list of allowed buckets', { JOB_ACCESS_ALLOWED_BUCKETS: ' ' }, /^JOB_ACCESS_ALLOWED_BUCKETS\/0: must match/],
  ['a list with an empty item', { JOB_ACCESS_ALLOW: 'embedded-iam,,generated-token' }, /^JOB_ACCESS_ALLOW\/1: /],
  ['not a provider', { JOB_ACCESS_PROVIDER: 'gcp' }, /^JOB_ACCESS_PROVIDER: .*embedded, aws/],
  ['a bad path', { JOB_ACCESS_PATH: 'jobs' }, /^JOB_ACCESS_PATH: must match/],
  ['embedded IAM on an address that is not loopback', { HOST: '0.0.0.0', JOB_ACCESS_IDENTITY: 'i', JOB_ACCESS_GUARDRAILS: 'g' }, /^HOST: .*embedded-iam/],
  ['generated token on an address that is not loopback', { ...good, HOST: '0.0.0.0', JOB_ACCESS_IDENTITY: '' }, /^HOST: .*generated-token/],
  ['no guardrails on an address that is not loopback', { ...good, HOST: '::', JOB_ACCESS_GUARDRAILS: '' }, /^HOST: .*open-guardrails/],
  ['AWS without a boundary', { JOB_ACCESS_PROVIDER: 'aws' }, /^JOB_ACCESS_BOUNDARY_ARN: is required/],
  ['a boundary that the service itself may change', { JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::111122223333:policy/job-access/b' },
    /^JOB_ACCESS_BOUNDARY_ARN: is below JOB_ACCESS_PATH/],
  ['a boundary for a provider without boundaries', { ...good, JOB_ACCESS_PROVIDER: 'ceph', JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::111122223333:policy/b' },
    /^JOB_ACCESS_BOUNDARY_ARN: ceph has no permissions boundaries/],
  ['a boundary for a provider that ignores it', { ...good, JOB_ACCESS_PROVIDER: 'versitygw', JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::111122223333:policy/b' },
    /^JOB_ACCESS_BOUNDARY_ARN: versitygw has no permissions boundaries/],
  ['another provider without an endpoint', { JOB_ACCESS_PROVIDER: 'seaweedfs' }, /^AWS_ENDPOINT_URL_IAM: is required with JOB_ACCESS_PROVIDER=seaweedfs/],
  ['two ledgers', { DATABASE_URL: 'postgres://a/b', JOB_ACCESS_LEDGER: 'x' }, /^JOB_ACCESS_LEDGER: /],
  ['a URL beside the file with the URL', { DATABASE_URL: 'postgres://a/b', DATABASE_URL_FILE: 'x' }, /^DATABASE_URL_FILE: DATABASE_URL is set too/],
  ['a file with the URL that is not there', { DATABASE_URL_FILE: '/none/such' }, /^DATABASE_URL_FILE: the file cannot be read/],
  ['a file with the URL that has none', { DATABASE_URL_FILE: import.meta.filename }, /^DATABASE_URL_FILE: the file has no postgres:\/\/ URL/],
  ['contradicting limits', { JOB_ACCESS_MAX_GRANTS: '5' }, /^JOB_ACCESS_MAX_GRANTS_PER_IDENTITY/],
  ['a life that is shorter than a window', { JOB_ACCESS_MAX_LIFETIME_SECONDS: '604799' }, /^JOB_ACCESS_MAX_LIFETIME_SECONDS: is lower than JOB_ACCESS_MAX_WINDOW_SECONDS/],
  ['tags for bucket policies at a provider that keeps none', { ...good, JOB_ACCESS_PROVIDER: 'ceph', JOB_ACCESS_ABAC_TAGS: 'team' },
    /^JOB_ACCESS_ABAC_TAGS: ceph keeps no tags of users/],
  ['AWS without a boundary, another exposure allowed', { JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_ALLOW: 'open-guardrails' }, /^JOB_ACCESS_BOUNDARY_ARN: is required/],
  ['an unknown exposure', { JOB_ACCESS_ALLOW: 'everything' }, /^JOB_ACCESS_ALLOW\/0: /]
]

t.test('faults that the start is refused for', async t => {
  for (const [name, env, fault] of refusals) {
    const faults = faultsOf(env)
    t.equal(faults.length, 1, `${name}: ${faults.join('; ')}`)
    t.match(faults[0], fault, name)
  }
  t.equal(faultsOf({ PORT: 'x', JOB_ACCESS_PROVIDER: 'gcp', JOB_ACCESS_NONSENSE: '1' }).length, 3, 'all faults at once')
})

t.test('an exposure is allowed by its name', async t => {
  t.strictSame(faultsOf({ HOST: '0.0.0.0', JOB_ACCESS_ALLOW: 'embedded-iam, generated-token,open-guardrails' }), [])
  t.strictSame(faultsOf({ ...good, HOST: '0.0.0.0' }), [])
  t.strictSame(faultsOf({ JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_ALLOW: 'no-boundary' }), [])
})

t.test('every variable is described', async t => {
  for (const [name, schema] of Object.entries(EnvSchema.properties)) t.ok(schema.description, name)
})

t.test('role profiles', async t => {
  const profile = { name: 'default', roleArn: 'arn:aws:iam::111122223333:role/jobs', maxSessionSeconds: 43200, chained: false, revocable: true }
  const dir = t.testdir({ 'p.json': JSON.stringify([profile, { ...profile, name: 'short', maxSessionSeconds: 3600 }]) })
  t.strictSame(readProfiles(join(dir, 'p.json')), { default: profile, short: { ...profile, name: 'short', maxSessionSeconds: 3600 } })
  const refused = (value: unknown, pointer: string, message: RegExp) => {
    const faults = profileFaults(value)
    t.equal(faults.length, 1, JSON.stringify(faults))
    t.match(faults[0], { pointer, message })
  }
  refused([{ ...profile, maxSessionSeconds: 60 }], '/0/maxSessionSeconds', /^must be >= 900/)
  refused([{ ...profile, policy: '*' }], '/0/policy', /^is unknown/)
  refused([profile, profile], '/1/name', /^profile default is given twice/)
  // A grant stores its role, not its profile.
  refused([profile, { ...profile, name: 'other', externalId: 'another' }], '/1', /^profile other has the same role as default, but another externalId/)
  refused([profile, { ...profile, name: 'other', revocable: false }], '/1', /^profile other has the same role as default/)
})

/** What a file of accounts is refused for, as an operator reads it, without the name of the file. */
const accountFaults = (t: Test, accounts: unknown, env: Record<string, string> = {}): string[] => {
  const file = join(t.testdir({ 'a.json': JSON.stringify(accounts) }), 'a.json')
  return faultsOf({ JOB_ACCESS_ACCOUNTS_FILE: file, ...env }).map(line => line.replace(file, ''))
}
const onAws = { JOB_ACCESS_PROVIDER: 'aws' }
const boundaryArn = 'arn:aws:iam::111122223333:policy/b'
const roleArn = 'arn:aws:iam::111122223333:role/service'
const profile = { name: 'default', roleArn: 'arn:aws:iam::111122223333:role/jobs', maxSessionSeconds: 3600, chained: false, revocable: true }

t.test('faults of the accounts that the start is refused for', async t => {
  const refusals: Array<[what: string, accounts: unknown, env: Record<string, string>, fault: RegExp]> = [
    ['no account', [], {}, /^: must NOT have fewer than 1 items$/],
    ['one account, not in a list', { name: 'a' }, {}, /^: must be array$/],
    ['an account without a name', [{ users: 1 }], {}, /^\/0\/name: is missing$/],
    ['a name that would not fit a label', [{ name: 'EU 1' }], {}, /^\/0\/name: must match pattern/],
    ['a misspelled field', [{ name: 'a', user: 1 }], {}, /^\/0\/user: is unknown$/],
    ['a number of users below 0', [{ name: 'a', users: -1 }], {}, /^\/0\/users: must be >= 0$/],
    ['the same name twice', [{ name: 'a' }, { name: 'a' }], {}, /^\/1\/name: account a is given twice$/],
    ['two accounts with the grants from before', [{ name: 'a', earlier: true }, { name: 'b', earlier: true }], {}, /^\/1\/earlier: another account has it/],
    ['one account under two names', [{ name: 'a', boundaryArn }, { name: 'b', boundaryArn, path: '/b/' }], onAws,
      /^\/1\/name: has endpoint, awsProfile and roleArn of a: it is the same account$/],
    ['credentials of an embedded IAM', [{ name: 'a', awsProfile: 'p' }], {}, /^\/0\/awsProfile: has no effect with JOB_ACCESS_PROVIDER=embedded; remove it$/],
    ['another provider without an endpoint', [{ name: 'a' }], { JOB_ACCESS_PROVIDER: 'versitygw' }, /^\/0\/endpoint: is required with JOB_ACCESS_PROVIDER=versitygw$/],
    ['an external id for no role', [{ name: 'a', boundaryArn, externalId: 'x1' }], onAws, /^\/0\/externalId: is for roleArn, which is missing$/],
    ['AWS without a boundary', [{ name: 'a' }], onAws, /^\/0\/boundaryArn: is required on AWS; set it, or JOB_ACCESS_ALLOW=no-boundary$/],
    ['a boundary that the service itself may change', [{ name: 'a', path: '/jobs/', boundaryArn: 'arn:aws:iam::111122223333:policy/jobs/b' }], onAws,
      /^\/0\/boundaryArn: is below \/jobs\/, where the service itself may change it$/],
    ['a boundary for a provider without boundaries', [{ name: 'a', endpoint: 'http://iam', boundaryArn }], { JOB_ACCESS_PROVIDER: 'versitygw' },
      /^JOB_ACCESS_ACCOUNTS_FILE: versitygw has no permissions boundaries; remove boundaryArn$/],
    ['a profile that is not chained behind a role', [{ name: 'a', boundaryArn, roleArn, profiles: [profile] }], onAws,
      /^\/0\/profiles\/0\/chained: must be true: the service assumes roleArn first$/],
    ['the same profile twice', [{ name: 'a', profiles: [profile, profile] }], {}, /^\/0\/profiles\/1\/name: profile default is given twice$/],
    ...['JOB_ACCESS_BOUNDARY_ARN', 'JOB_ACCESS_PROFILES', 'AWS_ENDPOINT_URL_IAM', 'AWS_ENDPOINT_URL'].map((name): typeof refusals[number] =>
      [`${name} for all accounts`, [{ name: 'a' }], { [name]: name.startsWith('AWS') ? 'http://iam' : boundaryArn },
        new RegExp(`^${name}: has no effect with JOB_ACCESS_ACCOUNTS_FILE; state it of each account there$`)])
  ]
  for (const [what, accounts, env, fault] of refusals) {
    const faults = accountFaults(t, accounts, env)
    t.equal(faults.length, 1, `${what}: ${faults.join('; ')}`)
    t.match(faults[0], fault, what)
  }
  t.match(faultsOf({ JOB_ACCESS_ACCOUNTS_FILE: '/none/such' }), [/^\/none\/such: cannot be read$/])
  t.strictSame(accountFaults(t, [{ name: 'a' }, { name: 'b' }], { ...onAws, JOB_ACCESS_ALLOW: 'no-boundary' }),
    ['/1/name: has endpoint, awsProfile and roleArn of a: it is the same account'], 'two of nothing are the account of the process')
})

t.test('an account has what it states, and otherwise what the variables state', async t => {
  const file = join(t.testdir({
    'a.json': JSON.stringify([
      { name: 'old', earlier: true, closed: true, boundaryArn },
      {
        name: 'new',
        roleArn,
        externalId: 'x1',
        region: 'eu-west-1',
        path: '/new/',
        userPrefix: 'n',
        boundaryArn,
        users: 7,
        managedPolicies: 3,
        profiles: [{ ...profile, chained: true }],
        s3Endpoint: 'https://s3.example',
        s3Region: 'eu'
      }
    ])
  }), 'a.json')
  const env = { ...onAws, JOB_ACCESS_ACCOUNTS_FILE: file, JOB_ACCESS_MAX_GRANTS: '2000', JOB_ACCESS_S3_REGION: 'us' }
  t.strictSame(readConfig(env).accounts, [
    {
      name: 'old',
      closed: true,
      earlier: true,
      endpoint: undefined,
      stsEndpoint: undefined,
      region: 'us-east-1',
      awsProfile: undefined,
      role: undefined,
      path: '/job-access/',
      userPrefix: 'ja',
      boundaryArn,
      users: 2000,
      managedPolicies: 1400,
      profiles: {},
      s3: { region: 'us' }
    },
    {
      name: 'new',
      closed: false,
      earlier: false,
      endpoint: undefined,
      stsEndpoint: undefined,
      region: 'eu-west-1',
      awsProfile: undefined,
      role: { arn: roleArn, externalId: 'x1' },
      path: '/new/',
      userPrefix: 'n',
      boundaryArn,
      users: 7,
      managedPolicies: 3,
      profiles: { default: { ...profile, chained: true } },
      s3: { endpoint: 'https://s3.example', region: 'eu' }
    }
  ])
  t.strictSame(ceilingsOf(readConfig(env)), { total: 2007, accounts: [{ account: 'old', users: 2000, managed: 1400 }, { account: 'new', users: 7, managed: 3 }] })
  t.equal(readConfig({}).accounts, undefined)
})

const Strict = Type.Object({
  'a/b': Type.Integer(),
  mode: Type.Union([Type.Literal('fast'), Type.Literal('safe')]),
  either: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1 })]))
}, { additionalProperties: false })

t.test('each fault of a config has one pointer and one message', async t => {
  t.strictSame(configFaults(Strict, { 'a/b': 1, mode: 'safe', either: ['x'] }), [])
  t.strictSame(configFaults(Strict, { mode: 'hunter2', either: [], '~hunter': 2 }), [
    { pointer: '/a~1b', message: 'is missing' },
    { pointer: '/~0hunter', message: 'is unknown' },
    { pointer: '/mode', message: 'must be one of fast, safe' },
    { pointer: '/either', message: 'has none of the allowed forms' }
  ])
  t.strictSame(configFaults(Strict, undefined), [{ pointer: '', message: 'must be object' }])
})

t.test('a config file is read and checked, and every fault is reported with file and pointer', async t => {
  const dir = t.testdir({
    'good.json': '{ "a/b": 1, "mode": "fast" }',
    'bad.json': '{ "a/b": "hunter2", "mode": "hunter2" }',
    'text.json': 'hunter2'
  })
  const read = (name: string) => readConfigFile(join(dir, name), Strict, config => config['a/b'] === 1 ? [{ pointer: '/a~1b', message: 'is one' }] : [])
  t.strictSame(readConfigFile(join(dir, 'good.json'), Strict), { 'a/b': 1, mode: 'fast' })
  const errorOf = (name: string): ConfigError => {
    try {
      read(name)
    } catch (error) {
      if (error instanceof ConfigError) return error
    }
    throw new Error(`${name} is accepted`)
  }
  const faults = (name: string) => errorOf(name).message.replaceAll(dir, '').split('\n').slice(1)
  t.strictSame(faults('good.json'), ['  /good.json/a~1b: is one'])
  t.strictSame(faults('bad.json'), ['  /bad.json/a~1b: must be integer', '  /bad.json/mode: must be one of fast, safe'])
  t.strictSame(faults('text.json'), ['  /text.json: is not JSON'])
  t.strictSame(faults('none.json'), ['  /none.json: cannot be read'])
  for (const name of ['bad.json', 'text.json']) t.notMatch(String(errorOf(name).stack), 'hunter2')
})

t.test('each ceiling has its own variable', async t => {
  t.match(readConfig({
    JOB_ACCESS_MIN_PREFIX_V4: '20',
    JOB_ACCESS_MIN_PREFIX_V6: '40',
    JOB_ACCESS_ALLOW_ANY_SOURCE: 'true',
    JOB_ACCESS_MAX_START_AHEAD_SECONDS: '100',
    JOB_ACCESS_MAX_WINDOW_SECONDS: '1000'
  }).limits, {
    minPrefixV4: 20,
    minPrefixV6: 40,
    allowAnySource: true,
    allowPrivateSourceIps: false,
    maxStartAheadSeconds: 100,
    maxWindowSeconds: 1000,
    maxLifetimeSeconds: 1100
  })
  t.match(readConfig({ JOB_ACCESS_ALLOW_PRIVATE_SOURCE_IPS: 'true' }).limits, { allowAnySource: false, allowPrivateSourceIps: true })
})

t.test('limits may be equal', async t => {
  t.same(faultsOf({ JOB_ACCESS_MAX_WINDOW_SECONDS: '3600', JOB_ACCESS_MAX_LIFETIME_SECONDS: '3600' }), [], 'a life of one window')
  t.same(faultsOf({ JOB_ACCESS_MAX_GRANTS: '9', JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '9' }), [], 'one identity has all grants')
})

t.test('which endpoint, which ledger, and what is exposed', async t => {
  const [iam, both] = ['http://127.0.0.1:1', 'http://127.0.0.1:2']
  t.equal(readConfig({ AWS_ENDPOINT_URL_IAM: iam, AWS_ENDPOINT_URL: both }).iamEndpoint, iam, 'the one for IAM comes first')
  t.equal(readConfig({ AWS_ENDPOINT_URL: both }).iamEndpoint, both)
  const sts = 'http://127.0.0.1:3'
  const stsAt = (env: object) => readConfig({ ...good, AWS_ENDPOINT_URL: undefined, ...env }).stsEndpoint
  t.equal(stsAt({ AWS_ENDPOINT_URL_IAM: iam }), iam, 'not at AWS, which is another provider')
  t.equal(stsAt({ AWS_ENDPOINT_URL_IAM: iam, AWS_ENDPOINT_URL: both }), both, 'as the SDK does it')
  t.equal(stsAt({ AWS_ENDPOINT_URL_IAM: iam, AWS_ENDPOINT_URL_STS: sts }), sts)
  t.equal(stsAt({ JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_ALLOW: 'no-boundary', AWS_ENDPOINT_URL_IAM: iam }), undefined, 'an endpoint in a VPC')
  t.equal(readConfig({ DATABASE_URL: 'postgres://a/b' }).ledgerUrl, 'postgres://a/b')
  const file = join(t.testdir({ url: 'postgres://u:p@a/b\n' }), 'url')
  t.equal(readConfig({ DATABASE_URL_FILE: file }).ledgerUrl, 'postgres://u:p@a/b', 'from its file')
  t.match(faultsOf({ DATABASE_URL_FILE: file, JOB_ACCESS_LEDGER: 'x' }), [/^JOB_ACCESS_LEDGER: DATABASE_URL is set too/])
  t.equal(readConfig({ JOB_ACCESS_LEDGER: 'x.sqlite' }).ledgerUrl, 'x.sqlite')
  for (const HOST of ['127.0.0.1', '::1', 'localhost']) t.equal(readConfig({ HOST }).exposed, false, HOST)
  t.equal(readConfig({ JOB_ACCESS_AUDIT: 'a.json' }).audited, true, 'the embedded IAM is audited where that is configured')
})
