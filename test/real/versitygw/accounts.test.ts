import { ListUsersCommand } from '@aws-sdk/client-iam'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { temporaryDir } from '../../servers/daemon.ts'
import { eventually, type Keys } from '../job.ts'
import type { Delivery } from '../service.ts'
import { buckets } from '../store.ts'
import { elsewhere, here, openTo, startGateway } from './gateway.ts'

// Two VersityGWs as the two accounts of one service: each has its own users, its own root key and its own S3.

const [eu1, eu2] = await Promise.all([startGateway(t), startGateway(t)])
const accounts = { 'eu-1': eu1, 'eu-2': eu2 }
type Name = keyof typeof accounts
const names = ['eu-1', 'eu-2'] as const

const dir = await temporaryDir('accounts')
t.teardown(() => rm(dir, { recursive: true, force: true }))
const [file, credentials] = [join(dir, 'accounts.json'), join(dir, 'credentials')]
await writeFile(file, JSON.stringify(names.map(name => ({
  name, awsProfile: name, endpoint: accounts[name].iamEndpoint, s3Endpoint: accounts[name].endpoint, users: 20
}))))
await writeFile(credentials, names.map(name =>
  `[${name}]\naws_access_key_id = ${accounts[name].admin.accessKeyId}\naws_secret_access_key = ${accounts[name].admin.secretAccessKey}\n`).join('\n'))
const service = await eu1.serve({
  provider: 'versitygw',
  env: {
    JOB_ACCESS_ACCOUNTS_FILE: file,
    AWS_SHARED_CREDENTIALS_FILE: credentials,
    // The file says where each account is, and with which key it is called.
    AWS_ENDPOINT_URL_IAM: '',
    AWS_ENDPOINT_URL_STS: '',
    AWS_ACCESS_KEY_ID: '',
    AWS_SECRET_ACCESS_KEY: '',
    JOB_ACCESS_SWEEP_SECONDS: '1',
    JOB_ACCESS_IAM_DEADLINE_MS: '1000'
  }
})

const requestOf = (id: string) => ({
  job: { id, team: 'nlp' },
  datasets: [{ bucket: buckets.data, prefix: 'wiki' }],
  output: { bucket: buckets.output, prefix: `runs/${id}` },
  ...openTo(here)
})
const usersOf = async (name: Name) => ((await accounts[name].iam.send(new ListUsersCommand({}))).Users ?? []).map(user => user.UserName ?? '').sort()
/** What the key does at the gateway of each account. */
const reads = (keys: Keys, address = here) =>
  Promise.all(names.map(name => accounts[name].jobFrom(address, keys).read(buckets.data, 'wiki/1.parquet')))
const only = (account: string | null) => names.map(name => name === account ? 'allowed' : 'unknown-key')
const ask = (method: string, path: string, body?: unknown) => service.call<Delivery & { code?: string, state?: string }>(method, path, body)

const issued: Delivery[] = []
const inAccount = (name: Name) => {
  const found = issued.find(({ grant }) => grant.account === name)
  if (!found) throw new Error(`no grant in ${name}`)
  return found
}

