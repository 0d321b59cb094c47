import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { auditMetrics, type AuditMetrics } from './audit.ts'
import { httpMetrics, type HttpMetrics } from './http.ts'
import { iamMetrics, type IamMetrics } from './iam.ts'
import { ledgerMetrics, type Ceiling, type LedgerMetrics } from './ledger.ts'
import { recorderMetrics, type RecorderMetrics } from './recorder.ts'
import { tendingMetrics, type TendingMetrics } from './tending.ts'

/**
 * What the service tells Prometheus. Labels are closed sets: operations, states, codes, route patterns; never a team, a job, a
 * grant or an address. Counters that an alert uses start at 0: Prometheus sees no increase when a counter appears.
 */
export interface Metrics extends IamMetrics, HttpMetrics, LedgerMetrics, AuditMetrics, RecorderMetrics, TendingMetrics {
  registry: Registry
}

interface MetricsOptions {
  /** Epoch ms. */
  now: () => number
  version: string
  provider: string
  /** Ceiling of outstanding grants, in all. */
  ceiling: number
  /** The ceilings of each account of the pool, or of the only account. Default: one without ceilings. */
  ceilings?: Ceiling[]
  /** How long the ledger's figures are reused for further scrapes, ms. Default 5,000. */
  freshMs?: number
}

export const createMetrics = (
  { now, version, provider, ceiling, ceilings = [{}], freshMs = 5_000 }: MetricsOptions
): Metrics => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const registers = [registry]
  new Gauge({ name: 'job_access_info', help: 'Always 1; what runs.', labelNames: ['version', 'provider'], registers })
    .set({ version, provider }, 1)
  new Gauge({ name: 'job_access_grants_ceiling', help: 'Ceiling of outstanding grants, JOB_ACCESS_MAX_GRANTS.', registers }).set(ceiling)
  const accounts = ceilings.map(({ account }) => account)
  return {
    registry,
    ...iamMetrics(registry, accounts),
    ...httpMetrics(registry),
    ...ledgerMetrics(registry, now, freshMs, ceilings),
    ...auditMetrics(registry),
    ...recorderMetrics(registry),
    ...tendingMetrics(registry, now, accounts)
  }
}
