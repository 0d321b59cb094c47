import { once } from 'node:events'
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import { Client } from 'pg'
import t, { type Test } from 'tap'
import { LedgerUnavailableError, type GrantFilter, type Ledger } from '../../../src/ledger/ledger.ts'
import { openLedger } from '../../../src/ledger/open.ts'
import { pageOf } from '../../../src/ledger/page.ts'
import { openPostgres } from '../../../src/ledger/postgres.ts'
import { sql } from '../../../src/ledger/rows.ts'
import { freePort } from '../../servers/daemon.ts'
import { freshDatabase, startPostgres } from '../../servers/postgres.ts'
import { contract } from '../../ledger/contract.ts'
import { begun, event, newGrant, start, unlimited } from '../../ledger/grants.ts'

// It creates many databases, and the machine may be busy.
t.setTimeout(300_000)

const server = await startPostgres()
t.teardown(() => server.stop())

// Teardowns run in reverse order: ledgers, this client, the database.
async function fresh (t: Test) {
  const database = await freshDatabase(server.url)
  t.teardown(() => database.drop())
  const client = new Client({ connectionString: database.url })
  await client.connect()
  t.teardown(() => client.end())
  return {
    url: database.url,
    open: () => opened(t, database.url),
    query: async (text: string) => (await client.query(text)).rows as Array<Record<string, unknown>>
  }
}

async function opened (t: Test, url: string, poolSize = 10): Promise<Ledger> {
  const ledger = await openLedger({ url, poolSize })
  t.teardown(() => ledger.close())
  return ledger
}

await t.test('contract', (t) => contract(t, fresh))

await t.test('a command beside the service makes no ledger in a wrong database', async (t) => {
  const { url, open, query } = await fresh(t)
  const there = () => query("select relname from pg_class where relnamespace = 'public'::regnamespace")
  await t.rejects(openLedger({ url, mustExist: true }), { name: 'LedgerUrlError', message: /no ledger in this database.*DATABASE_URL/ })
  t.strictSame(await there(), [], 'nothing was made')
  await open()
  const ledger = await openLedger({ url, mustExist: true })
  await ledger.close()
})

await t.test('the history cannot be truncated', async (t) => {
  const { open, query } = await fresh(t)
  const ledger = await open()
  await begun(ledger)
  for (const text of ['truncate grant_events', 'truncate grants cascade']) {
    await t.rejects(query(text), { message: /append-only|never/ }, text)
  }
  t.equal((await ledger.list({}, { limit: 9 })).length, 1)
})

await t.test('connections that the server closes', async (t) => {
  const { open, query } = await fresh(t)
  const ledger = await open()
  const grant = await begun(ledger)
  const endAll = () => query(`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'job-access' and datname = current_database()`)

  // Idle connections: the pool notices, and the process continues.
  await Promise.all(Array.from({ length: 8 }, () => ledger.ping()))
  t.ok((await endAll()).length > 0)
  await recovered(ledger)

  // A connection in use, inside a transaction.
  await query('begin')
  await query(`select * from grants where id = '${grant.id}' for update`)
  const stuck = ledger.update(grant, { attempts: 1 }, event('x'), start).catch((error) => error)
  await waiting(query)
  await endAll()
  t.type(await stuck, LedgerUnavailableError)
  await query('commit')
  await recovered(ledger)
  t.strictSame(await ledger.get(grant.id), grant, 'nothing was written')
  t.match(await ledger.update(grant, { attempts: 1 }, event('x'), start), { version: 2 })
})

await t.test('another transaction holds a lock too long', async (t) => {
  const { url, query } = await fresh(t)
  const ledger = await opened(t, `${url}?lock_timeout=200`)
  const grant = await begun(ledger, { idempotencyKey: 'k' })
  await query('begin')
  await query("select * from grant_counts where owner = '' for update")
  await t.rejects(ledger.begin(newGrant(), event('pending'), unlimited), LedgerUnavailableError)
  t.match(await ledger.update(grant, {}, event('x'), start), { version: 2 }, 'an update without a change of the counts still works')
  const repeat = await ledger.begin(newGrant({ idempotencyKey: 'k' }), event('pending'), unlimited)
  t.equal(repeat.outcome, 'existing')
  t.equal((await ledger.begin(newGrant(), event('pending'), { perOwner: 1, total: 9 })).outcome, 'limited')
  t.equal((await ledger.claimDue(start + 60_000, start + 60_001, 1)).length, 1)
  await query('commit')
  await begun(ledger)
})