await t.test('grants spread, and each key works at the gateway of its own account', async t => {
  for (const id of ['1', '2', '3', '4']) issued.push(await service.issue(requestOf(id)))
  t.strictSame(issued.map(({ grant }) => grant.account), ['eu-1', 'eu-2', 'eu-1', 'eu-2'])
  for (const name of names) {
    t.strictSame(await usersOf(name), issued.filter(({ grant }) => grant.account === name).map(({ grant }) => grant.user.name).sort())
  }
  for (const { grant, credentials } of issued) t.strictSame(await reads(credentials), only(grant.account), `${grant.job.id} of ${grant.account}`)

  const answer = await fetch(`${service.url}/v1/grants`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token}`, 'content-type': 'application/json', accept: 'text/x-env' },
    body: JSON.stringify(requestOf('env'))
  })
  t.match(await answer.text(), `AWS_ENDPOINT_URL_S3=${eu1.endpoint}`, 'the job is told the gateway of its account')
})

await t.test('the workers of one job are in both', async t => {
  const { sourceIps, ...request } = requestOf('workers')
  const { grant: job } = await service.issue({ ...request, workers: { max: 4 } })
  t.equal(job.account, null)
  const workers = []
  for (const [name, address] of [['w1', here], ['w2', elsewhere], ['w3', here], ['w4', elsewhere]] as const) {
    const { status, body } = await ask('POST', `/v1/grants/${job.id}/workers`, { name, sourceIps: [address] })
    t.equal(status, 201)
    workers.push({ address, ...body })
  }
  t.strictSame(workers.map(({ grant }) => grant.account).sort(), ['eu-1', 'eu-1', 'eu-2', 'eu-2'])
  for (const { address, grant, credentials } of workers) t.strictSame(await reads(credentials, address), only(grant.account))
  t.match(await ask('POST', `/v1/grants/${job.id}/complete`), { status: 200, body: { state: 'revoked' } })
  for (const { address, credentials } of workers) t.strictSame(await reads(credentials, address), only(null), 'it has ended with the job')
})

await t.test('an account that is down takes only its own grants; when it is back, its remains are swept', async t => {
  const [lost, kept] = [inAccount('eu-1'), inAccount('eu-2')]
  await eu1.killIam()
  const path = `/v1/grants/${lost.grant.id}`
  t.match(await ask('POST', `${path}/rotate`, {}), { status: 503, body: { code: 'iam-unavailable' } })
  t.match(await ask('POST', `${path}/complete`), { status: 202, body: { state: 'revoking' } })

  // The first may still be sent to the account that went down, and is told to come again.
  for (const id of ['down-1', 'down-2']) {
    const wanted = { status: 201, body: { grant: { account: 'eu-2' } } }
    const first = await ask('POST', '/v1/grants', requestOf(id))
    const answer = first.status === 503 ? await ask('POST', '/v1/grants', requestOf(id)) : first
    t.match(answer, wanted, id)
    t.equal(await eu2.jobFrom(here, answer.body.credentials).read(buckets.data, 'wiki/1.parquet'), 'allowed')
    issued.push(answer.body)
  }
  const own = `/v1/grants/${kept.grant.id}`
  const rotated = await ask('POST', `${own}/rotate`, {})
  t.equal(rotated.status, 200)
  t.match(await ask('PATCH', own, { window: { ...openTo().window, durationSeconds: 1_200 } }), { status: 200, body: { state: 'active' } })
  t.equal(await eu2.jobFrom(here, rotated.body.credentials).read(buckets.data, 'wiki/1.parquet'), 'allowed')
  t.equal(await eu2.jobFrom(here, kept.credentials).read(buckets.data, 'wiki/1.parquet'), 'unknown-key', 'the key before the rotation')
  t.match(await ask('POST', `${own}/complete`), { status: 200, body: { state: 'revoked' } })
  const ready = await fetch(`${service.url}/readyz`)
  t.match({ status: ready.status, body: await ready.json() }, { status: 200, body: { checks: { 'account eu-1': 'failed', 'account eu-2': 'ok' } } })

  await eu1.startIam()
  t.ok((await usersOf('eu-1')).includes(lost.grant.user.name), 'its user is still there')
  const state = async () => (await ask('GET', path)).body.state
  t.equal(await eventually(state, 'revoked'), 'revoked')
  t.strictSame(await reads(lost.credentials), only(null))
  const other = issued.find(({ grant }) => grant.account === 'eu-1' && grant.id !== lost.grant.id)
  if (!other) throw new Error('there are two')
  t.strictSame(await reads(other.credentials), only('eu-1'), 'who did nothing meanwhile has the key as before')
})

await t.test('nothing is left in either', async t => {
  const live = await service.call<{ grants: Array<{ id: string }> }>('GET', '/v1/grants?state=live')
  for (const { id } of live.body.grants) await ask('DELETE', `/v1/grants/${id}`)
  for (const name of names) t.equal(await eventually(async () => (await usersOf(name)).length, 0), 0, name)
  t.match(await service.reconcile(), { findings: [], summary: /0 found, 0 failed/ })
})
