import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { GrantState } from '../domain/grant.ts'
import { LedgerUnavailableError, StaleGrantError, type AccountUse, type Ledger } from '../ledger/ledger.ts'

export interface LedgerMetrics {
  /** The same ledger, its operations timed. */
  timed: (ledger: Ledger) => Ledger
  /** Asks the ledger for its figures at a scrape, at most once in freshMs. */
  watchLedger: (ledger: Pick<Ledger, 'stats' | 'accounts'>) => void
}

/** A ceiling of an account of the pool; without a name: of the only one. */
export interface Ceiling { account?: string, users?: number, managed?: number }

/** Only with a pool there is a label. */
export const labelOf = (account: string | undefined): { account?: string } => account === undefined ? {} : { account }

const patienceMs = 3_000
const states: GrantState[] = ['pending', 'active', 'revoking', 'revoked', 'expired', 'failed']
const kinds = { unavailable: LedgerUnavailableError, stale: StaleGrantError }

export const ledgerMetrics = (registry: Registry, now: () => number, freshMs: number, ceilings: Ceiling[]): LedgerMetrics => {
  const registers = [registry]
  const seconds = new Histogram({
    name: 'job_access_ledger_operation_duration_seconds',
    help: 'Duration of operations of the ledger.',
    labelNames: ['operation'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
    registers
  })
  const failures = new Counter({
    name: 'job_access_ledger_failures_total',
    help: 'Operations of the ledger that failed: `unavailable`; `stale`, another operation was first; `other`.',
    labelNames: ['kind'],
    registers
  })
  for (const kind of [...Object.keys(kinds), 'other']) failures.inc({ kind }, 0)

  const time = <Args extends unknown[], T>(operation: string, work: (...args: Args) => Promise<T>) => async (...args: Args): Promise<T> => {
    const end = seconds.startTimer({ operation })
    try {
      return await work(...args)
    } catch (error) {
      const kind = Object.entries(kinds).find(([, type]) => error instanceof type)?.[0] ?? 'other'
      failures.inc({ kind })
      throw error
    } finally {
      end()
    }
  }

  const ceilingOf = (name: string, help: string, what: 'users' | 'managed') => {
    const gauge = new Gauge({ name, help, labelNames: ['account'], registers })
    for (const { account, [what]: ceiling } of ceilings) if (ceiling !== undefined) gauge.set(labelOf(account), ceiling)
  }
  ceilingOf('job_access_managed_policies_ceiling', 'Ceiling of outstanding grants with a managed policy, JOB_ACCESS_MAX_MANAGED_POLICIES.',
    'managed')
  const isPool = ceilings.some(({ account }) => account !== undefined)
  if (isPool) ceilingOf('job_access_account_users_ceiling', 'Ceiling of users of outstanding grants in an account of the pool.', 'users')

  const watchLedger = (ledger: Pick<Ledger, 'stats' | 'accounts'>) => {
    const names = ceilings.map(({ account = '' }) => account)
    const stats = cached(freshMs, () => inTime(Promise.all([ledger.stats(now()), ledger.accounts(names)]))
      .then(([stats, accounts]) => ({ ...stats, accounts }), () => null))
    const gauge = (name: string, help: string, labelNames: string[], read: (gauge: Gauge, found: Stats) => void) => new Gauge({
      name,
      help,
      labelNames,
      registers,
      async collect () {
        const found = await stats()
        // When the ledger does not answer there is no value: an old one would look new.
        if (found) read(this, found)
        else if (labelNames.length > 0) this.reset()
        else this.remove()
      }
    })
    const grants = 'Grants by state. Every replica reports the same ledger: take the max, not the sum.'
    gauge('job_access_grants', grants, ['state'], (gauge, { byState }) => {
      for (const state of states) gauge.set({ state }, byState[state])
    })
    const perAccount = (name: string, help: string, what: 'users' | 'managed') => gauge(name, help, ['account'], (gauge, { accounts }) => {
      for (const { account, [what]: count } of accounts) gauge.set(labelOf(account === '' ? undefined : account), count)
    })
    perAccount('job_access_managed_policies', 'Outstanding grants with a managed policy. Take the max, not the sum.', 'managed')
    if (isPool) perAccount('job_access_account_users', 'Outstanding grants with a user in an account of the pool. Take the max.', 'users')
    gauge('job_access_oldest_overdue_grant_seconds', 'How long the oldest outstanding grant has outlived its end; 0: none has.', [],
      (gauge, { oldestOverdueExpiry }) => gauge.set(age(oldestOverdueExpiry)))
    gauge('job_access_sweep_lag_seconds', 'How long the sweeper has left something due that nobody works on; 0: nothing is.', [],
      (gauge, { oldestDue }) => gauge.set(age(oldestDue)))
    const up = {
      name: 'job_access_ledger_up',
      help: '1 if the ledger answered this scrape, or one of the last seconds.',
      async collect (this: Gauge) { this.set(await stats() ? 1 : 0) }
    }
    registry.registerMetric(new Gauge({ ...up, registers: [] }))
  }

  const age = (since: number | null): number => since === null ? 0 : Math.max(0, now() - since) / 1000

  return {
    watchLedger,
    timed: ledger => ({
      begin: time('begin', ledger.begin),
      get: time('get', ledger.get),
      list: time('list', ledger.list),
      claim: time('claim', ledger.claim),
      update: time('update', ledger.update),
      claimDue: time('claimDue', ledger.claimDue),
      workersOf: time('workersOf', ledger.workersOf),
      accounts: time('accounts', ledger.accounts),
      firstEnd: time('firstEnd', ledger.firstEnd),
      inhabited: time('inhabited', ledger.inhabited),
      known: time('known', ledger.known),
      events: time('events', ledger.events),
      stats: time('stats', ledger.stats),
      time: time('time', ledger.time),
      ping: time('ping', ledger.ping),
      close: ledger.close
    })
  }
}

type Stats = Awaited<ReturnType<Ledger['stats']>> & { accounts: AccountUse[] }

/** Asks once; all callers until `freshMs` after the answer get the same one. In real time, since it limits load. */
const cached = <T>(freshMs: number, ask: () => Promise<T>): () => Promise<T> => {
  let answer: Promise<T> | undefined
  return () => {
    answer ??= ask().finally(() => setTimeout(() => { answer = undefined }, freshMs).unref())
    return answer
  }
}

/** When the ledger hangs, the scrape must still answer: its other metrics matter most then. */
const inTime = <T>(answer: Promise<T>): Promise<T> => {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error('no answer in time')), patienceMs)
  return Promise.race([answer, promise]).finally(() => clearTimeout(timer))
}
