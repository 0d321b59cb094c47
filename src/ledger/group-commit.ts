import { setImmediate } from 'node:timers/promises'
import { CompiledQuery, type Kysely } from 'kysely'
import type { Tables } from './rows.ts'

/** Between two commits, reads get their turn. */
const maxWritesPerCommit = 64

interface Write {
  work: (tx: Kysely<Tables>) => Promise<unknown>
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

interface GroupCommits {
  write<T>(work: (tx: Kysely<Tables>) => Promise<T>): Promise<T>
  /** Resolves when every write so far is settled. */
  idle(): Promise<void>
}

/**
 * Puts the writes of one turn of the event loop into one commit, and so into one sync of the disk: on SQLite the sync is most
 * of the cost of a write and blocks the event loop. Each write has its own savepoint, so that an error rolls back this write
 * alone. No write is acknowledged before the commit is on disk. When the commit fails, all its writes reject.
 * @param retryWhileBusy runs a transaction again while another process has the file locked
 */
export function groupCommits (
  db: Kysely<Tables>,
  retryWhileBusy: <T>(attempt: () => Promise<T>) => Promise<T>
): GroupCommits {
  const waiting: Write[] = []
  let draining: Promise<void> | undefined

  async function drain (): Promise<void> {
    // Waits for the other writes of this turn of the event loop.
    await setImmediate()
    while (waiting.length > 0) await settle(waiting.splice(0, maxWritesPerCommit))
    draining = undefined
  }

  async function settle (writes: Write[]): Promise<void> {
    try {
      const settlements = await retryWhileBusy(() => db.connection().execute((tx) => runInOneTransaction(tx, writes)))
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

/** Resolves with one function per write, which settles it. They are called after the commit. */
async function runInOneTransaction (tx: Kysely<Tables>, writes: Write[]): Promise<Array<() => void>> {
  await run(tx, 'begin')
  try {
    const settlements: Array<() => void> = []
    for (const write of writes) settlements.push(await runInSavepoint(tx, write))
    await run(tx, 'commit')
    return settlements
  } catch (error) {
    // The rollback fails when SQLite has already rolled back by itself (disk full, I/O error). The first error is the one to report.
    await run(tx, 'rollback').catch(() => {})
    throw error
  }
}

async function runInSavepoint (tx: Kysely<Tables>, { work, resolve, reject }: Write): Promise<() => void> {
  await run(tx, 'savepoint one')
  try {
    const value = await work(tx)
    await run(tx, 'release one')
    return () => resolve(value)
  } catch (error) {
    await run(tx, 'rollback to one')
    await run(tx, 'release one')
    return () => reject(error)
  }
}

const run = (tx: Kysely<Tables>, text: string) => tx.executeQuery(CompiledQuery.raw(text))
