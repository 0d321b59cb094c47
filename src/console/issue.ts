import type { RenderedPolicy } from '../client/schema.ts'
import { guideRequest, issueGrant, renderPolicy } from './api.ts'
import { counted, el, styled } from './dom.ts'
import { fieldAt, focusOn, labelOf, showAtFields, type Fields } from './fields.ts'
import { issueForm } from './issue-form.ts'
import type { Page, Visit } from './page.ts'
import { findingsOf, problemBox, type Finding } from './problem-view.ts'
import { showCredentials } from './secret.ts'
import { statementList, wholePolicy } from './statements.ts'
import { utc } from './times.ts'

/** Long enough not to ask at every key, short enough to seem at once. */
const pauseMs = 250

/** A request that is rendered while it is typed, and then issued. */
export const issuePage = ({ left }: Visit): Page => {
  const { node, read, fill } = issueForm()
  const status = el('p', { role: 'status', class: 'said' })
  const wrong = el('div')
  const old = el('p', { class: 'fine', hidden: true }, 'The policy of the last request that could be rendered:')
  const rendered = el('div')
  const issueButton = el('button', { type: 'submit', class: 'primary' }, 'Issue the grant')
  const checkButton = el('button', { type: 'button', onclick: () => check() }, 'Ask the guardrails')
  const exampleButton = el('button', { type: 'button', class: 'quiet', onclick: () => example() }, 'Fill in the guide’s job')

  /** Fields that were left, or all of them once it was tried to issue. */
  const touched = new WeakSet<HTMLElement>()
  let tried = false
  let asking = new AbortController()
  left.addEventListener('abort', () => asking.abort())

  let pausing: ReturnType<typeof setTimeout> | undefined
  const soon = () => {
    clearTimeout(pausing)
    pausing = setTimeout(render, pauseMs)
  }

  /** Asks; the answer to a request that was typed on since is dropped. */
  const ask = async (preflight: boolean, shown: (answer: RenderedPolicy) => void) => {
    clearTimeout(pausing)
    asking.abort()
    asking = new AbortController()
    const { signal } = asking
    const { request, fields } = read()
    try {
      const answer = await renderPolicy(request, { preflight, signal })
      wrong.replaceChildren()
      showAtFields(fields, [])
      staleness(false)
      showPreview(answer)
      shown(answer)
    } catch (error) {
      if (!signal.aborted) refused(error, fields)
    }
  }

  /** What was unfolded stays so while it is typed on. */
  const showPreview = (answer: RenderedPolicy) => {
    const folds = () => Array.from(rendered.querySelectorAll('details'))
    const nameOf = (fold: HTMLElement) => fold.querySelector('summary')?.textContent
    const unfolded = new Set(folds().filter(({ open }) => open).map(nameOf))
    rendered.replaceChildren(...preview(answer))
    for (const fold of folds()) fold.open = unfolded.has(nameOf(fold))
  }

  const staleness = (stale: boolean) => {
    old.hidden = !stale
    rendered.classList.toggle('stale', stale)
  }

  const refused = (error: unknown, fields: Fields) => {
    const all = findingsOf(error)
    const isDue = (field: HTMLElement) => tried || touched.has(field)
    showAtFields(fields, all, isDue)
    staleness(rendered.hasChildNodes())
    // What was not reached yet is no mistake.
    const findings = all.filter(({ pointer }) => {
      const field = fieldAt(fields, pointer)
      return field === undefined ? tried : isDue(field)
    })
    if (findings.length === 0 && all.length > 0) {
      status.textContent = 'The policy stands here as soon as the form says enough.'
      wrong.replaceChildren()
      return
    }
    if (findings.length === 0) {
      status.textContent = ''
      wrong.replaceChildren(problemBox(error))
      return
    }
    status.textContent = `Not yet: ${findings.length} ${findings.length === 1 ? 'thing' : 'things'} to correct.`
    wrong.replaceChildren(el('ul', { class: 'findings' }, ...findings.map(finding => findingItem(finding, fields))))
  }

  const render = () => ask(false, ({ size, attach, warnings }) => {
    const { length } = warnings.filter(deservesAmber)
    const count = `${counted(length)} ${length === 1 ? 'warning' : 'warnings'}`
    status.textContent = `Rendered: ${counted(size.characters)} characters, attached ${attach}, ${count}.`
  })

  // The guardrails' decisions are audited: they are asked when someone wants to know, not at every key.
  const check = () => {
    tried = true
    return ask(true, ({ proof }) => {
      const requests = `${counted(proof?.probes ?? 0)} requests`
      status.textContent = `The guardrails allow it, and the policy is proven: ${requests}, each decided as asked for.`
    })
  }

  /** A retry of the same request is the same grant; another request is another. */
  let attempt = { text: '', key: '' }
  const issue = async (event: Event) => {
    event.preventDefault()
    tried = true
    clearTimeout(pausing)
    asking.abort()
    const { request, fields } = read()
    const requestText = JSON.stringify(request)
    if (attempt.text !== requestText) attempt = { text: requestText, key: randomKey() }
    issueButton.disabled = true
    status.textContent = 'Issuing…'
    try {
      const delivery = await issueGrant(request, attempt.key)
      showCredentials(delivery, () => {
        if (!left.aborted) window.location.hash = `#/grants/${delivery.grant.id}`
      })
      status.textContent = 'Issued.'
    } catch (error) {
      refused(error, fields)
      const [first] = findingsOf(error)
      focusOn(first && fieldAt(fields, first.pointer))
    } finally {
      issueButton.disabled = false
    }
  }

  const example = async () => {
    try {
      fill(await guideRequest(left))
      await render()
    } catch (error) {
      if (!left.aborted) wrong.replaceChildren(problemBox(error))
    }
  }

  const form = el('form', {
    novalidate: true,
    onsubmit: issue,
    oninput: soon,
    onchange: soon,
    onfocusout: ({ target }: FocusEvent) => { if (target instanceof HTMLElement) touched.add(target) }
  }, node, el('div', { class: 'buttons form-end' }, issueButton, checkButton))

  return {
    title: 'New grant',
    content: [
      el('div', { class: 'head' }, el('h1', {}, 'New grant'), exampleButton),
      el('div', { class: 'split' }, form,
        el('section', { class: 'preview', 'aria-labelledby': 'preview-title' }, el('div', { class: 'panel' },
          el('h2', { id: 'preview-title' }, 'Its policy'), status, wrong, old, rendered)))
    ],
    ready: () => render()
  }
}

