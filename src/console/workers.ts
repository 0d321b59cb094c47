import type { Grant } from '../client/schema.ts'
import { now } from './api.ts'
import { el } from './dom.ts'
import { askEndWorker, type Done } from './grant-actions.ts'
import { shownState, stateBadge } from './states.ts'
import { utc } from './times.ts'

/** Who holds a key, from where, since when. */
export const workerTable = (workers: Grant[], max: number, done: Done): HTMLElement => workers.length === 0
  ? el('p', { class: 'empty' }, `No worker holds a key; ${max} may.`)
  : el('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Workers that hold a key' },
    el('table', { class: 'workers' },
      el('caption', {}, `${workers.length} of ${max} that may hold a key`),
      el('thead', {}, el('tr', {}, ...columns.map(name => el('th', { scope: 'col' }, name)))),
      el('tbody', {}, ...workers.map(grant => row(grant, done)))))

const columns = ['Worker', 'State', 'From', 'Access key', 'Since, UTC', 'Attempt', '']

const row = (grant: Grant, done: Done) => {
  const { id, worker, state, accessKeyId, deliveredAt, attempt } = grant
  return el('tr', {},
    el('th', { scope: 'row' }, el('a', { href: `#/grants/${id}` }, worker?.name)),
    el('td', {}, stateBadge(shownState(grant, now()))),
    el('td', { class: 'mono' }, sourceText(grant)),
    el('td', { class: 'mono' }, accessKeyId),
    el('td', { class: 'num' }, deliveredAt && utc(deliveredAt)),
    el('td', { class: 'mono' }, attempt),
    el('td', {}, worker && state === 'active' && el('button', {
      type: 'button', class: 'quiet', 'aria-label': `End ${worker.name}…`, onclick: () => askEndWorker(worker, attempt, done)
    }, 'End…')))
}

/** From where a grant's key works; null: from everywhere, or it has none. */
export const sourceText = ({ source: { sourceIps = [], vpc } }: Grant): string | null => {
  const endpoint = vpc && [...(vpc.vpcIds ?? []), ...(vpc.vpcArns ?? []), ...(vpc.vpcEndpointIds ?? []), ...(vpc.sourceIps ?? [])].join(' ')
  return [sourceIps.join(' '), endpoint].filter(Boolean).join(', or ') || null
}
