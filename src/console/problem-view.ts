import type { Problem } from '../client/schema.ts'
import { Refusal } from './api.ts'
import { el } from './dom.ts'

export type Finding = Pick<NonNullable<Problem['errors']>[number], 'pointer' | 'detail' | 'hint'>

/** What was refused, why, and what to do about it. */
export const problemBox = (error: unknown): HTMLElement => {
  if (!(error instanceof Refusal)) {
    return el('div', { class: 'problem', role: 'alert' },
      el('p', { class: 'problem-title' }, 'This page failed.'), el('p', {}, String(error)),
      el('p', {}, 'Reload it; should it fail again, report it.'))
  }
  const { problem, retryAfterSeconds } = error
  return el('div', { class: 'problem', role: 'alert' },
    el('p', { class: 'problem-title' }, problem.title),
    problem.detail !== problem.title && el('p', {}, problem.detail),
    problem.hint && el('p', {}, el('strong', {}, 'What to do: '), problem.hint),
    retryAfterSeconds !== null && el('p', {}, `Try again in ${retryAfterSeconds} s.`),
    el('p', { class: 'fine' }, [problem.status > 0 && `${problem.status} ${problem.code}`, problem.pointer && `at ${problem.pointer}`,
      problem.requestId && `request ${problem.requestId}`].filter(Boolean).join(' · ')))
}

export const findingsOf = (error: unknown): Finding[] => {
  if (!(error instanceof Refusal)) return []
  const { errors, pointer, detail, hint = '' } = error.problem
  return errors ?? (pointer === undefined ? [] : [{ pointer, detail, hint }])
}
