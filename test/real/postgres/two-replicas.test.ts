import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { GrantEvent } from '../../../src/domain/events.ts'
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

interface Answer { grant?: { id: string }, code?: string }

const ask = async (replica: number, body: object): Promise<{ status: number, body: Answer }> => {
  const response = await fetch(`${replicas[replica % 2]?.url}/v1/grants`, {
    method: 'POST',
    headers: { authorization: `Bearer ${dir.token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body)
  })
  return { status: response.status, body: await response.json() as Answer }
}

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

await t.test('every grant that is due is swept once', async t => {
  const many = 160
  const grants: string[] = []
  const now = Date.now()
  const at = (ms: number) => new Date(ms).toISOString().replace(/\.\d+/, '')
  const numbers = Array.from({ length: many }, (_, i) => i)
  const worker = async () => {
    for (let i = numbers.shift(); i !== undefined; i = numbers.shift()) {
      // They end one after another, while both replicas sweep.
      const window = { notBefore: at(now - 60_000), notAfter: at(now + 20_000 + i * 50) }
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
    if (job.ended) t.ok(grant?.state === 'revoked' || job.ended === 'ending', job.id)
    else t.equal(grant?.accessKeyId, job.key?.accessKeyId, job.id)
  }
  const { users } = await iam.state()
  const jobs = countBy(users, ({ tags }) => tags['job-access:job'] ?? '')
  t.same([...jobs].filter(([, count]) => count > 1), [], 'one user a job')
  t.equal(users.length, load.jobs.filter(({ ended }) => !ended).length + 40)
})
