import { Gauge, type Registry } from 'prom-client'
import type { Audit } from '../audit/log.ts'

export interface AuditMetrics {
  watchAudit: (audit: Pick<Audit, 'state'>) => void
}

/** Read at a scrape; there is nothing of it where there is no audit. `sink` is a name of the configuration. */
export const auditMetrics = (registry: Registry): AuditMetrics => ({
  watchAudit (audit) {
    const gauge = (name: string, help: string, labelNames: string[], read: (gauge: Gauge, state: ReturnType<Audit['state']>) => void) => new Gauge({
      name, help, labelNames, registers: [registry], collect () { read(this, audit.state()) }
    })
    gauge('job_access_audit_broken', '1 if the audit log has stopped: nothing is issued any more.', [],
      (gauge, { broken }) => gauge.set(broken === undefined ? 0 : 1))
    gauge('job_access_audit_waiting_events', 'Audit events that wait to be written.', [], (gauge, { waiting }) => gauge.set(waiting))
    gauge('job_access_audit_delivery_lag_events', 'Audit events that a sink does not have yet.', ['sink'], (gauge, { head, deliveries }) => {
      for (const { sink, deliveredSeq } of deliveries) gauge.set({ sink }, Math.max(0, head.seq - deliveredSeq))
    })
    gauge('job_access_audit_delivery_failures', 'Failed attempts of a sink since its last success.', ['sink'], (gauge, { deliveries }) => {
      for (const { sink, failures } of deliveries) gauge.set({ sink }, failures)
    })
  }
})
