import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from 'pg'
import t from 'tap'
import { openLedger } from '../../../src/ledger/open.ts'
import { grantIn } from '../../ledger/grants.ts'
import { freshDatabase, startPostgres } from '../../servers/postgres.ts'

t.setTimeout(300_000)

t.test('the queries of the runbooks find what they are for', async t => {
  const server = await startPostgres()
  t.teardown(() => server.stop())
  const database = await freshDatabase(server.url)
  t.teardown(() => database.drop())
  const ledger = await openLedger({ url: database.url })
  t.teardown(() => ledger.close())
  const client = new Client({ connectionString: database.url })
  await client.connect()
  t.teardown(() => client.end())
  const overdue = await grantIn(ledger, 'active', { expiresAt: Date.now() - 60_000 })
  await grantIn(ledger, 'active', { expiresAt: Date.now() + 3600_000, attach: 'managed' })
  await grantIn(ledger, 'expired')

  const page = readFileSync(join(import.meta.dirname, '../../../docs/operating.md'), 'utf8')
  const queries = [...page.matchAll(/`(select [^`]+;)`/g)].map(match => match[1] ?? '')
  t.equal(queries.length, 3)
  const [late = '', holders = '', holdersOfPolicies = ''] = queries
  t.match((await client.query(late)).rows, [{ id: overdue.id, state: 'active', attempts: /^\d+$/, principal_name: overdue.principal.name }])
  t.match((await client.query(holders)).rows, [{ team: 'nlp', count: '2' }])
  t.match((await client.query(holdersOfPolicies)).rows, [{ team: 'nlp', count: '1' }])
})
