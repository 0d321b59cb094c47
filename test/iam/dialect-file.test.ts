import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { readConfig } from '../../src/config.ts'
import { ConfigError } from '../../src/config-file.ts'
import { concluded } from '../../src/iam/dialects/conclusions.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import type { DialectFile, Verdict } from '../../src/iam/dialects/file.ts'
import type { Iam } from '../../src/iam/client.ts'
import { IamError } from '../../src/iam/errors.ts'
import type { RoleProfile } from '../../src/iam/role-profile.ts'
import { sessionProvisioner } from '../../src/iam/session-provisioner.ts'
import { accessOf } from '../harness.ts'
import { unfit } from '../../src/policy/dialect.ts'

/** JOB_ACCESS_PROVIDER=custom: a store that the code does not know, by a file of the doctor. */

const readStore = (name: string) =>
  JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'stores', `${name}.json`), 'utf8')) as DialectFile
const file: DialectFile = {
  ...readStore('versitygw'), store: { name: 'Acme Store', version: '7.1' }, by: 'ops', at: '2026-11-26T09:00:00.000Z'
}

/** What the doctor would have written had it found something else. */
const having = (verdicts: Record<string, Verdict>, of = file): DialectFile => {
  const findings = of.findings.map(finding => ({ ...finding, verdict: verdicts[finding.id] ?? finding.verdict }))
  return { ...of, findings, ...concluded(findings) }
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
  t.ok(config?.dialect && unfit({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:GetObjectVersion', Resource: '*' }] }, config.dialect).length > 0)
  const confused = configured(t, having({ 'address-family': 'open' })).config?.dialect
  t.ok(confused?.misreads?.('::/64'), 'as Ceph')
  for (const cidr of ['::/64', '::1/128', '0.0.0.0/8', '10.0.0.0/8', '2001:db8::/64']) t.equal(confused?.misreads?.(cidr), dialects.ceph.misreads?.(cidr), cidr)
})

t.test('a store is refused for what it was not shown to enforce, unless that is allowed by its name', async t => {
  const found: Record<keyof DialectFile['enforces'], Record<string, Verdict>> = {
    window: { 'window-deny': 'open' },
    address: { 'forwarded-for': 'open' },
    prefix: { 'objects-prefix': 'open' },
    deletion: { 'deleted-key': 'open' }
  }
  for (const [what, verdicts] of Object.entries(found)) {
    const lax = having(verdicts)
    const { faults } = configured(t, lax)
    t.equal(faults.length, 1)
    t.match(faults[0], new RegExp(`^/enforces/${what}: the store was not shown to enforce it.*JOB_ACCESS_ALLOW=unenforced-${what}`))
    t.ok(configured(t, lax, { JOB_ACCESS_ALLOW: `unenforced-${what}` }).config)
    const others = Object.keys(found).filter(other => other !== what).map(other => `unenforced-${other}`).join()
    t.equal(configured(t, lax, { JOB_ACCESS_ALLOW: others }).faults.length, 1, 'another name is none')
  }
})

t.test('a file whose conclusions do not follow from its findings is refused, whatever is allowed', async t => {
  const { enforces, dialect, findings } = file
  const follow = /from the findings of this file follows/
  const without = (...ids: string[]) => ({ ...file, findings: findings.filter(({ id }) => !ids.includes(id)) })
  const cases: Array<[what: string, edited: DialectFile, faults: RegExp[]]> = [
    ['it says that the window is enforced', { ...having({ 'window-allow': 'open' }), enforces }, [/^\/enforces\/window: is true, but .* follows false; ask the store again/]],
    ['it says that deleted keys are dead', { ...having({ 'deleted-key': 'open' }), enforces }, [/^\/enforces\/deletion: is true, but .* follows false/]],
    ['a longer policy', { ...file, dialect: { ...dialect, sizes: { inline: 6144 } } }, [/^\/dialect\/sizes: is {"inline":6144}, but .* follows {"inline":2048};/]],
    ['one action more', { ...file, dialect: { ...dialect, actions: [...dialect.actions, 's3:GetObjectVersion'] } }, [/^\/dialect\/actions: is .*"s3:GetObjectVersion"/]],
    ['a flag', { ...file, dialect: { ...dialect, confusesFamilies: true } }, [/^\/dialect\/confusesFamilies: is true/]],
    // What is not asked counts as not enforced: a finding cannot be lost.
    ['no word of a question', without('window-allow'), [/^\/enforces\/window/]],
    ['no word of what a key may do', without('widen PutUserPolicy'), [/^\/enforces\/window/, /^\/enforces\/address/, /^\/enforces\/prefix/]],
    ['no word of further keys', without('widen CreateAccessKey'), [/^\/dialect\/selfService/]],
    ['no word of families', without('address-family'), [/^\/dialect\/confusesFamilies/]],
    ['no findings', { ...file, findings: [] }, Array.from({ length: 15 }, () => follow)]
  ]
  const JOB_ACCESS_ALLOW = 'unenforced-window,unenforced-address,unenforced-prefix,unenforced-deletion'
  for (const [what, edited, expected] of cases) {
    const { faults } = configured(t, edited, { JOB_ACCESS_ALLOW })
    t.equal(faults.length, expected.length, `${what}: ${faults.join('; ')}`)
    for (const [index, fault] of faults.entries()) t.match(fault, expected[index] ?? follow, what)
  }
  const turned = { ...file, dialect: { ...dialect, actions: dialect.actions.toReversed() } }
  t.ok(configured(t, turned).config, 'the order of a list says nothing')
})

t.test('where STS is all there is: grants are sessions, and nothing else is taken for one', async t => {
  const { config } = configured(t, having({ users: 'no', 'identity-sts': 'no', 'identity-iam': 'no' }, readStore('ceph')))
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
