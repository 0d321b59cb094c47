import type { Static } from '@sinclair/typebox'
import type { PolicyDocument } from '../policy/document.ts'
import { parseInstant } from '../policy/instants.ts'
import { check } from '../policy/prove/check.ts'
import { Problem } from '../problems.ts'
import type { QuestionSchema } from './schemas.ts'

/** Answers a question about a policy. `pointer` is where the question stands in the request body. */
export const verdict = (policy: PolicyDocument, question: Static<typeof QuestionSchema>, now: Date, pointer: string) => {
  const { at, ...rest } = question
  const instant = at === undefined ? { ok: true as const, epochMs: now.getTime() } : parseInstant(at)
  if (!instant.ok) throw Problem.of([{ code: 'time-invalid', pointer: `${pointer}/at`, detail: instant.why, hint: instant.hint }])
  return check(policy, { ...rest, at: new Date(instant.epochMs) })
}
