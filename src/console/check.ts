import type { Grant, Question, Verdict } from '../client/schema.ts'
import { checkGrant } from './api.ts'
import { el } from './dom.ts'
import { field, showAtFields, type Fields } from './fields.ts'
import { findingsOf, problemBox } from './problem-view.ts'
import { fromField } from './times.ts'

const actions = ['s3:GetObject', 's3:PutObject', 's3:DeleteObject', 's3:ListBucket', 's3:CopyObject', 's3:GetBucketLocation']

/** Asks whether the grant's policy would allow one request. The key is not used for it. */
export const checkForm = (grant: Grant): HTMLElement => {
  const text = (value = '') => el('input', { type: 'text', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', value })
  const action = el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', value: 's3:GetObject', list: 'check-actions' })
  const [bucket, key, prefix, copySource] = [text(), text(), text(), text()]
  const sourceIp = text(grant.source.sourceIps?.[0]?.replace(/\/(32|128)$/, '').replace(/\/.*$/, '') ?? '')
  const at = el('input', { type: 'datetime-local', step: 60 })
  const controls = { action, bucket, key, prefix, copySource, sourceIp, at }
  const fields: Fields = new Map(Object.entries(controls).map(([name, control]) => [`/${name}`, control]))
  const said = el('div', { role: 'status' })
  const button = el('button', { type: 'submit' }, 'Check')
  const submit = async (event: Event) => {
    event.preventDefault()
    button.disabled = true
    const typed = Object.entries(controls).map(([name, control]) => [name, name === 'at' ? fromField(control.value) : control.value.trim()])
    try {
      const verdict = await checkGrant(grant.id, Object.fromEntries(typed.filter(([, value]) => value !== '')) as Question)
      showAtFields(fields, [])
      said.replaceChildren(...verdictWords(verdict))
    } catch (error) {
      showAtFields(fields, findingsOf(error))
      said.replaceChildren(problemBox(error))
    } finally {
      button.disabled = false
    }
  }
  return el('form', { novalidate: true, onsubmit: submit },
    el('p', { class: 'fine' }, 'Would the policy allow this request? Nothing is sent to the storage.'),
    el('datalist', { id: 'check-actions' }, ...actions.map(value => el('option', { value }))),
    el('div', { class: 'row' }, field('Action', action), field('Bucket', bucket), field('Key', key, 'For an object.'),
      field('Prefix', prefix, 'For a listing.')),
    el('div', { class: 'row' }, field('Copied from, bucket/key', copySource, 'For a copy.'), field('From address', sourceIp),
      field('At, UTC', at, 'Empty: now.')),
    el('div', { class: 'buttons' }, button), said)
}

const verdictWords = ({ allowed, because, statements, needs = [] }: Verdict) => [
  el('p', {}, el('strong', { class: `effect effect-${allowed ? 'allow' : 'deny'}` }, allowed ? 'Allowed' : 'Denied'), ` ${because}`),
  statements.length > 0 && el('p', { class: 'fine mono' }, statements.map(({ sid, effect }) => `${effect} ${sid}`).join(', ')),
  needs.length > 0 && el('ul', {}, ...needs.map(need =>
    el('li', { class: 'mono' }, `${need.action} on ${need.resource}: ${need.allowed ? 'allowed' : 'denied'}`)))
].filter(child => child instanceof Node)
