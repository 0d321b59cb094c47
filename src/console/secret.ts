import type { Delivery } from '../client/schema.ts'
import { openDialog } from './dialogs.ts'
import { el, newId } from './dom.ts'
import { utc } from './times.ts'

/**
 * Shows credentials, this once. They are in this dialog's elements and in its buttons' closures and nowhere else; closing it drops both.
 */
export const showCredentials = ({ grant, credentials, notice }: Delivery, onclosed: () => void): void => {
  if (credentials === null) return onclosed()
  const { accessKeyId, secretAccessKey, sessionToken, expiration } = credentials
  const parts: [string, string, string][] = [
    ['Access key ID', 'AWS_ACCESS_KEY_ID', accessKeyId],
    ['Secret access key', 'AWS_SECRET_ACCESS_KEY', secretAccessKey]
  ]
  if (sessionToken) parts.push(['Session token', 'AWS_SESSION_TOKEN', sessionToken])
  const said = el('p', { role: 'status', class: 'fine' })
  const kept = () => { said.textContent = 'Escape does not close this, since the secret is shown this once: press Close.' }
  openDialog(`Credentials of ${grant.job.id}`, close => [
    el('p', { class: 'callout' }, el('strong', {}, 'Shown this once. '),
      'The service does not keep the secret, and closing this removes it from the page. If it is lost, rotate the key.'),
    notice && el('p', { class: 'callout callout-warn' }, notice),
    ...parts.map(([label, , value]) => secretField(label, value, said)),
    el('p', {}, 'They stop to work by themselves at ', el('span', { class: 'num' }, `${utc(expiration)} UTC`), '.'),
    said,
    el('div', { class: 'buttons' },
      copyButton('Copy as environment', parts.map(([, name, value]) => `${name}=${value}`).join('\n'), 'All of them', said),
      el('button', { type: 'button', class: 'primary', onclick: close }, 'Close'))
  ].filter(child => child instanceof Node), { onclosed, class: 'wide', kept })
}

const secretField = (label: string, value: string, said: HTMLElement): HTMLElement => {
  const id = newId('secret')
  const field = el('input', {
    id, readonly: true, class: 'mono', autocomplete: 'off', spellcheck: 'false', onfocus: () => { field.select() }
  })
  field.value = value
  return el('div', { class: 'field' }, el('label', { for: id }, label),
    el('div', { class: 'with-button' }, field, copyButton('Copy', value, label, said)))
}

export const copyButton = (text: string, value: string, what: string, said: HTMLElement): HTMLElement => el('button', {
  type: 'button',
  'aria-label': text === 'Copy' ? `Copy ${what.toLowerCase()}` : null,
  onclick: async () => {
    try {
      await navigator.clipboard.writeText(value)
      said.textContent = `${what} copied.`
    } catch {
      // No clipboard without HTTPS, nor where the browser was told so.
      said.textContent = 'The browser does not let this page copy: select the text instead.'
    }
  }
}, text)
