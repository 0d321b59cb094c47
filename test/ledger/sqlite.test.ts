import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { openLedger } from '../../src/ledger/open.ts'
import { contract } from './contract.ts'

await t.test('contract', async (t) => {
  let files = 0
  const dir = t.testdir()
  await contract(t, async (t) => {
    const path = join(dir, `${++files}.db`)
    return {
      open: async () => {
        const ledger = await openLedger({ url: path })
        t.teardown(() => ledger.close())
        return ledger
      },
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
