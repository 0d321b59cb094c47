import type { Grant } from '../client/schema.ts'
import { listGrants, now } from './api.ts'
import { counted, el } from './dom.ts'
import { field, showAtFields } from './fields.ts'
import type { Page, Visit } from './page.ts'
import { findingsOf, problemBox } from './problem-view.ts'
import { shownState, states, type Shown } from './states.ts'
import { ranges, timeline } from './timeline.ts'

const pageSize = 50

/** The grants of the caller's teams: filters, and the timeline, which is a table. */
export const grantsPage = ({ query, left }: Visit): Page => {
  let grants: Grant[] = []
  let next: string | null = null
  let asking = new AbortController()

  const state = el('select', { id: 'state' },
    el('option', { value: '' }, 'any'),
    ...states.map(name => el('option', { value: name }, name === 'revoked' ? 'revoked, completed' : name)))
  const team = el('input', { id: 'team', size: 10, autocomplete: 'off', spellcheck: 'false' })
  const job = el('input', { id: 'job', size: 18, autocomplete: 'off', spellcheck: 'false' })
  const range = el('select', { id: 'range', onchange: () => draw() },
    ...Object.entries(ranges).map(([value, { label }]) => el('option', { value }, label)))
  const account = el('input', { id: 'account', size: 10, autocomplete: 'off', spellcheck: 'false' })
  const filters = { state, team, job, account }
  const fields = new Map(Object.entries(filters).map(([name, control]) => [`/${name}`, control]))
  for (const [name, control] of Object.entries(filters)) control.value = query.get(name) ?? ''
  // Most services have one account, which grants do not name.
  const accountField = field('Account', account)
  accountField.hidden = account.value === ''

  const status = el('p', { role: 'status', class: 'fine num' })
  const said = el('div')
  const place = el('div', { class: 'panel timeline-panel' })
  const more = el('button', { type: 'button', hidden: true, onclick: () => load(next) }, 'Load older grants')

  const draw = () => {
    place.replaceChildren(grants.length === 0
      ? el('p', { class: 'empty' }, 'No grants. ', el('a', { href: '#/issue' }, 'Issue one'), ', or ask for others.')
      : timeline(grants, { now: now(), range: range.value, left }))
  }

  /** Shows its own errors. */
  const load = async (after: string | null) => {
    asking.abort()
    asking = new AbortController()
    const { signal } = asking
    const wanted = Object.entries(filters).map(([name, control]) => [name, control.value.trim()]).filter(([, value]) => value !== '')
    const asked = new URLSearchParams([...wanted, ['limit', `${pageSize}`], ...(after === null ? [] : [['after', after]])])
    window.history.replaceState(null, '', `#/grants${wanted.length > 0 ? `?${new URLSearchParams(wanted)}` : ''}`)
    status.textContent = 'Loading…'
    try {
      const page = await listGrants(asked, signal)
      grants = after === null ? page.grants : [...grants, ...page.grants]
      next = page.next
      accountField.hidden &&= grants.every(grant => grant.account === null)
      more.hidden = next === null
      said.replaceChildren()
      showAtFields(fields, [])
      status.textContent = summary(grants, next !== null)
      draw()
    } catch (error) {
      if (signal.aborted) return
      status.textContent = ''
      said.replaceChildren(problemBox(error))
      showAtFields(fields, findingsOf(error))
    }
  }
  left.addEventListener('abort', () => asking.abort())

  const clear = () => {
    for (const control of Object.values(filters)) control.value = ''
    void load(null)
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
        onsubmit: (event: Event) => { event.preventDefault(); void load(null) },
        onchange: (event: Event) => { if (event.target !== range) void load(null) }
      },
      field('State', state), field('Team', team), field('Job', job), accountField,
      el('button', { type: 'submit', class: 'hidden' }, 'Filter'),
      el('button', { type: 'button', class: 'quiet', onclick: clear }, 'Clear'),
      el('div', { class: 'field push' }, el('label', { for: 'range' }, 'Time shown'), range)),
      status, said, place, more
    ],
    ready: () => load(null)
  }
}

const summary = (grants: Grant[], open: boolean) => {
  const shown: Shown[] = ['scheduled', ...states, 'completed']
  const each = shown.map(name => ({ name, count: grants.filter(grant => shownState(grant, now()) === name).length }))
    .filter(({ count }) => count > 0).map(({ name, count }) => `${counted(count)} ${name}`).join(', ')
  const all = `${counted(grants.length)} ${grants.length === 1 ? 'grant' : 'grants'}`
  return `${all}${each && `: ${each}`}${open ? '; there are older ones' : ''}`
}
