import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Grant, GrantState } from '../src/domain/grant.ts'
import type { Ledger } from '../src/ledger/ledger.ts'
import { openPostgres } from '../src/ledger/postgres.ts'
import { columnsOf, list, raw, sql, type GrantRow } from '../src/ledger/rows.ts'
import { sqlLedger, type Store } from '../src/ledger/sql.ts'
import { openSqlite } from '../src/ledger/sqlite.ts'
import { changeTo, event, isEnd, newGrant, start, unlimited } from '../test/ledger/grants.ts'
import { freshDatabase, startPostgres, type Database } from '../test/servers/postgres.ts'

/**
 * What the ledger's operations cost at 1k, 10k and 100k grants: node bench/ledger.ts [--rounds 60] [--sizes 1000,…] [--only sqlite]
 * PostgreSQL: three databases on the server of BENCH_DATABASE_URL, else on a throw-away one (which does not sync: see its file).
 * The sizes take turns, so that whatever else the machine does falls on all of them.
 */
const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '60' },
    sizes: { type: 'string', default: '1000,10000,100000' },
    only: { type: 'string' }
  }
})
const rounds = Number(options.rounds)
const sizes = options.sizes.split(',').map(Number)

interface Subject { size: number, ledger: Ledger, middle: string }

/** One team in twelve, one job in two hundred grants, nine grants in ten ended; half of the rest is due. */
function filling (index: number): GrantRow {
  const grant = newGrant({ team: `team-${index % 12}`, jobId: `job-${Math.floor(index / 200)}`, owner: `token:${index % 5}` })
  const state: GrantState = index % 10 === 0 ? (['pending', 'active', 'revoking'] as const)[index % 3] ?? 'active' : 'expired'
  return columnsOf({
    ...grant,
    state,
    policy: policyOfUsualSize,
    dueAt: isEnd(state) ? null : start + (index % 20 === 0 ? -1_000_000 + index : 1e9),
    updatedAt: start,
    version: 1
  }) as GrantRow
}

const policyOfUsualSize: Grant['policy'] = {
  Version: '2012-10-17',
  Statement: Array.from({ length: 6 }, (_, index) => ({
    Sid: `Statement${index}`,
    Effect: 'Allow',
    Action: ['s3:GetObject', 's3:GetObjectVersion'],
    Resource: [`arn:aws:s3:::acmeco-training-datasets-${index}/prefix/*`],
    Condition: {
      DateGreaterThanEquals: { 'aws:CurrentTime': '2025-07-16T00:00:00Z' },
      DateLessThan: { 'aws:CurrentTime': '2025-07-16T03:00:00Z' },
      IpAddress: { 'aws:SourceIp': ['203.0.113.42/32'] }
    }
  }))
}

async function fill (store: Store, size: number): Promise<string> {
  let middle = ''
  for (let done = 0; done < size; done += 500) {
    const rows = Array.from({ length: Math.min(500, size - done) }, (_, index) => filling(done + index))
    if (done <= size / 2) middle = rows[0]?.id ?? ''
    await store.write(async (tx) => {
      for (const row of rows) {
        await tx(sql`insert into grants (${raw(Object.keys(row).join(', '))}) values (${list(Object.values(row))})`)
        await tx(sql`
          insert into grant_events (grant_id, version, at, actor, action, detail)
          values (${row.id}, 1, ${start}, 'token:ci', 'pending', '{}')`)
      }
    })
  }
  return middle
}

