// @ts-check
import { now as clock } from './api.js'
import { el, styled } from './dom.js'
import { isOutstanding, stateBadge } from './states.js'
import { fromNow, utc } from './times.js'

/** @typedef {import('../client/schema.ts').Grant} Grant */

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

/**
 * How much time is shown; `around` is to each side of now, in ms; without it all of what is listed.
 *
 * @type {Record<string, { label: string, around?: number }>}
 */
export const ranges = {
  fit: { label: 'all that is listed' },
  hours: { label: '6 hours around now', around: 6 * hour },
  day: { label: '24 hours around now', around: day },
  week: { label: '7 days around now', around: 7 * day }
}

/** @typedef {{ from: number, to: number }} Scale epoch ms */

/**
 * The grants as bars on a time axis. It is a table, whose last column is the picture: whoever does not see it reads the others, which say
 * the same.
 *
 * @param {Grant[]} grants
 * @param {{ now: number, range: string, left: AbortSignal }} options
 */
export const timeline = (grants, { now, range, left }) => {
  const scale = scaleOf(grants, now, ranges[range]?.around)
  const ticks = ticksOf(scale)
  const table = el('table', { class: 'timeline', role: 'table' },
    el('caption', { class: 'hidden' }, 'Grants, newest first. Times are UTC.'),
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' },
      ...['Job', 'Team', 'State', 'Window, UTC'].map(name => el('th', { role: 'columnheader', scope: 'col' }, name)),
      el('th', { role: 'columnheader', scope: 'col', class: 'lane-cell' },
        el('span', { class: 'hidden' }, 'Now'), axis(now, scale, ticks)))),
    el('tbody', { role: 'rowgroup' }, ...grants.map(grant => row(grant, now, scale, ticks))))
  const place = () => table.style.setProperty('--now', percent(clock(), scale))
  place()
  const timer = setInterval(place, 15_000)
  left.addEventListener('abort', () => clearInterval(timer))
  return table
}

/** @param {Grant} grant @param {number} now @param {Scale} scale @param {number[]} ticks */
const row = (grant, now, scale, ticks) => el('tr', { role: 'row' },
  el('th', { role: 'rowheader', scope: 'row' }, el('a', { href: `#/grants/${grant.id}` }, grant.job.id)),
  el('td', { role: 'cell', class: 'team' }, grant.job.team),
  el('td', { role: 'cell' }, stateBadge(grant.state)),
  el('td', { role: 'cell', class: 'num window' }, windowWords(grant)),
  el('td', { role: 'cell', class: 'lane-cell' }, el('span', { class: 'hidden' }, position(grant, now)), lane(grant, scale, ticks)))

/** The day of the end only where it is another. @param {Grant} grant */
const windowWords = ({ window: { notBefore, outputNotAfter } }) => {
  const [start, end] = [utc(notBefore).slice(0, 16), utc(outputNotAfter).slice(0, 16)]
  return `${start} – ${start.slice(0, 10) === end.slice(0, 10) ? end.slice(11) : end.slice(5)}`
}

/** Where now is. @param {Grant} grant @param {number} now */
export const position = (grant, now) => {
  const [start, end] = [Date.parse(grant.window.notBefore), Date.parse(grant.window.outputNotAfter)]
  if (!isOutstanding(grant)) return `over since ${fromNow(Math.min(Date.parse(grant.updatedAt), now), now)}`
  return now < start ? `opens ${fromNow(start, now)}` : now < end ? `open, ends ${fromNow(end, now)}` : `ended ${fromNow(end, now)}`
}

/** The picture of one grant. @param {Grant} grant @param {Scale} scale @param {number[]} ticks */
const lane = (grant, scale, ticks) => el('div', { class: 'lane', 'aria-hidden': 'true', title: title(grant) },
  ...ticks.map(tick => styled(el('i', { class: 'tick' }), { left: percent(tick, scale) })), bar(grant, scale), el('i', { class: 'now' }))

