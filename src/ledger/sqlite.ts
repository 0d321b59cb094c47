import { chmodSync, closeSync, mkdirSync, openSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { setImmediate, setTimeout as delay } from 'node:timers/promises'
import { LedgerUnavailableError } from './ledger.ts'
import { prepareLedger } from './migrations.ts'
import type { Query, Sql } from './rows.ts'
import type { Store } from './sql.ts'

const memory = ':memory:'

/** How long one call may block the event loop when another process has the file locked. Longer waits are asynchronous. */
const blockingMs = 10

/** The ledger has about 30 different statements, and some more in list(), depending on the number of teams and states. */
const maxPreparedStatements = 200

/**
 * A store with an up-to-date schema, on Node's own SQLite. Creates the file when there is none; only its owner may read it.
 * @param busyTimeoutMs how long a write waits while another process has the file locked
 * @param mustExist whether to refuse a file without a ledger, instead of making one
 */
export async function openSqlite (path: string, busyTimeoutMs: number, mustExist = false): Promise<Store> {
  const retryWhileBusy = <T>(attempt: () => Promise<T>) => retry(attempt, busyTimeoutMs)
  const database = await retryWhileBusy(async () => openFile(path))
  const { run, query, transaction } = connectionOn(database)
  const commits = groupCommits(retryWhileBusy, transaction, run)
  try {
    // A memory is empty at first, whoever opens it.
    await commits.write(tx => prepareLedger(tx, 'sqlite', mustExist && path !== memory))
  } catch (error) {
    database.close()
    throw error
  }
  return {
    dialect: 'sqlite',
    query,
    statement: commits.write,
    write: commits.write,
    ...(path !== memory && { requireKept: requireSameFile(path) }),
    async close () {
      await commits.idle()
      database.close()
    }
  }
}

/**
 * Throws when the file that is open now is no longer at its path: it can still be written, and is gone with its process. Looks once in a
 * turn of the event loop, however many requests ask.
 */
function requireSameFile (path: string): () => void {
  const opened = statSync(path)
  let seenThisTurn = false
  return () => {
    if (seenThisTurn) return
    const there = statSync(path, { throwIfNoEntry: false })
    if (there?.ino !== opened.ino || there.dev !== opened.dev) {
      throw new LedgerUnavailableError('The ledger’s file was deleted, moved or replaced.')
    }
    seenThisTurn = true
    void setImmediate().then(() => { seenThisTurn = false })
  }
}

async function retry<T> (attempt: () => Promise<T>, timeoutMs: number): Promise<T> {
  const giveUpAt = performance.now() + timeoutMs
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (!isBusy(error) || performance.now() >= giveUpAt) throw error
      // A random delay, so that two processes do not collide again and again.
      await delay(2 + Math.random() * 8)
    }
  }
}

/** SQLITE_BUSY or SQLITE_LOCKED, in the low byte of the extended code. Source: sqlite.org/rescode.html */
const isBusy = (error: unknown): boolean =>
  error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' && [5, 6].includes(error.errcode & 0xff)

