import { Client } from 'pg'
import t from 'tap'
import { openLedger } from '../../src/ledger/open.ts'
import { freshDatabase, startPostgres } from '../servers/postgres.ts'
import { contract } from './contract.ts'

const server = await startPostgres()
t.teardown(() => server.stop())

await t.test('contract', async (t) => {
  await contract(t, async (t) => {
    const database = await freshDatabase(server.url)
    const client = new Client({ connectionString: database.url })
    await client.connect()
    // teardowns run last first: ledgers, this client, the database
    t.teardown(() => database.drop())
    t.teardown(() => client.end())
    return {
      open: async () => {
        const ledger = await openLedger({ url: database.url })
        t.teardown(() => ledger.close())
        return ledger
      },
      query: async (text) => (await client.query(text)).rows
    }
  })
})
