import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { compose } from '../../src/compose.ts'
import { readConfig } from '../../src/config.ts'
import { createIam } from '../../src/iam/client.ts'
import type { Finding } from '../../src/iam/dialects/file.ts'
import { concluded } from '../../src/iam/dialects/conclusions.ts'
import { reconcile } from '../../src/lifecycle/reconcile.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { embeddedStore, examined } from '../doctor/embedded-store.ts'
import { appOf, countedIds, silent } from '../harness.ts'

// A store with AssumeRole and no call of IAM, as MinIO documents its own: what the doctor finds of it is the dialect of a whole service.

const hour = 3_600_000
const profile = { name: 'default', maxSessionSeconds: 3600, chained: false, revocable: false }

const store = await embeddedStore(t, { sts: 'alone' })
const { findings } = await examined(store)

const configured = (t: Test, { found = findings, profiles = [profile] as object[] | null, allow = '' } = {}) => {
  const dir = t.testdir({})
  const [file, roles] = [join(dir, 'store.json'), join(dir, 'profiles.json')]
  writeFileSync(file, JSON.stringify({
    format: 'job-access-dialect-1',
    store: { name: 'Acme', version: '1' },
    by: 'ops',
    at: '2026-11-26T09:00:00Z',
    ...concluded(found),
    findings: found,
    times: {}
  }))
  writeFileSync(roles, JSON.stringify(profiles))
  return readConfig({
    JOB_ACCESS_PROVIDER: 'custom',
    JOB_ACCESS_DIALECT_FILE: file,
    AWS_ENDPOINT_URL: store.iam.url,
    JOB_ACCESS_LEDGER: ':memory:',
    JOB_ACCESS_ALLOW_PRIVATE_SOURCE_IPS: 'true',
    ...(profiles && { JOB_ACCESS_PROFILES: roles }),
    ...(allow && { JOB_ACCESS_ALLOW: allow })
  })
}

const serve = async (t: Test, config = configured(t), credentials = store.iam.admin) => {
  const iam = createIam({ region: 'us-east-1', endpoint: store.iam.url, stsEndpoint: store.iam.url, credentials })
  const { service, deps, generatedToken, close } = await compose(config, {
    log: silent, overrides: { iam, now: store.now, newId: countedIds(), audit: { record: async () => {} } as never }
  })
  t.teardown(async () => { await close(); iam.close() })
  const app = await appOf(t, { service })
  const call = async (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, payload?: object) => {
    const response = await app.inject({ method, url, headers: { authorization: `Bearer ${generatedToken}` }, ...(payload && { payload }) })
    return { status: response.statusCode, body: response.json() }
  }
  return { call, deps, service }
}

const request = (id: string, change: object = {}) => ({
  job: { id, team: 'nlp' },
  datasets: [{ bucket: 'acme-data', prefix: 'wiki/' }],
  output: { bucket: 'acme-output', prefix: `runs/${id}/` },
  window: { durationSeconds: 3 * 3600 },
  sourceIps: ['127.0.0.1'],
  attach: 'session',
  ...change
})

const may = async ({ credentials }: { credentials: { accessKeyId: string, secretAccessKey: string } }, key = 'wiki/1', from = '127.0.0.1') =>
  (await store.s3({ method: 'GET', bucket: 'acme-data', key, from }, credentials)).outcome

