import { DeleteBucketPolicyCommand, PutBucketPolicyCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createIam } from '../../../src/iam/client.ts'
import { dialects } from '../../../src/iam/dialects/index.ts'
import { inlinePolicyName } from '../../../src/iam/provisioner.ts'
import { defaultLimits } from '../../../src/policy/limits.ts'
import { normalise } from '../../../src/policy/normalise.ts'
import { render } from '../../../src/policy/render.ts'
import type { PolicyRequest } from '../../../src/request.ts'
import { startRgw } from '../../servers/rgw.ts'
import { eventually, jobOf, s3, second, type Outcome } from '../job.ts'
import { buckets, fill, matrix, oddMatrix, oddNames, trainingJob } from '../store.ts'
import type { Deployment } from '../../../src/lifecycle/deps.ts'
import { accessOf } from '../../harness.ts'

// Every rendered policy that Ceph takes, put on a real user with PutUserPolicy and used through the S3 SDK.

const rgw = await startRgw()
t.teardown(() => rgw.stop())
const admin = s3(rgw.endpoint, rgw.admin)
const iam = createIam({ region: 'us-east-1', endpoint: rgw.endpoint, stsEndpoint: rgw.endpoint, credentials: rgw.admin })
t.teardown(() => { admin.destroy(); iam.close() })
await fill(admin)

const rules: Deployment = { limits: { ...defaultLimits, allowPrivateSourceIps: true }, dialect: dialects.ceph, profiles: {} }
const soon = () => Date.now() + 10_000
const open = () => ({ notBefore: second(Date.now() - 60_000), durationSeconds: 600 })

let users = 0
/** A user of its own with the policy of this request; over IPv4 and over IPv6. */
const hired = async (request: PolicyRequest) => {
  const name = `job-${++users}`
  const keys = await rgw.createUser(name)
  const put = (changed: PolicyRequest) =>
    iam.putUserPolicy(name, inlinePolicyName, JSON.stringify(accessOf(rules, changed, Date.now()).policy), soon())
  await put(request)
  const [over4, over6] = [rgw.endpoint, rgw.endpointV6].map(endpoint => {
    const client = s3(endpoint, keys)
    t.teardown(() => client.destroy())
    return jobOf(client)
  }) as [ReturnType<typeof jobOf>, ReturnType<typeof jobOf>]
  return { name, over4, over6, put, revoke: () => iam.deleteUserPolicy(name, inlinePolicyName, soon()) }
}

