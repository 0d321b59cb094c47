import type { AccessSpec } from '../domain/access-spec.ts'
import { checks, type At, type Caller, type Guardrails, type Step } from './guardrails.ts'
import type { RequestAction } from './schema.ts'

interface DecisionExplanation {
  lines: string[]
  allowed: boolean
}

/** For the author of the policies: for every question of a decision, which policies answered it, and on which lines they are. */
export const explainDecision = (
  guardrails: Guardrails, caller: Caller, spec: AccessSpec, action: RequestAction, at: At
): DecisionExplanation => {
  const decision = guardrails.decide(caller, spec, action, at)
  // One of the service's own checks refused it, so no policy was evaluated.
  const unevaluated = !decision.allowed && decision.decidedBy.some(decider => decider === checks.team || decider === checks.questions)
  const lines = unevaluated
    ? decision.findings.map(({ pointer, detail }) => `${pointer || '/'}: ${detail}`)
    : guardrails.trace(caller, spec, action, at).map(step => `${step.pointer}: ${sentence(guardrails.fileName, step)}`)
  return { lines: [...lines, decision.allowed ? 'Allowed.' : 'Refused.'], allowed: decision.allowed }
}

const sentence = (file: string, { subject, source, answer: { allowed, policies, faults } }: Step): string => {
  const what = source === null ? subject : `${subject} from ${source}`
  const named = policies.map(({ id, line }) => `"${id}" (${file}:${line})`).join(', ')
  if (faults.length > 0) return `${what}: cannot be evaluated: ${faults.join('; ')}.`
  if (policies.length === 0) return `${what}: no policy permits it.`
  return `${what}: ${allowed ? 'permitted' : 'forbidden'} by ${named}.`
}