let clock = start
const page = { limit: 50 }
/** As GET /v1/grants asks: without the workers of jobs. */
const jobs = { parentId: null }
const operations: Record<string, (subject: Subject) => Promise<unknown>> = {
  'sweep, many due': ({ ledger }) => ledger.claimDue(clock, clock + 1, 1),
  'sweep, none due': ({ ledger }) => ledger.claimDue(start - 1_000_001, start, 1),
  'list, first page': ({ ledger }) => ledger.list(jobs, page),
  'list, deep page': ({ ledger, middle }) => ledger.list(jobs, { ...page, after: middle }),
  'list, team': ({ ledger }) => ledger.list({ ...jobs, teams: ['team-3'] }, page),
  'list, team, deep': ({ ledger, middle }) => ledger.list({ ...jobs, teams: ['team-3'] }, { ...page, after: middle }),
  'list, state': ({ ledger }) => ledger.list({ ...jobs, states: ['expired'] }, page),
  'list, no such state': ({ ledger }) => ledger.list({ ...jobs, states: ['failed'] }, page),
  'list, 3 teams, 2 states': ({ ledger }) =>
    ledger.list({ ...jobs, teams: ['team-3', 'team-4', 'team-5'], states: ['pending', 'expired'] }, page),
  'list, job': ({ ledger }) => ledger.list({ ...jobs, jobId: 'job-1' }, page),
  'list, team, state, job': ({ ledger }) => ledger.list({ ...jobs, teams: ['team-3'], states: ['expired'], jobId: 'job-1' }, page),
  'known, 100 names': ({ ledger }) => ledger.known(Array.from({ length: 100 }, (_, index) => `name-${index}`)),
  'stats (grows by design)': ({ ledger }) => ledger.stats(clock),
  'begin, then active': pair,
  '16 pairs at once': (subject) => Promise.all(Array.from({ length: 16 }, () => pair(subject)))
}

async function pair ({ ledger }: Subject): Promise<Grant> {
  const begun = await ledger.begin(newGrant({ idempotencyKey: `key-${++clock}`, dueAt: start + 1e9 }), event('pending'), unlimited)
  if (begun.outcome !== 'created') throw new Error(begun.outcome)
  return ledger.update(begun.grant, changeTo('active'), event('active'), clock)
}

async function measure (subjects: Subject[]): Promise<void> {
  const costs = new Map<string, number[]>()
  for (let round = -5; round < rounds; round++) {
    for (const [name, operation] of Object.entries(operations)) {
      for (const subject of subjects) {
        clock += 2
        const from = performance.now()
        await operation(subject)
        const cost = performance.now() - from
        const key = `${name} ${subject.size}`
        if (round >= 0) costs.set(key, [...costs.get(key) ?? [], cost])
      }
    }
  }
  const median = (name: string, size: number) => {
    const sorted = (costs.get(`${name} ${size}`) ?? []).toSorted((a, b) => a - b)
    return sorted[Math.floor(sorted.length / 2)] ?? NaN
  }
  const [smallest = 0] = sizes
  const largest = sizes.at(-1) ?? 0
  for (const name of Object.keys(operations)) {
    const medians = sizes.map((size) => median(name, size).toFixed(2).padStart(9))
    console.log(name.padEnd(26), ...medians, `${(median(name, largest) / median(name, smallest)).toFixed(2)}x`.padStart(8))
  }
}

async function bench (title: string, open: (size: number) => Promise<Store>): Promise<void> {
  console.log(`\n${title}: p50 in ms of ${rounds} rounds`)
  console.log('grants'.padEnd(26), ...sizes.map((size) => String(size).padStart(9)), 'last/first')
  const stores: Store[] = []
  const subjects: Subject[] = []
  for (const size of sizes) {
    const store = await open(size)
    stores.push(store)
    subjects.push({ size, ledger: sqlLedger(store), middle: await fill(store, size) })
  }
  for (const store of stores) await settle(store)
  await measure(subjects)
  for (const store of stores) await store.close()
}

/** What autovacuum does after such a load, had it been given the time. */
async function settle ({ dialect, query }: Store): Promise<void> {
  if (dialect === 'postgres') await query(sql`vacuum analyze grants`)
}

if (options.only !== 'postgres') {
  const dir = await mkdtemp(join(tmpdir(), 'bench-ledger-'))
  try {
    await bench('SQLite', (size) => openSqlite(join(dir, `${size}.db`), 5000))
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

if (options.only !== 'sqlite') {
  const given = process.env.BENCH_DATABASE_URL
  const server = given === undefined ? await startPostgres() : { url: given, stop: async () => {} }
  const databases: Database[] = []
  try {
    await bench('PostgreSQL', async () => {
      const database = await freshDatabase(server.url)
      databases.push(database)
      return openPostgres(database.url, 10)
    })
  } finally {
    for (const database of databases) await database.drop()
    await server.stop()
  }
}
