import {
  CreateAccessKeyCommand, CreateUserCommand, ListUsersCommand, PutUserPolicyCommand, paginateListUsers
} from '@aws-sdk/client-iam'
import { createServer, request as forward } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { principalName, principalPath } from '../../../src/iam/names.ts'
import { eventually, second, type Keys } from '../job.ts'
import { buckets, trainingJob } from '../store.ts'
import { here, openTo, startGateway } from './gateway.ts'

// What is left over: by an expired grant, by a lost ledger, by a service that died half-way.

const { iam, iamEndpoint, copyUser, jobFrom, serve } = await startGateway(t)
const users = async () => ((await iam.send(new ListUsersCommand({}))).Users ?? []).map(user => user.UserName ?? '')
const allUsers = async () => {
  const names: string[] = []
  for await (const { Users = [] } of paginateListUsers({ client: iam, pageSize: 1_000 }, {})) names.push(...Users.map(user => user.UserName ?? ''))
  return names
}
const requestOf = (id: string) => ({ ...trainingJob('everywhere'), job: { id, team: 'nlp' }, ...openTo(here) })

t.test('the sweeper removes an expired grant', async t => {
  const service = await serve({ env: { JOB_ACCESS_SWEEP_SECONDS: '1' } })
  const ends = Date.now() + 6_000
  const { grant, credentials } = await service.issue({ ...requestOf('expires'), window: { notBefore: second(Date.now() - 60_000), notAfter: second(ends) } })
  t.ok((await users()).includes(grant.user.name))
  const state = async () => (await service.call('GET', `/v1/grants/${grant.id}`)).body.state
  t.equal(await eventually(state, 'expired'), 'expired')
  t.ok(Date.now() >= Math.floor(ends / 1000) * 1000, 'not sooner')
  t.equal(await jobFrom(here, credentials).read(buckets.data, 'wiki/1.parquet'), 'unknown-key', 'the key is gone')
  t.notOk((await users()).includes(grant.user.name))
})

/** What a lost ledger leaves: a user with policy and key, named as the service names them. */
const leave = async (id: string, letter: string, ends: number): Promise<{ name: string, keys: Keys }> => {
  const name = principalName('ja', id, ends, `01k${letter.repeat(23)}`)
  await iam.send(new CreateUserCommand({ UserName: name, Path: principalPath('/job-access/', ends) }))
  await iam.send(new PutUserPolicyCommand({
    UserName: name,
    PolicyName: 'job-access',
    PolicyDocument: JSON.stringify({
      Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: ['s3:GetObject'], Resource: [`arn:aws:s3:::${buckets.data}/*`] }]
    })
  }))
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName: name }))
  return { name, keys: { accessKeyId: AccessKey?.AccessKeyId ?? '', secretAccessKey: AccessKey?.SecretAccessKey ?? '' } }
}

t.test('reconcile removes strays that are over, and nothing else', async t => {
  const service = await serve({ provider: 'versitygw' })
  const stray = await leave('lost', 'a', Date.now() - 60_000)
  const running = await leave('running', 'b', Date.now() + 600_000)
  await iam.send(new CreateUserCommand({ UserName: 'by-hand', Path: '/job-access/by-hand/' }))
  await iam.send(new CreateUserCommand({ UserName: 'elsewhere' }))
  const { grant } = await service.issue(requestOf('alive'))
  const read = ({ keys }: { keys: Keys }) => jobFrom(here, keys).read(buckets.data, 'wiki/1.parquet')
  t.equal(await read(stray), 'allowed', 'its key works until somebody looks')

  const dry = await service.reconcile('--dry-run')
  t.match(dry.findings.filter(({ kind }) => kind === 'stray'), [{ name: stray.name, done: false }])
  t.match(dry.findings.filter(({ kind }) => kind === 'foreign'), [{ name: 'by-hand' }], 'not named like ours: told, and left')
  t.equal(await read(stray), 'allowed', 'a dry run removes nothing')

  const { findings, summary } = await service.reconcile()
  t.match(findings.filter(({ kind }) => kind === 'stray'), [{ name: stray.name, done: true }])
  t.match(summary, /, 2 found, 0 failed$/)
  t.equal(await read(stray), 'unknown-key')
  t.equal(await read(running), 'allowed', 'its end is not reached')
  t.strictSame((await users()).sort(), [running.name, 'by-hand', 'elsewhere', grant.user.name].sort())
  t.match(await service.call('GET', `/v1/grants/${grant.id}`), { body: { state: 'active' } })
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})