/** @param {Grant} grant */
const title = ({ window: { notBefore, notAfter, outputNotAfter } }) =>
  `${utc(notBefore)} – ${utc(notAfter)}${outputNotAfter === notAfter ? '' : `, writing until ${utc(outputNotAfter)}`} UTC`

/** @param {Grant} grant @param {Scale} scale */
const bar = (grant, scale) => {
  const { notBefore, notAfter, outputNotAfter } = grant.window
  const [start, grace, end] = [Date.parse(notBefore), Date.parse(notAfter), Date.parse(outputNotAfter)]
  if (end <= scale.from) return el('span', { class: 'beyond beyond-before' }, '‹ earlier')
  if (start >= scale.to) return el('span', { class: 'beyond beyond-after' }, 'later ›')
  const [from, to] = [Math.max(start, scale.from), Math.min(end, scale.to)]
  const inside = (/** @type {number} */ at) => `${(Math.min(Math.max(at, from), to) - from) / (to - from) * 100}%`
  const over = isOutstanding(grant) ? end : Math.min(Math.max(Date.parse(grant.updatedAt), start), end)
  return styled(el('span', { class: `bar bar-${grant.state}` },
    // What was left of the window when the grant ended was never used.
    styled(el('i', { class: 'used' }), { width: inside(over) }),
    grace < over && styled(el('i', { class: 'grace' }), { left: inside(grace), right: `calc(100% - ${inside(over)})` })),
  { left: percent(from, scale), width: `${(to - from) / (scale.to - scale.from) * 100}%` })
}

/** @param {number} now @param {Scale} scale @param {number[]} ticks */
const axis = (now, scale, ticks) => {
  const at = (/** @type {number} */ instant) => (instant - scale.from) / (scale.to - scale.from)
  const [first = 0, second = 0] = ticks
  const daily = second - first >= day
  return el('div', { class: 'axis num', 'aria-hidden': 'true' },
    // Labels that would be cut, or lie under that of now, are left out.
    ...ticks.filter(tick => at(tick) > 0.03 && at(tick) < 0.96 && Math.abs(at(tick) - at(now)) > (window.innerWidth < 760 ? 0.15 : 0.065)).map(tick => styled(el('span', {},
      daily || tick % day === 0 ? utc(tick).slice(5, 10) : utc(tick).slice(11, 16)), { left: percent(tick, scale) })),
    el('span', { class: 'now-label' }, 'now'))
}

/** @param {number} at @param {Scale} scale */
const percent = (at, { from, to }) => `${Math.min(Math.max((at - from) / (to - from), -1), 2) * 100}%`

/** @param {Grant[]} grants @param {number} now @param {number} [around] @returns {Scale} */
export const scaleOf = (grants, now, around) => {
  if (around !== undefined) return { from: now - around, to: now + around }
  const from = Math.min(now, ...grants.map(({ window }) => Date.parse(window.notBefore)))
  const to = Math.max(now, ...grants.map(({ window }) => Date.parse(window.outputNotAfter)))
  const margin = Math.max((to - from) * 0.03, 5 * minute)
  return { from: from - margin, to: to + margin }
}

const steps = [
  ...[5, 15, 30].map(count => count * minute),
  ...[1, 2, 3, 6, 12].map(count => count * hour),
  ...[1, 2, 7, 14, 30, 90, 365].map(count => count * day)
]

/** Seven at the most, at round times. @param {Scale} scale */
const ticksOf = ({ from, to }) => {
  const step = steps.find(each => (to - from) / each <= 7) ?? 365 * day
  const ticks = []
  for (let tick = Math.ceil(from / step) * step; tick < to; tick += step) ticks.push(tick)
  return ticks
}

/** One grant's window, for its own page. @param {Grant} grant @param {number} now */
export const ownLane = (grant, now) => {
  const scale = scaleOf([grant], now)
  const ticks = ticksOf(scale)
  return styled(el('div', { class: 'own-lane' }, axis(now, scale, ticks), lane(grant, scale, ticks)), { '--now': percent(now, scale) })
}
