import type { DialectFile, Finding, Way } from '../iam/dialects/file.ts'
import type { Dialect } from '../policy/dialect.ts'
import type { Examination } from './context.ts'
import { questions, widenings } from './questions.ts'

/** What follows from the findings: a dialect, what is wrong with the store, and where a built-in dialect says something else. */

type Found = Pick<DialectFile, 'enforces' | 'dialect'>

const core = questions.filter(question => question.core)
const ways = ['inline', 'managed', 'session'] as const

export const concluded = (examination: Pick<Examination, 'findings' | 'sizes'>): Found => {
  const { findings, sizes } = examination
  const verdict = (id: string, way?: Way) => findings.find(finding => finding.id === id && finding.way === way)?.verdict
  const yes = (id: string, way?: Way) => verdict(id, way) === 'yes'
  const takes = (id: string) => [undefined, ...ways].some(way => ['yes', 'open'].includes(verdict(id, way) ?? ''))
  // What a key can change of its own policies binds it to nothing. A further key of its user can do no more than the first.
  const bound = (way: Way) => widenings.every(([operation]) =>
    ['CreateAccessKey', 'ListUsers'].includes(operation) || verdict(`widen ${operation}`, way) !== 'open')
  // A way that cannot be tried in this place (an address of IPv6, a second address of ours) is no way that failed.
  const holds = (way: Way, ...ids: string[]) =>
    bound(way) && ids.every(id => yes(id, way) || (verdict(id, way) === 'untried' && optional.includes(id)))
  const enforcedBy = (way: Way) => ({
    window: holds(way, 'window-allow', 'window-deny', 'DateLessThan aws:CurrentTime', 'DateGreaterThanEquals aws:CurrentTime', ...always),
    address: holds(way, 'IpAddress aws:SourceIp', 'NotIpAddress aws:SourceIp', 'forwarded-for', ...optional, ...always),
    prefix: holds(way, 'default-deny', 'objects-prefix', ...always)
  })
  const all = (way: Way) => Object.values(enforcedBy(way)).every(Boolean)
  const usable = ways.filter(way => sizes[way] !== undefined && verdict('changes', way) !== 'shut' &&
    core.every(({ id }) => verdict(id, way) !== 'refused'))
  const best = usable.some(all) ? usable.filter(all) : usable
  const enforcing = best.some(way => yes('default-deny', way))
  const every = (name: keyof DialectFile['enforces']) => best.length > 0 && best.every(way => enforcedBy(way)[name])
  const onPolicies = (id: string) => best.length > 0 && best.every(way => yes(id, way))
  const conditions = questions.filter(({ about }) => about !== undefined)
  // A store that ignores a window still takes policies that name it. It is refused for that as a whole: see JOB_ACCESS_ALLOW.
  const known = conditions.filter(({ id, about }) => about && /^aws:(CurrentTime|SourceIp)$/.test(about.key) ? takes(id) : yes(id))
  const keys = known.flatMap(({ about }) => about ? [about.key] : []).filter(key => key !== 's3:prefix' || onPolicies('lists-prefix'))
  return {
    enforces: { window: every('window'), address: every('address'), prefix: every('prefix') },
    dialect: {
      principals: yes('users') ? 'users' : 'sessions',
      paths: yes('paths'),
      tagged: yes('tags'),
      // One that is kept and not heeded is none, unless nothing else is heeded either.
      bounded: yes('boundaries') && (yes('boundary') || !enforcing),
      sizes: Object.fromEntries(best.map(way => [way, Math.min(sizes[way] ?? 0, way === 'session' ? 2048 : 6144)])),
      managedPolicies: yes('managed') && yes('attached'),
      policyVersions: yes('versions'),
      actions: questions.filter(({ id, action }) => action !== undefined && takes(id)).map(({ id }) => id),
      operators: [...new Set(known.flatMap(({ about }) => about ? [about.operator] : []))],
      conditionKeys: [...new Set(keys)],
      confusesFamilies: verdict('address-family') === 'open' && enforcing,
      denies: onPolicies('deny'),
      notResource: onPolicies('not-resource'),
      identityProbe: yes('identity-sts') ? 'sts' : yes('identity-iam') ? 'iam' : null,
      selfService: ways.some(way => verdict('widen CreateAccessKey', way) === 'open'),
      holdsWithSts: yes('identity-sts') || yes('session')
    }
  }
}

