import { Counter, Gauge, type Registry } from 'prom-client'
import type { Clocks } from '../lifecycle/clock.ts'
import type { Log } from '../lifecycle/deps.ts'
import type { ReconcileReport } from '../lifecycle/reconcile.ts'
import type { SweepReport } from '../lifecycle/sweep.ts'
import { ProblemError } from '../problems.ts'
import { labelOf } from './ledger.ts'

export interface TendingMetrics {
  /** A sweep has ended, with a pool that of one account; undefined: it failed as a whole. */
  swept: (report: SweepReport | undefined, account?: string) => void
  reconciled: (report: ReconcileReport | undefined, account?: string) => void
  /** Read at each scrape. */
  watchClocks: (clocks: Pick<Clocks, 'wrong' | 'ahead'>) => void
  /** The same log of the lifecycle; it counts the one failure that must never happen, whichever operation meets it. */
  watchLog: (log: Log) => Log
}

const runs = ['done', 'failed']

/** Metrics of the service's own work on grants: sweeps and reconciliations. */
export const tendingMetrics = (registry: Registry, now: () => number, accounts: Array<string | undefined>): TendingMetrics => {
  const registers = [registry]
  const counter = (name: string, help: string, label: string, values: string[]) => {
    const made = new Counter({ name, help, labelNames: ['account', label], registers })
    for (const account of accounts) for (const value of values) made.inc({ ...labelOf(account), [label]: value }, 0)
    return made
  }
  const gauge = (name: string, help: string) => new Gauge({ name, help, labelNames: ['account'], registers })
  const sweeps = counter('job_access_sweeps_total', 'Sweeps, by outcome.', 'outcome', runs)
  const grants = counter(
    'job_access_swept_grants_total', 'Grants that sweeps worked on, by outcome; a failed one is tried again.', 'outcome', runs
  )
  const sweptAt = gauge(
    'job_access_sweep_last_done_timestamp_seconds', 'When this replica last ended a sweep; its start, before the first.'
  )
  const reconciliations = counter('job_access_reconciliations_total', 'Reconciliations with the provider, by outcome.', 'outcome', runs)
  const found = counter('job_access_reconcile_findings_total',
    '`stray`: unknown to the ledger and past its end, deleted. `lost`: gone at the provider, closed. `key`: known to no grant, deleted.',
    'kind', ['stray', 'lost', 'key'])
  const foreign = gauge('job_access_reconcile_foreign', 'What lay below our path at the last reconciliation and is not ours; left alone.')
  const failed = gauge('job_access_reconcile_failed', 'What the last reconciliation could not put right.')
  const reconciledAt = gauge('job_access_reconcile_last_done_timestamp_seconds',
    'When this replica last ended a reconciliation; its start, before the first.')
  const unproven = new Counter({
    name: 'job_access_stored_policies_unproven_total',
    help: 'Reports of a stored policy that was about to be used and is not what was asked: a bug, or a changed ledger.',
    registers
  })
  for (const at of [sweptAt, reconciledAt]) for (const account of accounts) at.set(labelOf(account), now() / 1000)

  return {
    swept (report, account) {
      const of = labelOf(account)
      sweeps.inc({ ...of, outcome: report ? 'done' : 'failed' })
      if (!report) return
      grants.inc({ ...of, outcome: 'done' }, report.handled - report.failed)
      grants.inc({ ...of, outcome: 'failed' }, report.failed)
      sweptAt.set(of, now() / 1000)
    },
    reconciled (report, account) {
      const of = labelOf(account)
      reconciliations.inc({ ...of, outcome: report ? 'done' : 'failed' })
      if (!report) return
      const count = (kind: string) => report.findings.filter(finding => finding.kind === kind).length
      for (const kind of ['stray', 'lost', 'key']) found.inc({ ...of, kind }, count(kind))
      foreign.set(of, count('foreign'))
      failed.set(of, report.failed)
      reconciledAt.set(of, now() / 1000)
    },
    watchClocks (clocks) {
      const watched = (name: string, help: string, labelNames: string[], collect: (this: Gauge) => void) =>
        new Gauge({ name, help, labelNames, registers, collect })
      watched('job_access_clock_wrong', '1 if this machine’s clock disagrees with the provider’s: it sweeps and issues nothing.', [],
        function () { this.set(clocks.wrong() ? 1 : 0) })
      watched('job_access_clock_ahead_seconds',
        'How far this machine’s clock is ahead of the provider’s, or of the ledger’s database; less than 0: behind.', ['reference'],
        function () {
          for (const [reference, ms] of Object.entries(clocks.ahead())) this.set({ reference }, ms / 1000)
        })
    },
    watchLog (log) {
      const watched = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) => {
        const { err } = fields as { err?: unknown }
        if (err instanceof ProblemError && err.code === 'policy-unproven') unproven.inc()
        log[level](fields, message)
      }
      return { info: watched('info'), warn: watched('warn'), error: watched('error') }
    }
  }
}
