import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import type { Readable } from 'node:stream'
import { setImmediate, setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import { LedgerUnavailableError } from '../../src/ledger/ledger.ts'
import { openLedger, type LedgerOptions } from '../../src/ledger/open.ts'
import { raw, sql } from '../../src/ledger/rows.ts'
import { sqlLedger } from '../../src/ledger/sql.ts'
import { openSqlite } from '../../src/ledger/sqlite.ts'
import { contract } from './contract.ts'
import { begun, event, grantIn, newGrant, start, states, unlimited } from './grants.ts'

t.setTimeout(300_000)

const opened = async (t: Test, options: LedgerOptions) => {
  const ledger = await openLedger(options)
  t.teardown(() => ledger.close())
  return ledger
}

await t.test('contract', async (t) => {
  let files = 0
  const dir = t.testdir()
  await contract(t, async (t) => {
    const path = join(dir, `${++files}.db`)
    return {
      open: () => opened(t, { url: path }),
      query: async (text) => {
        const database = new DatabaseSync(path, { timeout: 1000 })
        try {
          return database.prepare(text).all().map((row) => ({ ...row }))
        } finally {
          database.close()
        }
      }
    }
  })
})

await t.test('the error of a failed opening names the code and not the URL', async (t) => {
  const dir = t.testdir({ file: '' })
  const cases: Array<[string, RegExp]> = [
    ['postgres://u:hunter2@127.0.0.1:1/db', /cannot be opened \(ECONNREFUSED\)/],
    [join(dir, 'file', 'a.db'), /cannot be opened \((ENOTDIR|EEXIST)\)/],
    [dir, /cannot be opened \((EISDIR|ERR_SQLITE_ERROR)\)/]
  ]
  for (const [url, message] of cases) {
    const error = await openLedger({ url }).catch((error: unknown) => error)
    t.match(error, { name: 'LedgerUnavailableError', message })
    t.notMatch(String(error), /hunter2|postgres:/)
  }
})

await t.test('forms of the URL', async (t) => {
  const dir = t.testdir()
  for (const url of [join(dir, 'a.db'), `sqlite:${join(dir, 'b.db')}`, `sqlite://${join(dir, 'c.db')}`]) {
    await begun(await opened(t, { url }))
    t.ok(existsSync(url.replace(/^sqlite:(\/\/)?/, '')), url)
  }
  for (const url of [':memory:', 'sqlite::memory:']) {
    await begun(await opened(t, { url }))
    t.equal((await (await opened(t, { url })).list({}, { limit: 1 })).length, 0, 'each has its own database')
  }
  t.notOk(existsSync(':memory:'))
  for (const url of ['', 'sqlite:', 'sqlite://host/a.db', 'mysql://u:hunter2@host/db', 'file:a.db', 'redis://x']) {
    const error = await openLedger({ url }).catch((error) => error)
    t.match(error, { name: 'LedgerUrlError' }, url)
    t.notMatch(inspect(error, { depth: 9, showHidden: true }), 'hunter2')
  }
})

await t.test('a command beside the service makes no ledger in a wrong file', async (t) => {
  const url = join(t.testdir({ 'other.db': '' }), 'other.db')
  await t.rejects(openLedger({ url, mustExist: true }), { name: 'LedgerUrlError', message: /no ledger in this database.*JOB_ACCESS_LEDGER/ })
  await begun(await opened(t, { url }))
  await opened(t, { url, mustExist: true })
  await opened(t, { url: ':memory:', mustExist: true })
})

await t.test('only the owner can read the files', async (t) => {
  const dir = t.testdir()
  const path = join(dir, 'new', 'deep', 'ledger.db')
  const ledger = await opened(t, { url: path })
  await begun(ledger)
  for (const file of [path, `${path}-wal`, `${path}-shm`]) t.equal(statSync(file).mode & 0o777, 0o600, file)
  t.equal(statSync(join(dir, 'new', 'deep')).mode & 0o777, 0o700)

  const loose = join(dir, 'loose.db')
  writeFileSync(loose, '')
  chmodSync(loose, 0o644)
  await begun(await opened(t, { url: loose }))
  for (const file of [loose, `${loose}-wal`, `${loose}-shm`]) t.equal(statSync(file).mode & 0o777, 0o600, file)
})

await t.test('each commit is synced to the disk', async (t) => {
  const store = await openSqlite(join(t.testdir(), 'ledger.db'), 100)
  t.teardown(() => store.close())
  const pragma = async (name: string) =>
    Object.values((await store.query<Record<string, unknown>>(raw(`pragma ${name}`)))[0] ?? {})[0]
  t.equal(await pragma('journal_mode'), 'wal')
  t.equal(await pragma('synchronous'), 2)
  t.equal(await pragma('foreign_keys'), 1)
})

await t.test('no grant begins in a file that was moved, until it is back', async (t) => {
  const path = join(t.testdir(), 'ledger.db')
  const ledger = await opened(t, { url: path })
  await begun(ledger)
  renameSync(path, `${path}.old`)
  await t.rejects(begun(ledger), new LedgerUnavailableError('The ledger’s file was deleted, moved or replaced.'))
  await t.rejects(ledger.ping(), LedgerUnavailableError)
  writeFileSync(path, '')
  await t.rejects(begun(ledger), LedgerUnavailableError)
  renameSync(`${path}.old`, path)
  await begun(ledger)
})

await t.test('what a caller sends is a value, also where it has the shape of a part of a statement', async (t) => {
  const ledger = await opened(t, { url: ':memory:' })
  await begun(ledger)
  const everything = { text: '? or true', values: ['x'] }
  await t.rejects(ledger.list({ jobId: everything as never }, { limit: 9 }))
  t.same(await ledger.list({ jobId: '? or true' }, { limit: 9 }), [])
})

await t.test('writes share a commit; a failed write does not roll back the others', async (t) => {
  const dir = t.testdir()
  const ledger = await opened(t, { url: join(dir, 'ledger.db') })
  const walSize = () => statSync(join(dir, 'ledger.db-wal')).size
  const taken = await begun(ledger)
  const before = walSize()
  const alone = await begun(ledger).then(() => walSize() - before)
  // As with requests that arrive together: each in its own callback, in one turn of the event loop.
  const results = await Promise.allSettled(Array.from({ length: 30 }, async (_, index) => {
    await setImmediate()
    return begun(ledger, index === 7 ? { id: taken.id } : {})
  }))
  t.strictSame(results.flatMap(({ status }, index) => status === 'rejected' ? [index] : []), [7])
  t.equal((await ledger.list({}, { limit: 99 })).length, 31)
  t.ok(walSize() - before < alone * 15, 'the log grew by far less than with 30 commits')
})

await t.test('a commit waits for the writes of later turns while each turn brings one', async (t) => {
  const store = await openSqlite(join(t.testdir(), 'ledger.db'), 100)
  t.teardown(() => store.close())
  let turns = 0
  const settledIn: number[] = []
  const writes: Promise<number>[] = []
  while (turns < 200) {
    // Begun before the ledger's own wait, so that the next write comes in the turn for which the ledger waits.
    const next = setImmediate()
    const owner = `owner ${turns}`
    const write = store.write((tx) => tx(sql`insert into grant_counts (owner, outstanding) values (${owner}, 0)`))
    writes.push(write.then(() => settledIn.push(turns)))
    await next
    turns++
  }
  // Without an end of the writes, the first ones would not wait for it.
  t.ok(settledIn.length > 0, 'and goes on without the rest')
  await Promise.all(writes)
  const written = await store.query(sql`select owner from grant_counts where owner like 'owner %'`)
  t.equal(written.length, 200)
  t.ok(new Set(settledIn).size < 50, `${new Set(settledIn).size} commits`)
})

await t.test('a read sees nothing of a write that may still be rolled back', async (t) => {
  const store = await openSqlite(join(t.testdir(), 'ledger.db'), 100)
  t.teardown(() => store.close())
  const ledger = sqlLedger(store)
  const grant = await begun(ledger)
  const reads: Array<ReturnType<typeof ledger.get>> = []
  await t.rejects(store.write(async (tx) => {
    await tx(sql`update grants set attempts = 7 where id = ${grant.id}`)
    reads.push(ledger.get(grant.id))
    await setImmediate()
    throw new Error('given up')
  }), /given up/)
  t.strictSame(await Promise.all(reads), [grant])
})

await t.test('when the commit fails, none of its writes is acknowledged or stored', async (t) => {
  const path = join(t.testdir(), 'ledger.db')
  const store = await openSqlite(path, 100)
  t.teardown(() => store.close())
  const ledger = sqlLedger(store)
  const kept = await begun(ledger)
  const [pages] = await store.query<{ page_count: number }>(sql`pragma page_count`)
  // Fails some write in the middle, as a full disk does.
  await store.query(raw(`pragma max_page_count = ${(pages?.page_count ?? 0) + 4}`))
  const big = 'x'.repeat(3000)
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => begun(ledger, { attempt: big })))
  const refused = results.filter((result) => result.status === 'rejected')
  t.ok(refused.length > 0)
  for (const { reason } of refused) t.type(reason, LedgerUnavailableError)
  const stored = (await ledger.list({}, { limit: 99 })).map(({ id }) => id).sort()
  const acknowledged = results.flatMap((result) => result.status === 'fulfilled' ? [result.value.id] : [])
  t.strictSame(stored, [kept.id, ...acknowledged].sort(), 'exactly the acknowledged grants are stored')

  await store.query(sql`pragma max_page_count = 100000`)
  await begun(ledger)
})

