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

/** What a control is called, with the group that it stands in: `Datasets, read only, dataset 2: Bucket`. */
export const labelOf = (control: HTMLElement): string => {
  const [legend, row] = [control.closest('fieldset')?.querySelector('legend'), control.closest('[role=group]')]
  const label = document.querySelector(`label[for="${control.id}"]`)?.textContent ?? ''
  const groups = [legend?.textContent, row?.getAttribute('aria-label')].filter(Boolean).join(', ')
  return groups === '' || label === '' ? groups + label : `${groups}: ${label}`
}

/** Also where it stands behind a fold. */
export const focusOn = (control: HTMLElement | undefined): void => {
  control?.closest('details')?.setAttribute('open', '')
  control?.focus()
}

export const fieldAt = (fields: Fields, pointer: string): HTMLElement | undefined => {
  for (let at = pointer; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) {
    const found = fields.get(at)
    if (found) return found
  }
  return undefined
}
