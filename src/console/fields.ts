import { el, newId } from './dom.ts'
import type { Finding } from './problem-view.ts'

/** Which control stands for which JSON pointer of a request. */
export type Fields = Map<string, HTMLElement>

/** A control with its label, a hint, and a place for what is wrong with it, which `data-error` names. */
export const field = (label: string, control: HTMLElement, hint?: string): HTMLElement => {
  control.id ||= newId('field')
  const error = el('p', { id: newId('error'), class: 'error' })
  const hinted = hint !== undefined && el('p', { id: newId('hint'), class: 'fine' }, hint)
  control.dataset.error = error.id
  control.setAttribute('aria-describedby', hinted ? `${hinted.id} ${error.id}` : error.id)
  return el('div', { class: 'field' }, el('label', { for: control.id }, label), control, hinted, error)
}

/** Puts findings at the fields that they name, or at the nearest field above. `shown` says whether a field is to complain already. */
export const showAtFields = (fields: Fields, findings: Finding[], shown: (field: HTMLElement) => boolean = () => true): void => {
  const messages = new Map<HTMLElement, string[]>()
  for (const { pointer, detail, hint } of findings) {
    const at = fieldAt(fields, pointer)
    if (at) messages.set(at, [...messages.get(at) ?? [], [detail, hint].filter(Boolean).join(' ')])
  }
  for (const control of new Set(fields.values())) {
    const said = shown(control) ? messages.get(control) : undefined
    const place = document.getElementById(control.dataset.error ?? '')
    if (place && place.textContent !== (said ?? []).join(' ')) place.textContent = (said ?? []).join(' ')
    if (said) {
      control.setAttribute('aria-invalid', 'true')
      control.closest('details')?.setAttribute('open', '')
    } else control.removeAttribute('aria-invalid')
  }
}

export const fieldAt = (fields: Fields, pointer: string): HTMLElement | undefined => {
  for (let at = pointer; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) {
    const found = fields.get(at)
    if (found) return found
  }
  return undefined
}
