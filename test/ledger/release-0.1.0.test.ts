import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { questions, readChangedAndEnded, type Earlier } from './upgraded.ts'

/**
 * The ledger of the release 0.1.0, as `.dump` of SQLite wrote it. That service had issued four jobs at its embedded IAM: `active`;
 * `rotated`, with an overlap, then from another source; `completed`; and `scheduled`, for 2027-03-21. On PostgreSQL: test/real/postgres.
 */
const dump = readFileSync(join(import.meta.dirname, 'release-0.1.0.sql'), 'utf8')

t.test('a ledger of the release 0.1.0 is brought up to date, and its grants are read, changed and ended', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'job-access-release-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const ledgerUrl = join(dir, 'ledger.sqlite')
  const old = new DatabaseSync(ledgerUrl)
  old.exec(dump)
  const grants = old.prepare(questions.grants).all() as Earlier['grants']
  const rest = old.prepare(questions.rest).get()
  old.close()
  await readChangedAndEnded(t, ledgerUrl, { grants, events: Number(rest?.events), writtenAt: Number(rest?.written) })
})
