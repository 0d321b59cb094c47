import { quantile, seeded, simulate, type Job, type World } from './simulate.ts'

/**
 * How far one account goes: the tables of docs/scale.md, by simulation. The rates are assumptions: AWS publishes none for IAM.
 */

const hour = 3_600_000
const seconds = (ms: number) => ms < 10_000 ? (ms / 1000).toFixed(1) : String(Math.round(ms / 1000))

/** @param perSecond of each action of IAM; its bucket holds twice as many. STS: 600 a second, which AWS documents. */
const account = (perSecond: number, given: Partial<World> = {}): World => ({
  buckets: { '*': { perSecond, burst: 2 * perSecond }, AssumeRole: { perSecond: 600, burst: 600 } },
  accounts: 1,
  users: 5_000,
  policies: 1_500,
  callMs: 50,
  propagationMs: [1_000, 10_000],
  replicas: 1,
  workMs: 8,
  deadlineMs: 15_000,
  sessionSeconds: 3_600,
  ...given
})

const job = (given: Partial<Job>): Job => {
  const asksAt = given.asksAt ?? 0
  return { asksAt, asksFor: 0, startsAt: asksAt, endsAt: asksAt + hour, workers: 1, attach: 'inline', patches: [], rotations: [], ...given }
}

// --- one account, jobs of one process ---

/** Jobs that start at random, five minutes long on average, for ten minutes. Every other one is moved once, every fourth rotates. */
const arrivals = (perSecond: number): Job[] => {
  const random = seeded(7)
  const jobs: Job[] = []
  for (let at = 0; at < hour / 6; at -= Math.log(1 - random()) * 1000 / perSecond) {
    const lasts = 60_000 + random() * 480_000
    const half = at + lasts / 2
    const [patches, rotations] = [0.5, 0.25].map(part => random() < part ? [half] : []) as [number[], number[]]
    jobs.push(job({ asksAt: at, endsAt: at + lasts, patches, rotations }))
  }
  return jobs
}

const isGood = ({ late, full, waitMs }: ReturnType<typeof simulate>) => late === 0 && full === 0 && quantile(waitMs, 0.99) < 5_000

const saturation = () => [2, 4, 5, 6, 7, 8, 10].map(starts => {
  const outcome = simulate(account(10), arrivals(starts))
  return {
    'starts a second': starts,
    'key p50, s': seconds(quantile(outcome.waitMs, 0.5)),
    'key p99, s': seconds(quantile(outcome.waitMs, 0.99)),
    'answered 503': outcome.late,
    'answered 429': outcome.full,
    'calls refused': `${Math.round(100 * outcome.refused / outcome.asked)} %`,
    'most users': outcome.mostUsers
  }
})

/** The most starts a second, in steps of a twentieth of the rate, with a key within 5 s at p99 and nobody sent away. */
const most = () => [2, 5, 10, 20].map(rate => {
  const highest = (world: World) => {
    let part = 1
    while (isGood(simulate(world, arrivals(rate * part / 20)))) part++
    return rate * (part - 1) / 20
  }
  const together = { perSecond: 4 * rate, burst: 4 * rate }
  return {
    'each action, a second': rate,
    'users: starts a second': highest(account(rate)),
    'users, with one bucket of four times that over all': highest(account(rate, { together }))
  }
})

// --- one job of workers ---

const oneJob = () => [8, 64, 512].flatMap(workers => (['inline', 'managed', 'session'] as const).map(attach => {
  const outcome = simulate(account(10), [job({ workers, attach, patches: [hour / 2] })])
  return {
    workers,
    mode: attach === 'session' ? 'sessions' : attach === 'inline' ? 'users' : 'users, one policy',
    'all hold a key after, s': seconds(quantile(outcome.waitMs, 1)),
    'known everywhere, p50, s': seconds(quantile(outcome.usableMs, 0.5)),
    'answered 503': outcome.late,
    'window moved after, s': outcome.patchMs.length > 0 ? seconds(quantile(outcome.patchMs, 1)) : '–',
    'all keys dead after, s': outcome.deadMs.length > 0 ? seconds(quantile(outcome.deadMs, 1)) : '–',
    calls: outcome.asked
  }
}))

const table = (title: string, rows: object[]) => {
  console.log(`\n${title}`)
  const columns = Object.keys(rows[0] ?? {})
  const line = (cells: string[]) => console.log(`| ${cells.join(' | ')} |`)
  line(columns)
  line(columns.map(() => '---'))
  for (const row of rows) line(Object.values(row).map(String))
}

table('One account, jobs of one process, 10 calls a second of each action', saturation())
table('The most that is good', most())
table('One job', oneJob())
