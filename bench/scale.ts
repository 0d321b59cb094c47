import { quantile, seeded, simulate, type Job, type World } from './simulate.ts'

/**
 * How far one account goes: the tables of docs/scale.md, by simulation. The rates are assumptions: AWS publishes none for IAM.
 *   --fleet: how many accounts 10,000 running jobs of 64 workers need
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

// --- 10,000 running jobs of 64 workers ---

const [running, workers] = [10_000, 64]
const minute = 60_000
const modes = { inline: 'users', managed: 'users, one policy', session: 'sessions' } as const

/** A pool before as many replicas as its requests need. */
const pool = (accounts: number): World => account(10, { accounts, replicas: 32 })

/** All run from the beginning; as one ends, the next one starts. */
const steady = (attach: Job['attach'], lasts: number, forMs: number): Job[] => {
  const random = seeded(11)
  return Array.from({ length: running }, () => {
    let endsAt = random() * lasts
    const jobs = [job({ attach, workers, endsAt, runs: true })]
    while (endsAt < forMs) {
      const asksAt = endsAt
      endsAt += lasts * (0.5 + random())
      jobs.push(job({ attach, workers, asksAt, endsAt }))
    }
    return jobs
  }).flat()
}

/** The fewest accounts where nobody is answered 429, and 99 of 100 hold a key within a minute. */
const needed = (attach: Job['attach'], lasts: number) => {
  const forMs = Math.min(2 * hour, lasts / 3)
  const jobs = steady(attach, lasts, forMs)
  for (const accounts of attach === 'session' ? [1, 2, 3] : [128, 129, 130, 132, 135, 140, 150, 175, 200, 250, 300]) {
    const outcome = simulate(pool(accounts), jobs, 1, (now, { full, late, joined }) => now > forMs || full > 0 || late > 10_000 + joined)
    if (outcome.full === 0 && quantile(outcome.waitMs, 0.99) < minute) return { accounts, outcome, forMs }
  }
  throw new Error(`No number of accounts was enough: ${attach}`)
}

const lengths = [24 * hour, hour]
const attachments = ['inline', 'managed', 'session'] as const
function * fleet () {
  for (const lasts of lengths) {
    for (const attach of attachments) {
      const { accounts, outcome, forMs } = needed(attach, lasts)
      yield {
        mode: modes[attach],
        'a job lasts, h': lasts / hour,
        accounts,
        'workers that start a second': Math.round(1000 * outcome.joined / forMs),
        'key p50, s': seconds(quantile(outcome.waitMs, 0.5)),
        'p99, s': seconds(quantile(outcome.waitMs, 0.99)),
        'answered 503': outcome.late,
        'most users': outcome.mostUsers,
        'most policies': outcome.mostPolicies
      }
    }
  }
}

/** `count` jobs start within these minutes: job after job, the workers of each at once. */
const started = (world: World, attach: Job['attach'], count: number, minutes: number) => {
  const spacing = minutes * minute / count
  const jobs = Array.from({ length: count }, (_, index) => job({ attach, workers, asksAt: index * spacing, endsAt: 24 * hour }))
  const outcome = simulate(world, jobs, 1, (now, { joined }) => joined === count * workers || now > hour / 2)
  return {
    mode: modes[attach],
    accounts: world.accounts,
    'asked within, min': minutes,
    'workers with a key': outcome.joined,
    'the last after, min': (quantile(outcome.keyAt, 1) / minute).toFixed(1),
    'key p50, s': seconds(quantile(outcome.waitMs, 0.5)),
    'p99, s': seconds(quantile(outcome.waitMs, 0.99)),
    'answered 503': outcome.late,
    'calls refused': `${Math.round(100 * outcome.refused / outcome.asked)} %`
  }
}

const startsWithin = [['inline', 129, 15], ['managed', 129, 15], ['session', 1, 20], ['session', 2, 10]] as const
function * starts () {
  for (const [attach, accounts, minutes] of startsWithin) yield started(pool(accounts), attach, running, minutes)
}

/** One of 129 accounts, with its share of the replicas: a quarter of a core. */
function * crowd () {
  for (const minutes of [15, 10, 5, 0]) yield started(account(10, { workMs: 32 }), 'inline', Math.floor(5_000 / workers), minutes)
}

/** Each row as soon as it is known. */
const table = (title: string, rows: Iterable<object>) => {
  console.log(`\n${title}`)
  const line = (cells: unknown[]) => console.log(`| ${cells.join(' | ')} |`)
  let first = true
  for (const row of rows) {
    if (first) for (const head of [Object.keys(row), Object.keys(row).map(() => '---')]) line(head)
    first = false
    line(Object.values(row))
  }
}

if (process.argv.includes('--fleet')) {
  table('10,000 running jobs of 64 workers: accounts', fleet())
  table('10,000 jobs of 64 workers start', starts())
  table('78 jobs of 64 workers start in one account', crowd())
} else {
  table('One account, jobs of one process, 10 calls a second of each action', saturation())
  table('The most that is good', most())
  table('One job', oneJob())
}
