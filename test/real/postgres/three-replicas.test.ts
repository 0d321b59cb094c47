import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createIam, type Key } from '../../../src/iam/client.ts'
import { openLedger } from '../../../src/ledger/open.ts'
import { guideRequest } from '../../../src/request.ts'
import { makeDir, service, startIam } from '../../kill/processes.ts'
import { freshDatabase, startPostgres } from '../../servers/postgres.ts'

/** Three replicas on one PostgreSQL. One of them is killed while all of them issue; each request is sent once, to one of them. */

t.setTimeout(300_000)

const server = await startPostgres()
t.teardown(() => server.stop())
const database = await freshDatabase(server.url)
t.teardown(() => database.drop())
const iam = await startIam(20)
t.teardown(() => iam.stop())
const dir = makeDir()
t.teardown(() => dir.remove())
const ledgerUrl = { DATABASE_URL: database.url }
const replicas = await Promise.all(['a', 'b', 'c'].map(name => service({ iam, dir, name, ledger: ledgerUrl })))
t.teardown(() => Promise.all(replicas.map(replica => replica.kill())))
await Promise.all(replicas.map(replica => replica.start()))
const ledger = await openLedger({ url: database.url, poolSize: 2 })
t.teardown(() => ledger.close())
const client = createIam({ region: 'us-east-1', endpoint: iam.url, stsEndpoint: iam.url, credentials: iam.admin })
t.teardown(() => client.close())

interface Answer { grant?: { id: string }, credentials?: Key, state?: string, code?: string }

const send = async (replica: number, method: string, path: string, body?: object): Promise<{ status: number, body: Answer }> => {
  const response = await fetch(`${replicas[replica % 3]?.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${dir.token}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) })
  })
  return { status: response.status, body: await response.json() as Answer }
}

const userOf = (key: Key) => client.callerIdentity(key, Date.now() + 10_000).then(arn => arn.slice(arn.lastIndexOf('/') + 1), () => undefined)
const eventually = async (isSo: () => Promise<boolean>): Promise<boolean> => {
  for (const giveUpAt = Date.now() + 60_000; Date.now() < giveUpAt; await delay(250)) if (await isSo()) return true
  return false
}
const all = async () => {
  const rows = []
  for (let page = await ledger.list({}, { limit: 200 }); page.length > 0; page = await ledger.list({}, { limit: 200, after: page.at(-1)?.id ?? '' })) {
    rows.push(...page)
  }
  return rows
}

const acknowledged = new Map<string, { id: string, key: Key }>()
const unanswered: string[] = []

await t.test('killed in the middle of issues', async t => {
  let jobs = 0
  const over = new AbortController()
  const work = async (turn: number) => {
    for (; !over.signal.aborted; turn++) {
      const id = `job-${jobs++}`
      try {
        const { status, body } = await send(turn, 'POST', '/v1/grants', { ...guideRequest, job: { id, team: 'nlp' } })
        if (status === 201 && body.grant && body.credentials) acknowledged.set(id, { id: body.grant.id, key: body.credentials })
        else t.fail(`${id}: ${status} ${body.code}`)
      } catch {
        unanswered.push(id)
        await delay(50)
      }
    }
  }
  const clients = Array.from({ length: 12 }, (_, index) => work(index))
  while (acknowledged.size < 40) await delay(10)
  await replicas[1]?.kill()
  const before = acknowledged.size
  while (acknowledged.size < before + 40) await delay(10)
  over.abort()
  await Promise.all(clients)
  t.ok(unanswered.length > 0, `${acknowledged.size} answered, ${unanswered.length} not`)
})

await t.test('what was acknowledged is whole: its key works, and it can be ended', async t => {
  for (const [job, { id, key }] of acknowledged) {
    const row = await ledger.get(id)
    t.match(row, { state: 'active', jobId: job, accessKeyId: key.accessKeyId })
    if (await userOf(key) !== row?.principal.name) t.fail(`${job}: its key is not that of its user`)
  }
  for (const [index, { id, key }] of [...acknowledged.values()].entries()) {
    if (index % 2 === 0) continue
    const { status, body } = await send(index % 4 === 1 ? 0 : 2, 'POST', `/v1/grants/${id}/complete`)
    t.match([status, body.state], [200, 'revoked'])
    t.equal(await userOf(key), undefined, 'its key is dead')
  }
})

await t.test('what was not acknowledged leaves no key, and each grant is swept once', async t => {
  await replicas[1]?.start()
  const kept = new Set([...acknowledged.values()].map(({ id }) => id))
  const lost = () => all().then(rows => rows.filter(({ id }) => !kept.has(id)))
  t.ok(await eventually(async () => (await lost()).every(({ state, dueAt }) => state === 'active' || dueAt === null || state === 'revoking')))
  // Those whose answer alone was lost are complete, and end with their window, as those do that nobody has completed.
  const live = (await all()).filter(({ state }) => state === 'active')
  t.ok(live.length >= acknowledged.size / 2 - 1)
  for (const [index, { id }] of live.entries()) {
    const notAfter = new Date(Date.now() + 10_000).toISOString().replace(/\.\d+/, '')
    const { status, body } = await send(index, 'PATCH', `/v1/grants/${id}`, { window: { notAfter } })
    t.equal(status, 200, `${body.code}`)
  }
  const swept = new Set(live.map(({ id }) => id))
  t.ok(await eventually(async () => (await all()).every(({ id, state }) => swept.has(id) ? state === 'expired' : state !== 'pending')))
  const keys = () => iam.state().then(({ users }) => users.flatMap(({ keys }) => keys))
  t.ok(await eventually(async () => (await keys()).length === 0), 'no key is left')
  const calls = await iam.calls()
  for (const { id, principal: { name } } of live) {
    const deletions = calls.filter(({ action, params }) => action === 'DeleteUser' && params.UserName === name)
    t.equal(deletions.length, 1, `${name} was deleted once`)
    const events = (await ledger.events(id)).map(({ action }) => action)
    t.same(events.filter(action => action === 'revoking' || action === 'expired'), ['revoking', 'expired'])
  }
  const sweepers = new Set([...dir.written().matchAll(/^.*"grant\.expire".*$/gm)].map(([line]) => /"instance":"(\w+)"/.exec(line)?.[1]))
  t.comment(`swept by ${[...sweepers].join(' ')}`)
})
