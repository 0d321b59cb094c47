import { join } from 'node:path'
import t, { type Test } from 'tap'
import { readConfig } from '../../src/config.ts'
import { ConfigError } from '../../src/config-file.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import type { DialectFile } from '../../src/iam/dialects/file.ts'
import type { Iam } from '../../src/iam/client.ts'
import { IamError } from '../../src/iam/errors.ts'
import type { RoleProfile } from '../../src/iam/role-profile.ts'
import { sessionProvisioner } from '../../src/iam/session-provisioner.ts'
import { accessOf } from '../harness.ts'
import { unfit, usualActions, usualConditionKeys, usualOperators } from '../../src/policy/dialect.ts'

/** JOB_ACCESS_PROVIDER=custom: a store that the code does not know, by a file of the doctor. */

const file: DialectFile = {
  format: 'job-access-dialect-1',
  store: { name: 'Acme Store', version: '7.1' },
  by: 'ops',
  at: '2026-11-26T09:00:00.000Z',
  enforces: { window: true, address: true, prefix: true },
  dialect: {
    principals: 'users',
    paths: true,
    tagged: false,
    bounded: false,
    sizes: { inline: 2048 },
    managedPolicies: false,
    policyVersions: false,
    actions: usualActions,
    operators: usualOperators,
    conditionKeys: usualConditionKeys,
    confusesFamilies: false,
    denies: true,
    notResource: true,
    identityProbe: 'sts',
    selfService: false,
    holdsWithSts: true
  },
  findings: [],
  times: {}
}

const env = { JOB_ACCESS_PROVIDER: 'custom', AWS_ENDPOINT_URL_IAM: 'http://127.0.0.1:7071' }

const configured = (t: Test, written: unknown, more: Record<string, string> = {}) => {
  const dir = t.testdir({ 'store.json': typeof written === 'string' ? written : JSON.stringify(written) })
  const path = join(dir, 'store.json')
  try {
    return { config: readConfig({ ...env, JOB_ACCESS_DIALECT_FILE: path, ...more }), faults: [] }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return { config: null, faults: error.message.replaceAll(path, '').split('\n').slice(1).map(line => line.trim()) }
  }
}

t.test('a store by its file: what the service renders for it is what the file says', async t => {
  const { config } = configured(t, file)
  t.match(config?.dialect, { name: 'custom', principals: 'users', sizes: { inline: 2048 }, managedPolicies: false, identityProbe: 'sts' })
  t.ok(config?.dialect && unfit({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:GetObjectTagging', Resource: '*' }] }, config.dialect).length > 0)
  const confused = configured(t, { ...file, dialect: { ...file.dialect, confusesFamilies: true } }).config?.dialect
  t.ok(confused?.misreads?.('::/64'), 'as Ceph')
  for (const cidr of ['::/64', '::1/128', '0.0.0.0/8', '10.0.0.0/8', '2001:db8::/64']) t.equal(confused?.misreads?.(cidr), dialects.ceph.misreads?.(cidr), cidr)
})

t.test('a store is refused for what it was not shown to enforce, unless that is allowed by its name', async t => {
  for (const what of ['window', 'address', 'prefix'] as const) {
    const lax = { ...file, enforces: { ...file.enforces, [what]: false } }
    const { faults } = configured(t, lax)
    t.equal(faults.length, 1)
    t.match(faults[0], new RegExp(`^/enforces/${what}: the store was not shown to enforce it.*JOB_ACCESS_ALLOW=unenforced-${what}`))
    t.ok(configured(t, lax, { JOB_ACCESS_ALLOW: `unenforced-${what}` }).config)
    const others = ['window', 'address', 'prefix'].filter(other => other !== what).map(other => `unenforced-${other}`).join()
    t.equal(configured(t, lax, { JOB_ACCESS_ALLOW: others }).faults.length, 1, 'another name is none')
  }
})

t.test('where STS is all there is: grants are sessions, and nothing else is taken for one', async t => {
  const { config } = configured(t, { ...file, dialect: { ...file.dialect, principals: 'sessions', sizes: { session: 2048 }, identityProbe: null } })
  if (!config) return t.fail('not configured')
  const profile: RoleProfile = { name: 'default', roleArn: 'arn:aws:iam:::role/any', maxSessionSeconds: 3600, chained: false, revocable: false }
  const rules = { limits: config.limits, dialect: config.dialect, profiles: { default: profile } }
  const request = { job: { id: 'job-42', team: 'nlp' }, datasets: [{ bucket: 'acme-data' }], window: { durationSeconds: 600 }, sourceIps: ['203.0.113.42'] }
  t.equal(accessOf(rules, { ...request, attach: 'session' }, Date.now()).attachment, 'session')
  for (const attach of ['auto', 'inline', 'managed'] as const) {
    t.throws(() => accessOf(rules, { ...request, attach }, Date.now()),
      { code: 'dialect-unfit', init: { findings: [{ pointer: '/attach', hint: 'Use one of: session.' }] } }, attach)
  }
  const answering = (error: IamError) => sessionProvisioner({
    iam: { callerIdentity: async () => { throw error } } as unknown as Iam, profiles: {}, prefix: 'ja', now: Date.now
  })
  await answering(new IamError('unsupported', 'GetCallerIdentity', 'InvalidAction', undefined)).ping(0)
  const down = new IamError('unavailable', 'GetCallerIdentity', 'Unknown', undefined)
  t.equal(await answering(down).ping(0).catch((error: unknown) => error), down)
})

t.test('a bad file stops the start, with the place', async t => {
  const { denies: _, ...undecided } = file.dialect
  const cases: Array<[what: string, written: unknown, fault: RegExp]> = [
    ['no JSON', '{', /^: is not JSON/],
    ['another format', { ...file, format: 'job-access-dialect-9' }, /^\/format: must be job-access-dialect-1/],
    ['a missing flag', { ...file, dialect: undecided }, /^\/dialect\/denies: is missing/],
    ['a word of its own', { ...file, dialect: { ...file.dialect, enforce: true } }, /^\/dialect\/enforce: is unknown/],
    ['a policy of any size', { ...file, dialect: { ...file.dialect, sizes: { inline: 1_000_000 } } }, /^\/dialect\/sizes\/inline: must be <= 6144/],
    ['no way to attach a policy', { ...file, dialect: { ...file.dialect, sizes: {} } }, /^\/dialect\/sizes: must NOT have fewer than 1/],
    ['an action that is none', { ...file, dialect: { ...file.dialect, actions: ['s3:*'] } }, /^\/dialect\/actions\/0: must match/],
    ['nobody', { ...file, by: '' }, /^\/by: must NOT have fewer than 1/],
    ['no date', { ...file, at: 'yesterday' }, /^\/at: must match/]
  ]
  for (const [what, written, fault] of cases) {
    const { faults } = configured(t, written)
    t.equal(faults.length, 1, `${what}: ${faults.join('; ')}`)
    t.match(faults[0], fault, what)
  }
})

t.test('the variables go together', async t => {
  const faultOf = (given: Record<string, string>) => {
    try {
      readConfig(given)
    } catch (error) {
      return String(error)
    }
  }
  t.match(faultOf(env), /JOB_ACCESS_DIALECT_FILE: is required with JOB_ACCESS_PROVIDER=custom/)
  t.match(faultOf({ JOB_ACCESS_DIALECT_FILE: 'x.json' }), /JOB_ACCESS_DIALECT_FILE: has no effect with JOB_ACCESS_PROVIDER=embedded/)
  t.match(faultOf({ ...env, JOB_ACCESS_DIALECT_FILE: 'none.json' }), /none\.json: cannot be read/)
})
