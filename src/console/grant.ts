import type { Grant, GrantEvents } from '../client/schema.ts'
import { grantDetails, now, type GrantDetails } from './api.ts'
import { blastRadiusPicture, type Data, type KeyIs } from './blast-radius.ts'
import { el } from './dom.ts'
import { askComplete, askExtend, askRotate, askSource, type Done } from './grant-actions.ts'
import { checkForm } from './check.ts'
import type { Page, Visit } from './page.ts'
import { problemBox } from './problem-view.ts'
import { isOutstanding, shownState, stateBadge } from './states.ts'
import { statementList, wholePolicy } from './statements.ts'
import { ownLane, position } from './timeline.ts'
import { utc } from './times.ts'
import { sourceText, workerTable } from './workers.ts'

export const grantPage = ({ id, left }: Visit): Page => {
  const heading = el('h1', {}, 'Grant')
  const buttons = el('div', { class: 'buttons' })
  const status = el('p', { role: 'status', class: 'said' })
  const place = el('div', { 'aria-busy': 'true' }, el('p', { class: 'empty' }, 'Loading…'))

  /** @param outcome what was done, to be said once it can be seen */
  const load = async (outcome?: string) => {
    try {
      const details = await grantDetails(id, left)
      const { grant } = details
      heading.replaceChildren(
        grant.worker === null ? grant.job.id : `${grant.job.id}, worker ${grant.worker.name}`, ' ',
        stateBadge(shownState(grant, now())))
      document.title = `${grant.job.id} · job-access`
      buttons.replaceChildren(...actions(grant, load))
      place.replaceChildren(...sections(details, load))
    } catch (error) {
      if (left.aborted) return
      place.replaceChildren(problemBox(error), el('p', {}, el('a', { href: '#/grants' }, 'To the grants')))
      buttons.replaceChildren()
    }
    place.removeAttribute('aria-busy')
    status.textContent = outcome ?? ''
    // The button that had the focus may be gone.
    if (outcome !== undefined && (document.activeElement === null || document.activeElement === document.body)) heading.focus()
  }
  return {
    title: 'Grant',
    content: [
      el('p', { class: 'crumb' }, el('a', { href: '#/grants' }, 'Grants')), el('div', { class: 'head' }, heading, buttons), status, place
    ],
    ready: () => load()
  }
}

const actions = (grant: Grant, done: Done) => isOutstanding(grant)
  ? [
      grant.state !== 'revoking' && grant.worker === null &&
        el('button', { type: 'button', onclick: () => askExtend(grant, done) }, 'Extend…'),
      grant.state !== 'revoking' && grant.worker === null && grant.workers === null &&
        el('button', { type: 'button', onclick: () => askSource(grant, done) }, 'Change source…'),
      grant.state === 'active' && grant.workers === null &&
        el('button', { type: 'button', onclick: () => askRotate(grant, done) }, 'Rotate key…'),
      el('button', { type: 'button', class: 'danger', onclick: () => askComplete(grant, done) }, 'Complete…')
    ].filter(button => button instanceof Node)
  : []

const sections = (
  { grant, workers, explained: { explanation }, radius, history: { events } }: GrantDetails, done: Done
) => [
  section('Window', ownLane(grant, now()), el('p', {}, `${sentence(position(grant, now()))}.`),
    grant.notice !== null && el('p', { class: 'callout callout-warn' }, grant.notice), facts(grant)),
  ...(grant.workers === null ? [] : [section('Workers', workerTable(workers, grant.workers.max, done))]),
  section('Blast radius', blastRadiusPicture(radius.data as Data, keyOf(grant)),
    el('h3', {}, 'In words'), el('ul', {}, ...radius.words.map(word => el('li', {}, word)))),
  section('Policy', statementList(grant.policy, explanation), wholePolicy(grant.policy)),
  section('Check', checkForm(grant)),
  section('History', el('ol', { class: 'history' }, ...events.map(event)))
]

const keyOf = (grant: Grant): KeyIs => {
  const { state, accessKeyId, workers } = grant
  if (!isOutstanding(grant)) return 'gone'
  return state === 'pending' || (state === 'active' && accessKeyId === null && workers === null) ? 'unmade' : 'alive'
}

const sentence = (text: string) => text.slice(0, 1).toUpperCase() + text.slice(1)

const section = (title: string, ...children: (Node | false)[]) => {
  const id = `section-${title.toLowerCase().replaceAll(' ', '-')}`
  return el('section', { class: 'panel', 'aria-labelledby': id }, el('h2', { id }, title), ...children)
}

const facts = (grant: Grant) => {
  const { window: { notBefore, notAfter, outputNotAfter }, job, user, previousKey } = grant
  const rows: [string, string | null, string?][] = [
    ['Opens', `${utc(notBefore)} UTC`, 'num'],
    ['Reading ends', `${utc(notAfter)} UTC`, 'num'],
    ['Writing ends', outputNotAfter === notAfter ? null : `${utc(outputNotAfter)} UTC`, 'num'],
    ['Source address', sourceText(grant) ?? (grant.workers === null ? 'any' : 'each worker’s own'), 'mono'],
    ['Attempt', grant.attempt, 'mono'],
    ['Team', job.team],
    ['Labels', Object.entries(job.labels).map(([name, value]) => `${name}=${value}`).join(', ') || null],
    ['Asked for by', grant.owner, 'mono'],
    ['Account', grant.account, 'mono'],
    ['Grant', grant.id, 'mono'],
    [user.roleArn === null ? 'IAM user' : 'Role', user.roleArn ?? (grant.workers ? null : `${user.path}${user.name}`), 'mono'],
    ['Managed policy', user.policyArn, 'mono'],
    ['Access key', grant.accessKeyId, 'mono'],
    ['Previous key', previousKey && `${previousKey.accessKeyId}, dies ${utc(previousKey.diesAt)} UTC`, 'mono'],
    ['Sessions end', grant.sessionsEndAt && `${utc(grant.sessionsEndAt)} UTC`, 'num'],
    ['Layout', `${grant.layout}, attached ${grant.attach}`],
    ['Key from', grant.issueAt && `${utc(grant.issueAt)} UTC`, 'num'],
    ['Delivered', grant.deliveredAt && `${utc(grant.deliveredAt)} UTC`, 'num'],
    ['Created', `${utc(grant.createdAt)} UTC`, 'num'],
    ['Policy SHA-256', grant.policyHash, 'mono']
  ]
  const jobLink = grant.worker &&
    el('div', {}, el('dt', {}, 'Job'), el('dd', {}, el('a', { href: `#/grants/${grant.worker.grantId}` }, job.id)))
  return el('dl', { class: 'facts' }, jobLink, ...rows.filter(([, value]) => value !== null).map(([name, value, style = '']) =>
    el('div', {}, el('dt', {}, name), el('dd', { class: style }, value))))
}

const event = ({ at, actor, action, requestId, policyHash, detail }: GrantEvents['events'][number]) => {
  const details = [
    ...Object.entries(detail).map(([name, value]) => `${name} ${String(value)}`),
    policyHash && `policy ${policyHash.slice(0, 12)}…`,
    requestId && `request ${requestId}`
  ]
  return el('li', {},
    el('time', { datetime: at, class: 'num' }, utc(at)),
    el('div', {}, el('strong', {}, action), ` by ${actor}`, el('p', { class: 'fine mono' }, details.filter(Boolean).join(' · '))))
}
