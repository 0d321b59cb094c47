// @ts-check
import { Refusal } from './api.js'
import { el } from './dom.js'

/** @typedef {{ pointer: string, detail: string, hint: string }} Finding */

/**
 * What was refused, why, and what to do about it.
 *
 * @param {unknown} error
 */
export const problemBox = error => {
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

/** @param {unknown} error @returns {Finding[]} */
export const findingsOf = error => {
  if (!(error instanceof Refusal)) return []
  const { errors, pointer, detail, hint = '' } = error.problem
  return errors ?? (pointer === undefined ? [] : [{ pointer, detail, hint }])
}

/**
 * Puts findings at the fields that they name, or at the nearest field above. A field is a control that its `data-error` names the place
 * of its message by.
 *
 * @param {Map<string, HTMLElement>} fields by JSON pointer
 * @param {Finding[]} findings
 * @param {(field: HTMLElement) => boolean} [shown] whether a field is to complain already
 */
export const showAtFields = (fields, findings, shown = () => true) => {
  /** @type {Map<HTMLElement, string[]>} */
  const messages = new Map()
  for (const finding of findings) {
    const field = fieldAt(fields, finding.pointer)
    if (field) messages.set(field, [...messages.get(field) ?? [], [finding.detail, finding.hint].filter(Boolean).join(' ')])
  }
  for (const field of new Set(fields.values())) {
    const said = shown(field) ? messages.get(field) : undefined
    const place = document.getElementById(field.dataset.error ?? '')
    if (place && place.textContent !== (said ?? []).join(' ')) place.textContent = (said ?? []).join(' ')
    if (said) field.setAttribute('aria-invalid', 'true')
    else field.removeAttribute('aria-invalid')
  }
}

/** @param {Map<string, HTMLElement>} fields @param {string} pointer */
export const fieldAt = (fields, pointer) => {
  for (let at = pointer; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) {
    const field = fields.get(at)
    if (field) return field
  }
  return undefined
}
