import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import type { Finding } from '../problems.ts'
import type { AccessSpec, AttachmentChoice, Layout, PolicyAttachment } from '../domain/access-spec.ts'
import type { ConditionBlock, PolicyDocument, Statement } from '../domain/policy-document.ts'
import { render, rightsOf, withSharedSids } from './render.ts'

/** The longest policy that a provider takes, per attachment, in characters without white space. The provider lacks the others. */
export type Sizes = Partial<Record<PolicyAttachment, number>>

/**
 * Source: IAM User Guide, "IAM and AWS STS quotas": 2,048 for the inline policies of a user together, 6,144 for a managed policy,
 * white space not counted. STS API, AssumeRole, Policy: 2,048 for a session policy.
 */
export const awsSizes = { inline: 2048, managed: 6144, session: 2048 } as const satisfies Sizes

export interface Measure {
  /**
   * Bytes of the policy as JSON without white space around its values. IAM counts characters, and no white space: never more. VersityGW
   * counts bytes, and white space.
   */
  characters: number
  /** Lower-case hexadecimal sha256 of the canonical JSON. */
  sha256: string
  fits: { inline: boolean, managed: boolean }
}

export const measure = (policy: PolicyDocument): Measure => {
  const text = canonicalPolicy(policy)
  const characters = charactersOf(text)
  return {
    characters,
    sha256: hash('sha256', text, 'hex'),
    fits: { inline: characters <= awsSizes.inline, managed: characters <= awsSizes.managed }
  }
}

/**
 * JSON with sorted keys and no white space (RFC 8785), so that equal values have equal text and equal hashes.
 *
 * @throws TypeError when the value has no JSON form
 */
export const canonicalJson = (value: unknown): string => {
  const text = canonicalize(value)
  if (text === undefined) throw new TypeError('The value has no JSON form.')
  return text
}

/**
 * The same as canonicalJson() of a policy, in a third of the time, as every rendered policy is measured. The keys of a statement
 * are listed here in sorted order; those of a condition are sorted each time.
 */
export const canonicalPolicy = ({ Version, Statement }: PolicyDocument): string =>
  JSON.stringify({ Statement: Statement.map(canonicalStatement), Version })

const canonicalStatement = ({ Action, Condition, Effect, NotResource, Resource, Sid }: Statement) =>
  ({ Action, Condition: Condition && sorted(Condition), Effect, NotResource, Resource, Sid })

const sorted = (condition: ConditionBlock): ConditionBlock => sortKeys(condition, keys => sortKeys(keys))

const sortKeys = <T>(object: Record<string, T>, each: (value: T) => T = value => value): Record<string, T> => {
  const copy: Record<string, T> = {}
  for (const key of Object.keys(object).sort()) copy[key] = each(object[key] as T)
  return copy
}

const charactersOf = (json: string): number => Buffer.byteLength(json)

/** How a policy of that size is attached: `auto` tries inline, then managed. Undefined: it is too long for what was requested. */
export const chooseAttachment = (attach: AttachmentChoice, characters: number, sizes: Sizes = awsSizes): PolicyAttachment | undefined =>
  tried(attach).find(mode => characters <= (sizes[mode] ?? -1))

const tried = (attach: AttachmentChoice): PolicyAttachment[] => attach === 'auto' ? ['inline', 'managed'] : [attach]

/**
 * The finding for a policy that is too long: its size, the limit, and what would fit.
 *
 * @param expresses whether the provider can express a policy: no other one is suggested
 */
export const tooLarge = (
  spec: AccessSpec, attach: AttachmentChoice, sizes: Sizes = awsSizes, expresses: (policy: PolicyDocument) => boolean = () => true
): Finding => {
  const used = charactersOf(JSON.stringify(render(spec)))
  const largest = tried(attach).filter(mode => sizes[mode] !== undefined).at(-1) ?? 'managed'
  return {
    code: 'policy-too-large',
    pointer: '',
    detail: `The policy has ${used} characters; ${nameOf[largest]} has at most ${sizes[largest] ?? 0}.`,
    hint: hints(spec, attach, sizes, expresses).join(' ')
  }
}

const nameOf: Record<PolicyAttachment, string> = {
  inline: 'an inline policy', managed: 'a managed policy', session: 'a session policy'
}

/** What a caller can change of a request: the layout, the sids, and the attachment. */
interface Alternative { layout: Layout, shared: boolean, moved: boolean }

/**
 * Every alternative is rendered and measured; those are named that need the fewest changes. `guide` is never one of them: it is
 * shorter because it restricts less.
 */
const hints = (spec: AccessSpec, attach: AttachmentChoice, sizes: Sizes, expresses: (policy: PolicyDocument) => boolean): string[] => {
  const layouts = [...new Set<Layout>([spec.layout, 'everywhere', 'guarded'])].filter(layout => expresses(render({ ...spec, layout })))
  const room = { stay: roomOf(attach, sizes), move: attach === 'auto' ? -1 : roomOf('managed', sizes) }
  const alternatives = layouts.flatMap(layout => [false, true].flatMap(shared => [false, true].map(moved => ({ layout, shared, moved }))))
  const fitting = (some: AccessSpec) => {
    const all = alternatives
      .map(one => ({ ...one, changes: Number(one.layout !== spec.layout) + Number(one.shared) + Number(one.moved) }))
      .filter(one => !(one.shared && one.layout === 'guide'))
      .map(one => ({ ...one, characters: charactersOf(JSON.stringify(render(changed(some, one)))) }))
      .filter(one => one.characters <= (one.moved ? room.move : room.stay))
    const fewest = Math.min(...all.map(one => one.changes))
    return all.filter(one => one.changes === fewest)
  }
  const wordsOf = (one: Alternative): string => [
    ...(one.layout === spec.layout ? [] : [`layout \`${one.layout}\``]),
    ...(one.shared ? ['one `sid` for all entries with equal rights'] : []),
    ...(one.moved ? [`${attach === 'session' ? 'a user instead of a session, by ' : ''}attach \`managed\` or \`auto\``] : [])
  ].join(' with ')
  const found = fitting(spec).map(one => {
    const what = wordsOf(one)
    return `${what.charAt(0).toUpperCase()}${what.slice(1)} would fit, with ${one.characters} characters.`
  })
  if (found.length > 0) return found
  const first = (count: number): AccessSpec => ({ ...spec, entries: spec.entries.slice(0, count) })
  const most = Math.max(room.stay, room.move)
  const fits = (count: number): boolean => layouts.filter(layout => layout !== 'guide').some(layout =>
    charactersOf(JSON.stringify(render(changed(first(count), { layout, shared: true })))) <= most)
  let count = spec.entries.length - 1
  while (count > 0 && !fits(count)) count--
  const [how] = count === 0 ? [] : fitting(first(count))
  const those = how ? `The first ${count} of the ${spec.entries.length} entries would` : 'Not even the first entry alone would'
  const needed = how && how.changes > 0 ? `, with ${wordsOf(how)}` : ''
  return [`No other layout fits. ${those}${needed}: ask for fewer entries, shorter prefixes or fewer source CIDRs.`]
}

const changed = (spec: AccessSpec, { layout, shared }: Omit<Alternative, 'moved'>): AccessSpec =>
  ({ ...spec, layout, entries: shared ? withSharedSids(spec.entries, rightsOf) : spec.entries })

const roomOf = (attach: AttachmentChoice, sizes: Sizes): number => Math.max(...tried(attach).map(mode => sizes[mode] ?? -1))