for (const layout of ['everywhere', 'guarded'] as const) {
  for (const [ip, inside, outside] of [['127.0.0.1', 'over4', 'over6'], ['::1', 'over6', 'over4'], ['127.0.0.0/16', 'over4', 'over6']] as const) {
    await t.test(`layout ${layout} from ${ip}: what was asked for, and nothing else`, async t => {
      const job = await hired({ ...trainingJob(layout), window: open(), sourceIps: [ip] })
      for (const [what, wanted, ask] of matrix(layout)) t.equal(await ask(job[inside]), wanted, `${what}: ${wanted}`)
      for (const [what, wanted, ask] of matrix(layout)) {
        if (wanted === 'allowed') t.equal(await ask(job[outside]), 'denied', `${what} from another address: denied`)
      }
      await job.revoke()
      t.equal(await job[inside].write(buckets.output, 'runs/42/late'), 'denied', 'after the policy is gone')
      t.equal(await job[inside].read(buckets.data, 'wiki/1.parquet'), 'denied')
    })
  }

  await t.test(`layout ${layout}: a window that closes while the job runs`, async t => {
    const request = { ...trainingJob(layout), sourceIps: ['127.0.0.1'] }
    const job = await hired({ ...request, window: open() })
    const ends = Date.now() + 4_000
    await job.put({ ...request, window: { notBefore: second(Date.now() - 60_000), notAfter: second(ends) } })
    const outcomes: Outcome[] = []
    while (Date.now() < ends + 1_500) {
      outcomes.push(await job.over4.write(buckets.output, 'runs/42/checkpoint'))
      await delay(100)
    }
    t.equal(outcomes[0], 'allowed')
    t.equal(outcomes.at(-1), 'denied')
    t.strictSame([...outcomes].sort(), outcomes, 'open, then closed, and never open again')
    t.equal(await job.over4.read(buckets.data, 'wiki/1.parquet'), 'denied', 'reads, too')
  })

  await t.test(`layout ${layout}: before the window, when it opens, and when it is moved`, async t => {
    const request = { ...trainingJob(layout), sourceIps: ['127.0.0.1', '::1'] }
    const starts = Math.ceil(Date.now() / 1000) * 1000 + 3_000
    const job = await hired({ ...request, window: { notBefore: second(starts), durationSeconds: 600 } })
    const write = () => job.over6.write(buckets.output, 'runs/42/checkpoint')
    t.equal(await write(), 'denied', 'before')
    t.equal(await job.over4.read(buckets.data, 'wiki/1.parquet'), 'denied')
    t.equal(await eventually(write, 'allowed'), 'allowed', 'from the start on')
    t.ok(Date.now() >= starts, 'not sooner')
    await job.put({ ...request, window: { notBefore: second(Date.now() + 3_600_000), durationSeconds: 600 } })
    t.equal(await write(), 'denied', 'moved away')
    await job.put({ ...request, window: open() })
    t.equal(await write(), 'allowed', 'and back')
  })

  await t.test(`layout ${layout}: an address that we do not have`, async t => {
    const job = await hired({ ...trainingJob(layout), window: open(), sourceIps: ['203.0.113.42', '2001:db8::42'] })
    for (const over of [job.over4, job.over6]) {
      t.equal(await over.write(buckets.output, 'runs/42/checkpoint'), 'denied')
      t.equal(await over.read(buckets.data, 'wiki/1.parquet'), 'denied')
    }
  })

  await t.test(`layout ${layout}: the output stays open for its grace, and the reads do not`, async t => {
    const ends = Date.now() + 2_000
    const window = { notBefore: second(Date.now() - 60_000), notAfter: second(ends), outputGraceSeconds: 600 }
    const job = await hired({ ...trainingJob(layout), window, sourceIps: ['127.0.0.1'] })
    t.equal(await eventually(() => job.over4.read(buckets.data, 'wiki/1.parquet'), 'denied'), 'denied', 'reads have ended')
    t.equal(await job.over4.list(buckets.models, 'llama/'), 'denied')
    t.equal(await job.over4.write(buckets.output, 'runs/42/last-checkpoint'), 'allowed', 'the last checkpoint')
    t.equal(await job.over4.upload(buckets.output, 'runs/42/last-model'), 'allowed')
  })

  await t.test(`layout ${layout}: options`, async t => {
    const request = { job: { id: 'options', team: 'nlp' }, window: open(), sourceIps: ['127.0.0.1'], layout }
    const free = await hired({
      ...request,
      output: { bucket: buckets.output, prefix: 'runs/42', level: 'read-write', delete: true, acl: true, list: true },
      datasets: [{ bucket: buckets.data, list: false }]
    })
    t.equal(await free.over4.read(buckets.output, 'runs/42/of-the-admin'), 'allowed', 'read-write reads')
    t.equal(await free.over4.list(buckets.output, 'runs/42/'), 'allowed')
    t.equal(await free.over4.list(buckets.output, 'runs/420/'), 'denied')
    await admin.send(new PutObjectCommand({ Bucket: buckets.output, Key: 'runs/42/short-lived', Body: 'x' }))
    t.equal(await free.over4.publish(buckets.output, 'runs/42/short-lived'), 'allowed', 'acl')
    t.equal(await free.over4.delete(buckets.output, 'runs/42/short-lived'), 'allowed', 'delete')
    t.equal(await free.over4.delete(buckets.output, 'runs/420/of-the-admin'), 'denied')
    t.equal(await free.over4.locate(buckets.data), 'allowed', 'the region of its bucket')
    t.equal(await free.over4.locate(buckets.other), 'denied', 'not of another')
    t.equal(await free.over4.list(buckets.data), 'denied', 'list: false')
  })
}

