import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { GrantEvent } from '../../../src/domain/events.ts'
import { createIam, type Iam } from '../../../src/iam/client.ts'
import type { Grant } from '../../../src/domain/grant.ts'
import { openLedger } from '../../../src/ledger/open.ts'
import { guideRequest } from '../../../src/request.ts'
import { orchestrator } from '../../kill/orchestrator.ts'
import { makeDir, service, startIam } from '../../kill/processes.ts'
import { freshDatabase, startPostgres } from '../../servers/postgres.ts'

/** Two replicas on one PostgreSQL, each sweeping every second, with jobs asking either of them all the while. */

t.setTimeout(300_000)

const server = await startPostgres()
t.teardown(() => server.stop())
const database = await freshDatabase(server.url)
t.teardown(() => database.drop())
const iam = await startIam(3)
t.teardown(() => iam.stop())
const dir = makeDir()
t.teardown(() => dir.remove())
const replicas = await Promise.all(['a', 'b'].map(name => service({ iam, dir, name, ledger: { DATABASE_URL: database.url } })))
t.teardown(() => Promise.all(replicas.map(replica => replica.kill())))
await Promise.all(replicas.map(replica => replica.start()))
const ledger = await openLedger({ url: database.url, poolSize: 2 })
t.teardown(() => ledger.close())

const load = orchestrator(replicas.map(({ url }) => url), dir.token, 1)
load.start(4)
t.teardown(() => load.stop())

interface Answer { grant?: { id: string }, credentials?: Key | null, state?: string, code?: string }
type Key = Parameters<Iam['callerIdentity']>[0]

