import type { Area, BlastRadius, Open, Right } from '../policy/prove/blast-radius.ts'
import { el, newId, svg } from './dom.ts'
import { utc } from './times.ts'

/** What GET …/blast-radius has as `data`; src/policy/prove/blast-radius.ts says what it means. */
export type Data = BlastRadius['data']
interface Neighbour { name: string, denied: boolean }

const rights = ['read', 'list', 'write', 'delete', 'acl'] as const satisfies Right[]

export type KeyIs = 'alive' | 'unmade' | 'gone'

const told = {
  alive: { opens: 'opens', key: 'This key', works: '' },
  unmade: { opens: 'will open', key: 'This key is not made yet', works: 'it will work ' },
  gone: { opens: 'opened', key: 'This key is gone', works: 'it worked ' }
} satisfies Record<KeyIs, object>

/** The picture: what the key opens, each place beside a wall, and its neighbours, refused, behind the wall. */
export const blastRadiusPicture = (data: Data, keyIs: KeyIs): HTMLElement => {
  const { opens, key, works } = told[keyIs]
  const caption = el('figcaption', { id: newId('radius'), class: 'fine' },
    `Left of the double line: what the key ${opens}, from its source. ` +
      'Right of it: neighbours and look-alikes that were tried.')
  const boundBy = (wanted: (key: string) => boolean) =>
    data.source.filter(({ key }) => wanted(key)).flatMap(({ values }) => values.map(withoutMask)).join(', ')
  const bound = [boundBy(key => key === 'aws:SourceIp'), boundBy(key => key !== 'aws:SourceIp')].filter(text => text !== '')
  const leaks = data.areas.filter(({ elsewhere }) => openOf(elsewhere).length > 0)
  const neighbours = byArea(data)
  return el('figure', { class: keyIs === 'gone' ? 'radius ended' : 'radius', 'aria-labelledby': caption.id },
    el('div', { class: 'radius-source' }, icon('key'),
      el('div', {}, el('strong', {}, key), el('br'),
        `${works}${bound.length === 0 ? 'from anywhere' : `from ${bound.join(' or ')}`}`)),
    el('ul', { class: 'radius-areas' }, ...data.areas.map((area, index) => el('li', {},
      areaCard(area, data.at, keyIs),
      el('ul', { class: 'radius-neighbours', 'aria-label': `Neighbours of ${area.bucket}/${area.prefix}` },
        ...(neighbours[index] ?? []).map(neighbourCard))))),
    el('div', { class: `radius-elsewhere ${leaks.length > 0 ? 'open' : 'shut'}` }, icon(leaks.length > 0 ? 'warn' : 'cross'),
      el('div', {}, el('strong', {}, 'From anywhere else'), el('br'), leaks.length === 0
        ? 'nothing'
        : leaks.map(({ elsewhere, bucket, prefix }) => `${openOf(elsewhere).join(', ')} ${bucket}/${prefix}`).join('; '))),
    caption)
}

const withoutMask = (value: string) => value.replace(/(?<=\.\d+)\/32$|(?<=:.*)\/128$/, '')

const openOf = (place: Area['source']) => rights.filter(right => place[right] !== null)

const areaCard = (area: Area, at: string, keyIs: KeyIs) => el('div', { class: 'radius-area' },
  el('p', { class: 'mono' }, `${area.bucket}/${area.prefix}`),
  el('ul', { class: 'rights', 'aria-label': 'Rights' }, ...rights.map(right => {
    const open = area.source[right]
    const said = open === null ? 'no' : keyIs === 'gone' ? 'until the grant ended' : period(open, at, keyIs)
    return el('li', { class: open === null ? 'no' : `yes ${right}`, title: said }, icon(open === null ? 'cross' : right), right,
      el('span', { class: 'hidden' }, open === null ? ': no' : `: yes, ${said}`))
  })),
  el('p', { class: 'fine num' }, keyIs === 'gone' ? 'nothing any more' : periods(area, at, keyIs)))

const periods = (area: Area, at: string, keyIs: KeyIs) => {
  const said = new Map<string, Right[]>()
  for (const right of rights) {
    const open = area.source[right]
    if (open === null) continue
    const key = period(open, at, keyIs)
    said.set(key, [...said.get(key) ?? [], right])
  }
  if (said.size === 0) return 'nothing any more'
  return [...said].map(([when, names]) => said.size === 1 ? when : `${names.join(', ')}: ${when}`).join('; ')
}

const period = ({ from, until }: NonNullable<Open>, at: string, keyIs: KeyIs) => {
  const end = until === null ? 'without end' : `until ${utc(until)} UTC`
  return from === at && keyIs === 'alive' ? `now, ${end}` : `from ${utc(from)} ${end}`
}

const neighbourCard = ({ name, denied }: Neighbour) => el('li', { class: denied ? 'denied' : 'open' }, icon(denied ? 'cross' : 'warn'),
  el('span', { class: 'mono' }, name), ' ', el('span', { class: 'verdict' }, denied ? 'denied' : 'OPEN'))

/** Each neighbour beside the place that it resembles most. */
const byArea = ({ areas, neighbours }: Data): Neighbour[][] => {
  const names = areas.map(({ bucket, prefix }) => `${bucket}/${prefix}`)
  const beside: Neighbour[][] = areas.map(() => [])
  for (const { arn, denied } of neighbours) {
    // The tried object is called `a`: the place is what matters.
    const name = arn.replace(/^arn:[^:]+:s3:::/, '').replace(/a$/, '')
    const shared = names.map(other => sharedStart(name, other))
    beside[shared.indexOf(Math.max(...shared))]?.push({ name, denied })
  }
  return beside
}

const sharedStart = (one: string, other: string) => {
  let length = 0
  while (length < one.length && one[length] === other[length]) length++
  return length
}

const icons: Record<Right | 'cross' | 'warn' | 'key', string> = {
  read: 'M1 6s2-3.5 5-3.5S11 6 11 6s-2 3.5-5 3.5S1 6 1 6zM6 4.7a1.3 1.3 0 1 1 0 2.6a1.3 1.3 0 1 1 0-2.6z',
  list: 'M2 3h8M2 6h8M2 9h8',
  write: 'M2 10l.6-2.6L8.4 1.6l2 2L4.6 9.4z',
  delete: 'M2.5 3.5h7M5 3.5v-1.5h2v1.5M3.5 3.5l.5 6.5h4l.5-6.5',
  acl: 'M4.5 2a2 2 0 1 1 0 4a2 2 0 1 1 0-4zM1.5 10.5c0-4 6-4 6 0M8.5 3.5v4M6.8 5.5h3.4',
  cross: 'M3 3l6 6M9 3l-6 6',
  warn: 'M6 1.5l5 9h-10zM6 5v2.5M6 9v.3',
  key: 'M4 3.5a2.5 2.5 0 1 1 0 5a2.5 2.5 0 1 1 0-5zM6.5 6h4.5v2M9 6v1.5'
}

const icon = (name: keyof typeof icons) =>
  svg('svg', { viewBox: '0 0 12 12', width: 12, height: 12, class: 'icon', 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { d: icons[name] }))
