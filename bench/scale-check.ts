import { quantile, simulate, type Bucket, type Job, type World } from './simulate.ts'
import { serve, type Seen } from './whole-service.ts'

/**
 * The simulation beside the whole service (whole-service.ts): the same jobs, and two accounts with small quotas and few calls a second.
 * Fails when a figure differs by more than `tolerance`.
 *   BENCH_SEEDS=20: how often each case is simulated, with other waits after refusals
 *   BENCH_ROUNDS=1: how often the service does each; BENCH_CASES=0,3: only these
 *   BENCH_CLOCK=real: in real time, where what the work costs counts as well
 */

const { BENCH_SEEDS = '20', BENCH_ROUNDS = '1', BENCH_CASES = '0,1,2,3,4', BENCH_CLOCK } = process.env
const [seeds, rounds, isReal] = [Number(BENCH_SEEDS), Number(BENCH_ROUNDS), BENCH_CLOCK === 'real']

/** docs/scale.md says how they were chosen. */
const tolerance = { seconds: { part: 0.25, least: 1 }, count: { part: 0.25, least: 8 } }

const forMs = 75_000

interface Case { name: string, world: World, jobs: Job[] }

const world = (perSecond: number, given: Partial<World> = {}): World => {
  const limit: Bucket = { perSecond, burst: 2 * perSecond }
  return {
    accounts: 2,
    buckets: { '*': limit, AssumeRole: limit },
    users: 50,
    policies: 4,
    callMs: 20,
    propagationMs: [0, 0],
    replicas: 1,
    workMs: 0,
    deadlineMs: 15_000,
    sessionSeconds: 43_200,
    ...given
  }
}

const jobs = (count: number, spacing: number, given: (index: number) => Partial<Job>): Job[] =>
  Array.from({ length: count }, (_, index) => {
    const asksAt = index * spacing
    const other = { endsAt: 3_600_000, workers: 10, attach: 'inline' as const, patches: [], rotations: [] }
    return { ...other, asksAt, asksFor: spacing, startsAt: asksAt, ...given(index) }
  })

/** The first three end. */
const ending = (index: number) => index < 3 ? { endsAt: 35_000 } : {}

const cases: Case[] = [
  { name: 'users: 12 jobs of 10 workers, where 10 fit', world: world(4), jobs: jobs(12, 1_000, ending) },
  {
    name: 'users, one policy: 10 jobs of 10 workers, where 8 policies fit',
    world: world(4),
    jobs: jobs(10, 1_000, index => ({ attach: 'managed', ...ending(index) }))
  },
  {
    name: 'users: 80 workers within 4 s, past the deadline',
    world: world(2, { deadlineMs: 10_000 }),
    jobs: jobs(1, 4_000, () => ({ workers: 80 }))
  },
  {
    name: 'users: 360 workers within 30 s, three times what IAM takes',
    world: world(2, { deadlineMs: 3_000 }),
    jobs: jobs(1, 30_000, () => ({ workers: 360, endsAt: 40_000 }))
  },
  { name: 'sessions: 200 within 4 s, past the deadline', world: world(4), jobs: jobs(4, 1_000, () => ({ workers: 50, attach: 'session' })) }
]

const figures: Record<string, { unit: keyof typeof tolerance, of: (seen: Seen) => number | undefined }> = {
  keys: { unit: 'count', of: ({ keyAt }) => keyAt.length },
  'half of them after, s': { unit: 'seconds', of: ({ keyAt }) => quantile(keyAt, 0.5) / 1000 },
  'the last after, s': { unit: 'seconds', of: ({ keyAt }) => quantile(keyAt, 1) / 1000 },
  'answered 429': { unit: 'count', of: ({ full }) => full },
  'the first after, s': { unit: 'seconds', of: ({ firstFullAt }) => firstFullAt && firstFullAt / 1000 },
  'answered 503': { unit: 'count', of: ({ late }) => late },
  'the first of these after, s': { unit: 'seconds', of: ({ firstLateAt }) => firstLateAt && firstLateAt / 1000 },
  calls: { unit: 'count', of: ({ asked }) => asked },
  'of these refused': { unit: 'count', of: ({ refused }) => refused }
}

const shown = (value: number | undefined) => value === undefined ? 'never' : String(Math.round(value * 10) / 10)

const started = performance.now()
for (const { name, world, jobs } of BENCH_CASES.split(',').flatMap(index => cases[Number(index)] ?? [])) {
  const seeded = (seed: number): Seen => ({ ...simulate(world, jobs, seed, now => now > forMs), others: [] })
  const predicted = Array.from({ length: seeds }, (_, seed) => seeded(seed))
  const measured: Seen[] = []
  for (let round = 0; round < rounds; round++) measured.push(await serve(world, jobs, forMs, isReal))
  console.log(`\n${name}\n| | predicted | measured | |\n| --- | --- | --- | --- |`)
  for (const [figure, { unit, of }] of Object.entries(figures)) {
    const said = predicted.map(of).filter(value => value !== undefined)
    const values = measured.map(of)
    if (said.length === 0 && values.every(value => value === undefined)) continue
    const middle = quantile(said, 0.5)
    const { part, least } = tolerance[unit]
    const isNear = (value: number | undefined) => value === undefined
      ? said.length < seeds
      : said.length > 0 && Math.max(Math.min(...said) - value, value - Math.max(...said)) <= Math.max(least, part * middle)
    const range = said.length === 0 ? 'never' : `${shown(middle)} (${shown(Math.min(...said))} to ${shown(Math.max(...said))})`
    const ok = values.every(isNear)
    console.log(`| ${figure} | ${range} | ${values.map(shown).join(', ')} | ${ok ? '' : '**too far**'} |`)
    if (!ok) process.exitCode = 1
  }
  const others = measured.flatMap(({ others }) => others)
  if (others.length > 0) console.log(`Also, ${others.length} times: ${[...new Set(others)].join(', ')}`)
}
console.log(`\n${Math.round((performance.now() - started) / 1000)} s`)
