import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from 'pg'
import t from 'tap'
import { questions, readChangedAndEnded } from '../../ledger/upgraded.ts'
import { freshDatabase, startPostgres } from '../../servers/postgres.ts'

t.test('a PostgreSQL ledger of the release 0.1.0 is brought up to date, and its grants are read, changed and ended', async t => {
  const server = await startPostgres()
  t.teardown(() => server.stop())
  const database = await freshDatabase(server.url)
  t.teardown(() => database.drop())
  const old = new Client({ connectionString: database.url })
  await old.connect()
  await old.query(readFileSync(join(import.meta.dirname, '../../ledger/release-0.1.0.postgres.sql'), 'utf8'))
  const { rows: grants } = await old.query<Record<'id' | 'policy', string>>(questions.grants)
  const { rows: [rest] } = await old.query<Record<'events' | 'written', string>>(questions.rest)
  await old.end()
  await readChangedAndEnded(t, database.url, { grants, events: Number(rest?.events), writtenAt: Number(rest?.written) })
})