await t.test('close waits for writes in progress', async (t) => {
  const path = join(t.testdir(), 'ledger.db')
  const ledger = await openLedger({ url: path })
  const grant = await begun(ledger)
  const writing = ledger.update(grant, { attempts: 9 }, event('x'), start)
  await ledger.close()
  await writing
  t.match(await (await opened(t, { url: path })).get(grant.id), { attempts: 9 })
})

await t.test('another process has the file locked', async (t) => {
  const path = join(t.testdir(), 'ledger.db')
  const ledger = await opened(t, { url: path, busyTimeoutMs: 60_000 })
  const hasty = await opened(t, { url: path, busyTimeoutMs: 50 })
  const grant = await begun(ledger)
  const holder = script(t, 'hold-lock.ts', path)
  await once(holder.stdout, 'data')

  await t.rejects(hasty.update(grant, {}, event('x'), start), LedgerUnavailableError)
  t.match(await ledger.get(grant.id), { version: 1 }, 'reads still work')
  const written = begun(ledger)
  for (let turns = 0; turns < 10; turns++) await delay(5)
  t.pass('the event loop turns while the write waits')
  holder.kill('SIGTERM')
  await once(holder, 'exit')
  await written
  await hasty.update(grant, {}, event('x'), start)
})

await t.test('several processes claim at once: each grant is claimed once', async (t) => {
  const url = join(t.testdir(), 'ledger.db')
  const ledger = await opened(t, { url })
  for (const way of ['by id', 'due']) {
    const ids = (await Promise.all(Array.from({ length: 150 }, () => begun(ledger)))).map(({ id }) => id)
    const claims = await Promise.all([ids, ids.toReversed(), ids].map(async (inOrder) => {
      const child = spawn(process.execPath, [join(import.meta.dirname, 'claim-all.ts'), url, way, ...inOrder], { stdio: ['pipe', 'pipe', 'inherit'] })
      t.teardown(() => child.kill('SIGKILL'))
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
      t.equal((await lines.next()).value, 'ready')
      return { child, lines }
    }))
    for (const { child } of claims) child.stdin.write('go')
    const claimed: string[] = []
    await Promise.all(claims.map(async ({ lines }) => { for await (const line of lines) claimed.push(line) }))
    t.strictSame(claimed.sort(), ids.toSorted(), way)
  }
})