await t.test('each commit is synced to the disk, whatever the server’s default is', async (t) => {
  const { url, query } = await fresh(t)
  await query(`alter database ${new URL(url).pathname.slice(1)} set synchronous_commit = off`)
  const store = await openPostgres(url, 1)
  t.teardown(() => store.close())
  t.strictSame(await store.query(sql`show synchronous_commit`), [{ synchronous_commit: 'on' }])
})

await t.test('a primary that became a standby', async (t) => {
  const { url, query } = await fresh(t)
  const ledger = await opened(t, url, 1)
  const name = new URL(url).pathname.slice(1)
  const grant = await begun(ledger)
  // From now on, new connections answer a write as a standby does.
  await query(`alter database ${name} set default_transaction_read_only = on`)
  await query(`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'job-access' and datname = current_database()`)
  await recovered(ledger, () => ledger.get(grant.id))
  await t.rejects(ledger.update(grant, {}, event('x'), start), LedgerUnavailableError)
  await t.rejects(ledger.ping(), LedgerUnavailableError, 'ready means that it takes a write')
  await t.rejects(ledger.begin(newGrant(), event('pending'), unlimited), LedgerUnavailableError)
  await query(`alter database ${name} reset default_transaction_read_only`)
  t.match(await ledger.update(grant, {}, event('x'), start), { version: 2 }, 'on a new connection')
})

await t.test('claimDue skips grants that another transaction has locked', async (t) => {
  const { open, query } = await fresh(t)
  const ledger = await open()
  const locked = await begun(ledger, { dueAt: start })
  const free = await begun(ledger, { dueAt: start + 1 })
  await query('begin')
  await query(`select * from grants where id = '${locked.id}' for update`)
  t.strictSame((await ledger.claimDue(start + 5, start + 9, 5)).map(({ id }) => id), [free.id])
  await query('commit')
  t.strictSame((await ledger.claimDue(start + 5, start + 9, 5)).map(({ id }) => id), [locked.id])
})

await t.test('claimDue returns grants in order, whatever the plan is', async (t) => {
  const { open } = await fresh(t)
  const ledger = await open()
  for (let at = 40; at > 0; at--) await begun(ledger, { dueAt: start + at })
  const claimed = await ledger.claimDue(start + 99, start + 100, 25)
  t.strictSame(claimed.map(({ dueAt }) => dueAt), Array.from({ length: 25 }, (_, index) => start + index + 1))
})

interface Plan { 'Relation Name'?: string, 'Actual Rows': number, 'Actual Loops': number, 'Rows Removed by Filter'?: number, Plans?: Plan[] }

/** How many rows of tables a statement has read, those that it passed over, too. */
const rowsRead = (plan: Plan): number =>
  (plan['Relation Name'] === undefined ? 0 : (plan['Actual Rows'] + (plan['Rows Removed by Filter'] ?? 0)) * plan['Actual Loops']) +
  (plan.Plans ?? []).reduce((sum, part) => sum + rowsRead(part), 0)