function openFile (path: string): DatabaseSync {
  if (path !== memory) makePrivate(path)
  const database = new DatabaseSync(path === memory ? path : resolve(path), {
    enableForeignKeyConstraints: true,
    enableDoubleQuotedStringLiterals: false,
    timeout: blockingMs
  })
  try {
    for (const pragma of pragmas) database.exec(`pragma ${pragma}`)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/**
 * `synchronous = full`, because in WAL mode lower levels do not sync each commit, and a committed intent must survive a power
 * failure. macOS needs fullfsync for a real sync. Source: sqlite.org/pragma.html#pragma_synchronous
 * `temp_store = memory`, because a statement that may fail half way keeps what it changed until then, otherwise in a file of its own.
 */
const pragmas = ['journal_mode = wal', 'synchronous = full', 'fullfsync = on', 'trusted_schema = off', 'temp_store = memory']

/** SQLite creates the -wal and -shm files with the mode of the database file. */
function makePrivate (path: string): void {
  mkdirSync(dirname(resolve(path)), { recursive: true, mode: 0o700 })
  closeSync(openSync(path, 'a', 0o600))
  chmodSync(path, 0o600)
}

type Run = (text: string) => void

interface Connection {
  /** Begins, ends or divides a transaction. */
  run: Run
  /** Waits for the end of a transaction, so that it never sees what may still be rolled back. */
  query: Query
  /** Runs `work` between `begin` and `commit`. */
  transaction<T>(work: (tx: Query) => Promise<T>): Promise<T>
}

/** The one connection of this process. Each statement is prepared once and kept, up to the number of maxPreparedStatements. */
function connectionOn (database: DatabaseSync): Connection {
  const statements = new Map<string, StatementSync>()
  let transaction: Promise<void> | undefined

  function prepared (text: string): StatementSync {
    const statement = statements.get(text) ?? database.prepare(text)
    // Keeps the map in order of use: the least recently used statement comes first.
    statements.delete(text)
    statements.set(text, statement)
    for (const oldest of statements.keys()) {
      if (statements.size <= maxPreparedStatements) break
      statements.delete(oldest)
    }
    return statement
  }

  const run: Run = (text) => { prepared(text).run() }
  const tx = (async ({ text, values }: Sql) => prepared(text).all(...values)) as Query
  const query: Query = async (statement) => {
    if (!transaction) return tx(statement)
    await transaction
    return query(statement)
  }

  return {
    run,
    query,
    async transaction (work) {
      // Takes the lock at once: a transaction that has read before it cannot get it while another process writes.
      run('begin immediate')
      const { promise, resolve } = Promise.withResolvers<void>()
      transaction = promise
      try {
        const value = await work(tx)
        run('commit')
        return value
      } catch (error) {
        // The rollback fails when SQLite has already rolled back by itself (disk full, I/O error). The first error is the one to report.
        try { run('rollback') } catch {}
        throw error
      } finally {
        transaction = undefined
        resolve()
      }
    }
  }
}

/** Between two commits, reads get their turn. */
const maxWritesPerCommit = 64

/** The longest time for which a commit waits for more writes. */
const longestGatheringMs = 20

interface Write {
  work: (tx: Query) => Promise<unknown>
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

interface GroupCommits {
  write<T>(work: (tx: Query) => Promise<T>): Promise<T>
  /** Resolves when every write so far is settled. */
  idle(): Promise<void>
}

/**
 * Puts writes into one commit, and so into one sync of the disk, while each turn of the event loop brings more of them: on SQLite the
 * sync is most of the cost of a write and blocks the event loop. A write that comes alone waits for one turn. Where there are more, each
 * has its own savepoint, so that an error rolls back this write alone. No write is acknowledged before the commit is on disk. When the
 * commit fails, all its writes reject.
 * @param retryWhileBusy runs a transaction again while another process has the file locked
 */
function groupCommits (
  retryWhileBusy: <T>(attempt: () => Promise<T>) => Promise<T>, transaction: Connection['transaction'], run: Run
): GroupCommits {
  const waiting: Write[] = []
  let draining: Promise<void> | undefined

  /** Resolves after a turn of the event loop that brought no write, or at one of the two limits above. */
  async function gather (): Promise<void> {
    const until = performance.now() + longestGatheringMs
    let before = 0
    do {
      before = waiting.length
      await setImmediate()
    } while (waiting.length > before && waiting.length < maxWritesPerCommit && performance.now() < until)
  }

  async function drain (): Promise<void> {
    do {
      await gather()
      await settle(waiting.splice(0, maxWritesPerCommit))
    } while (waiting.length > 0)
    draining = undefined
  }

  async function settle (writes: Write[]): Promise<void> {
    try {
      const settlements = await retryWhileBusy(() => transaction(async (tx) => {
        const settlements: Array<() => void> = []
        // One alone needs no savepoint, for which SQLite copies pages: its error rolls back the transaction.
        const runOne = writes.length === 1 ? runAlone : runInSavepoint
        for (const write of writes) settlements.push(await runOne(tx, write, run))
        return settlements
      }))
      for (const settleWrite of settlements) settleWrite()
    } catch (error) {
      for (const write of writes) write.reject(error)
    }
  }

  return {
    write: (work) => new Promise((resolve, reject) => {
      waiting.push({ work, resolve: resolve as Write['resolve'], reject })
      draining ??= drain()
    }),
    async idle () {
      await draining
    }
  }
}

/** Resolves with a function that settles the write. It is called after the commit. */
async function runAlone (tx: Query, { work, resolve }: Write): Promise<() => void> {
  const value = await work(tx)
  return () => resolve(value)
}

async function runInSavepoint (tx: Query, write: Write, run: Run): Promise<() => void> {
  run('savepoint one')
  try {
    const settle = await runAlone(tx, write)
    run('release one')
    return settle
  } catch (error) {
    run('rollback to one')
    run('release one')
    return () => write.reject(error)
  }
}
