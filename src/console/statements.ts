import type { Policy, PolicyExplanation } from '../client/schema.ts'
import { el } from './dom.ts'
import { copyButton } from './secret.ts'

/** A policy, statement by statement: what it means, and behind a fold what it says. */
export const statementList = (policy: Policy, explanation: PolicyExplanation['explanation']): HTMLElement =>
  el('ol', { class: 'statements' },
    ...policy.Statement.map((statement, index) => {
      const { sid, effect, text } = explanation[index] ?? { sid: `#${index + 1}`, effect: '', text: '' }
      return el('li', {},
        el('div', { class: 'words' },
          el('h3', {}, el('span', { class: `effect effect-${effect.toLowerCase()}` }, effect), ' ', el('span', { class: 'mono' }, sid)),
          el('p', {}, text)),
        el('details', {}, el('summary', {}, 'JSON', el('span', { class: 'hidden' }, ` of ${sid}`)),
          el('pre', { tabindex: '0', role: 'group', 'aria-label': `Statement ${sid} as JSON` }, json(statement))))
    }))

/** The document as IAM gets it, to be copied. */
export const wholePolicy = (policy: Policy): HTMLElement => {
  const said = el('span', { role: 'status', class: 'fine' })
  return el('div', { class: 'whole' },
    el('details', {},
      el('summary', {}, 'The whole document'),
      el('pre', { tabindex: '0', role: 'group', 'aria-label': 'The whole policy as JSON' }, json(policy))),
    el('p', {}, copyButton('Copy the policy', JSON.stringify(policy, null, 2), 'Policy', said), ' ', said))
}

const lineLength = 62

/** JSON that breaks a line only where it is too long for one. */
const json = (value: unknown, indent = ''): string => {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const inner = `${indent}  `
  const [start, end] = Array.isArray(value) ? '[]' : '{}'
  const parts = (deeper: string) => Array.isArray(value)
    ? value.map(each => json(each, deeper))
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${json(each, deeper)}`)
  const short = Array.isArray(value) ? `[${parts('').join(', ')}]` : `{ ${parts('').join(', ')} }`
  // The document and its statements stay open: their fields are what is read.
  const open = indent === '' || 'Sid' in value
  if (!open && indent.length + short.length <= lineLength && !short.includes('\n')) return short
  return `${start}\n${parts(inner).map(part => inner + part).join(',\n')}\n${indent}${end}`
}