await t.test('kill -9: every acknowledged grant is stored', async (t) => {
  const path = join(t.testdir(), 'ledger.db')
  const acknowledged: string[] = []
  for (let round = 0; round < 6; round++) {
    const child = script(t, 'acknowledge.ts', path, `round-${round}`)
    const lines = createInterface(child.stdout)
    let seen = 0
    lines.on('line', (line) => {
      acknowledged.push(line)
      if (++seen === 10 + round * 7) child.kill('SIGKILL')
    })
    const closed = once(lines, 'close')
    const [, signal] = await once(child, 'exit')
    t.equal(signal, 'SIGKILL')
    await closed
  }
  const ledger = await opened(t, { url: path })
  for (const id of acknowledged) {
    const grant = await ledger.get(id)
    if (!grant) t.fail(`${id} was acknowledged and is lost`)
    if ((await ledger.events(id)).length !== 1) t.fail(`${id} has no event`)
  }
  t.ok(acknowledged.length > 100)
  const database = new DatabaseSync(path)
  t.teardown(() => database.close())
  t.match(database.prepare('pragma integrity_check').get(), { integrity_check: 'ok' })
  const { outstanding } = database.prepare("select outstanding from grant_counts where owner = ''").get() ?? {}
  t.equal(outstanding, database.prepare('select count(*) as n from grants').get()?.n)
})

