// @ts-check
import { call } from './api.js'
import { el, styled } from './dom.js'
import { issueForm } from './issue-form.js'
import { fieldAt, findingsOf, problemBox, showAtFields } from './problem-view.js'
import { showCredentials } from './secret.js'
import { statementList, wholePolicy } from './statements.js'
import { utc } from './times.js'

/**
 * @typedef {import('../client/schema.ts').RenderedPolicy} Rendered
 * @typedef {import('../client/schema.ts').Delivery} Delivery
 * @typedef {import('./problem-view.js').Finding} Finding
 */

/** Long enough not to ask at every key, short enough to seem at once. */
const pauseMs = 250

/**
 * A request that is rendered while it is typed, and then issued.
 *
 * @param {import('./main.js').Visit} visit
 * @returns {import('./main.js').Page}
 */
export const issuePage = ({ left }) => {
  const { node, read, fill } = issueForm()
  const status = el('p', { role: 'status', class: 'said' })
  const wrong = el('div')
  const old = el('p', { class: 'fine', hidden: true }, 'The policy of the last request that could be rendered:')
  const rendered = el('div')
  const issueButton = el('button', { type: 'submit', class: 'primary' }, 'Issue the grant')
  const checkButton = el('button', { type: 'button', onclick: () => check() }, 'Ask the guardrails')
  const exampleButton = el('button', { type: 'button', class: 'quiet', onclick: () => example() }, 'Fill in the guide’s job')

  /** Fields that were left, or all of them once it was tried to issue. @type {WeakSet<HTMLElement>} */
  const touched = new WeakSet()
  let tried = false
  let asking = new AbortController()
  left.addEventListener('abort', () => asking.abort())

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let pausing
  const soon = () => {
    clearTimeout(pausing)
    pausing = setTimeout(render, pauseMs)
  }

  /**
   * Asks; the answer to a request that was typed on since is dropped.
   *
   * @param {string} path
   * @param {(answer: Rendered) => void} shown
   */
  const ask = async (path, shown) => {
    clearTimeout(pausing)
    asking.abort()
    asking = new AbortController()
    const { signal } = asking
    const { request, fields } = read()
    try {
      /** @type {Rendered} */
      const answer = await call('POST', path, { body: request, signal })
      wrong.replaceChildren()
      showAtFields(fields, [])
      staleness(false)
      rendered.replaceChildren(...preview(answer))
      shown(answer)
    } catch (error) {
      if (!signal.aborted) refused(error, fields)
    }
  }

  /** @param {boolean} stale */
  const staleness = stale => {
    old.hidden = !stale
    rendered.classList.toggle('stale', stale)
  }

  /** @param {unknown} error @param {Map<string, HTMLElement>} fields */
  const refused = (error, fields) => {
    const findings = findingsOf(error)
    showAtFields(fields, findings, field => tried || touched.has(field))
    staleness(rendered.hasChildNodes())
    if (findings.length === 0) {
      status.textContent = ''
      wrong.replaceChildren(problemBox(error))
      return
    }
    status.textContent = `Not yet: ${findings.length} ${findings.length === 1 ? 'thing' : 'things'} to mend.`
    wrong.replaceChildren(el('ul', { class: 'findings' }, ...findings.map(finding => findingItem(finding, fields))))
  }

  const render = () => ask('v1/policies', ({ size, attach, warnings }) => {
    const count = `${warnings.length} ${warnings.length === 1 ? 'warning' : 'warnings'}`
    status.textContent = `Rendered: ${size.characters} characters, attached ${attach}, ${count}.`
  })

  // The guardrails' decisions are audited: they are asked when someone wants to know, not at every key.
  const check = () => {
    tried = true
    return ask('v1/policies?preflight=true', ({ proof }) => {
      status.textContent = `The guardrails allow it, and the policy is proven: ${proof?.probes ?? 0} requests, each decided as asked for.`
    })
  }

  /** A retry of the same request is the same grant; another request is another. */
  let attempt = { text: '', key: '' }
  /** @param {Event} event */
  const issue = async event => {
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
      /** @type {Delivery} */
      const delivery = await call('POST', 'v1/grants', { body: request, headers: { 'idempotency-key': attempt.key } })
      showCredentials(delivery, () => {
        if (!left.aborted) window.location.hash = `#/grants/${delivery.grant.id}`
      })
      status.textContent = 'Issued.'
    } catch (error) {
      refused(error, fields)
      const [first] = findingsOf(error)
      const field = first && fieldAt(fields, first.pointer)
      field?.focus()
    } finally {
      issueButton.disabled = false
    }
  }

  const example = async () => {
    try {
      const { paths } = /** @type {any} */ (await call('GET', 'openapi.json', { signal: left }))
      fill(paths['/v1/policies'].post.requestBody.content['application/json'].examples.guide.value)
      render()
    } catch (error) {
      if (!left.aborted) wrong.replaceChildren(problemBox(error))
    }
  }

  const form = el('form', {
    novalidate: true,
    onsubmit: issue,
    oninput: soon,
    onchange: soon,
    onfocusout: (/** @type {FocusEvent} */ { target }) => { if (target instanceof HTMLElement) touched.add(target) }
  }, node, el('div', { class: 'buttons form-end' }, issueButton, checkButton))

  return {
    title: 'New grant',
    content: [
      el('div', { class: 'head' }, el('h1', {}, 'New grant'), exampleButton),
      el('div', { class: 'split' }, form,
        el('section', { class: 'preview', 'aria-labelledby': 'preview-title' }, el('div', { class: 'panel' },
          el('h2', { id: 'preview-title' }, 'Its policy'), status, wrong, old, rendered)))
    ],
    ready: () => { render() }
  }
}

/** @param {Finding} finding @param {Map<string, HTMLElement>} fields */
const findingItem = ({ pointer, detail, hint }, fields) => {
  const field = fieldAt(fields, pointer)
  return el('li', {},
    field
      ? el('button', { type: 'button', class: 'link mono', onclick: () => field.focus() }, pointer)
      : el('span', { class: 'mono' }, pointer || 'the request'),
    ` ${detail} ${hint}`)
}

/** @param {Rendered} answer */
const preview = ({ policy, size, attach, window: { notBefore, outputNotAfter }, explanation, warnings }) => [
  el('p', { class: 'fine num' }, `${utc(notBefore)} – ${utc(outputNotAfter)} UTC`),
  el('div', { class: 'sizes' }, ...Object.entries(size.limits).filter(([, limit]) => limit > 0)
    .map(([name, limit]) => sizeBar(name, size.characters, limit, attach))),
  warnings.length > 0 && el('ul', { class: 'warnings' },
    ...warnings.map(({ detail }) => el('li', {}, el('strong', {}, 'Warning: '), detail))),
  statementList(policy, explanation),
  wholePolicy(policy)
].filter(child => child instanceof Node)

/** @param {string} name @param {number} used @param {number} limit @param {string} attach */
const sizeBar = (name, used, limit, attach) => el('div', { class: `size ${used > limit ? 'over' : ''}` },
  el('p', { class: 'num' },
    `${name}${name === attach ? ' (used)' : ''}: ${used} of ${limit} characters${used > limit ? ', too large' : ''}`),
  el('div', { class: 'gauge', 'aria-hidden': 'true' }, styled(el('i'), { width: `${Math.min(used / limit, 1) * 100}%` })))

/** crypto.randomUUID exists with HTTPS only. */
const randomKey = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return `console-${Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')}`
}
