// @ts-check
import { call } from './api.js'
import { openDialog } from './dialogs.js'
import { el, newId } from './dom.js'
import { findingsOf, problemBox, showAtFields } from './problem-view.js'
import { showCredentials } from './secret.js'
import { fromField, toField, utc } from './times.js'

/**
 * @typedef {import('../client/schema.ts').Grant} Grant
 * @typedef {import('../client/schema.ts').Delivery} Delivery
 * @typedef {(outcome: string) => Promise<void>} Done
 */

/** @param {Grant} grant @param {Done} done */
export const askComplete = (grant, done) => ask(`Complete ${grant.job.id}?`, {
  what: [el('p', {}, 'Its key is deleted at once, and then its user. A job that still runs loses its access. This cannot be undone.')],
  verb: 'Complete',
  danger: true,
  act: async () => {
    /** @type {Grant} */
    const ended = await call('POST', `v1/grants/${grant.id}/complete`)
    return () => done(ended.state === 'revoking' ? 'Its key is being deleted.' : `Completed: the grant is ${ended.state}.`)
  }
})

/** @param {Grant} grant @param {Done} done */
export const askRotate = (grant, done) => {
  const overlap = el('input', {
    id: newId('overlap'), type: 'number', min: 0, max: 86_400, step: 1, value: 0, 'data-error': newId('error'), class: 'num'
  })
  ask(`Rotate the key of ${grant.job.id}`, {
    what: [
      el('p', {}, 'The job gets a fresh key, shown once. The old one dies at once, or after the overlap.'),
      field('Overlap, seconds', overlap)
    ],
    verb: 'Rotate',
    fields: new Map([['/overlapSeconds', overlap]]),
    act: async () => {
      /** @type {Delivery} */
      const delivery = await call('POST', `v1/grants/${grant.id}/rotate`, { body: { overlapSeconds: overlap.valueAsNumber } })
      return () => showCredentials(delivery, () => done('Rotated.'))
    }
  })
}

/** @param {Grant} grant @param {Done} done */
export const askExtend = (grant, done) => {
  const ends = Date.parse(grant.window.notAfter)
  const end = el('input', {
    id: newId('end'), type: 'datetime-local', step: 60, value: toField(ends + 3_600_000), 'data-error': newId('error'), class: 'num'
  })
  const later = (/** @type {number} */ hours) => el('button', {
    type: 'button', onclick: () => { end.value = toField(ends + hours * 3_600_000) }
  }, `+${hours} h`)
  ask(`Extend ${grant.job.id}`, {
    what: [
      el('p', {}, 'It ends at ', el('span', { class: 'num' }, `${utc(ends)} UTC`), '. The key stays; an earlier end shortens the window.'),
      field('New end, UTC', end),
      el('div', { class: 'buttons', role: 'group', 'aria-label': 'Later than the present end by' }, later(1), later(3), later(12))
    ],
    verb: 'Extend',
    fields: new Map([['/window/notAfter', end], ['/window', end]]),
    act: async () => {
      /** @type {Grant} */
      const changed = await call('PATCH', `v1/grants/${grant.id}`, { body: { window: { notAfter: fromField(end.value) } } })
      return () => done(`It now ends at ${utc(changed.window.notAfter)} UTC.`)
    }
  })
}

/** @param {string} label @param {HTMLElement} control */
const field = (label, control) => {
  const { error = '' } = control.dataset
  control.setAttribute('aria-describedby', error)
  return el('div', { class: 'field' }, el('label', { for: control.id }, label), control, el('p', { id: error, class: 'error' }))
}

/**
 * Asks before it acts; a refusal is said in the dialog, at its field.
 *
 * @param {string} title
 * @param {{ what: Node[], verb: string, danger?: boolean, fields?: Map<string, HTMLElement>, act: () => Promise<() => unknown> }} question
 *   `act` gives what follows once the dialog is closed
 */
const ask = (title, { what, verb, danger = false, fields = new Map(), act }) => openDialog(title, close => {
  const said = el('div')
  const button = el('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, verb)
  /** @param {Event} event */
  const submit = async event => {
    event.preventDefault()
    button.disabled = true
    try {
      const follow = await act()
      close()
      follow()
    } catch (error) {
      said.replaceChildren(problemBox(error))
      showAtFields(fields, findingsOf(error))
      button.disabled = false
      const [first] = fields.values()
      ;(first ?? button).focus()
    }
  }
  return [el('form', { novalidate: true, onsubmit: submit }, ...what, said,
    el('div', { class: 'buttons end' }, el('button', { type: 'button', onclick: close }, 'Cancel'), button))]
})