/** Passes the service's calls on. Answers to `held` actions, one of each, do not get back: VersityGW has done them by then. */
const holding = async (held: string[]) => {
  const waiting = new Map<string, { user: string, answer: string }>()
  const server = createServer((incoming, outgoing) => {
    const body: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => body.push(chunk))
    incoming.on('end', () => {
      const sent = new URLSearchParams(Buffer.concat(body).toString())
      const action = sent.get('Action') ?? ''
      const onward = forward(new URL(incoming.url ?? '/', iamEndpoint), { method: incoming.method ?? 'POST', headers: incoming.headers }, answer => {
        const parts: Buffer[] = []
        answer.on('data', (chunk: Buffer) => parts.push(chunk))
        answer.on('end', () => {
          const user = sent.get('UserName') ?? ''
          // Each grant is cut at an action of its own: its job's id names it.
          if (held.includes(action) && user.includes(action.toLowerCase()) && !waiting.has(action)) {
            waiting.set(action, { user, answer: Buffer.concat(parts).toString() })
            return
          }
          outgoing.writeHead(answer.statusCode ?? 500, answer.headers).end(Buffer.concat(parts))
        })
      })
      onward.on('error', () => outgoing.destroy())
      onward.end(Buffer.concat(body))
    })
  })
  await new Promise<void>(resolve => server.listen(0, here, resolve))
  t.teardown(() => { server.closeAllConnections(); server.close() })
  return { waiting, url: `http://${here}:${(server.address() as AddressInfo).port}` }
}

t.test('kill -9 in the middle of three issues: after the restart the sweeper removes what was made', async t => {
  const cuts = ['CreateUser', 'PutUserPolicy', 'CreateAccessKey']
  const { waiting, url } = await holding(cuts)
  const service = await serve({ endpoint: url, signal: 'KILL', env: { JOB_ACCESS_SWEEP_SECONDS: '1', JOB_ACCESS_IAM_DEADLINE_MS: '3000' } })
  const kept = await service.issue(requestOf('kept'))
  const requests = cuts.map(cut => requestOf(cut.toLowerCase()))
  const cutOff = Promise.allSettled(requests.map(request => service.call('POST', '/v1/grants', request)))
  t.equal(await eventually(async () => waiting.size, 3), 3, 'VersityGW has done all three, and the service does not know')
  await service.stop()
  for (const { status } of await cutOff) t.equal(status, 'rejected', 'nobody got an answer')
  const made = [...waiting.values()].map(({ user }) => user)
  for (const user of made) t.ok((await users()).includes(user), `${user} is there`)
  const { answer = '' } = waiting.get('CreateAccessKey') ?? {}
  const inAnswer = (name: string) => new RegExp(`<${name}>(.*?)</${name}>`).exec(answer)?.[1] ?? ''
  const orphan = jobFrom(here, { accessKeyId: inAnswer('AccessKeyId'), secretAccessKey: inAnswer('SecretAccessKey') })
  t.not(await orphan.read(buckets.data, 'wiki/1.parquet'), 'unknown-key', 'a live key that nobody holds')

  await service.start()
  const left = async () => (await users()).filter(user => made.includes(user)).length
  t.equal(await eventually(left, 0, 30_000), 0, 'no user is left of the three')
  t.equal(await orphan.read(buckets.data, 'wiki/1.parquet'), 'unknown-key')
  t.equal(await jobFrom(here, kept.credentials).read(buckets.data, 'wiki/1.parquet'), 'allowed', 'a grant from before goes on')
  for (const request of requests) {
    const retried = async () => (await service.call('POST', '/v1/grants', request)).status
    t.equal(await eventually(retried, 201), 201, `${request.job.id}: the job asks again and gets its access`)
  }
})

t.test('reconcile sees the users of the second page, too', async t => {
  const service = await serve({ provider: 'versitygw', env: { JOB_ACCESS_SWEEP_PER_SECOND: '1000' } })
  // The gateway lists by name, and the service asks for 1,000 at a time. A user has two keys and 2,048 bytes of policies at most, so that
  // no other list has a second page.
  const later = Date.now() + 600_000
  const nameOf = (index: number) => principalName('ja', `a-${index}`, later, `01k${String(index).padStart(23, '0')}`)
  await iam.send(new CreateUserCommand({ UserName: nameOf(0), Path: principalPath('/job-access/', later) }))
  await copyUser(nameOf(0), Array.from({ length: 999 }, (_, index) => nameOf(index + 1)))
  const strays = [await leave('z-lost', 'c', Date.now() - 60_000), await leave('z-lost-too', 'd', Date.now() - 60_000)]
  const { grant, credentials } = await service.issue(requestOf('z-alive'))
  const [first, all] = await Promise.all([iam.send(new ListUsersCommand({ MaxItems: 1_000, PathPrefix: '/job-access/' })), allUsers()])
  t.ok(first.IsTruncated)
  for (const { name } of [...strays, grant.user]) t.notOk(first.Users?.some(({ UserName }) => UserName === name), `${name} is not on the first page`)

  const { findings } = await service.reconcile()
  t.strictSame(findings.filter(({ kind }) => kind !== 'foreign').map(({ kind, name, done }) => `${String(kind)} ${String(name)} ${String(done)}`).sort(),
    strays.map(({ name }) => `stray ${name} true`))
  t.strictSame(await allUsers(), all.filter(name => !strays.some(stray => stray.name === name)))
  t.equal(await jobFrom(here, credentials).read(buckets.data, 'wiki/1.parquet'), 'allowed', 'a grant on the second page is not taken for lost')
  await service.call('DELETE', `/v1/grants/${grant.id}`)
})
