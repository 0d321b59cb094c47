import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { startSeaweedfs } from '../../servers/seaweedfs.ts'
import { eventually, jobOf, s3, second, type Keys, type Outcome } from '../job.ts'
import { startService } from '../service.ts'
import { buckets, fill, trainingJob } from '../store.ts'

// When and from where: the policy alone decides, for this service does not sweep.

const weed = await startSeaweedfs()
t.teardown(() => weed.stop())
const admin = s3(weed.endpoint, weed.admin)
t.teardown(() => admin.destroy())
await fill(admin)
const service = await startService(t, { provider: 'seaweedfs', endpoint: weed.endpoint, admin: weed.admin })

let jobs = 0
const issue = (layout: 'everywhere' | 'guarded' | 'guide', window: object, sourceIps: string[]) =>
  service.issue({ ...trainingJob(layout), job: { id: `job-${++jobs}`, team: 'nlp' }, window, sourceIps })
const jobWith = (keys: Keys, endpoint = weed.endpoint) => {
  const client = s3(endpoint, keys)
  t.teardown(() => client.destroy())
  return jobOf(client)
}

// Windows of several grants pass at the same time.
t.jobs = 4

for (const layout of ['everywhere', 'guarded', 'guide'] as const) {
  t.test(`layout ${layout}: a window that closes while the job runs`, { buffered: true }, async t => {
    const ends = Date.now() + 10_000
    const { credentials, grant } = await issue(layout, { notBefore: second(Date.now() - 60_000), notAfter: second(ends) }, ['127.0.0.1'])
    const job = jobWith(credentials)
    const write = () => job.write(buckets.output, 'runs/42/checkpoint')
    t.equal(await eventually(write, 'allowed', ends - Date.now()), 'allowed', 'inside the window')
    const outcomes: Outcome[] = []
    while (Date.now() < ends + 2_000) {
      outcomes.push(await write())
      await delay(100)
    }
    t.equal(outcomes[0], 'allowed')
    t.equal(outcomes.at(-1), 'denied', 'after it')
    t.strictSame([...outcomes].sort(), outcomes, 'open, then closed, and never open again')
    t.equal(await job.read(buckets.data, 'wiki/1.parquet'), layout === 'guide' ? 'allowed' : 'denied', 'reads after it')
    t.match(await service.call('GET', `/v1/grants/${grant.id}`), { body: { state: 'active' } }, 'nobody has revoked it')
  })

  t.test(`layout ${layout}: before the window, and when it opens`, { buffered: true }, async t => {
    const starts = Math.ceil(Date.now() / 1000) * 1000 + 6_000
    const { credentials } = await issue(layout, { notBefore: second(starts), durationSeconds: 600 }, ['127.0.0.1'])
    const job = jobWith(credentials)
    const write = () => job.write(buckets.output, 'runs/42/checkpoint')
    t.equal(await eventually(write, 'denied', starts - Date.now()), 'denied', 'the key is known, and opens nothing yet')
    t.equal(await eventually(write, 'allowed', starts + 15_000 - Date.now()), 'allowed', 'from the start on')
    t.ok(Date.now() >= starts, 'not sooner')
  })

  t.test(`layout ${layout}: only from the addresses that were named`, { buffered: true }, async t => {
    const outside = await issue(layout, { durationSeconds: 600 }, ['203.0.113.42'])
    const far = jobWith(outside.credentials)
    t.equal(await eventually(() => far.write(buckets.output, 'runs/42/checkpoint'), 'denied'), 'denied', 'an address that we do not have')
    t.equal(await jobWith(outside.credentials, weed.endpointV6).write(buckets.output, 'runs/42/checkpoint'), 'denied')

    const six = await issue(layout, { durationSeconds: 600 }, ['::1'])
    const over6 = jobWith(six.credentials, weed.endpointV6)
    t.equal(await eventually(() => over6.write(buckets.output, 'runs/42/checkpoint'), 'allowed'), 'allowed', 'over IPv6')
    t.equal(await jobWith(six.credentials).write(buckets.output, 'runs/42/checkpoint'), 'denied', 'not over IPv4')

    const block = await issue(layout, { durationSeconds: 600 }, ['127.0.0.0/24'])
    t.equal(await eventually(() => jobWith(block.credentials).write(buckets.output, 'runs/42/checkpoint'), 'allowed'), 'allowed', 'a CIDR')
    t.equal(await jobWith(block.credentials, weed.endpointV6).write(buckets.output, 'runs/42/checkpoint'), 'denied')

    const block6 = await issue(layout, { notBefore: second(Date.now() - 60_000), durationSeconds: 600 }, ['::/64'])
    t.equal(await eventually(() => jobWith(block6.credentials, weed.endpointV6).write(buckets.output, 'runs/42/checkpoint'), 'allowed'), 'allowed')
    t.equal(await jobWith(block6.credentials).write(buckets.output, 'runs/42/checkpoint'), 'denied', 'an IPv4 address is none of ::/64')
  })
}

t.test('a client cannot say where it is', { buffered: true }, async t => {
  const { credentials } = await issue('everywhere', { durationSeconds: 600 }, ['203.0.113.42'])
  const client = s3(weed.endpoint, credentials)
  t.teardown(() => client.destroy())
  client.middlewareStack.add(next => async args => {
    Object.assign((args.request as { headers: object }).headers, { 'x-forwarded-for': '203.0.113.42', 'x-real-ip': '203.0.113.42' })
    return next(args)
  }, { step: 'finalizeRequest', priority: 'low' })
  t.equal(await eventually(() => jobOf(client).read(buckets.data, 'wiki/1.parquet'), 'denied'), 'denied')
})

for (const layout of ['everywhere', 'guarded'] as const) {
  t.test(`layout ${layout}: the output stays open for its grace, and the reads do not`, { buffered: true }, async t => {
    const ends = Date.now() + 10_000
    const window = { notBefore: second(Date.now() - 60_000), notAfter: second(ends), outputGraceSeconds: 600 }
    const job = jobWith((await issue(layout, window, ['127.0.0.1'])).credentials)
    t.equal(await eventually(() => job.read(buckets.data, 'wiki/1.parquet'), 'allowed'), 'allowed', `${layout}: reads work`)
    t.equal(await eventually(() => job.read(buckets.data, 'wiki/1.parquet'), 'denied'), 'denied', `${layout}: reads have ended`)
    t.ok(Date.now() >= ends - 1000, `${layout}: not sooner`)
    t.equal(await job.write(buckets.output, 'runs/42/last-checkpoint'), 'allowed', `${layout}: the last checkpoint`)
  })
}