const always = ['changes', 'default-deny', 'deny', 'secret']
const optional = ['IpAddress aws:SourceIp, IPv6', 'address-exact']

/** What of the findings an operator has to know: what the store does not enforce although policies say so. */
export const complaints = ({ enforces, dialect, findings }: Pick<DialectFile, 'enforces' | 'dialect' | 'findings'>): string[] => {
  const none = Object.keys(dialect.sizes).length === 0
  const used = ({ way }: Finding) => way === undefined || none || dialect.sizes[way] !== undefined
  return [
    ...Object.entries(enforces).filter(([, is]) => !is).map(([name]) => `${name}: not shown to be enforced`),
    ...none ? ['no way to attach a policy could be used'] : [],
    ...findings.filter(({ id, verdict }) => id === 'clock' && verdict === 'no').map(({ asks }) => `no: ${asks}`),
    ...findings.filter(finding => used(finding) && ['deleted-key', 'secret'].includes(finding.id) && finding.verdict !== 'yes')
      .map(({ asks, way }) => `no: ${asks} (${way})`),
    // A further key can do no more than the first; the service looks for it. Anything else that a key can do is worse.
    ...findings.filter(finding => used(finding) && finding.verdict === 'open' && /^widen (?!CreateAccessKey$)/.test(finding.id))
      .map(({ asks, way }) => `no: ${asks} (${way})`)
  ]
}

/** Where a dialect says something else than what was found. What could not be tried is no difference. */
export const drift = (dialect: Dialect, file: Pick<DialectFile, 'enforces' | 'dialect' | 'findings'>): string[] => {
  const { dialect: seen, findings, enforces } = file
  const tried = (...ids: string[]) => findings.some(({ id, verdict }) => ids.includes(id) && verdict !== 'untried')
  const used = ({ way }: Finding) => way === undefined || seen.sizes[way] !== undefined
  const verdictOf = (id: string) => findings.find(finding => finding.id === id && used(finding))?.verdict ?? 'untried'
  const differ = (what: string, says: unknown, found: unknown): string[] =>
    says === found ? [] : [`${what}: the dialect says ${String(says)}, the store ${String(found)}`]
  const users = verdictOf('users') === 'yes'
  const flags = [
    'paths', 'tagged', 'bounded', 'managedPolicies', 'identityProbe', ...seen.managedPolicies ? ['policyVersions'] as const : [],
    ...enforces.prefix ? ['selfService'] as const : []
  ] as const
  const sizes = ways.flatMap(way => {
    const [says, found] = [dialect.sizes[way], seen.sizes[way]]
    if (!(way === 'session' ? tried('session') : users && tried(way))) return []
    if (says === undefined || found === undefined) return differ(`sizes.${way}`, says, found)
    return found >= says ? [] : differ(`sizes.${way}`, says, found)
  })
  const enforcing = enforces.prefix
  const words = (what: string, has: 'any' | ReadonlySet<string>, word: string, id: string): string[] => {
    const verdict = verdictOf(id)
    const says = has === 'any' || has.has(word)
    if (says && ['refused', 'shut'].includes(verdict)) return [`${what} ${word}: the dialect has it, the store does not (${verdict})`]
    return !says && verdict === 'yes' ? [`${what} ${word}: the store has it, the dialect does not`] : []
  }
  return [
    ...users ? flags.flatMap(flag => differ(flag, dialect[flag], seen[flag])) : [],
    ...sizes,
    ...enforcing ? (['denies', 'notResource'] as const).flatMap(flag => differ(flag, dialect[flag], seen[flag])) : [],
    ...enforcing
      ? questions.flatMap(({ id, action, about }) => action !== undefined
        ? words('action', dialect.actions, action, id)
        : about && usedKeys.includes(about.key) && dialect.operators !== 'any' && dialect.operators.has(about.operator)
          ? words('operator', dialect.operators, about.operator, id)
          : [])
      : []
  ]
}

/** Of conditions that grants do not use, a dialect says nothing. */
const usedKeys = ['aws:CurrentTime', 'aws:SourceIp', 's3:prefix']
