import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import type { Finding } from '../problems.ts'
import type { AccessSpec, AttachmentChoice, Layout, PolicyAttachment } from '../domain/access-spec.ts'
import type { ConditionBlock, PolicyDocument, Statement } from '../domain/policy-document.ts'
import { render } from './render.ts'

/** The longest policy that a provider takes, per attachment, in characters without white space. The provider lacks the others. */
export type Sizes = Partial<Record<PolicyAttachment, number>>

/**
 * Source: IAM User Guide, "IAM and AWS STS quotas": 2,048 for the inline policies of a user together, 6,144 for a managed policy,
 * white space not counted. STS API, AssumeRole, Policy: 2,048 for a session policy.
 */
export const awsSizes = { inline: 2048, managed: 6144, session: 2048 } as const satisfies Sizes

export interface Measure {
  /** Characters without white space, as IAM counts them. */
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

const charactersOf = (json: string): number => json.replace(/\s/g, '').length

/** How a policy of that size is attached: `auto` tries inline, then managed. Undefined: it is too long for what was requested. */
export const chooseAttachment = (attach: AttachmentChoice, characters: number, sizes: Sizes = awsSizes): PolicyAttachment | undefined =>
  tried(attach).find(mode => characters <= (sizes[mode] ?? -1))

const tried = (attach: AttachmentChoice): PolicyAttachment[] => attach === 'auto' ? ['inline', 'managed'] : [attach]

/** The finding for a policy that is too long: its size, the limit, and which other layout or attach would fit. */
export const tooLarge = (spec: AccessSpec, attach: AttachmentChoice, sizes: Sizes = awsSizes): Finding => {
  const used = charactersOf(JSON.stringify(render(spec)))
  const largest = tried(attach).filter(mode => sizes[mode] !== undefined).at(-1) ?? 'managed'
  return {
    code: 'policy-too-large',
    pointer: '',
    detail: `The policy has ${used} characters; ${nameOf[largest]} has at most ${sizes[largest] ?? 0}.`,
    hint: hints(spec, attach, used, sizes).join(' ')
  }
}

const nameOf: Record<PolicyAttachment, string> = {
  inline: 'an inline policy', managed: 'a managed policy', session: 'a session policy'
}

// `guide` is never suggested: it is shorter because it restricts less.
const alternatives: readonly Layout[] = ['everywhere', 'guarded']

const hints = (spec: AccessSpec, attach: AttachmentChoice, used: number, sizes: Sizes): string[] => {
  const layouts = alternatives
    .filter(layout => layout !== spec.layout)
    .map(layout => ({ layout, characters: charactersOf(JSON.stringify(render({ ...spec, layout }))) }))
  const fitting = layouts.filter(({ characters }) => chooseAttachment(attach, characters, sizes) !== undefined)
  const found = fitting.map(({ layout, characters }) => `Layout \`${layout}\` would fit, with ${characters} characters.`)
  const managed = chooseAttachment('managed', used, sizes) !== undefined
  if (attach === 'inline' && managed) found.push('Attach `managed` or `auto` would fit.')
  if (attach === 'session' && managed) found.push('A user would fit: attach `managed` or `auto`.')
  return found.length > 0 ? found : ['No other layout fits: ask for fewer entries, shorter prefixes or fewer source CIDRs.']
}
