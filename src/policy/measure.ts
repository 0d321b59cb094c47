import { hash } from 'node:crypto'
import type { Finding } from '../problems.ts'
import type { AccessSpec, AttachmentChoice, Layout, PolicyAttachment } from '../domain/access-spec.ts'
import type { ConditionBlock, PolicyDocument, Statement } from '../domain/policy-document.ts'
import { render } from './render.ts'

export { canonicalJson } from './canonical-json.ts'

/**
 * Characters of a policy that IAM takes. Source: IAM User Guide, "IAM and AWS STS quotas": inline policies of a user 2,048 in all,
 * a managed policy 6,144, white space not counted; a session policy 2,048 (STS API, AssumeRole, Policy).
 */
export const limits = { inline: 2048, managed: 6144, session: 2048 } as const

/** Characters without white space that a provider takes, per way of attaching; one that is not here does not exist there. */
export type Sizes = Partial<Record<PolicyAttachment, number>>

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
    fits: { inline: characters <= limits.inline, managed: characters <= limits.managed }
  }
}

/**
 * canonicalJson() of a policy, at a third of its time: every render is measured. Keys are named here in their order; those of a
 * condition are sorted.
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

/** How a policy of that size is attached: `auto` tries inline, then managed. undefined: it fits nowhere that was asked for. */
export const chooseAttachment = (attach: AttachmentChoice, characters: number, sizes: Sizes = limits): PolicyAttachment | undefined =>
  tried(attach).find(mode => characters <= (sizes[mode] ?? -1))

const tried = (attach: AttachmentChoice): PolicyAttachment[] => attach === 'auto' ? ['inline', 'managed'] : [attach]

/** The finding for a policy that chooseAttachment() cannot place: used, limit, and which other layout or attach would do. */
export const tooLarge = (spec: AccessSpec, attach: AttachmentChoice, sizes: Sizes = limits): Finding => {
  const used = charactersOf(JSON.stringify(render(spec)))
  const largest = tried(attach).filter(mode => sizes[mode] !== undefined).at(-1) ?? 'managed'
  return {
    code: 'policy-too-large',
    pointer: '',
    detail: `The policy has ${used} characters; ${wayOf[largest]} has at most ${sizes[largest] ?? 0}.`,
    hint: waysOut(spec, attach, used, sizes).join(' ')
  }
}

const wayOf: Record<PolicyAttachment, string> = {
  inline: 'an inline policy', managed: 'a managed policy', session: 'a session policy'
}

// `guide` is never offered: it fits because it binds less.
const alternatives: readonly Layout[] = ['everywhere', 'guarded']

const waysOut = (spec: AccessSpec, attach: AttachmentChoice, used: number, sizes: Sizes): string[] => {
  const layouts = alternatives
    .filter(layout => layout !== spec.layout)
    .map(layout => ({ layout, characters: charactersOf(JSON.stringify(render({ ...spec, layout }))) }))
  const fitting = layouts.filter(({ characters }) => chooseAttachment(attach, characters, sizes) !== undefined)
  const ways = fitting.map(({ layout, characters }) => `Layout \`${layout}\` would fit, with ${characters} characters.`)
  const managed = chooseAttachment('managed', used, sizes) !== undefined
  if (attach === 'inline' && managed) ways.push('Attach `managed` or `auto` would fit.')
  if (attach === 'session' && managed) ways.push('A user would fit: attach `managed` or `auto`.')
  return ways.length > 0 ? ways : ['No other layout fits: ask for fewer entries, shorter prefixes or fewer source CIDRs.']
}