/** That a window starts now is what was asked for. */
const deservesAmber = ({ code }: RenderedPolicy['warnings'][number]) => code !== 'window-starts-now'

const findingItem = ({ pointer, detail, hint }: Finding, fields: Fields) => {
  const field = fieldAt(fields, pointer)
  return el('li', {},
    field
      ? el('button', { type: 'button', class: 'link', title: pointer, onclick: () => focusOn(field) }, labelOf(field))
      : el('span', { class: 'mono' }, pointer || 'The request'),
    ` ${detail} ${hint}`)
}

const preview = ({ policy, size, attach, window: { notBefore, outputNotAfter }, explanation, warnings }: RenderedPolicy) => [
  el('p', { class: 'fine num' },
    `${utc(notBefore)} – ${utc(outputNotAfter)} UTC${warnings.every(deservesAmber) ? '' : ', from when it is issued'}`),
  el('div', { class: 'sizes' }, ...Object.entries(size.limits).filter(([, limit]) => limit > 0)
    .map(([name, limit]) => sizeBar(name, size.characters, limit, attach))),
  warnings.some(deservesAmber) && el('ul', { class: 'warnings' },
    ...warnings.filter(deservesAmber).map(({ detail }) => el('li', {}, el('strong', {}, 'Warning: '), detail))),
  statementList(policy, explanation),
  wholePolicy(policy)
].filter(child => child instanceof Node)

const sizeBar = (name: string, used: number, limit: number, attach: string) => el('div', { class: `size ${used > limit ? 'over' : ''}` },
  el('p', { class: 'num' },
    `${name}${name === attach ? ' (used)' : ''}: ${counted(used)} of ${counted(limit)}${used > limit ? ', too large' : ''}`),
  el('div', { class: 'gauge', 'aria-hidden': 'true' }, styled(el('i'), { width: `${Math.min(used / limit, 1) * 100}%` })))

/** crypto.randomUUID exists with HTTPS only. */
const randomKey = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return `console-${Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')}`
}
