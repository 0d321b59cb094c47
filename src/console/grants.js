// @ts-check
import { call, now, Refusal } from './api.js'
import { el } from './dom.js'
import { problemBox } from './problem-view.js'
import { states } from './states.js'
import { ranges, timeline } from './timeline.js'

/**
 * @typedef {import('../client/schema.ts').Grant} Grant
 * @typedef {import('../client/schema.ts').GrantPage} GrantPage
 */

const pageSize = 50

/**
 * The grants of the caller's teams: filters, and the timeline, which is a table.
 *
 * @param {import('./main.js').Visit} visit
 * @returns {import('./main.js').Page}
 */
export const grantsPage = ({ query, left }) => {
  /** @type {Grant[]} */
  let grants = []
  /** @type {string | null} */
  let next = null
  let asking = new AbortController()

  const state = el('select', { id: 'state', 'aria-describedby': 'state-error' },
    el('option', { value: '' }, 'any'), ...states.map(name => el('option', { value: name }, name)))
  const team = el('input', { id: 'team', size: 10, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'team-error' })
  const job = el('input', { id: 'job', size: 18, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'job-error' })
  const range = el('select', { id: 'range', onchange: () => draw() },
    ...Object.entries(ranges).map(([value, { label }]) => el('option', { value }, label)))
  const filters = { state, team, job }
  for (const [name, control] of Object.entries(filters)) control.value = query.get(name) ?? ''

  const status = el('p', { role: 'status', class: 'fine num' })
  const said = el('div')
  const place = el('div', { class: 'panel timeline-panel' })
  const more = el('button', { type: 'button', hidden: true, onclick: () => load(next) }, 'Load older grants')

  const draw = () => {
    place.replaceChildren(grants.length === 0
      ? el('p', { class: 'empty' }, 'No grants. ', el('a', { href: '#/issue' }, 'Issue one'), ', or ask for others.')
      : timeline(grants, { now: now(), range: range.value, left }))
  }

  /** @param {string | null} after */
  const load = async after => {
    asking.abort()
    asking = new AbortController()
    const { signal } = asking
    const wanted = Object.entries(filters).map(([name, control]) => [name, control.value.trim()]).filter(([, value]) => value !== '')
    const asked = new URLSearchParams([...wanted, ['limit', `${pageSize}`], ...(after === null ? [] : [['after', after]])])
    window.history.replaceState(null, '', `#/grants${wanted.length > 0 ? `?${new URLSearchParams(wanted)}` : ''}`)
    status.textContent = 'Loading…'
    try {
      /** @type {GrantPage} */
      const page = await call('GET', `v1/grants?${asked}`, { signal })
      grants = after === null ? page.grants : [...grants, ...page.grants]
      next = page.next
      more.hidden = next === null
      said.replaceChildren()
      sayAtFilters(filters, null)
      status.textContent = summary(grants, next !== null)
      draw()
    } catch (error) {
      if (signal.aborted) return
      status.textContent = ''
      said.replaceChildren(problemBox(error))
      sayAtFilters(filters, error)
    }
  }
  left.addEventListener('abort', () => asking.abort())

  const clear = () => {
    for (const control of Object.values(filters)) control.value = ''
    load(null)
  }

  return {
    title: 'Grants',
    content: [
      el('div', { class: 'head' }, el('h1', {}, 'Grants'),
        el('div', { class: 'buttons' },
          el('button', { type: 'button', onclick: () => load(null) }, 'Refresh'),
          el('a', { class: 'button primary', href: '#/issue' }, 'New grant'))),
      el('form', {
        class: 'filters',
        role: 'search',
        'aria-label': 'Filter the grants',
        onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); load(null) },
        onchange: (/** @type {Event} */ event) => { if (event.target !== range) load(null) }
      },
      filter('State', state), filter('Team', team), filter('Job', job),
      el('button', { type: 'submit', class: 'hidden' }, 'Filter'),
      el('button', { type: 'button', class: 'quiet', onclick: clear }, 'Clear'),
      el('div', { class: 'field push' }, el('label', { for: 'range' }, 'Time shown'), range)),
      status, said, place, more
    ],
    ready: () => load(null)
  }
}

/** @param {string} label @param {HTMLElement} control */
const filter = (label, control) => el('div', { class: 'field' },
  el('label', { for: control.id }, label), control, el('p', { id: `${control.id}-error`, class: 'error' }))

/** @param {Record<string, HTMLElement>} filters @param {unknown} error */
const sayAtFilters = (filters, error) => {
  const pointer = error instanceof Refusal ? error.problem.pointer : undefined
  for (const [name, control] of Object.entries(filters)) {
    const wrong = pointer === `/${name}` && error instanceof Refusal
    const place = document.getElementById(`${name}-error`)
    if (place) place.textContent = wrong ? error.problem.detail : ''
    if (wrong) control.setAttribute('aria-invalid', 'true')
    else control.removeAttribute('aria-invalid')
  }
}

/** @param {Grant[]} grants @param {boolean} open */
const summary = (grants, open) => {
  const each = states.map(name => ({ name, count: grants.filter(({ state }) => state === name).length }))
    .filter(({ count }) => count > 0).map(({ name, count }) => `${count} ${name}`).join(', ')
  return `${grants.length} ${grants.length === 1 ? 'grant' : 'grants'}${each && `: ${each}`}${open ? '; there are older ones' : ''}`
}
