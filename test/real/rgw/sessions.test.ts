import { CreateRoleCommand, IAMClient, PutRolePolicyCommand } from '@aws-sdk/client-iam'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createIam } from '../../../src/iam/client.ts'
import { dialects } from '../../../src/iam/dialects/index.ts'
import type { RoleProfile } from '../../../src/iam/role-profile.ts'
import { sessionProvisioner } from '../../../src/iam/session-provisioner.ts'
import { defaultLimits } from '../../../src/policy/limits.ts'
import type { PolicyRequest } from '../../../src/request.ts'
import { temporaryDir } from '../../servers/daemon.ts'
import { startRgw } from '../../servers/rgw.ts'
import { eventually, jobOf, s3, second, type Outcome } from '../job.ts'
import { startService } from '../service.ts'
import { buckets, fill, matrix, trainingJob } from '../store.ts'
import type { Deployment } from '../../../src/lifecycle/deps.ts'
import { accessOf } from '../../harness.ts'

// The same policies as session policies of AssumeRole: the role may do everything, the session what was asked for.

const rgw = await startRgw()
t.teardown(() => rgw.stop())
const admin = s3(rgw.endpoint, rgw.admin)
const sdk = new IAMClient({ endpoint: rgw.endpoint, region: 'us-east-1', credentials: rgw.admin })
const issuer = await rgw.createUser('issuer')
const iam = createIam({ region: 'us-east-1', endpoint: rgw.endpoint, stsEndpoint: rgw.endpoint, credentials: issuer })
t.teardown(() => { admin.destroy(); sdk.destroy(); iam.close() })
await fill(admin)

const statement = (more: object) => JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', ...more }] })
const { Role } = await sdk.send(new CreateRoleCommand({
  RoleName: 'jobs', AssumeRolePolicyDocument: statement({ Principal: { AWS: ['arn:aws:iam:::user/issuer'] }, Action: ['sts:AssumeRole'] })
}))
await sdk.send(new PutRolePolicyCommand({ RoleName: 'jobs', PolicyName: 'all', PolicyDocument: statement({ Action: ['s3:*'], Resource: ['*'] }) }))

const profile: RoleProfile = { name: 'default', roleArn: Role?.Arn ?? '', maxSessionSeconds: 3600, chained: false, revocable: false }
const rules: Deployment = {
  limits: { ...defaultLimits, allowPrivateSourceIps: true }, dialect: dialects.ceph, profiles: { default: profile }
}
const sessions = sessionProvisioner({ iam, profiles: rules.profiles, prefix: 'ja', now: Date.now })

let jobs = 0
const hired = async (request: PolicyRequest) => {
  const { policy, spec, attachment } = accessOf(rules, { ...request, attach: 'session' }, Date.now())
  t.equal(attachment, 'session')
  const { credentials } = await sessions.create({
    ref: { name: `ja-session-${++jobs}`, path: '/', policyArn: null, roleArn: profile.roleArn },
    attachment: 'inline',
    policy,
    tags: { 'job-access:job': spec.job.id, 'job-access:expires': spec.window.outputNotAfter },
    withKey: true
  }, Date.now() + 10_000)
  if (!credentials?.sessionToken) throw new Error('no session')
  const [over4, over6] = [rgw.endpoint, rgw.endpointV6].map(endpoint => {
    const client = s3(endpoint, credentials)
    t.teardown(() => client.destroy())
    return jobOf(client)
  }) as [ReturnType<typeof jobOf>, ReturnType<typeof jobOf>]
  return { over4, over6, credentials }
}
const open = () => ({ notBefore: second(Date.now() - 60_000), durationSeconds: 600 })

for (const layout of ['everywhere', 'guarded'] as const) {
  for (const [ip, inside, outside] of [['127.0.0.1', 'over4', 'over6'], ['::1', 'over6', 'over4']] as const) {
    await t.test(`layout ${layout} from ${ip}: what was asked for, and nothing else`, async t => {
      const job = await hired({ ...trainingJob(layout), window: open(), sourceIps: [ip] })
      for (const [what, wanted, ask] of matrix(layout)) t.equal(await ask(job[inside]), wanted, `${what}: ${wanted}`)
      for (const [what, wanted, ask] of matrix(layout)) {
        if (wanted === 'allowed') t.equal(await ask(job[outside]), 'denied', `${what} from another address: denied`)
      }
    })
  }

  await t.test(`layout ${layout}: a window that closes while the session lasts`, async t => {
    const ends = Date.now() + 4_000
    const job = await hired({ ...trainingJob(layout), window: { notBefore: second(Date.now() - 60_000), notAfter: second(ends) }, sourceIps: ['127.0.0.1'] })
    t.ok((job.credentials.expiresAt ?? 0) > ends + 600_000, 'STS’s shortest session is longer than this window')
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

  await t.test(`layout ${layout}: before the window`, async t => {
    const job = await hired({ ...trainingJob(layout), window: { notBefore: second(Date.now() + 600_000), durationSeconds: 600 }, sourceIps: ['127.0.0.1'] })
    t.equal(await job.over4.write(buckets.output, 'runs/42/checkpoint'), 'denied')
    t.equal(await job.over4.read(buckets.data, 'wiki/1.parquet'), 'denied')
  })
}

t.test('without a session policy the role would have allowed it', async t => {
  const { accessKeyId, secretAccessKey, sessionToken } = await iam.assumeRole({
    roleArn: profile.roleArn,
    sessionName: 'control',
    sourceIdentity: 'control',
    policy: statement({ Action: ['s3:*'], Resource: ['*'] }),
    durationSeconds: 900,
    tags: {}
  }, Date.now() + 10_000)
  const client = s3(rgw.endpoint, { accessKeyId, secretAccessKey, sessionToken })
  t.teardown(() => client.destroy())
  t.equal(await jobOf(client).read(buckets.other, 'salaries.csv'), 'allowed', 'so that it was the session policy that denied')
})

t.test('the whole service: POST /v1/grants to a denied PutObject', async t => {
  const dir = await temporaryDir('profiles')
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  await writeFile(join(dir, 'profiles.json'), JSON.stringify([profile]))
  const service = await startService(t, {
    provider: 'ceph', endpoint: rgw.endpoint, admin: issuer, env: { JOB_ACCESS_PROFILES: join(dir, 'profiles.json') }, unready: true
  })
  const ends = Date.now() + 15_000
  const { grant, credentials } = await service.issue({
    ...trainingJob('guarded'), attach: 'session', window: { notBefore: second(Date.now() - 60_000), notAfter: second(ends) }, sourceIps: ['127.0.0.1']
  })
  const client = s3(rgw.endpoint, credentials)
  t.teardown(() => client.destroy())
  const job = jobOf(client)
  for (const [what, wanted, ask] of matrix('guarded')) t.equal(await ask(job), wanted, `${what}: ${wanted}`)
  t.match(await service.call('POST', `/v1/grants/${grant.id}/complete`), { status: 202, body: { state: 'revoking', notice: /cannot be revoked/ } })
  t.equal(await eventually(() => job.write(buckets.output, 'runs/42/late'), 'denied'), 'denied', 'its window ends it')
  t.ok(Date.now() >= ends - 1000, 'not sooner')
  t.match(await service.call('POST', '/v1/grants', { ...trainingJob('guarded'), window: { durationSeconds: 600 }, sourceIps: ['127.0.0.1'] }),
    { status: 502, body: { code: 'iam-refused', detail: /CreateUser/ } }, 'this release has no users')
})