await t.test('a page of jobs reads none of their workers', async (t) => {
  const { url, open, query } = await fresh(t)
  const ledger = await open()
  for (let job = 0; job < 20; job++) {
    const { id } = await begun(ledger, { jobId: 'j', maxWorkers: 512 })
    const columns = Object.keys((await query('select * from grants limit 1'))[0] ?? {})
    // Each before the next job, in the order of ids.
    const values = columns.map((column) =>
      ({ id: "id || '-' || lpad(n::text, 4, '0')", parent_id: 'id', worker: "'w-' || n", max_workers: 'null' })[column] ?? column)
    await query(`insert into grants (${columns.join()}) select ${values.join()} from grants, generate_series(1, 512) n where id = '${id}'`)
  }
  await query('analyze grants')
  const { query: ask, close } = await openPostgres(url, 1)
  t.teardown(close)
  const many = Array.from({ length: 200 }, (_, index) => index === 0 ? 'nlp' : `team-${index}`)
  const filters: GrantFilter[] = [
    {}, { teams: ['nlp'] }, { states: ['pending'] }, { teams: ['nlp', 'vision'], states: ['pending', 'active'] }, { jobId: 'j' }, { teams: many }
  ]
  for (const filter of filters) {
    let asked = sql``
    const page = await pageOf((statement) => ask(asked = statement), { ...filter, parentId: null }, { limit: 5 })
    t.equal(page.length, 5, JSON.stringify(filter))
    const [explained] = await ask<{ 'QUERY PLAN': [{ Plan: Plan }] }>(sql`explain (analyze, format json) ${asked}`)
    const plan = explained?.['QUERY PLAN'][0].Plan as Plan
    t.ok(rowsRead(plan) <= 40, `${JSON.stringify(filter)}: ${rowsRead(plan)} rows\n${JSON.stringify(plan, null, 1)}`)
  }
})

await t.test('the recount at start waits for a transaction that is counting', async (t) => {
  const { open, query } = await fresh(t)
  const ledger = await open()
  await begun(ledger)
  await query('begin')
  await query('delete from grant_counts')
  await query("insert into grant_counts values ('', 1), ('token:ci', 1)")
  const starting = open()
  await waiting(query)
  await query('commit')
  await starting
  t.strictSame(await query('select * from grant_counts order by owner'),
    [{ owner: '', outstanding: '1' }, { owner: 'token:ci', outstanding: '1' }])
})

await t.test('a network that stops answering', async (t) => {
  const { url, query } = await fresh(t)
  const proxy = await proxied(t, url)
  // Settings in the URL take precedence, so that the test need not wait for the service's seven seconds.
  const ledger = await opened(t, `${proxy.url}?query_timeout=300`, 2)
  const grant = await begun(ledger)
  await Promise.all([ledger.ping(), ledger.ping()])
  proxy.silence(true)
  await t.rejects(ledger.get(grant.id), LedgerUnavailableError)
  await t.rejects(ledger.update(grant, { attempts: 1 }, event('x'), start), LedgerUnavailableError)
  proxy.silence(false)
  t.strictSame(await ledger.get(grant.id), grant, 'on a new connection: the unanswered one was closed')
  await begun(ledger)
  const { length } = await query("select 1 from pg_stat_activity where application_name = 'job-access' and state like 'idle in%'")
  t.equal(length, 0)
})

await t.test('an answer that is lost after the commit', async (t) => {
  const { url } = await fresh(t)
  const proxy = await proxied(t, url)
  const ledger = await opened(t, `${proxy.url}?query_timeout=300`, 1)
  const grant = await begun(ledger)
  proxy.dropAnswersTo('update grants')
  await t.rejects(ledger.update(grant, { attempts: 5 }, event('x'), start), LedgerUnavailableError)
  proxy.dropAnswersTo(undefined)
  t.match(await ledger.get(grant.id), { attempts: 5, version: 2 })
  t.equal((await ledger.events(grant.id)).length, 2)

  const asked = newGrant({ idempotencyKey: 'k' })
  proxy.dropAnswersTo('commit')
  await t.rejects(ledger.begin(asked, event('pending'), unlimited), LedgerUnavailableError)
  proxy.dropAnswersTo(undefined)
  t.match(await ledger.begin(asked, event('pending'), unlimited), { outcome: 'existing', grant: { id: asked.id } })
})

await t.test('after a query without an answer, no second query is waited for', async (t) => {
  const { url } = await fresh(t)
  const proxy = await proxied(t, url)
  const timeoutMs = 1500
  const ledger = await opened(t, `${proxy.url}?query_timeout=${timeoutMs}`, 1)
  await ledger.ping()
  proxy.dropAnswersTo('commit')
  const asked = performance.now()
  await t.rejects(ledger.begin(newGrant(), event('pending'), unlimited), LedgerUnavailableError)
  t.ok(performance.now() - asked < 2 * timeoutMs, 'the rollback would have been a second wait')
})

