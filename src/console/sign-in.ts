import { Refusal, signIn } from './api.ts'
import { el } from './dom.ts'
import { field, showAtFields } from './fields.ts'
import type { Page } from './page.ts'
import { problemBox } from './problem-view.ts'

export const signInPage = (refusal: unknown, done: () => void): Page => {
  const said = el('div', {}, refusal !== undefined && refusedBox(refusal, 'The service takes this token no more.'))
  const token = el('input', { id: 'token', type: 'password', autocomplete: 'current-password', required: true, spellcheck: 'false' })
  const button = el('button', { type: 'submit', class: 'primary' }, 'Sign in')
  /** Says what is wrong with what was pasted, where it cannot be sent. */
  const complain = (detail: string) =>
    showAtFields(new Map([['/token', token]]), detail === '' ? [] : [{ pointer: '/token', detail, hint: '' }])
  const submit = async (event: Event) => {
    event.preventDefault()
    const pasted = token.value.trim().replace(/^Bearer\s+/i, '')
    const sendable = /^[\x21-\x7e]+$/.test(pasted)
    complain(sendable ? '' : pasted === '' ? 'Paste a token.' : 'A token has no spaces and ASCII alone: paste it again.')
    if (!sendable) {
      token.focus()
      return
    }
    button.disabled = true
    said.replaceChildren()
    try {
      await signIn(pasted)
      done()
    } catch (problem) {
      said.replaceChildren(refusedBox(problem, 'The service does not know this token.'))
      button.disabled = false
      token.select()
    }
  }
  return {
    title: 'Sign in',
    content: [el('div', { class: 'sign-in' },
      el('h1', {}, 'Sign in'),
      said,
      el('form', { class: 'panel', novalidate: true, onsubmit: submit },
        field('API token or JWT', token,
          'Kept in this page’s memory alone, since other pages of this address could read a storage. A reload asks for it again.'),
        button))],
    ready: () => token.focus()
  }
}

/** The API's answer speaks to programs, of headers. */
const refusedBox = (error: unknown, title: string) => problemBox(error instanceof Refusal && error.problem.status === 401
  ? new Refusal({
    ...error.problem,
    title,
    detail: 'It may have expired, be cut off, or be for another service.',
    hint: 'Paste a valid token, the whole of it.'
  })
  : error)