await t.test('a file that is not a ledger', async (t) => {
  const dir = t.testdir({ 'text.db': 'not a database, but long enough to look at '.repeat(99) })
  mkdirSync(join(dir, 'folder.db'))
  for (const name of ['text.db', 'folder.db']) {
    await t.rejects(openLedger({ url: join(dir, name) }), LedgerUnavailableError, name)
  }
})

await t.test('every statement uses an index', async (t) => {
  const texts = new Set<string>()
  const prepare = DatabaseSync.prototype.prepare
  DatabaseSync.prototype.prepare = function (text, ...rest) {
    texts.add(text)
    return prepare.call(this, text, ...rest)
  }
  t.teardown(() => { DatabaseSync.prototype.prepare = prepare })
  const path = join(t.testdir(), 'ledger.db')
  const ledger = await opened(t, { url: path })
  texts.clear()

  const grant = await grantIn(ledger, 'revoked', { idempotencyKey: 'k' })
  await ledger.begin(newGrant({ idempotencyKey: 'k' }), event('pending'), unlimited)
  await ledger.claim(grant.id, 1, 2)
  await ledger.claimDue(1, 2, 3)
  await ledger.known(['a', 'b'])
  await ledger.stats(1)
  await ledger.events(grant.id)
  const jobs = { parentId: null }
  const manyTeams = Array.from({ length: 200 }, (_, index) => `team-${index}`)
  const filters = [
    {}, { states: ['active' as const] }, { states }, { parentId: 'p' }, { parentId: 'p', worker: 'w', states: ['active' as const] },
    jobs, { ...jobs, teams: ['a'] }, { ...jobs, teams: ['a', 'b'] }, { ...jobs, states: ['active' as const] }, { ...jobs, states },
    { ...jobs, jobId: 'j' }, { ...jobs, teams: ['a', 'b'], states: ['active' as const, 'failed' as const] },
    { ...jobs, teams: ['a'], jobId: 'j' }, { ...jobs, teams: ['a'], states: ['active' as const], jobId: 'j' },
    { ...jobs, teams: manyTeams }, { ...jobs, teams: manyTeams, states: ['active' as const] }
  ]
  for (const filter of filters) {
    await ledger.list(filter, { limit: 9 })
    await ledger.list(filter, { limit: 9, after: 'x' })
  }
  const statements = [...texts].map((text) => text.replace(/\s+/g, ' ').trim())
  const intended: Array<[RegExp, string]> = [
    [/principal_name in/, 'grants_by_principal'],
    [/due_at <=/, 'grants_due'],
    [/min\(expires_at\)/, 'grants_by_expiry'],
    [/^select \* .*job_id =/, 'jobs_by_job_id'],
    [/team = \? and state = /, 'jobs_by_team_and_state'],
    [/where team = /, 'jobs_by_team'],
    [/where state = \? and parent_id is null/, 'jobs_by_state'],
    [/where state = /, 'grants_by_state'],
    [/^select \* .*parent_id =/, 'grants_by_parent']
  ]

  const database = new DatabaseSync(path)
  t.teardown(() => database.close())
  t.ok(statements.length > 25)
  for (const text of statements.filter((text) => /^(select|insert|update|with)\b/.test(text))) {
    const plan = prepare.call(database, `explain query plan ${text}`).all().map(({ detail }) => String(detail))
    const [, index] = intended.find(([part]) => part.test(text)) ?? []
    if (index !== undefined) t.ok(plan.some((step) => step.includes(` INDEX ${index} `)), `${text} by ${index}`)
    // Only a page of all grants may scan all grants. Scans of derived tables read at most `limit` ids.
    const filtered = /\b(team|state|job_id|owner|due_at|principal_name|grant_id) (=|<=|in) /.test(text)
    for (const step of plan) t.notMatch(step, filtered ? /SCAN grant/ : /SCAN grant\w+$/, text)
    if (/from grants .*order by id desc limit/.test(text) && !text.includes('union all')) {
      t.notOk(plan.some((step) => step.includes('USE TEMP B-TREE FOR ORDER BY')), `no sort: ${text}\n${plan.join('\n')}`)
    }
  }
})

function script (t: Test, name: string, ...args: string[]): ChildProcessByStdio<null, Readable, null> {
  const child = spawn(process.execPath, [join(import.meta.dirname, name), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await Promise.race([once(child, 'exit'), delay(5000)])
  })
  return child
}
