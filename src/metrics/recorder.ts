import { Counter, type Registry } from 'prom-client'
import type { Recorder } from '../audit/recorder.ts'

export interface RecorderMetrics {
  /** The same recorder, what it is told counted. */
  counted: (recorder: Recorder) => Recorder
}

/** Steps of a grant that are counted by name; what else there is, is `other`. */
const steps = [
  'pending', 'active', 'delivered', 'rotated', 'extended', 'revoking', 'revoked', 'expired', 'failed', 'mended',
  'issue-failed', 'extend-failed', 'attempt-failed'
]

const actions = ['issue', 'extend', 'render', 'rotate', 'revoke', 'collect', 'view']

export const recorderMetrics = (registry: Registry): RecorderMetrics => {
  const registers = [registry]
  const events = new Counter({
    name: 'job_access_grant_events_total', help: 'Steps in the lives of grants.', labelNames: ['event'], registers
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
  for (const event of [...steps, 'other']) events.inc({ event }, 0)
  for (const action of actions) decisions.inc({ action, decision: 'fault' }, 0)

  return {
    counted: recorder => ({
      refused (request, reason) {
        refusals.inc({ reason })
        recorder.refused(request, reason)
      },
      decided (request, action, decision, about) {
        decisions.inc({ action, decision: decision.allowed ? 'allowed' : decision.faults.length > 0 ? 'fault' : 'denied' })
        recorder.decided(request, action, decision, about)
      },
      async changed (grant, event) {
        events.inc({ event: steps.includes(event.action) ? event.action : 'other' })
        await recorder.changed(grant, event)
      },
      answered: (request, problem) => recorder.answered(request, problem),
      reconciled: findings => recorder.reconciled(findings),
      noted: event => recorder.noted(event)
    })
  }
}
