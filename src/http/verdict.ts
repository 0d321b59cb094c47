import type { Static } from '@sinclair/typebox'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { parseInstant } from '../policy/window.ts'
import { QuestionError, check } from '../policy/prove/check.ts'
import { ProblemError } from '../problems.ts'
import type { QuestionSchema } from './schemas.ts'

/** Answers a question about a policy. `pointer` is where the question stands in the request body. */
export const verdict = (policy: PolicyDocument, question: Static<typeof QuestionSchema>, now: Date, pointer: string) => {
  const { at, ...rest } = question
  const instant = at === undefined ? { ok: true as const, epochMs: now.getTime() } : parseInstant(at)
  if (!instant.ok) throw ProblemError.of([{ code: 'time-invalid', pointer: `${pointer}/at`, detail: instant.why, hint: instant.hint }])
  try {
    return check(policy, { ...rest, at: new Date(instant.epochMs) })
  } catch (error) {
    if (!(error instanceof QuestionError)) throw error
    throw new ProblemError('question-invalid', { detail: error.message, pointer: `${pointer}/${error.field}` })
  }
}
