import { parseArgs } from 'node:util'
import { fuzzRender } from './fuzz-render.ts'

/** npm run fuzz [-- --count 100000 --seed 1]: exits 1 when a single rendered policy is not proven. */
const { values } = parseArgs({ options: { count: { type: 'string', default: '100000' }, seed: { type: 'string', default: '1' } } })
const requests = Number(values.count)
const seed = Number(values.seed)
if (!Number.isSafeInteger(requests) || requests < 1 || !Number.isSafeInteger(seed)) throw new Error('--count and --seed are whole numbers')

const started = performance.now()
const seconds = () => ((performance.now() - started) / 1000).toFixed(1)
const { failures, ...findings } = fuzzRender(seed, requests, done => console.log(`${done} requests, ${seconds()} s`))
console.log(JSON.stringify({ seed, ...findings, unproven: failures.length, seconds: Number(seconds()) }, null, 2))
for (const failure of failures.slice(0, 10)) console.error(failure)
process.exitCode = failures.length === 0 ? 0 : 1
