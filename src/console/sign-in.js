// @ts-check
import { signIn } from './api.js'
import { el } from './dom.js'
import { problemBox } from './problem-view.js'

/**
 * @param {unknown} refusal
 * @param {() => void} done
 * @returns {import('./main.js').Page}
 */
export const signInPage = (refusal, done) => {
  const said = el('div', {}, refusal !== undefined && problemBox(refusal))
  const field = el('input', {
    id: 'token',
    type: 'password',
    autocomplete: 'current-password',
    required: true,
    spellcheck: 'false',
    'aria-describedby': 'token-hint token-error'
  })
  const error = el('p', { id: 'token-error', class: 'error' })
  const button = el('button', { type: 'submit', class: 'primary' }, 'Sign in')
  /** @param {Event} event */
  const submit = async event => {
    event.preventDefault()
    const token = field.value.trim().replace(/^Bearer\s+/i, '')
    const sendable = /^[\x21-\x7e]+$/.test(token)
    error.textContent = sendable ? '' : token === '' ? 'Paste a token.' : 'A token has no spaces and ASCII alone: paste it again.'
    field.removeAttribute('aria-invalid')
    if (!sendable) {
      field.setAttribute('aria-invalid', 'true')
      field.focus()
      return
    }
    button.disabled = true
    said.replaceChildren()
    try {
      await signIn(token)
      done()
    } catch (problem) {
      said.replaceChildren(problemBox(problem))
      button.disabled = false
      field.select()
    }
  }
  return {
    title: 'Sign in',
    content: [el('div', { class: 'sign-in' },
      el('h1', {}, 'Sign in'),
      said,
      el('form', { class: 'panel', novalidate: true, onsubmit: submit },
        el('div', { class: 'field' },
          el('label', { for: 'token' }, 'API token or JWT'),
          field,
          el('p', { id: 'token-hint', class: 'fine' }, 'Kept in this page’s memory: reloading or closing it signs you out.'),
          error),
        button))],
    ready: () => field.focus()
  }
}
