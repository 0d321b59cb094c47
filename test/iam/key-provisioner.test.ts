import t from 'tap'
import { createIam } from '../../src/iam/client.ts'
import { keyProvisioner } from '../../src/iam/key-provisioner.ts'
import { principalName } from '../../src/iam/names.ts'
import { settleMs, type PrincipalPlan } from '../../src/iam/provisioner.ts'
import { otherNameOf } from '../../src/iam/policy-swap.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import { defaultLimits } from '../../src/policy/limits.ts'
import type { GrantRequest } from '../../src/request.ts'
import type { Clock } from '../../src/iam/retry.ts'
import { second } from '../real/job.ts'
import { startService, type Delivery } from '../real/service.ts'
import { startTigrisDouble, type TigrisDouble } from './tigris-double.ts'
import { accessOf } from '../harness.ts'

// Grants of a provider without users, on a double of Tigris's documented calls. Time passes when the code under test waits.

const rules = { limits: defaultLimits, dialect: dialects.tigris, profiles: {} }
const now = Date.parse('2025-07-16T00:30:00Z')
const expiresAt = Date.parse('2025-07-16T04:00:00Z')
const request = (change: Partial<GrantRequest> = {}): GrantRequest => ({
  job: { id: 'job-42', team: 'nlp' },
  datasets: [{ bucket: 'acme-data' }],
  output: { bucket: 'acme-output', prefix: 'runs/42/' },
  window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' },
  sourceIps: ['203.0.113.42'],
  ...change
})
const policyFor = (change: Partial<GrantRequest> = {}) => accessOf(rules, request(change), now).policy
const name = principalName('ja', 'job-42', expiresAt, '01k0000000000000000000000a')
const planOf = (change: Partial<PrincipalPlan> = {}): PrincipalPlan => ({
  ref: { name, path: '/', policyArn: null, roleArn: null }, attachment: 'managed', policy: policyFor(), tags: {}, withKey: true, ...change
})

let passed = 0
const waits: Clock = { now: () => now + passed, pause: async ms => { passed += Math.ceil(ms) } }
const soon = () => waits.now() + 5_000

const bench = async (t: Parameters<typeof startService>[0]) => {
  const tigris = await startTigrisDouble()
  const iam = createIam({ region: 'auto', endpoint: tigris.url, credentials: tigris.admin, now: waits.now, sleep: waits.pause })
  t.teardown(async () => {
    iam.close()
    await tigris.stop()
  })
  const clock = { now }
  const principals = keyProvisioner({ iam, prefix: 'ja', now: () => clock.now, clock: waits })
  return { tigris, clock, principals, iam }
}
const actionsOf = ({ calls }: TigrisDouble, from = 0) => calls.slice(from).map(call => call.action)
const attachedTo = ({ policies }: TigrisDouble, policy: string) => [...policies.get(policy)?.attached ?? []]

t.test('a grant has its own policy, which is attached to its key', async t => {
  const { tigris, principals } = await bench(t)
  const { ref, credentials } = await principals.create(planOf(), soon())
  t.equal(ref.policyArn, `arn:aws:iam::org_1:policy/${name}`)
  t.match(credentials, { accessKeyId: /^tid_/, secretAccessKey: /^tsec_/ })
  t.strictSame(attachedTo(tigris, name), [credentials?.accessKeyId])
  t.strictSame(JSON.parse(tigris.policies.get(name)?.document ?? ''), policyFor())
  t.strictSame(actionsOf(tigris).sort(), ['AttachUserPolicy', 'CreateAccessKey', 'CreatePolicy'], 'three calls, and none that Tigris has not')
  t.equal(await principals.exists(ref, soon()), true)
  t.equal(await principals.policyEnd(ref, soon()), expiresAt)
  t.equal(await principals.teardown({ ref, attachment: 'managed', keyIds: [credentials?.accessKeyId ?? ''], others: false, mintedAt: now }, soon()), 'gone')
  t.equal(tigris.keys.size + tigris.policies.size, 0)
  t.equal(await principals.exists(ref, soon()), false)
})

