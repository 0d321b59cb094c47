import type { Static } from '@sinclair/typebox'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { otherThing } from '../policy/entries.ts'
import { parseInstant } from '../policy/window.ts'
import { QuestionError, check } from '../policy/prove/check.ts'
import { ProblemError } from '../problems.ts'
import type { QuestionSchema } from './schemas.ts'

/** Answers a question about a policy. `pointer` is where the question stands in the request body. */
export const verdict = (policy: PolicyDocument, question: Static<typeof QuestionSchema>, now: Date, pointer: string) => {
  const { at, ...rest } = question
  const instant = at === undefined ? { ok: true as const, epochMs: now.getTime() } : parseInstant(at)
  if (!instant.ok) {
    throw ProblemError.of([{ code: 'time-invalid', pointer: `${pointer}/at`, detail: `The instant ${instant.why}.`, hint: instant.hint }])
  }
  const refusal = (field: string, detail: string, hint: string) =>
    ProblemError.of([{ code: 'question-invalid', pointer: `${pointer}/${field}`, detail, hint }])
  // As the name of a bucket each of these is denied, which says nothing of what was meant.
  const { bucket, copySource = '' } = rest
  const source = /^(arn:|\w+:\/\/)/.test(copySource) ? copySource : copySource.replace(/\/.*$/s, '')
  for (const [field, name] of [['bucket', bucket], ['copySource', source]] as const) {
    const other = otherThing(name)
    if (other) throw refusal(field, other.detail, other.hint)
  }
  try {
    return check(policy, { ...rest, at: new Date(instant.epochMs) })
  } catch (error) {
    if (!(error instanceof QuestionError)) throw error
    throw refusal(error.field, error.message, error.hint)
  }
}
