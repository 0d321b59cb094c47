import type { DialectFile, Finding } from '../iam/dialects/file.ts'
import type { Dialect } from '../policy/dialect.ts'
import { questions } from './questions.ts'

/** What is wrong with a store, and where a built-in dialect says something else. */

const ways = ['inline', 'managed', 'session'] as const

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
    const says = (has === 'any' || has.has(word)) && !dialect.adminOnly?.has(word)
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