t.test('a bucket policy that lets the job in: guarded still denies, everywhere cannot', async t => {
  const names = []
  for (const layout of ['everywhere', 'guarded'] as const) {
    const job = await hired({ ...trainingJob(layout), window: open(), sourceIps: ['127.0.0.1'] })
    names.push(`arn:aws:iam:::user/${job.name}`)
    const reads = async () => [await job.over4.read(buckets.other, 'salaries.csv'), await job.over6.read(buckets.other, 'salaries.csv')]
    t.strictSame(await reads(), ['denied', 'denied'])
    await admin.send(new PutBucketPolicyCommand({
      Bucket: buckets.other,
      Policy: JSON.stringify({
        Version: '2012-10-17',
        Statement: [{ Effect: 'Allow', Principal: { AWS: names }, Action: ['s3:GetObject'], Resource: [`arn:aws:s3:::${buckets.other}/*`] }]
      })
    }))
    t.strictSame(await reads(), ['allowed', layout === 'guarded' ? 'denied' : 'allowed'], `${layout}: from ::1 it is ${layout === 'guarded' ? 'denied' : 'let in'}`)
    await job.put({ ...trainingJob(layout), window: { notBefore: second(Date.now() + 600_000), durationSeconds: 600 }, sourceIps: ['127.0.0.1', '::1'] })
    t.strictSame(await reads(), layout === 'guarded' ? ['denied', 'denied'] : ['allowed', 'allowed'], `${layout}: before the window`)
  }
  await admin.send(new DeleteBucketPolicyCommand({ Bucket: buckets.other }))
})

t.test('the guide’s layout, KMS keys and VPCs are refused before the server would refuse them, or take them for nothing', async t => {
  const { job, datasets, output } = trainingJob('guide')
  const request = { job, window: open(), sourceIps: ['127.0.0.1'] }
  const kmsKeyArns = ['arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab']
  const cases: Array<[string, PolicyRequest, string, RegExp]> = [
    ['guide', { ...request, datasets, output, layout: 'guide' }, '/layout', /names s3:CompleteMultipartUpload/],
    ['kms', { ...request, datasets: [{ bucket: buckets.data, kmsKeyArns }] }, '/datasets/0/kmsKeyArns', /names kms:Decrypt/]
  ]
  await rgw.createUser('refused')
  for (const [what, asked, pointer, detail] of cases) {
    t.throws(() => accessOf(rules, asked, Date.now()), { code: 'dialect-unfit', init: { findings: [{ pointer, detail }] } }, `${what}: 422`)
    const normalised = normalise(asked, rules.limits, new Date())
    if (!normalised.ok) return t.fail('has findings')
    const document = JSON.stringify(render(normalised.spec))
    const refusal = await iam.putUserPolicy('refused', inlinePolicyName, document, soon()).catch((error: unknown) => error)
    t.match(refusal, { kind: 'malformed' }, `${what}: the server refuses it`)
  }
  const { sourceIps: _, ...anywhere } = request
  t.throws(() => accessOf(rules, { ...anywhere, datasets, vpc: { vpcIds: ['vpc-01234567'] } }, Date.now()),
    { code: 'dialect-unfit', init: { findings: [{ pointer: '/vpc' }] } })
})

t.test('names of orchestrators: taken as they are, or refused where the server reads the policy as another one', async t => {
  const request = ([prefix]: typeof oddNames[number]): PolicyRequest => ({
    job: { id: 'odd', team: 'nlp' }, access: [{ bucket: buckets.output, prefix, level: 'read-write' }], window: open(), sourceIps: ['127.0.0.1']
  })
  for (const odd of oddNames.filter(([directory]) => !/[%+:]/.test(directory))) {
    const { over4 } = await hired(request(odd))
    for (const [what, wanted, ask] of oddMatrix(odd)) t.equal(await ask(over4), wanted, `${odd[0]}: ${what}: ${wanted}`)
  }
  const plus = request(['a+b', []])
  t.throws(() => accessOf(rules, plus, Date.now()), { code: 'dialect-unfit', init: { findings: [{ pointer: '/access/0/prefix', detail: /`\+` at character 2/ }] } })
  const keys = await rgw.createUser('decoded')
  const normalised = normalise(plus, rules.limits, new Date())
  if (!normalised.ok) return t.fail('has findings')
  await iam.putUserPolicy('decoded', inlinePolicyName, JSON.stringify(render(normalised.spec)), soon())
  const client = s3(rgw.endpoint, keys)
  t.teardown(() => client.destroy())
  t.equal(await jobOf(client).write(buckets.output, 'a b/o'), 'allowed', 'it would open another name')
})
