import t from 'tap'
import { killLoop, nothingLost } from './kill-loop.ts'

/** KILL_ROUNDS: how many; KILL_SEED: the choices of an earlier run. */
const { KILL_ROUNDS: rounds = '50', KILL_SEED: seed = `${Date.now() % 100_000}` } = process.env

t.setTimeout(600_000)

t.test(`kill -9 ${rounds} times, SQLite, seed ${seed}`, async t => {
  nothingLost(t, await killLoop({ rounds: Number(rounds), seed: Number(seed) }))
})