t.test('a whole grant: issued, extended, rotated, completed, and over with its sessions', async t => {
  const { call, deps, service } = await serve(t)
  await service.readiness.iam?.()
  store.calls.length = 0
  const issued = await call('POST', '/v1/grants', request('whole'))
  t.match(issued, { status: 201, body: { grant: { state: 'active', attach: 'session', user: { roleArn: null } } } })
  t.match(issued.body.credentials, { sessionToken: /./ })
  const { id } = issued.body.grant
  t.equal(store.calls[0]?.params.RoleArn, undefined, 'RoleArn is not sent')
  t.strictSame([await may(issued.body), await may(issued.body, 'private/1'), await may(issued.body, 'wiki/1', '127.0.0.2')], ['passed', 'denied', 'denied'])

  t.match(await call('POST', '/v1/grants', request('whole')), { status: 409, body: { code: 'key-delivered' } })

  const patched = await call('PATCH', `/v1/grants/${id}`, { window: { durationSeconds: 5 * 3600 } })
  t.match(patched, { status: 200, body: { notice: /^The next session has the new window/ } })
  await store.pause(hour / 2)
  const rotated = await call('POST', `/v1/grants/${id}/rotate`, { overlapSeconds: 0 })
  t.match(rotated, { status: 200, body: { warnings: [{ code: 'session-ends-first' }, { code: 'session-lives-on' }] } })
  t.equal(await may(rotated.body), 'passed')

  const ended = await call('POST', `/v1/grants/${id}/complete`)
  t.match(ended, { status: 202, body: { state: 'revoking', notice: /^This session cannot be revoked: its keys work until / } })
  t.equal(await may(rotated.body), 'passed', 'as the answer says')
  t.equal((await call('POST', `/v1/grants/${id}/rotate`, { overlapSeconds: 0 })).status, 409, 'there is no next session')
  const swept = () => sweep(deps, { concurrency: 2, perSecond: 1000 }, new AbortController().signal)
  await swept()
  t.match(await call('GET', `/v1/grants/${id}`), { body: { state: 'revoking' } })
  t.match(await reconcile(deps, { dryRun: false, graceMs: 0, concurrency: 1, perSecond: 1000 }), { seen: 0, findings: [], failed: 0 })

  await store.pause(Date.parse(ended.body.sessionsEndAt) - store.now())
  t.equal(await may(rotated.body), 'passed', 'in this S3 STS alone ends it; its window is longer')
  await swept()
  t.match(await call('GET', `/v1/grants/${id}`), { body: { state: 'revoked', endReason: 'completed' } })
  t.strictSame([...new Set(store.calls.map(({ action }) => action))], ['AssumeRole'], 'nothing of IAM was asked')
})

t.test('what the store has not is refused, with what to do', async t => {
  const { call } = await serve(t)
  t.match(await call('POST', '/v1/grants', request('auto', { attach: 'auto' })),
    { status: 422, body: { code: 'dialect-unfit', errors: [{ pointer: '/attach', hint: 'Use one of: session.' }] } })
  t.match(await call('POST', '/v1/grants', request('ready', { waitUntilReady: true })), { status: 422, body: { errors: [{ pointer: '/waitUntilReady' }] } })
  const without = await serve(t, configured(t, { profiles: null }))
  t.match(await without.call('POST', '/v1/grants', request('none')),
    { status: 422, body: { errors: [{ pointer: '/profile', hint: /its operator must give it some/ }] } })
})

t.test('a user whom the store does not know: not ready, and nothing is issued', async t => {
  const { call, service } = await serve(t, configured(t), { accessKeyId: 'AKIAUNKNOWN000000000', secretAccessKey: 'x'.repeat(40) })
  await t.rejects(async () => service.readiness.iam?.(), { name: 'IamError', kind: 'credentials' })
  t.match(await call('POST', '/v1/grants', request('nobody')), { status: 502, body: { code: 'iam-refused', hint: /own credentials are not valid/ } })
})

t.test('the start is refused where the sessions were not seen to keep to their policy', t => {
  const having = (id: string, verdict: Finding['verdict']) => findings.map(finding => finding.id === id ? { ...finding, verdict } : finding)
  const cases: Array<[what: string, found: Finding[], fault: RegExp]> = [
    ['a window', having('window-deny', 'open'), /\/enforces\/window: the store was not shown to enforce it/],
    ['an address', having('IpAddress aws:SourceIp', 'open'), /\/enforces\/address: /],
    ['a prefix', having('objects-prefix', 'open'), /\/enforces\/prefix: /],
    ['its sessions may assume the next one', having('widen AssumeRole', 'open'), /\/enforces\/window: .*\/enforces\/address: .*\/enforces\/prefix: /s],
    ['nobody asked whether they may', findings.filter(({ id }) => id !== 'widen AssumeRole'), /\/enforces\/prefix: /]
  ]
  for (const [what, found, fault] of cases) t.throws(() => configured(t, { found }), { message: fault }, what)
  t.end()
})

t.test('a profile without a role is for a store that was seen to need none', async t => {
  const needing = findings.filter(({ id }) => !['no-role', 'widen AssumeRole'].includes(id))
  const refused = async (found: Finding[], profiles: object[], message: RegExp) =>
    t.rejects(serve(t, configured(t, { found, profiles })), { message })
  await refused(needing, [profile], /\/0\/roleArn: profile default has none; only a single store whose dialect file shows that AssumeRole works without one/)
  await refused(findings, [{ ...profile, revocable: true }], /\/0\/revocable: profile default cannot be revocable/)
  const roleArn = 'arn:aws:iam:::role/any'
  await refused(findings, [{ ...profile, roleArn, revocable: true }], /\/0\/revocable: profile default cannot be revocable/)
  await serve(t, configured(t, { found: needing, profiles: [{ ...profile, roleArn }] }))
})
