import { signIn } from './api.ts'
import { el } from './dom.ts'
import { field, showAtFields } from './fields.ts'
import type { Page } from './page.ts'
import { problemBox } from './problem-view.ts'

export const signInPage = (refusal: unknown, done: () => void): Page => {
  const said = el('div', {}, refusal !== undefined && problemBox(refusal))
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
      said.replaceChildren(problemBox(problem))
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
        field('API token or JWT', token, 'Kept in this page’s memory: reloading or closing it signs you out.'),
        button))],
    ready: () => token.focus()
  }
}
