import { Type, type Static } from '@sinclair/typebox'
import type { Dialect } from '../../policy/dialect.ts'

/** A dialect as a file: what `npm run doctor -- --write FILE` found out about a store, and provider `custom` goes by. */

const list = (description: string, pattern: string) => Type.Array(Type.String({ pattern }), { description, uniqueItems: true })
const text = (description: string) => Type.String({ description, minLength: 1, maxLength: 200 })
const flag = (description: string) => Type.Boolean({ description })
const size = (description: string, maximum: number) => Type.Optional(Type.Integer({ description, minimum: 256, maximum }))
const closed = { additionalProperties: false }

export const verdicts = ['yes', 'open', 'shut', 'refused', 'no', 'untried'] as const
export type Verdict = (typeof verdicts)[number]
export const ways = ['inline', 'managed', 'session'] as const
export type Way = (typeof ways)[number]

const FindingSchema = Type.Object({
  id: text('Names the question.'),
  way: Type.Optional(Type.Unsafe<Way>({ type: 'string', enum: [...ways] })),
  asks: text('What was asked.'),
  verdict: Type.Unsafe<Verdict>({ type: 'string', enum: [...verdicts] }),
  detail: Type.Optional(Type.String({ maxLength: 500 }))
}, closed)
export type Finding = Static<typeof FindingSchema>

const TimesSchema = Type.Record(Type.String({ pattern: '^[A-Za-z0-9@-]+$' }), Type.Number())

export const DialectFileSchema = Type.Object({
  format: Type.Literal('job-access-dialect-1'),
  store: Type.Object({ name: text('The store.'), version: text('Its version.') }, closed),
  by: text('Who ran the doctor.'),
  at: Type.String({ description: 'When.', pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z$' }),
  enforces: Type.Object({
    window: flag('Requests outside of a window are denied.'),
    address: flag('Requests from another address are denied.'),
    prefix: flag('Objects beside a prefix, and other buckets, are denied.'),
    deletion: flag('A deleted key is dead. Sessions have no key that could be deleted.')
  }, closed),
  dialect: Type.Object({
    principals: Type.Unsafe<'users' | 'sessions'>({ type: 'string', enum: ['users', 'sessions'] }),
    paths: flag('Users and policies have a path.'),
    tagged: flag('Users keep tags.'),
    bounded: flag('Users have a permissions boundary.'),
    sizes: Type.Object({
      inline: size('Characters of an inline policy.', 6144),
      managed: size('Characters of a managed policy.', 6144),
      session: size('Characters of a session policy.', 2048)
    }, { ...closed, minProperties: 1 }),
    managedPolicies: flag('There are managed policies.'),
    policyVersions: flag('CreatePolicyVersion takes every policy.'),
    actions: list('Actions that a policy may name.', '^[a-z0-9-]+:[A-Za-z]+$'),
    operators: list('Condition operators.', '^[A-Za-z:]+$'),
    conditionKeys: list('Condition keys.', '^[a-z0-9-]+:[A-Za-z0-9/-]+$'),
    confusesFamilies: flag('An IPv4 address may pass for an IPv6 address of ::/64.'),
    denies: flag('A Deny wins.'),
    notResource: flag('NotResource works.'),
    identityProbe: Type.Unsafe<'sts' | 'iam' | null>({ enum: ['sts', 'iam', null] }),
    selfService: flag('A key can make more keys of its user.'),
    holdsWithSts: flag('There was an STS when this was found out. Without, the service makes sure before it issues that there is none.')
  }, closed),
  findings: Type.Array(FindingSchema),
  times: TimesSchema
}, closed)
export type DialectFile = Static<typeof DialectFileSchema>
export const enforceable = ['window', 'address', 'prefix', 'deletion'] as const

/** The sessions that the doctor judged were those of AssumeRole without RoleArn. */
export const withoutRole = (findings: Finding[]): boolean => findings.some(({ id, verdict }) => id === 'no-role' && verdict === 'yes')

/** It compares the bits of an address whatever the family: every IPv4 address is one of ::/64, and ::1 one of 0.0.0.0/16. */
export const confusesFamilies = (cidr: string): boolean => /^(0\.|::(?!1\/128$))/.test(cidr)

export const dialectOf = ({ dialect, findings }: DialectFile): Dialect => {
  const { confusesFamilies: confused, actions, operators, conditionKeys, sizes, ...rest } = dialect
  return {
    ...rest,
    name: 'custom',
    ...(dialect.principals === 'sessions' && withoutRole(findings) && { roleless: true }),
    sizes: {
      ...(sizes.inline !== undefined && { inline: sizes.inline }),
      ...(sizes.managed !== undefined && { managed: sizes.managed }),
      ...(sizes.session !== undefined && { session: sizes.session })
    },
    actions: new Set(actions),
    operators: new Set(operators),
    conditionKeys: new Set(conditionKeys),
    ...(confused && { misreads: confusesFamilies }),
    // Of other characters the doctor asks nothing.
    unfitInKeys: /[^A-Za-z0-9/!_.'()=@,-]/
  }
}
