import type { Area, BlastRadius, Open, Place, Right } from './blast-radius.ts'

const listed = (texts: string[]): string => texts.length < 2 ? texts.join('') : `${texts.slice(0, -1).join(', ')} and ${texts.at(-1)}`

const verbs: Record<Right, string> = {
  read: 'read', list: 'list', write: 'write', delete: 'delete', acl: 'change the ACLs of'
}

const periodOf = (open: NonNullable<Open>, at: string): string => {
  const end = open.until === null ? 'without end' : `until ${open.until}`
  return open.from === at ? `now and ${end}` : `from ${open.from} ${end}`
}

/** One phrase per period: what may be done in it, area by area. */
const deeds = (areas: Area[], place: Place, at: string): string[] => {
  const byPeriod = new Map<string, Map<string, Right[]>>()
  for (const area of areas) {
    for (const right of Object.keys(verbs) as Right[]) {
      const open = area[place][right]
      if (open === null) continue
      const period = periodOf(open, at)
      const name = `${area.bucket}/${area.prefix}`
      const areasOfPeriod = byPeriod.get(period) ?? new Map<string, Right[]>()
      areasOfPeriod.set(name, [...areasOfPeriod.get(name) ?? [], right])
      byPeriod.set(period, areasOfPeriod)
    }
  }
  return [...byPeriod].map(([period, names]) =>
    `${period}: ${[...names].map(([name, granted]) => `${listed(granted.map(right => verbs[right]))} ${name}`).join('; ')}`)
}

/** The data of a blast radius, said to someone who does not read IAM. */
export const inWords = ({ at, source, areas, keys, neighbours, actionsDenied }: BlastRadius['data']): string[] => {
  const bound = source.map(({ key, values }) => key === 'aws:SourceVpc' || key === 'aws:SourceVpce' ? `through ${listed(values)}` : listed(values)).join(' ')
  const inside = deeds(areas, 'source', at)
  const outside = deeds(areas, 'elsewhere', at)
  const everywhere = inside.join() === outside.join()
  const sentences = (start: string, phrases: string[]) => phrases.map(phrase => `${start}, ${phrase}.`)
  const open = keys.filter(key => key.decrypt !== null || key.encrypt !== null)
  const leaks = neighbours.filter(({ denied }) => !denied)
  return [
    ...(inside.length === 0 && outside.length === 0
      ? ['Nothing, now or later, from anywhere.']
      : everywhere
        ? sentences('From anywhere', inside)
        : [
            ...(inside.length === 0 ? [`From ${bound}: nothing.`] : sentences(`From ${bound}`, inside)),
            ...(outside.length === 0 ? [`From outside ${bound}: nothing.`] : sentences(`From outside ${bound}, too`, outside))
          ]),
    ...(open.length === 0 ? [] : [`KMS keys, through S3 alone: ${listed(open.map(key => key.arn))}.`]),
    ...(leaks.length === 0
      ? neighbours.length === 0 ? [] : [`Never: any other bucket or prefix, such as ${neighbours[0]?.arn.replace(/^arn:[^:]+:s3:::/, '').replace(/a$/, '')}.`]
      : [`Beside what is listed: ${listed(leaks.map(({ arn }) => arn))}.`]),
    `Never: any of ${actionsDenied} other actions of S3, KMS, IAM and STS, such as ${listed(neverOf(areas))}.`
  ]
}

const neverOf = (areas: Area[]): string[] => {
  const never = (right: Right) => areas.every(area => area.source[right] === null && area.elsewhere[right] === null)
  return [...(never('delete') ? ['deleting objects'] : []), ...(never('acl') ? ['changing ACLs'] : []), 'changing bucket policies', 'making access keys']
}
