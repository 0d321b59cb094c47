import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { setTimeout as delay } from 'node:timers/promises'
import { Kysely, SqliteAdapter, SqliteDialect, type SqliteDatabase, type SqliteStatement } from 'kysely'
import { recount } from './counts.ts'
import { groupCommits } from './group-commit.ts'
import { migrate } from './migrations.ts'
import type { Tables } from './rows.ts'
import type { Store } from './store.ts'

const memory = ':memory:'

/** How long one call may block the event loop on another process's lock; longer waits are made asynchronously. */
const blockingMs = 10

/** Distinct SQL texts kept prepared; the ledger has about 30, list() some more by number of filters. */
const statementsKept = 200

/**
 * A migrated store on Node's own SQLite. The file is created if need be, readable by its owner alone.
 * @param busyTimeoutMs how long a write waits for another process that holds the file's write lock
 */
export async function openSqlite (path: string, busyTimeoutMs: number): Promise<Store> {
  const untilFree = <T>(attempt: () => Promise<T>) => retryWhileBusy(attempt, busyTimeoutMs)
  const database = await untilFree(async () => openFile(path))
  const db = new Kysely<Tables>({ dialect: new NodeSqliteDialect({ database: adapt(database) }) })
  try {
    await untilFree(() => migrate(db, 'sqlite'))
    await untilFree(() => recount(db, 'sqlite'))
  } catch (error) {
    database.close()
    throw error
  }
  const commits = groupCommits(db, untilFree)
  return {
    dialect: 'sqlite',
    db,
    statement: commits.write,
    write: commits.write,
    async close () {
      await commits.idle()
      await db.destroy()
    }
  }
}

async function retryWhileBusy<T> (attempt: () => Promise<T>, timeoutMs: number): Promise<T> {
  const giveUpAt = performance.now() + timeoutMs
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (!isBusy(error) || performance.now() >= giveUpAt) throw error
      // the spread keeps two processes from meeting again and again
      await delay(2 + Math.random() * 8)
    }
  }
}

/** SQLITE_BUSY and SQLITE_LOCKED, in the low byte of the extended code. Source: sqlite.org/rescode.html */
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
 * FULL, because in WAL mode nothing less syncs each commit, and a committed intent must survive a power cut; fullfsync
 * is what a sync takes on macOS. Source: sqlite.org/pragma.html#pragma_synchronous
 */
const pragmas = ['journal_mode = wal', 'synchronous = full', 'fullfsync = on', 'trusted_schema = off']

/** SQLite gives the -wal and -shm files the mode of the database file. */
function makePrivate (path: string): void {
  mkdirSync(dirname(resolve(path)), { recursive: true, mode: 0o700 })
  closeSync(openSync(path, 'a', 0o600))
  chmodSync(path, 0o600)
}

class NodeSqliteDialect extends SqliteDialect {
  override createAdapter (): SqliteAdapter { return new TransactionalDdl() }
}

/** Kysely takes one process per file for granted. With this, migrations run inside `begin immediate`, which locks out others. */
class TransactionalDdl extends SqliteAdapter {
  override get supportsTransactionalDdl (): boolean { return true }
}

function adapt (database: DatabaseSync): SqliteDatabase {
  const statements = new Map<string, SqliteStatement>()
  return {
    close: () => database.close(),
    prepare (sql) {
      const text = sql === 'begin' ? 'begin immediate' : sql
      const statement = statements.get(text) ?? adaptStatement(database.prepare(text))
      // the least recently used comes first
      statements.delete(text)
      statements.set(text, statement)
      for (const oldest of statements.keys()) {
        if (statements.size <= statementsKept) break
        statements.delete(oldest)
      }
      return statement
    }
  }
}

const adaptStatement = (statement: StatementSync): SqliteStatement => ({
  reader: statement.columns().length > 0,
  all: (parameters) => statement.all(...parameters as SQLInputValue[]),
  run: (parameters) => statement.run(...parameters as SQLInputValue[]),
  iterate: (parameters) => statement.iterate(...parameters as SQLInputValue[])
})
