import { setImmediate } from 'node:timers/promises'
import { CompiledQuery, type Kysely } from 'kysely'
import type { Tables } from './rows.ts'

/** At most this many writes share a commit, so that reads get their turn. */
const mostTogether = 64

interface Write {
  work: (tx: Kysely<Tables>) => Promise<unknown>
  resolve: (value: unknown) => void
  reject: (error: unknown) => void
}

export interface GroupCommits {
  write<T>(work: (tx: Kysely<Tables>) => Promise<T>): Promise<T>
  /** Resolves when every write taken so far is settled. */
  idle(): Promise<void>
}

/**
 * Lets the writes that arrive together share one commit, and so one sync of the disk, which on SQLite is most of a
 * write's cost and holds up the event loop. Each write is a savepoint: one that throws undoes itself alone. None is
 * acknowledged before the commit is on disk; when that fails, all of them reject.
 * @param untilFree runs a transaction again when another process holds the file
 */
export function groupCommits (
  db: Kysely<Tables>,
  untilFree: <T>(attempt: () => Promise<T>) => Promise<T>
): GroupCommits {
  const waiting: Write[] = []
  let draining: Promise<void> | undefined

  async function drain (): Promise<void> {
    // whatever else this turn of the event loop brings joins in
    await setImmediate()
    while (waiting.length > 0) await settle(waiting.splice(0, mostTogether))
    draining = undefined
  }

  async function settle (writes: Write[]): Promise<void> {
    try {
      const answers = await untilFree(() => db.connection().execute((tx) => together(tx, writes)))
      for (const answer of answers) answer()
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

async function together (tx: Kysely<Tables>, writes: Write[]): Promise<Array<() => void>> {
  await run(tx, 'begin')
  try {
    const answers: Array<() => void> = []
    for (const write of writes) answers.push(await alone(tx, write))
    await run(tx, 'commit')
    return answers
  } catch (error) {
    // it fails when SQLite has rolled back by itself (disk full, I/O error): the first error is the one to report
    await run(tx, 'rollback').catch(() => {})
    throw error
  }
}

async function alone (tx: Kysely<Tables>, { work, resolve, reject }: Write): Promise<() => void> {
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
