import t from 'tap'
import { startTestIam } from '../../embedded-iam/levers/start.ts'
import { guideJob } from '../../harness.ts'
import { samples } from '../../metrics/scrape.ts'
import { freePort } from '../../servers/daemon.ts'
import { freshDatabase, startPostgres } from '../../servers/postgres.ts'
import { startService } from '../service.ts'

t.setTimeout(300_000)

interface Issued {
  grant: { id: string, state: string, principal: { name: string } }
  credentials: { accessKeyId: string } | null
  code?: string
}

t.test('two replicas on one PostgreSQL behind a load balancer are one service', async t => {
  const server = await startPostgres()
  t.teardown(() => server.stop())
  const database = await freshDatabase(server.url)
  t.teardown(() => database.drop())
  const iam = await startTestIam()
  t.teardown(() => iam.stop())
  const metricsPorts = [await freePort('127.0.0.1'), await freePort('127.0.0.1')]
  const replicas = await Promise.all(metricsPorts.map((port, index) => startService(t, {
    provider: 'aws',
    endpoint: iam.url,
    admin: iam.admin,
    env: {
      DATABASE_URL: database.url,
      JOB_ACCESS_LEDGER: '',
      JOB_ACCESS_ALLOW: 'no-boundary',
      JOB_ACCESS_INSTANCE: `replica-${index}`,
      JOB_ACCESS_METRICS_PORT: String(port),
      JOB_ACCESS_MAX_GRANTS: '13',
      JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '13',
      JOB_ACCESS_SWEEP_SECONDS: '1'
    }
  })))
  /** Round robin, request by request. Both replicas know this caller as the same identity. */
  let turn = 0
  const call: (typeof replicas)[number]['call'] = (method, path, body) => {
    const replica = replicas[turn++ % replicas.length]
    if (!replica) throw new Error('no replica')
    return replica.call(method, path, body)
  }
  const job = (id: string, window: object = { durationSeconds: 3600 }) => ({ ...guideJob(), job: { id, team: 'nlp' }, window, attempt: '1' })
  const issue = (...args: Parameters<typeof job>) => call<Issued>('POST', '/v1/grants', job(...args))

  await t.test('what one issued, the other repeats, shows, changes and ends', async t => {
    const first = await issue('one')
    const again = await issue('one')
    t.strictSame([first.status, again.status], [201, 200])
    t.equal(again.body.grant.id, first.body.grant.id)
    t.not(again.body.credentials?.accessKeyId, first.body.credentials?.accessKeyId)
    const { id } = first.body.grant
    t.equal((await call('PATCH', `/v1/grants/${id}`, { window: { durationSeconds: 7200 } })).status, 200)
    t.equal((await call('GET', `/v1/grants/${id}`)).status, 200)
    const done = await call<Issued['grant']>('POST', `/v1/grants/${id}/complete`)
    t.match([done.status, done.body.state], [200, 'revoked'])
    t.equal(iam.state.keyCount, 0)
  })

  await t.test('a storm of the same job makes one user', async t => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => issue('storm')))
    t.ok(answers.every(({ status }) => [200, 201, 409].includes(status)), answers.map(({ status }) => status).join())
    t.equal(answers.filter(({ status }) => status === 201).length, 1)
    t.equal(iam.calls.filter(({ action }) => action === 'CreateUser').length, 2, 'this one, and that of the test before')
  })

  await t.test('the ceiling holds over both', async t => {
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => issue(`many-${index}`)))
    const issued = answers.filter(({ status }) => status === 201)
    t.equal(issued.length, 12, '13, with the storm’s')
    t.ok(answers.every(({ status, body }) => status === 201 || (status === 429 && body.code === 'too-many-grants')))
    await Promise.all(issued.map(({ body }) => call('POST', `/v1/grants/${body.grant.id}/complete`)))
  })

  await t.test('what expires is swept once, by either', async t => {
    const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString().replace(/\.\d+/, '')
    const window = { notBefore: inSeconds(-60), notAfter: inSeconds(8) }
    const issued = await Promise.all(Array.from({ length: 8 }, (_, index) => issue(`short-${index}`, window)))
    t.strictSame(issued.map(({ status }) => status), Array(8).fill(201))
    for (const { body: { grant: { id } } } of issued) {
      for (let i = 0; i < 60; i++) {
        if ((await call<Issued['grant']>('GET', `/v1/grants/${id}`)).body.state === 'expired') break
        await new Promise(resolve => setTimeout(resolve, 500))
      }
      const { events } = (await call<{ events: Array<{ action: string }> }>('GET', `/v1/grants/${id}/events`)).body
      t.equal(events.filter(({ action }) => action === 'expired').length, 1, id)
      t.equal(events.filter(({ action }) => action === 'revoking').length, 1, id)
    }
    const deleted = iam.calls.filter(({ action, params }) => action === 'DeleteUser' && /short-/.test(params.UserName ?? ''))
    t.equal(deleted.length, 8, 'no user twice')
  })

  await t.test('each tells its own, and both the same of the ledger', async t => {
    const scraped = await Promise.all(metricsPorts.map(async port => samples(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text())))
    const created = scraped.map(found => found.get('job_access_issues_total{outcome="created"}') ?? 0)
    t.ok(created.every(count => count > 0))
    t.equal(created.reduce((sum, count) => sum + count, 0), 1 + 1 + 12 + 8)
    t.strictSame(scraped.map(found => found.get('job_access_grants{state="expired"}')), [8, 8])
    t.strictSame(scraped.map(found => found.get('job_access_oldest_overdue_grant_seconds')), [0, 0])
  })
})
