import { Gauge, type Registry } from 'prom-client'
import type { Audit } from '../audit/log.ts'

export interface AuditMetrics {
  watchAudit: (audit: Pick<Audit, 'state'>) => void
}

/** Read at each scrape. Without an audit there are no such metrics. */
export const auditMetrics = (registry: Registry): AuditMetrics => ({
  watchAudit (audit) {
    const gauge = (name: string, help: string, read: (gauge: Gauge, state: ReturnType<Audit['state']>) => void) => new Gauge({
      name, help, registers: [registry], collect () { read(this, audit.state()) }
    })
    gauge('job_access_audit_broken', '1 if the audit log has stopped: nothing is issued any more.',
      (gauge, { broken }) => gauge.set(broken === undefined ? 0 : 1))
    gauge('job_access_audit_waiting_events', 'Audit events that wait to be written.', (gauge, { waiting }) => gauge.set(waiting))
    gauge('job_access_audit_last_seq', 'Sequence number of the last audit event written. What the receiver has is behind it by the rest.',
      (gauge, { head }) => gauge.set(head.seq))
    gauge('job_access_audit_last_written_timestamp_seconds', 'When the last audit event was written.',
      (gauge, { writtenAt }) => gauge.set(writtenAt / 1000))
  }
})
