import { Counter, type Registry } from 'prom-client'
import type { AuditRecorder } from '../audit/recorder.ts'
import { grantEventActions } from '../domain/events.ts'

export interface RecorderMetrics {
  /** The same recorder; what it is told is counted. */
  counted: (recorder: AuditRecorder) => AuditRecorder
}

const authorisedActions = ['issue', 'extend', 'join', 'render', 'rotate', 'revoke', 'collect', 'view']

export const recorderMetrics = (registry: Registry): RecorderMetrics => {
  const registers = [registry]
  const events = new Counter({
    name: 'job_access_grant_events_total', help: 'Events of grants, by the name that their history has.', labelNames: ['event'], registers
  })
  const decisions = new Counter({
    name: 'job_access_guardrail_decisions_total',
    help: 'Decisions of the guardrails: `allowed`, `denied`, or `fault`, denied since a policy could not be evaluated.',
    labelNames: ['action', 'decision'],
    registers
  })
  const refusals = new Counter({
    name: 'job_access_auth_refusals_total', help: 'Tokens refused, by reason.', labelNames: ['reason'], registers
  })
  for (const event of grantEventActions) events.inc({ event }, 0)
  for (const action of authorisedActions) decisions.inc({ action, decision: 'fault' }, 0)

  return {
    counted: recorder => ({
      ...recorder,
      refused (from, reason) {
        refusals.inc({ reason })
        recorder.refused(from, reason)
      },
      decided (caller, action, decision, about) {
        decisions.inc({ action, decision: decision.allowed ? 'allowed' : decision.faults.length > 0 ? 'fault' : 'denied' })
        recorder.decided(caller, action, decision, about)
      },
      async changed (grant, event) {
        events.inc({ event: event.action })
        await recorder.changed(grant, event)
      }
    })
  }
}