await t.test('a server that cannot be reached, or refuses the connection', async (t) => {
  const { url } = await fresh(t)
  const closed = createServer()
  closed.listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const { port } = closed.address() as AddressInfo
  closed.close()
  const missing = new URL(url)
  missing.pathname = '/none_such'
  for (const url of [`postgres://ci:hunter2@127.0.0.1:${port}/db`, withPassword(missing.href)]) {
    const error = await openLedger({ url }).catch((error) => error)
    t.type(error, LedgerUnavailableError)
    t.ok(error.cause, 'has a cause')
    secretless(t, error)
  }
  for (const url of ['postgres://ci:hunter2@[nonsense/db', 'postgres://ci:hunter2%ff@127.0.0.1/db',
    'postgres://ci:hunter2@127.0.0.1/db?sslmode=verify-full&sslrootcert=/none/such.pem']) {
    const error = await openLedger({ url }).catch((error) => error)
    t.match(error, { name: 'LedgerUrlError' }, url)
    secretless(t, error)
  }
})

await t.test('a server that stops and starts again', async (t) => {
  const { url } = await fresh(t)
  const proxy = await proxied(t, url)
  const ledger = await opened(t, withPassword(proxy.url))
  const grant = await begun(ledger)
  await proxy.close()
  for (const attempt of [() => ledger.ping(), () => ledger.claim(grant.id, 1, 2), () => begun(ledger)]) {
    const error = await attempt().catch((error) => error)
    t.type(error, LedgerUnavailableError)
    secretless(t, error)
  }
  await proxy.listen()
  await recovered(ledger)
})

function withPassword (url: string): string {
  return Object.assign(new URL(url), { password: 'hunter2' }).href
}

function secretless (t: Test, error: unknown): void {
  t.notMatch(inspect(error, { depth: 9, showHidden: true }), 'hunter2')
  t.notMatch(inspect(error, { depth: 9, showHidden: true }), 'postgres://')
}

/** Resolves when several concurrent connections work again, after a few attempts at most. */
async function recovered (ledger: Ledger, ask: () => Promise<unknown> = () => ledger.ping()): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await Promise.all(Array.from({ length: 8 }, ask))
      return
    } catch (error) {
      if (!(error instanceof LedgerUnavailableError) || attempt === 10) throw error
    }
  }
}

/** Resolves when a statement waits for a lock. */
async function waiting (query: (text: string) => Promise<unknown[]>): Promise<void> {
  for (let attempt = 0; attempt < 1000; attempt++) {
    // Inside a transaction, the view would otherwise stay as it was at its first use.
    await query('select pg_stat_clear_snapshot()')
    const rows = await query("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")
    if (rows.length > 0) return
    await delay(20)
  }
  throw new Error('nothing waits for a lock')
}

/** A proxy to the server that can drop traffic. */
async function proxied (t: Test, url: string) {
  const { hostname, port: serverPort } = new URL(url)
  const sockets = new Set<Socket>()
  let silent = false
  let dropAfter: string | undefined
  const server = createServer((inner) => {
    const outer = connect(Number(serverPort), hostname)
    let dropped = silent
    const isDropped = () => dropped || (silent && (dropped = true))
    for (const socket of [inner, outer]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', () => {
        sockets.delete(socket)
        inner.destroy()
        outer.destroy()
      })
    }
    inner.on('data', (data) => {
      if (isDropped()) return
      outer.write(data)
      if (dropAfter !== undefined && data.includes(dropAfter)) dropped = true
    })
    outer.on('data', (data) => { if (!isDropped()) inner.write(data) })
  })
  // Nobody else takes it while this is closed.
  const port = await freePort('127.0.0.1')
  const listen = async () => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  await listen()
  const close = async () => {
    server.close()
    for (const socket of sockets) socket.destroy()
    if (server.listening) await once(server, 'close')
  }
  t.teardown(close)
  return {
    url: Object.assign(new URL(url), { port: String(port) }).href,
    /** Drops all traffic. Connections with dropped traffic never work again, as when a NAT forgets them. */
    silence: (value: boolean) => { silent = value },
    /** Drops everything after a query with this text, so that its answer is lost. */
    dropAnswersTo: (text: string | undefined) => { dropAfter = text },
    close,
    listen
  }
}
