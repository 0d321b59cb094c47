// @ts-check
import { call, now } from './api.js'
import { blastRadiusPicture } from './blast-radius.js'
import { el } from './dom.js'
import { askComplete, askExtend, askRotate } from './grant-actions.js'
import { problemBox } from './problem-view.js'
import { isOutstanding, stateBadge } from './states.js'
import { statementList, wholePolicy } from './statements.js'
import { ownLane, position } from './timeline.js'
import { utc } from './times.js'

/**
 * @typedef {import('../client/schema.ts').Grant} Grant
 * @typedef {import('../client/schema.ts').GrantEvents} GrantEvents
 * @typedef {import('../client/schema.ts').BlastRadius} BlastRadius
 * @typedef {import('../client/schema.ts').PolicyExplanation} PolicyExplanation
 */

/**
 * @param {import('./main.js').Visit} visit
 * @returns {import('./main.js').Page}
 */
export const grantPage = ({ id, left }) => {
  const heading = el('h1', {}, 'Grant')
  const buttons = el('div', { class: 'buttons' })
  const status = el('p', { role: 'status', class: 'said' })
  const place = el('div', { 'aria-busy': 'true' }, el('p', { class: 'empty' }, 'Loading…'))
  const path = `v1/grants/${id}`

  /** @param {string} [outcome] what was done, to be said once it can be seen */
  const load = async outcome => {
    try {
      const [grant, explained, radius, history] = /** @type {[Grant, PolicyExplanation, BlastRadius, GrantEvents]} */ (
        await Promise.all(['', '/explanation', '/blast-radius', '/events'].map(part => call('GET', path + part, { signal: left }))))
      heading.replaceChildren(grant.job.id, ' ', stateBadge(grant.state))
      document.title = `${grant.job.id} · job-access`
      buttons.replaceChildren(...actions(grant, load))
      place.replaceChildren(...sections(grant, explained, radius, history))
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
    ready: () => { load() }
  }
}

/** @param {Grant} grant @param {(outcome: string) => Promise<void>} done */
const actions = (grant, done) => isOutstanding(grant)
  ? [
      grant.state !== 'revoking' && el('button', { type: 'button', onclick: () => askExtend(grant, done) }, 'Extend…'),
      grant.state === 'active' && el('button', { type: 'button', onclick: () => askRotate(grant, done) }, 'Rotate key…'),
      el('button', { type: 'button', class: 'danger', onclick: () => askComplete(grant, done) }, 'Complete…')
    ].filter(button => button instanceof Node)
  : []

/** @param {Grant} grant @param {PolicyExplanation} explained @param {BlastRadius} radius @param {GrantEvents} history */
const sections = (grant, { explanation }, radius, { events }) => [
  section('Window', ownLane(grant, now()), el('p', {}, `${sentence(position(grant, now()))}.`),
    grant.notice !== null && el('p', { class: 'callout callout-warn' }, grant.notice), facts(grant)),
  section('Blast radius', blastRadiusPicture(/** @type {import('./blast-radius.js').Data} */ (radius.data)),
    el('h3', {}, 'In words'), el('ul', {}, ...radius.words.map(word => el('li', {}, word)))),
  section('Policy', statementList(grant.policy, explanation), wholePolicy(grant.policy)),
  section('History', el('ol', { class: 'history' }, ...events.map(event)))
]

/** @param {string} text */
const sentence = text => text.slice(0, 1).toUpperCase() + text.slice(1)

/** @param {string} title @param {(Node | false)[]} children */
const section = (title, ...children) => {
  const id = `section-${title.toLowerCase().replaceAll(' ', '-')}`
  return el('section', { class: 'panel', 'aria-labelledby': id }, el('h2', { id }, title), ...children)
}

/** @param {Grant} grant */
const facts = grant => {
  const { window: { notBefore, notAfter, outputNotAfter }, job, user, previousKey } = grant
  const rows = /** @type {[string, string | null, string?][]} */ ([
    ['Opens', `${utc(notBefore)} UTC`, 'num'],
    ['Reading ends', `${utc(notAfter)} UTC`, 'num'],
    ['Writing ends', outputNotAfter === notAfter ? null : `${utc(outputNotAfter)} UTC`, 'num'],
    ['Team', job.team],
    ['Labels', Object.entries(job.labels).map(([name, value]) => `${name}=${value}`).join(', ') || null],
    ['Asked for by', grant.owner, 'mono'],
    ['Grant', grant.id, 'mono'],
    [user.roleArn === null ? 'IAM user' : 'Role', user.roleArn ?? `${user.path}${user.name}`, 'mono'],
    ['Access key', grant.accessKeyId, 'mono'],
    ['Previous key', previousKey && `${previousKey.accessKeyId}, dies ${utc(previousKey.diesAt)} UTC`, 'mono'],
    ['Layout', `${grant.layout}, attached ${grant.attach}`],
    ['Key from', grant.issueAt && `${utc(grant.issueAt)} UTC`, 'num'],
    ['Delivered', grant.deliveredAt && `${utc(grant.deliveredAt)} UTC`, 'num'],
    ['Created', `${utc(grant.createdAt)} UTC`, 'num'],
    ['Policy SHA-256', grant.policyHash, 'mono']
  ])
  return el('dl', { class: 'facts' }, ...rows.filter(([, value]) => value !== null).map(([name, value, style = '']) =>
    el('div', {}, el('dt', {}, name), el('dd', { class: style }, value))))
}

/** @param {GrantEvents['events'][number]} event */
const event = ({ at, actor, action, requestId, policyHash, detail }) => {
  const details = [
    ...Object.entries(detail).map(([name, value]) => `${name} ${String(value)}`),
    policyHash && `policy ${policyHash.slice(0, 12)}…`,
    requestId && `request ${requestId}`
  ]
  return el('li', {},
    el('time', { datetime: at, class: 'num' }, utc(at)),
    el('div', {}, el('strong', {}, action), ` by ${actor}`, el('p', { class: 'fine mono' }, details.filter(Boolean).join(' · '))))
}