t.test('created twice for the same grant: one policy', async t => {
  const { tigris, principals } = await bench(t)
  await principals.create(planOf({ withKey: false }), soon())
  t.equal(tigris.keys.size, 0, 'scheduled: no key yet')
  const { ref, credentials } = await principals.create(planOf(), soon())
  t.strictSame([...tigris.policies.keys()], [name])
  t.strictSame(attachedTo(tigris, name), [credentials?.accessKeyId])
  t.match(ref, { policyArn: /policy/ })
})

t.test('created again after the grant was changed: the policy of the first attempt is replaced', async t => {
  const { iam, tigris, principals } = await bench(t)
  await principals.create(planOf({ withKey: false }), soon())
  const changed = policyFor({ sourceIps: ['203.0.113.77'] })
  const { ref, credentials } = await principals.create(planOf({ policy: changed }), soon())
  t.equal(tigris.policies.size, 1)
  t.strictSame(JSON.parse(await iam.getPolicyDocument(ref.policyArn ?? '', soon())), changed)
  t.strictSame([...tigris.policies.keys()].flatMap(policy => attachedTo(tigris, policy)), [credentials?.accessKeyId])
})

t.test('a failed creation leaves no key', async t => {
  for (const [failing, fault] of [
    ['CreatePolicy', { code: 'MalformedPolicyDocument', status: 400 }],
    ['CreatePolicy', { code: 'LimitExceeded', status: 409 }],
    ['AttachUserPolicy', { code: 'AccessDenied', status: 403 }],
    ['CreateAccessKey', { code: 'AccessDenied', status: 403 }]
  ] as const) {
    const { tigris, principals } = await bench(t)
    tigris.fault = action => action === failing ? fault : undefined
    const refusal = await principals.create(planOf(), soon()).catch((error: unknown) => error)
    t.match(refusal, { operation: failing, providerCode: new RegExp(`^${fault.code}`) })
    t.equal(tigris.keys.size, 0, `${failing} ${fault.code}: no key`)
    tigris.fault = null
    await principals.teardown({ ref: planOf().ref, attachment: 'managed', keyIds: [], others: true, mintedAt: now }, soon())
    t.equal(tigris.policies.size, 0, 'nor a policy, after the teardown')
  }
})

t.test('a key whose answer was lost has no policy', async t => {
  const { tigris, principals } = await bench(t)
  let lost = 0
  tigris.fault = action => action === 'CreateAccessKey' && lost++ === 0 ? 'drop' : undefined
  const { credentials } = await principals.create(planOf(), soon())
  t.equal(tigris.keys.size, 2, 'it cannot be found: ListAccessKeys does not say whose a key is')
  t.strictSame(attachedTo(tigris, name), [credentials?.accessKeyId], 'it has no policy')
})

t.test('a teardown that finds nothing of a young grant is unsure', async t => {
  const { principals, clock } = await bench(t)
  const target = { ref: planOf().ref, attachment: 'managed' as const, keyIds: [], others: true, mintedAt: now }
  t.equal(await principals.teardown(target, soon()), 'unsure')
  clock.now += settleMs
  t.equal(await principals.teardown(target, soon()), 'gone')
})

t.test('keys that a crash left are found through the policy', async t => {
  const { tigris, principals, iam } = await bench(t)
  const { ref, credentials } = await principals.create(planOf(), soon())
  const stranger = await iam.createAccessKey(undefined, soon())
  await iam.attachUserPolicy(stranger.accessKeyId, ref.policyArn ?? '', soon())
  const keep = credentials?.accessKeyId ?? ''
  t.strictSame(await principals.pruneKeys(ref, { keep: [keep], known: [] }, soon()), [stranger.accessKeyId])
  t.strictSame([...tigris.keys], [keep])
  const { credentials: fresh } = await principals.mintKey(planOf({ ref }), [keep], soon())
  t.strictSame(attachedTo(tigris, name).sort(), [keep, fresh.accessKeyId].sort())
  await principals.deleteKey(ref, keep, [fresh.accessKeyId], soon())
  t.strictSame([...tigris.keys], [fresh.accessKeyId])
})

