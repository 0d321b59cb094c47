import type { Grant } from '../client/schema.ts'
import { now as clock } from './api.ts'
import { el, styled } from './dom.ts'
import { isOutstanding, shownState, stateBadge } from './states.ts'
import { fromNow, utc } from './times.ts'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

/** How much time is shown, the first unless another is chosen; `around` is to each side of now, in ms; without it all of what is listed. */
export const ranges: Record<string, { label: string, around?: number }> = {
  hours: { label: '6 hours around now', around: 6 * hour },
  day: { label: '24 hours around now', around: day },
  week: { label: '7 days around now', around: 7 * day },
  fit: { label: 'all that is listed' }
}

/** As console.css has it. */
const laneShare = () => window.innerWidth > 1200 ? 0.42 : window.innerWidth > 1000 ? 0.34 : 1

/** Epoch ms. */
interface Scale { from: number, to: number }

/**
 * The grants as bars on a time axis. It is a table, whose last column is the picture: whoever does not see it reads the others, which say
 * the same.
 */
export const timeline = (grants: Grant[], { now, range, left }: { now: number, range: string, left: AbortSignal }): HTMLElement => {
  const scale = scaleOf(grants, now, ranges[range]?.around)
  const ticks = ticksOf(scale)
  const table = el('table', { class: 'timeline', role: 'table' },
    el('caption', { class: 'hidden' }, 'Grants, newest first. Times are UTC.'),
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' },
      ...['Job', 'Team', 'State', 'Window, UTC'].map(name => el('th', { role: 'columnheader', scope: 'col' }, name)),
      el('th', { role: 'columnheader', scope: 'col', class: 'lane-cell' },
        el('span', { class: 'hidden' }, 'Now'), axis(now, scale, ticks, laneShare())))),
    el('tbody', { role: 'rowgroup' }, ...grants.map(grant => row(grant, now, scale, ticks))))
  const place = () => table.style.setProperty('--now', percent(clock(), scale))
  place()
  const timer = setInterval(place, 15_000)
  left.addEventListener('abort', () => clearInterval(timer))
  return table
}

const row = (grant: Grant, now: number, scale: Scale, ticks: number[]) => el('tr', { role: 'row' },
  el('th', { role: 'rowheader', scope: 'row' }, el('a', { href: `#/grants/${grant.id}`, title: grant.job.id }, grant.job.id)),
  el('td', { role: 'cell', class: 'team', title: grant.job.team }, grant.job.team),
  el('td', { role: 'cell' }, stateBadge(shownState(grant, now))),
  el('td', { role: 'cell', class: 'num window' }, windowWords(grant)),
  el('td', { role: 'cell', class: 'lane-cell' }, el('span', { class: 'hidden' }, position(grant, now)), lane(grant, scale, ticks)))

/** The day of the end only where it is another. */
const windowWords = ({ window: { notBefore, outputNotAfter } }: Grant) => {
  const [start, end] = [utc(notBefore).slice(0, 16), utc(outputNotAfter).slice(0, 16)]
  return `${start} – ${start.slice(0, 10) === end.slice(0, 10) ? end.slice(11) : end.slice(5)}`
}

/** Where now is. */
export const position = (grant: Grant, now: number): string => {
  const [start, end] = [Date.parse(grant.window.notBefore), Date.parse(grant.window.outputNotAfter)]
  if (!isOutstanding(grant)) return `over since ${fromNow(Math.min(Date.parse(grant.updatedAt), now), now)}`
  return now < start ? `opens ${fromNow(start, now)}` : now < end ? `open, ends ${fromNow(end, now)}` : `ended ${fromNow(end, now)}`
}

/** The picture of one grant. */
const lane = (grant: Grant, scale: Scale, ticks: number[]) => el('div', { class: 'lane', 'aria-hidden': 'true', title: title(grant) },
  ...ticks.map(tick => styled(el('i', { class: 'tick' }), { left: percent(tick, scale) })), bar(grant, scale), el('i', { class: 'now' }))

const title = ({ window: { notBefore, notAfter, outputNotAfter } }: Grant) =>
  `${utc(notBefore)} – ${utc(notAfter)}${outputNotAfter === notAfter ? '' : `, writing until ${utc(outputNotAfter)}`} UTC`

const bar = (grant: Grant, scale: Scale) => {
  const { notBefore, notAfter, outputNotAfter } = grant.window
  const [start, grace, end] = [Date.parse(notBefore), Date.parse(notAfter), Date.parse(outputNotAfter)]
  if (end <= scale.from) return el('span', { class: 'beyond beyond-before' }, '‹ earlier')
  if (start >= scale.to) return el('span', { class: 'beyond beyond-after' }, 'later ›')
  const [from, to] = [Math.max(start, scale.from), Math.min(end, scale.to)]
  const inside = (at: number) => `${(Math.min(Math.max(at, from), to) - from) / (to - from) * 100}%`
  const over = isOutstanding(grant) ? end : Math.min(Math.max(Date.parse(grant.updatedAt), start), end)
  return styled(el('span', { class: `bar bar-${shownState(grant, clock())}` },
    // What was left of the window when the grant ended was never used.
    styled(el('i', { class: 'used' }), { width: inside(over) }),
    grace < over && styled(el('i', { class: 'grace' }), { left: inside(grace), right: `calc(100% - ${inside(over)})` })),
  { left: percent(from, scale), width: `${(to - from) / (scale.to - scale.from) * 100}%` })
}

/** @param share how much of the page's width it has */
const axis = (now: number, scale: Scale, ticks: number[], share: number) => {
  const width = share * (Math.min(window.innerWidth, 1280) - 50)
  const place = (instant: number) => (instant - scale.from) / (scale.to - scale.from) * width
  const nowAt = Math.min(Math.max(place(now), 20), width - 20)
  const [first = 0, second = 0] = ticks
  const daily = second - first >= day
  // The first label, and that of each midnight, says the day: a time alone may be of any.
  const words = (tick: number, index: number) => daily || tick % day === 0
    ? utc(tick).slice(5, 10)
    : index === 0 ? utc(tick).slice(5, 16) : utc(tick).slice(11, 16)
  const labels: HTMLElement[] = []
  let free = 0
  for (const tick of ticks) {
    const [text, middle] = [words(tick, labels.length), place(tick)]
    const half = text.length * 3.6 + 3
    // One that would be cut, or lie under another or under that of now, is left out.
    if (middle - half < free || middle + half > width || Math.abs(middle - nowAt) < half + 22) continue
    labels.push(styled(el('span', {}, text), { left: percent(tick, scale) }))
    free = middle + half
  }
  return el('div', { class: 'axis num', 'aria-hidden': 'true' }, ...labels, el('span', { class: 'now-label' }, 'now'))
}

const percent = (at: number, { from, to }: Scale) => `${Math.min(Math.max((at - from) / (to - from), -1), 2) * 100}%`

const scaleOf = (grants: Grant[], now: number, around?: number): Scale => {
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

/** Seven at the most, at round times. */
const ticksOf = ({ from, to }: Scale) => {
  const step = steps.find(each => (to - from) / each <= 7) ?? 365 * day
  const ticks: number[] = []
  for (let tick = Math.ceil(from / step) * step; tick < to; tick += step) ticks.push(tick)
  return ticks
}

/** One grant's window, for its own page. */
export const ownLane = (grant: Grant, now: number): HTMLElement => {
  const scale = scaleOf([grant], now)
  const ticks = ticksOf(scale)
  return styled(el('div', { class: 'own-lane' }, axis(now, scale, ticks, 1), lane(grant, scale, ticks)), { '--now': percent(now, scale) })
}
