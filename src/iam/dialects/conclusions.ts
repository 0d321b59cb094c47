import { ways, withoutRole, type DialectFile, type Finding, type Way } from './file.ts'

/** What follows from the findings of the doctor. The service draws the conclusions anew: a file may have been edited by hand. */

type Found = Pick<DialectFile, 'enforces' | 'dialect'>

/** Calls with which a key could give itself more; those that askKey in src/doctor/limits.ts tries. */
const widenings = (way: Way, attached: boolean, roleless: boolean): string[] => way === 'session'
  // Without a role, a session that may assume the next one leaves its policy behind.
  ? ['CreateUser', ...roleless ? ['AssumeRole'] : []]
  : [
      'PutUserPolicy', 'CreatePolicy', 'CreateUser', ...way === 'inline' ? ['DeleteUserPolicy'] : [],
      ...attached ? ['AttachUserPolicy'] : []
    ]

/** Of the id of a question about a condition, e.g. `DateLessThan aws:CurrentTime`. */
const aboutOf = (id: string) => {
  const [, operator, key] = /^([A-Za-z:]+) ([a-z0-9-]+:[A-Za-z0-9/-]+)/.exec(id) ?? []
  return operator !== undefined && key !== undefined ? [{ id, operator, key }] : []
}

/** What is not among the findings counts as not enforced. */
export const concluded = (findings: Finding[]): Found => {
  const verdict = (id: string, way?: Way) => findings.find(finding => finding.id === id && finding.way === way)?.verdict
  const yes = (id: string, way?: Way) => verdict(id, way) === 'yes'
  const takes = (id: string) => [undefined, ...ways].some(way => ['yes', 'open'].includes(verdict(id, way) ?? ''))
  const sizeOf = (way: Way) => {
    const [characters] = /^\d+/.exec(findings.find(({ id, way: of }) => id === 'size' && of === way)?.detail ?? '') ?? []
    return characters === undefined ? null : Number(characters)
  }
  const open = (operation: string, way: Way) => (verdict(`widen ${operation}`, way) ?? 'open') === 'open'
  // What a key can change of its own policies binds it to nothing. A further key of its user can do no more than the first.
  const bound = (way: Way) => !widenings(way, yes('attached'), withoutRole(findings)).some(operation => open(operation, way))
  // A way that cannot be tried in this place (an address of IPv6, a second address of ours) is no way that failed.
  const holds = (way: Way, ...ids: string[]) =>
    bound(way) && ids.every(id => yes(id, way) || (verdict(id, way) === 'untried' && optional.includes(id)))
  const enforcedBy = (way: Way): Found['enforces'] => ({
    window: holds(way, 'window-allow', 'window-deny', 'DateLessThan aws:CurrentTime', 'DateGreaterThanEquals aws:CurrentTime', ...always),
    address: holds(way, 'IpAddress aws:SourceIp', 'NotIpAddress aws:SourceIp', 'forwarded-for', ...optional, ...always),
    prefix: holds(way, 'default-deny', 'objects-prefix', ...always),
    // There is no call that ends a session.
    deletion: way === 'session' || yes('deleted-key', way)
  })
  const all = (way: Way) => Object.values(enforcedBy(way)).every(Boolean)
  const usable = ways.filter(way => sizeOf(way) !== null && verdict('changes', way) !== 'shut' &&
    !findings.some(finding => finding.way === way && finding.verdict === 'refused'))
  const best = usable.some(all) ? usable.filter(all) : usable
  const enforcing = best.some(way => yes('default-deny', way))
  const every = (name: keyof Found['enforces']) => best.length > 0 && best.every(way => enforcedBy(way)[name])
  const onPolicies = (id: string) => best.length > 0 && best.every(way => yes(id, way))
  // A store that ignores a window still takes policies that name it. It is refused for that as a whole: see JOB_ACCESS_ALLOW.
  const known = findings.flatMap(({ id }) => aboutOf(id))
    .filter(({ id, key }) => /^aws:(CurrentTime|SourceIp)$/.test(key) ? takes(id) : yes(id))
  const keys = known.map(({ key }) => key).filter(key => key !== 's3:prefix' || onPolicies('lists-prefix'))
  const actions = findings.map(({ id }) => id).filter(id => /^[a-z0-9-]+:[A-Za-z]+$/.test(id) && takes(id))
  return {
    enforces: { window: every('window'), address: every('address'), prefix: every('prefix'), deletion: every('deletion') },
    dialect: {
      principals: yes('users') ? 'users' : 'sessions',
      paths: yes('paths'),
      tagged: yes('tags'),
      // One that is kept and not heeded is none, unless nothing else is heeded either.
      bounded: yes('boundaries') && (yes('boundary') || !enforcing),
      sizes: Object.fromEntries(best.map(way => [way, Math.min(sizeOf(way) ?? 0, way === 'session' ? 2048 : 6144)])),
      managedPolicies: yes('managed') && yes('attached'),
      policyVersions: yes('versions'),
      actions: [...new Set(actions)],
      operators: [...new Set(known.map(({ operator }) => operator))],
      conditionKeys: [...new Set(keys)],
      confusesFamilies: (verdict('address-family') ?? 'open') === 'open' && enforcing,
      denies: onPolicies('deny'),
      notResource: onPolicies('not-resource'),
      identityProbe: yes('identity-sts') ? 'sts' : yes('identity-iam') ? 'iam' : null,
      selfService: ways.some(way => verdict('widen CreateAccessKey', way) === 'open') ||
        usable.some(way => way !== 'session' && open('CreateAccessKey', way)),
      holdsWithSts: yes('identity-sts') || yes('session')
    }
  }
}

const always = ['changes', 'default-deny', 'deny', 'secret']
const optional = ['IpAddress aws:SourceIp, IPv6', 'address-exact']

/** Where a file says something else than what follows from its findings. */
export const contradictions = ({ findings, enforces, dialect }: DialectFile): Array<{ pointer: string, message: string }> => {
  const drawn = concluded(findings)
  const differ = (place: string, says: object, follows: object) => Object.entries(follows).flatMap(([name, follow]) => {
    const [said, wanted] = [(says as Record<string, unknown>)[name], follow as unknown].map(inOneOrder)
    if (said === wanted) return []
    const message = `is ${said}, but from the findings of this file follows ${wanted}; ask the store again, with npm run doctor`
    return [{ pointer: `/${place}/${name}`, message }]
  })
  return [...differ('enforces', enforces, drawn.enforces), ...differ('dialect', dialect, drawn.dialect)]
}

const inOneOrder = (value: unknown): string => JSON.stringify(Array.isArray(value)
  ? value.toSorted()
  : typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1)) : value)