const later = { window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T06:00:00Z' } }

t.test('a changed policy: a second one takes over, and the key stays', async t => {
  const { tigris, principals } = await bench(t)
  const first = await principals.create(planOf(), soon())
  const key = first.credentials?.accessKeyId
  const before = tigris.calls.length
  const second = await principals.replacePolicy(first.ref, 'managed', policyFor(later), soon())
  t.strictSame([...tigris.policies.keys()], [otherNameOf(name)])
  t.strictSame(attachedTo(tigris, otherNameOf(name)), [key])
  t.strictSame(JSON.parse(tigris.policies.get(otherNameOf(name))?.document ?? ''), policyFor(later))
  const steps = actionsOf(tigris, before).filter(action => !action.startsWith('List'))
  t.strictSame(steps, ['CreatePolicy', 'AttachUserPolicy', 'DetachUserPolicy', 'DeletePolicy'], 'never without a policy')
  t.equal(await principals.policyEnd(second, soon()), expiresAt + 2 * 3_600_000)
  const third = await principals.replacePolicy(second, 'managed', policyFor(), soon())
  t.strictSame([...tigris.policies.keys()], [name], 'and back')
  t.equal(third.policyArn, first.ref.policyArn)
  await principals.teardown({ ref: third, attachment: 'managed', keyIds: [], others: true, mintedAt: now }, soon())
  t.equal(tigris.keys.size + tigris.policies.size, 0)
})

t.test('a change that was interrupted at any call is completed by the next one', async t => {
  const replaced = async (cutAt: number) => {
    const { tigris, principals } = await bench(t)
    const { ref, credentials } = await principals.create(planOf(), soon())
    const start = tigris.calls.length
    tigris.fault = () => tigris.calls.length - start === cutAt ? { code: 'AccessDenied', status: 403 } : undefined
    const cut = await principals.replacePolicy(ref, 'managed', policyFor(later), soon()).then(() => false, () => true)
    const calls = tigris.calls.length - start
    tigris.fault = null
    const after = await principals.replacePolicy(ref, 'managed', policyFor(later), soon())
    const [policy] = [...tigris.policies.keys()]
    t.equal(tigris.policies.size, 1, `cut at call ${cutAt}: one policy`)
    t.equal(after.policyArn?.endsWith(`/${policy}`), true)
    t.strictSame(attachedTo(tigris, policy ?? ''), [credentials?.accessKeyId], 'on the job’s key')
    t.strictSame(JSON.parse(tigris.policies.get(policy ?? '')?.document ?? ''), policyFor(later), 'the new one')
    return { cut, calls }
  }
  let cutAt = 1
  while ((await replaced(cutAt)).cut) cutAt++
  t.ok(cutAt > 6, `${cutAt - 1} places`)
})

t.test('a teardown after an interrupted change removes both policies', async t => {
  const { tigris, principals, iam } = await bench(t)
  const { ref, credentials } = await principals.create(planOf(), soon())
  const arn = await iam.createPolicy({ name: otherNameOf(name), document: JSON.stringify(policyFor(later)) }, soon())
  await iam.attachUserPolicy(credentials?.accessKeyId ?? '', arn, soon())
  t.equal(await principals.policyEnd(ref, soon()), expiresAt + 2 * 3_600_000, 'the later of both ends')
  await principals.teardown({ ref, attachment: 'managed', keyIds: [credentials?.accessKeyId ?? ''], others: false, mintedAt: now }, soon())
  t.equal(tigris.keys.size + tigris.policies.size, 0)
})

t.test('only policies with names of ours are listed, page by page', async t => {
  const { tigris, principals, iam } = await bench(t)
  const document = JSON.stringify(policyFor())
  const own = Array.from({ length: 7 }, (_, index) => principalName('ja', `job-${index}`, expiresAt, `01k${String(index).padStart(23, '0')}`))
  for (const policy of [...own, 'of-somebody', 'ja-not-ours', `${own[0]}-b`]) await iam.createPolicy({ name: policy, document }, soon())
  const listed = []
  for await (const { ref, expiresAt } of principals.list(soon)) listed.push([ref.name, expiresAt])
  t.strictSame([...new Set(listed.map(([found]) => found))].sort(), [...own].sort())
  t.ok(listed.every(([, end]) => end === expiresAt))
  t.equal(tigris.calls.filter(call => call.action === 'ListPolicies').length, 4, 'four pages')
})

// --- the whole service ---

t.test('the service on it: issue, extend, rotate, complete, expire, reconcile', async t => {
  const tigris = await startTigrisDouble()
  t.teardown(() => tigris.stop())
  const service = await startService(t, { provider: 'tigris', endpoint: tigris.url, admin: tigris.admin, env: { AWS_REGION: 'auto', JOB_ACCESS_SWEEP_SECONDS: '1' } })
  const { job, datasets, sourceIps } = request()
  const body = { job, datasets, output: { bucket: 'acme-output', prefix: 'runs/42/' }, sourceIps, window: { durationSeconds: 600 } }
  const { grant, credentials, warnings } = await service.issue(body)
  t.match(grant, { state: 'active', attach: 'managed', user: { path: '/' } })
  t.ok(warnings.some(({ code }) => code === 'no-bucket-location'))
  t.strictSame(attachedTo(tigris, grant.user.name), [credentials.accessKeyId])
  const path = `/v1/grants/${grant.id}`

  t.match(await service.call('PATCH', path, { sourceIps: ['198.51.100.7'] }), { status: 200 })
  t.match(tigris.policies.get(otherNameOf(grant.user.name))?.document, /198\.51\.100\.7/)
  t.strictSame(attachedTo(tigris, otherNameOf(grant.user.name)), [credentials.accessKeyId], 'the key stays')

  const rotated = await service.call<Delivery>('POST', `${path}/rotate`, {})
  t.strictSame([...tigris.keys], [rotated.body.credentials.accessKeyId], 'the old key is dead')
  t.strictSame(attachedTo(tigris, otherNameOf(grant.user.name)), [...tigris.keys])
  const restarted = await service.call<Delivery>('POST', '/v1/grants', { ...body, attempt: '2' })
  t.match(restarted, { status: 200, body: { grant: { id: grant.id } } })
  t.strictSame([...tigris.keys], [restarted.body.credentials.accessKeyId], 'another start leaves one key')
  t.strictSame([...tigris.policies.keys()], [grant.user.name], 'and changes the source back')
  t.strictSame(attachedTo(tigris, grant.user.name), [...tigris.keys])

  t.match(await service.call('POST', `${path}/complete`), { status: 200, body: { state: 'revoked' } })
  t.equal(tigris.keys.size + tigris.policies.size, 0)

  const short = await service.issue({ ...body, job: { id: 'short', team: 'nlp' }, window: { notAfter: second(Date.now() + 10_000) } })
  // The provider is done before the ledger says so.
  const stateOf = async ({ id }: { id: string }) => (await service.call<{ state: string }>('GET', `/v1/grants/${id}`)).body.state
  let state = await stateOf(short.grant)
  for (let i = 0; i < 600 && state !== 'expired'; i++) {
    await new Promise(resolve => setTimeout(resolve, 100))
    state = await stateOf(short.grant)
  }
  t.equal(state, 'expired')
  t.equal(tigris.keys.size + tigris.policies.size, 0, 'swept')

  const stray = principalName('ja', 'lost', Date.now() - 60_000, '01k0000000000000000000000b')
  tigris.policies.set(stray, {
    document: '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::a/*"}]}',
    attached: new Set(['tid_lost'])
  })
  tigris.keys.add('tid_lost')
  tigris.policies.set('of-somebody', { document: '{}', attached: new Set() })
  t.match((await service.reconcile()).findings, [{ kind: 'stray', name: stray, done: true }])
  t.strictSame([...tigris.policies.keys()], ['of-somebody'])
  t.equal(tigris.keys.size, 0, 'and its key')

  for (const [change, pointer] of [
    [{ datasets: [{ bucket: 'acme-data', prefix: 'wiki/' }] }, '/datasets/0/prefix'], [{ layout: 'guide', output: { bucket: 'acme-output' } }, '/layout'],
    [{ attach: 'inline' }, '/attach'], [{ waitUntilReady: true }, '/waitUntilReady']
  ] as const) {
    t.match(await service.call('POST', '/v1/grants', { ...body, ...change }), { status: 422, body: { code: 'dialect-unfit', pointer } })
  }
  const unsupported = tigris.calls.filter(call => call.status === 501).map(call => call.action)
  t.strictSame(unsupported, [], 'nothing was asked that Tigris has not')
})