const send = async (replica: number, method: string, path: string, body?: object): Promise<{ status: number, body: Answer }> => {
  const response = await fetch(`${replicas[replica % 2]?.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${dir.token}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) })
  })
  return { status: response.status, body: await response.json() as Answer }
}
const ask = (replica: number, body: object) => send(replica, 'POST', '/v1/grants', body)

const countBy = <T>(items: T[], key: (item: T) => string): Map<string, number> => {
  const counts = new Map<string, number>()
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1)
  return counts
}

await t.test('retries at both replicas make one user', async t => {
  const jobs = Array.from({ length: 40 }, (_, i) => `retried-${i}`)
  const outcomes: Record<string, number> = {}
  for (const id of jobs) {
    const body = { ...guideRequest, job: { id, team: 'nlp' }, attempt: '1' }
    const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => ask(i, body)))
    for (const { status, body: { code = 'whole' } } of answers) outcomes[`${status} ${code}`] = (outcomes[`${status} ${code}`] ?? 0) + 1
    t.ok(answers.every(({ status, body: { code } }) => status === 201 || status === 200 || code === 'idempotency-busy'), id)
    t.equal(answers.filter(({ status }) => status === 201).length, 1, `${id} was made once`)
    const ids = new Set(answers.flatMap(({ body: { grant } }) => grant ? [grant.id] : []))
    t.equal(ids.size, 1, `${id} is one grant`)
  }
  t.comment(JSON.stringify(outcomes))
  const created = (await iam.calls()).filter(({ action }) => action === 'CreateUser')
  const names = new Map<string, Set<string>>()
  for (const { params } of created) {
    const job = Object.values(params).find(value => jobs.includes(value))
    if (job) names.set(job, (names.get(job) ?? new Set()).add(params.UserName ?? ''))
  }
  t.equal(names.size, jobs.length)
  t.same([...names].filter(([, users]) => users.size > 1), [], 'one user name a job')
})

const client = createIam({ region: 'us-east-1', endpoint: iam.url, stsEndpoint: iam.url, credentials: iam.admin })
t.teardown(() => client.close())
const works = (key: Key) => client.callerIdentity(key, Date.now() + 10_000).then(() => true, () => false)
const { sourceIps: _, ...sourceless } = guideRequest

const jobOfWorkers = async (id: string, max: number) => {
  const { status, body } = await ask(0, { ...sourceless, job: { id, team: 'nlp' }, workers: { max } })
  t.equal(status, 201, `${id}: ${body.code}`)
  const path = `/v1/grants/${body.grant?.id}`
  return {
    path,
    join: (replica: number, rank: number, start: object = {}) => send(replica, 'POST', `${path}/workers`, {
      name: `w-${rank}`, sourceIps: [`203.0.113.${rank + 1}`], attempt: '0', ...start
    }),
    row: async () => {
      const row = await ledger.get(body.grant?.id ?? '')
      if (!row) throw new Error(`no row of ${id}`)
      return row
    },
    workers: () => ledger.workersOf(body.grant?.id ?? '')
  }
}

/** What one replica leaves to the sweeper is done after its first pause. */
const untilSettled = async (job: Awaited<ReturnType<typeof jobOfWorkers>>): Promise<void> => {
  for (const giveUpAt = Date.now() + 60_000; Date.now() < giveUpAt; await delay(250)) {
    const { dueAt, expiresAt, claimedUntil } = await job.row()
    if (dueAt === null || (dueAt === expiresAt && claimedUntil === null)) return
  }
}

await t.test('workers that join at both replicas at once get a key each, and never more than the job may have', async t => {
  const job = await jobOfWorkers('storm-of-workers', 32)
  const answers = await Promise.all(Array.from({ length: 40 }, (_, rank) => job.join(rank, rank)))
  const joined = answers.filter(({ status }) => status === 201)
  t.equal(joined.length, 32)
  t.ok(answers.every(({ status, body: { code } }) => status === 201 || code === 'workers-full'), 'the rest is told why')
  t.equal((await job.workers()).length, 32)
  t.same(new Set(await Promise.all(joined.map(({ body }) => works(body.credentials ?? undefined)))), new Set([true]), '32 keys that work')
  // The same start asked at both: one worker, and one of the keys.
  const rank = answers.findIndex(({ status }) => status === 201)
  const twice = await Promise.all([0, 1, 0, 1].map(replica => job.join(replica, rank)))
  t.ok(twice.every(({ status, body: { code } }) => status === 200 || code === 'idempotency-busy'))
  t.equal((await job.workers()).length, 32)
  await send(1, 'POST', `${job.path}/complete`)
  await untilSettled(job)
  t.equal((await ledger.list({ parentId: (await job.row()).id, states: ['active', 'pending', 'revoking'] }, { limit: 50 })).length, 0)
  for (const { body } of [...joined, ...twice]) if (body.credentials && await works(body.credentials)) t.fail('a key lives on')
})

await t.test('PATCH and complete at one replica, while workers join and join again at the other', async t => {
  const outcomes: Record<string, number> = {}
  for (let round = 0; round < 12; round++) {
    const job = await jobOfWorkers(`raced-${round}`, 16)
    const keys = new Map<number, NonNullable<Answer['credentials']>>()
    const join = async (replica: number, rank: number, attempt: string) => {
      for (const giveUpAt = Date.now() + 30_000; Date.now() < giveUpAt; await delay(20)) {
        const { status, body } = await job.join(replica, rank, { attempt })
        outcomes[`${status} ${body.code ?? 'whole'}`] = (outcomes[`${status} ${body.code ?? 'whole'}`] ?? 0) + 1
        if (body.credentials) keys.set(rank, body.credentials)
        // The job has ended, or is ending, or this worker has its key.
        if (status < 300 || (await job.row()).state !== 'active') return
      }
      t.fail(`w-${rank} was never answered`)
    }
    await Promise.all(Array.from({ length: 8 }, (_, rank) => join(rank, rank, '0')))
    const wave = (replica: number) => Promise.all(Array.from({ length: 16 }, (_, rank) => join(replica, rank, `${replica}`)))
    const extend = async () => {
      for (let n = 0; n < 4; n++) {
        await delay(10 * round)
        await send(0, 'PATCH', job.path, { window: { durationSeconds: 10_000 + 600 * n } })
      }
    }
    await Promise.all([wave(1), extend()])
    await untilSettled(job)
    const { expiresAt } = await job.row()
    t.same((await job.workers()).filter(worker => worker.state !== 'active' || worker.expiresAt !== expiresAt), [], `round ${round}: one window`)
    t.equal((await job.workers()).length, 16)
    const alive = await Promise.all([...keys.values()].map(works))
    t.same(alive, Array(16).fill(true), 'whoever was answered last has a key that works')

    const complete = async () => {
      await delay(10 * round)
      return send(0, 'POST', `${job.path}/complete`)
    }
    await Promise.all([Promise.all(Array.from({ length: 16 }, (_, rank) => join(1, rank, '2'))), complete()])
    await untilSettled(job)
    t.match(await job.row(), { state: 'revoked' })
    t.same(await job.workers(), [])
    t.same(await Promise.all([...keys.values()].map(works)), Array(16).fill(false), 'no key lives on after complete')
  }
  t.comment(JSON.stringify(outcomes))
})

await t.test('every grant that is due is swept once', async t => {
  const many = 160
  const grants: string[] = []
  const at = (ms: number) => new Date(ms).toISOString().replace(/\.\d+/, '')
  const numbers = Array.from({ length: many }, (_, i) => i)
  const worker = async () => {
    for (let i = numbers.shift(); i !== undefined; i = numbers.shift()) {
      // They end one after another, while both replicas sweep, and none before a busy machine has issued it.
      const now = Date.now()
      const window = { notBefore: at(now - 60_000), notAfter: at(now + 15_000 + i * 50) }
      const { status, body } = await ask(i, { ...guideRequest, job: { id: `swept-${i}`, team: 'nlp' }, window })
      if (status === 201 && body.grant) grants.push(body.grant.id)
      else t.fail(`${status} ${body.code}`)
    }
  }
  await Promise.all([worker(), worker(), worker(), worker()])
  t.equal(grants.length, many)

  const rowsOf = () => Promise.all(grants.map(id => ledger.get(id)))
  const giveUpAt = Date.now() + 60_000
  let rows: Array<Grant | undefined> = await rowsOf()
  while (rows.some(row => row?.dueAt !== null) && Date.now() < giveUpAt) {
    await delay(500)
    rows = await rowsOf()
  }
  await load.stop()
  t.same([...countBy(rows, row => `${row?.state}`)], [['expired', many]])

  const names = new Set(rows.map(row => row?.principal.name))
  const calls = (await iam.calls()).filter(({ params }) => names.has(params.UserName))
  for (const action of ['DeleteAccessKey', 'DeleteUserPolicy', 'DeleteUser']) {
    const counts = countBy(calls.filter(call => call.action === action), ({ params }) => params.UserName ?? '')
    t.equal(counts.size, many, action)
    t.same([...counts].filter(([, count]) => count !== 1), [], `${action} once a user`)
  }
  t.same(calls.filter(({ status }) => status !== 200), [], 'and none was refused')

  const events = await Promise.all(grants.map(id => ledger.events(id)))
  const story = (history: GrantEvent[]) => history.map(({ action }) => action).join(' ')
  t.same([...countBy(events, story)], [['pending active revoking expired', many]], 'each history has one sweep')

  const sweptBy = countBy(dir.written().split('\n').filter(line => line.includes('grant.expire') && line.includes('"outcome":"done"')),
    line => /"instance":"(\w+)"/.exec(line)?.[1] ?? 'nobody')
  t.comment(JSON.stringify(Object.fromEntries(sweptBy)))
  t.same([...sweptBy.keys()].sort(), ['a', 'b'], 'both replicas took part')
})

await t.test('under load nothing was lost', async t => {
  await load.finish()
  t.comment(JSON.stringify(load.counts))
  t.ok(load.counts.answered.issue > 20)
  for (const job of load.jobs) {
    const grant = await ledger.get(job.grant ?? '')
    // A worker whose job ended while it asked to join has none.
    if (job.ended) t.ok(job.grant === undefined || grant?.state === 'revoked' || job.ended === 'ending', job.id)
    else t.equal(grant?.accessKeyId, job.key?.accessKeyId ?? null, job.id)
  }
  // A worker that was busy when its job was completed is left to the sweeper.
  const live = load.jobs.filter(({ ended, workers }) => !ended && !workers).length + 40
  let { users } = await iam.state()
  for (const giveUpAt = Date.now() + 60_000; users.length > live && Date.now() < giveUpAt; await delay(250)) ({ users } = await iam.state())
  const jobs = countBy(users, ({ tags }) => `${tags['job-access:job']} ${tags['job-access:worker'] ?? ''}`)
  t.same([...jobs].filter(([, count]) => count > 1), [], 'one user a job or worker')
  t.equal(users.length, live)
})
