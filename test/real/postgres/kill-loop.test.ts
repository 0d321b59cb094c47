import t from 'tap'
import { killLoop, nothingLost } from '../../kill/kill-loop.ts'
import { freshDatabase, startPostgres } from '../../servers/postgres.ts'

/** KILL_ROUNDS: how many; KILL_SEED: the choices of an earlier run. */
const { KILL_ROUNDS: rounds = '50', KILL_SEED: seed = `${Date.now() % 100_000}` } = process.env

t.setTimeout(600_000)

const server = await startPostgres()
t.teardown(() => server.stop())

t.test(`kill -9 ${rounds} times, PostgreSQL, seed ${seed}`, async t => {
  const database = await freshDatabase(server.url)
  t.teardown(() => database.drop())
  nothingLost(t, await killLoop({ rounds: Number(rounds), seed: Number(seed), databaseUrl: database.url }))
})
