import t from 'tap'
import { ConfigError, EnvSchema, readConfig, readProfiles } from '../src/config.ts'

const faultsOf = (env: Record<string, string>): string[] => {
  try {
    readConfig(env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
}

t.test('nothing given: loopback, embedded IAM, everything in memory', async t => {
  t.match(readConfig({}), {
    HOST: '127.0.0.1', PORT: 8080, JOB_ACCESS_PROVIDER: 'embedded', ledgerUrl: ':memory:', audited: false, exposed: false, dialect: 'aws'
  })
  t.ok(Object.isFrozen(readConfig({})))
})

t.test('a real provider keeps its ledger and its audit in files', async t => {
  const config = readConfig({ JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::111122223333:policy/b' })
  t.match(config, { ledgerUrl: 'job-access.sqlite', audited: true })
})

const good = { JOB_ACCESS_PROVIDER: 'localstack', AWS_ENDPOINT_URL: 'http://127.0.0.1:4566', JOB_ACCESS_IDENTITY: 'i.json', JOB_ACCESS_GUARDRAILS: 'g.cedar' }
const refusals: Array<[string, Record<string, string>, RegExp]> = [
  ['a typo must not lift a ceiling', { JOB_ACCESS_MAX_WINDOW_SECOND: '60' }, /JOB_ACCESS_MAX_WINDOW_SECOND: unknown/],
  ['not a number', { PORT: '80a' }, /^PORT: must be integer/],
  ['half a number', { PORT: '80.5' }, /^PORT: must be integer/],
  ['out of range', { PORT: '70000' }, /^PORT: must be <= 65535/],
  ['not a boolean', { JOB_ACCESS_ALLOW_ANY_SOURCE: 'yes' }, /^JOB_ACCESS_ALLOW_ANY_SOURCE: must be boolean/],
  ['an empty list must not lift a ceiling', { JOB_ACCESS_ALLOWED_BUCKETS: ' ' }, /^JOB_ACCESS_ALLOWED_BUCKETS\/0: must match/],
  ['a list with a hole', { JOB_ACCESS_ALLOW: 'embedded-iam,,generated-token' }, /^JOB_ACCESS_ALLOW\/1: /],
  ['not a provider', { JOB_ACCESS_PROVIDER: 'gcp' }, /^JOB_ACCESS_PROVIDER: .*embedded, aws/],
  ['a bad path', { JOB_ACCESS_PATH: 'jobs' }, /^JOB_ACCESS_PATH: must match/],
  ['embedded IAM beyond loopback', { HOST: '0.0.0.0', JOB_ACCESS_IDENTITY: 'i', JOB_ACCESS_GUARDRAILS: 'g' }, /^HOST: .*embedded-iam/],
  ['generated token beyond loopback', { ...good, HOST: '0.0.0.0', JOB_ACCESS_IDENTITY: '' }, /^HOST: .*generated-token/],
  ['no guardrails beyond loopback', { ...good, HOST: '::', JOB_ACCESS_GUARDRAILS: '' }, /^HOST: .*open-guardrails/],
  ['AWS without a boundary', { JOB_ACCESS_PROVIDER: 'aws' }, /^JOB_ACCESS_BOUNDARY_ARN: required/],
  ['a boundary that the service itself may rewrite', { JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::111122223333:policy/job-access/b' },
    /^JOB_ACCESS_BOUNDARY_ARN: lies below JOB_ACCESS_PATH/],
  ['a boundary where no user can carry one', { ...good, JOB_ACCESS_PROVIDER: 'ceph', JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::111122223333:policy/b' },
    /^JOB_ACCESS_BOUNDARY_ARN: ceph has none/],
  ['another provider at AWS’s own endpoint', { JOB_ACCESS_PROVIDER: 'seaweedfs' }, /^AWS_ENDPOINT_URL_IAM: required with JOB_ACCESS_PROVIDER=seaweedfs/],
  ['two ledgers', { DATABASE_URL: 'postgres://a/b', JOB_ACCESS_LEDGER: 'x' }, /^JOB_ACCESS_LEDGER: /],
  ['limits that contradict', { JOB_ACCESS_MAX_GRANTS: '5' }, /^JOB_ACCESS_MAX_GRANTS_PER_IDENTITY/],
  ['an unknown exposure', { JOB_ACCESS_ALLOW: 'everything' }, /^JOB_ACCESS_ALLOW\/0: /]
]

t.test('what is refused at start', async t => {
  for (const [name, env, fault] of refusals) {
    const faults = faultsOf(env)
    t.equal(faults.length, 1, `${name}: ${faults.join('; ')}`)
    t.match(faults[0], fault, name)
  }
  t.equal(faultsOf({ PORT: 'x', JOB_ACCESS_PROVIDER: 'gcp', JOB_ACCESS_NONSENSE: '1' }).length, 3, 'all at once')
})

t.test('allowed by name', async t => {
  t.strictSame(faultsOf({ HOST: '0.0.0.0', JOB_ACCESS_ALLOW: 'embedded-iam, generated-token,open-guardrails' }), [])
  t.strictSame(faultsOf({ ...good, HOST: '0.0.0.0' }), [])
  t.strictSame(faultsOf({ JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_ALLOW: 'no-boundary' }), [])
})

t.test('every variable is described', async t => {
  for (const [name, schema] of Object.entries(EnvSchema.properties)) t.ok(schema.description, name)
})

t.test('role profiles', async t => {
  const profile = { name: 'default', roleArn: 'arn:aws:iam::111122223333:role/jobs', maxSessionSeconds: 43200, chained: false, revocable: true }
  t.strictSame(readProfiles(JSON.stringify([profile]), 'p.json'), { default: profile })
  const refused = (value: unknown, fault: RegExp) => t.throws(() => readProfiles(typeof value === 'string' ? value : JSON.stringify(value), 'p.json'), { message: fault })
  refused('{', /p\.json: is not JSON/)
  refused([{ ...profile, maxSessionSeconds: 60 }], /p\.json\/0\/maxSessionSeconds: must be >= 900/)
  refused([{ ...profile, policy: '*' }], /p\.json\/0: must NOT have additional properties/)
  refused([profile, profile], /profile default is given twice/)
  // A grant knows its role, not its profile.
  refused([profile, { ...profile, name: 'other', externalId: 'another' }], /p\.json: profile other has the role of default, and another externalId/)
  refused([profile, { ...profile, name: 'other', revocable: false }], /profile other has the role of default/)
  t.ok(readProfiles(JSON.stringify([profile, { ...profile, name: 'short', maxSessionSeconds: 3600 }]), 'p.json').short)
})
