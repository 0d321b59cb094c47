import type { AccessSpec, Entry, PolicyAttachment } from '../domain/access-spec.ts'
import type { PolicyDocument, Statement } from '../domain/policy-document.ts'
import type { Finding } from '../problems.ts'
import { showCharacter } from './entries.ts'
import { chooseAttachment, measure, tooLarge, type Measure, type Sizes } from './measure.ts'
import { groupsOf, ownPart, render, sidsOf } from './render.ts'

/** How one provider differs from AWS. A request that its policies cannot express is refused, never weakened. */
export interface Dialect {
  /** `custom`: of a file, see iam/dialects/file.ts. */
  name: DialectName | 'custom'
  /**
   * `users`: policies are attached to IAM users; `keys`: there are no users, a policy is attached to an access key; `sessions`: there
   * are neither, STS is all there is.
   */
  principals: 'users' | 'keys' | 'sessions'
  /** With `sessions`: AssumeRole was seen to need no role, and its sessions to keep to their policy. */
  roleless?: boolean
  /** Whether users and policies have a path by which lists can be filtered. Without it, their names say that they are ours. */
  paths: boolean
  /** Whether CreateUser takes Tags. */
  tagged: boolean
  /** Whether CreateUser takes PermissionsBoundary. The others ignore it, and the user would have no boundary. */
  bounded: boolean
  /** Which attachments it has, and how long a policy each takes. */
  sizes: Sizes
  /** Whether it has the calls of managed policies. `sizes` says whether grants use them. */
  managedPolicies: boolean
  /** Whether CreatePolicyVersion takes every policy that CreatePolicy takes. Without it, a change attaches a second policy. */
  policyVersions: boolean
  /** Actions that a policy may name. The provider refuses a policy with another action, or ignores that action. */
  actions: 'any' | ReadonlySet<string>
  /** Actions that a policy may name, and that give nothing: nobody but the provider's admin may do them. The guide's layout names them. */
  adminOnly?: ReadonlySet<string>
  /** Condition operators that it evaluates. */
  operators: 'any' | ReadonlySet<string>
  /** Condition keys that it evaluates. */
  conditionKeys: 'any' | ReadonlySet<string>
  /** Whether it reads this source CIDR as something else. */
  misreads?: (cidr: string) => boolean
  /** Characters of a key or prefix that it reads as something else in a policy, or was never seen to take. */
  unfitInKeys?: RegExp
  denies: boolean
  notResource: boolean
  /** The call that tells a new key whose it is, for `waitUntilReady`: GetCallerIdentity, or GetUser of itself. */
  identityProbe: 'sts' | 'iam' | null
  /** Whether policies are enforced when the server also has an STS; if not, see iam/without-sts.ts. */
  holdsWithSts: boolean
  /** Whether a key can make more keys of its user, whatever its policy says: a rotation must look for them. */
  selfService: boolean
}

export type DialectName = 'aws' | 'localstack' | 'ceph' | 'seaweedfs' | 'versitygw' | 'tigris'

/** Every action that an entry without KMS keys can have in the layouts `everywhere` and `guarded`. */
export const usualActions = [
  's3:GetObject', 's3:ListBucket', 's3:GetBucketLocation', 's3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts',
  's3:PutObjectAcl', 's3:DeleteObject'
]

/** What the options of an entry add; a provider may have some of them. */
export const optionActions = {
  versions: ['s3:GetObjectVersion', 's3:GetBucketVersioning', 's3:ListBucketVersions'],
  tags: ['s3:GetObjectTagging', 's3:PutObjectTagging'],
  versionTags: ['s3:GetObjectVersionTagging'],
  attributes: ['s3:GetObjectAttributes'],
  versionAttributes: ['s3:GetObjectVersionAttributes'],
  restore: ['s3:RestoreObject'],
  uploads: ['s3:ListBucketMultipartUploads']
}

/** The conditions of window, source and prefix, without those of VPCs and of KMS. */
export const usualOperators = [
  'DateGreaterThan', 'DateGreaterThanEquals', 'DateLessThan', 'IpAddress', 'NotIpAddress', 'StringLike'
]
export const usualConditionKeys = ['aws:CurrentTime', 'aws:SourceIp', 's3:prefix']

export const attachmentsOf = ({ sizes }: Dialect): PolicyAttachment[] =>
  (['inline', 'managed', 'session'] as const).filter(mode => sizes[mode] !== undefined)

export const hasAction = ({ actions }: Dialect, action: string): boolean => actions === 'any' || actions.has(action)

/** Whether the workers of a job can share a managed policy: a change must reach all of them at once, and a Deny must win. */
export const canShare = ({ managedPolicies, policyVersions, denies, sizes }: Dialect): boolean =>
  managedPolicies && policyVersions && denies && sizes.managed !== undefined

/** The attachment that the provider has and the policy fits into, as far as the request leaves it open; else the finding. */
export const attachmentFor = (
  spec: AccessSpec, { characters }: Pick<Measure, 'characters'>, dialect: Dialect
): { attachment: PolicyAttachment, finding?: never } | { attachment?: never, finding: Finding } => {
  const { attach } = spec
  if (spec.shared && spec.source.kind !== 'any') return ownAttachment(spec, dialect)
  const attachments = attachmentsOf(dialect)
  // `auto` is a policy of a user.
  const choices = [...(attachments.some(mode => mode !== 'session') ? ['auto' as const] : []), ...attachments]
  if (!choices.includes(attach)) {
    const hint = `Use one of: ${choices.join(', ')}.`
    return { finding: { code: 'dialect-unfit', pointer: '/attach', detail: `${dialect.name} has no attach ${attach}.`, hint } }
  }
  const attachment = chooseAttachment(attach, characters, dialect.sizes)
  return attachment ? { attachment } : { finding: tooLarge(spec, attach, dialect.sizes, policy => unfit(policy, dialect).length === 0) }
}

/** Of a worker that shares the policy of its job: only its own part is attached to it alone. */
const ownAttachment = (spec: AccessSpec, { sizes }: Dialect): ReturnType<typeof attachmentFor> => {
  const { characters } = measure(ownPart(render(spec)))
  const most = sizes.inline ?? -1
  if (characters <= most) return { attachment: 'inline' }
  return {
    finding: {
      code: 'policy-too-large',
      pointer: '',
      detail: `The worker’s own policy, about its source, has ${characters} characters; an inline policy has at most ${most}.`,
      hint: 'Send fewer source CIDRs. Or issue the job with attach `auto`: then no policy is shared.'
    }
  }
}

/**
 * What the provider cannot express of a policy: one finding per request field.
 * @param spec what the policy was rendered from, so that a finding names the entry of the request
 */
export const unfit = (policy: PolicyDocument, dialect: Dialect, spec?: Pick<AccessSpec, 'entries' | 'layout' | 'source'>): Finding[] => {
  const alternatives = spec?.layout === 'everywhere' && spec.source.kind === 'either'
  const groups = groupsOf(spec?.entries ?? [])
  const entriesOf = (sid: string) => groups.find(group => sidsOf(group, alternatives).includes(sid)) ?? []
  const found = policy.Statement.flatMap(statement => {
    const useless = uselessIn(statement, dialect, spec)
    // A canned ACL is no way out where no ACL can be set.
    const others = unfitIn(statement, dialect).filter(({ name }) => name !== 's3:x-amz-acl' || useless.length === 0)
    return [...useless, ...others].flatMap(what => refusals(dialect, statement, what, entriesOf))
  })
  found.push(...(spec?.entries ?? []).flatMap(entry => unfitKey(entry, dialect)))
  return [...new Map(found.reverse().map(finding => [`${finding.pointer} ${finding.hint}`, finding])).values()].reverse()
}

/** Something of a statement that the provider cannot express; `name` is its key in `remedies`. */
interface Unfit { what: string, name: string, not?: string }

const unfitIn = (statement: Statement, dialect: Dialect): Unfit[] => {
  const { operators, conditionKeys } = dialect
  return [
    ...(dialect.denies || statement.Effect === 'Allow' ? [] : [{ what: 'is a Deny', name: 'Deny' }]),
    ...(dialect.notResource || !statement.NotResource ? [] : [{ what: 'has NotResource', name: 'NotResource' }]),
    ...[statement.Action].flat()
      .filter(action => action !== 's3:*' && !hasAction(dialect, action))
      .map(action => ({ what: `names ${action}`, name: action })),
    ...Object.entries(statement.Condition ?? {}).flatMap(([operator, keys]) => Object.keys(keys)
      .filter(key => !(operators === 'any' || operators.has(operator)) || !(conditionKeys === 'any' || conditionKeys.has(key)))
      .map(key => ({ what: `has the condition ${operator} ${key}`, name: key }))),
    ...Object.entries(statement.Condition ?? {})
      .filter(([operator]) => operator.includes('IpAddress')).flatMap(([, keys]) => Object.values(keys)
        .flat()
        .filter(cidr => dialect.misreads?.(cidr))
        .map(cidr => ({ what: `has the source ${cidr}`, name: 'source' })))
  ]
}

/** The guide has its actions whatever they are worth; elsewhere the request asked for them. */
const uselessIn = ({ Action }: Statement, { adminOnly }: Dialect, spec?: Pick<AccessSpec, 'layout'>): Unfit[] =>
  adminOnly === undefined || spec === undefined || spec.layout === 'guide'
    ? []
    : [Action].flat().filter(action => adminOnly.has(action))
        .map(name => ({ what: `names ${name}`, name, not: 'lets nobody but its admin do' }))

const unfitKey = (entry: Entry, { name, unfitInKeys }: Dialect): Finding[] => {
  const characters = [...entry.prefix]
  const at = characters.findIndex(character => unfitInKeys?.test(character))
  if (at < 0) return []
  const field = entry.exact ? 'key' : entry.prefix.endsWith('/') ? 'prefix' : 'keyPrefix'
  // The name of a directory, which was added for clients, has the pointer of these.
  const pointer = entry.pointer.endsWith('/clients') ? entry.pointer : `${entry.pointer}/${field}`
  return [{
    code: 'dialect-unfit',
    pointer,
    detail: `It has ${showCharacter(characters[at] ?? '')} at character ${at + 1}, which ${name} misreads or is not known to take.`,
    hint: 'Ask for the directory above, or give the objects a name without it.'
  }]
}

/** One finding for each entry that the statement is for. */
const refusals = (
  dialect: Dialect, statement: Statement, { what, name, not = 'does not take' }: Unfit, entriesOf: (sid: string) => readonly Entry[]
): Finding[] => {
  const { pointer, hint } = remedies[name] ?? { pointer: '', hint: 'Ask for less, or use another provider.' }
  const detail = `Statement ${statement.Sid ?? ''} ${what}, which ${dialect.name} ${not}.`
  const entries = entriesOf(statement.Sid ?? '').filter(entry => pointer !== kms.pointer || entry.kmsKeyArns.length > 0)
  const pointers = pointer.startsWith('/') ? [pointer] : entries.map(entry => entry.pointer + pointer.slice(1))
  return (pointers.length > 0 ? pointers : ['']).map(each => ({ code: 'dialect-unfit', pointer: each, detail, hint }))
}

const kms = { pointer: './kmsKeyArns', hint: 'Leave kmsKeyArns out: the provider has no AWS KMS.' }
const vpc = { pointer: '/vpc', hint: 'Give sourceIps alone: the provider knows no VPC.' }

/** The request field to change. A pointer that begins with a dot is relative to the entry. */
const remedies: Record<string, { pointer: string, hint: string }> = {
  Deny: { pointer: '/layout', hint: 'Use layout everywhere.' },
  NotResource: { pointer: '/window/outputGraceSeconds', hint: 'Leave the grace out, or use layout everywhere.' },
  source: { pointer: '/sourceIps', hint: 'Leave that CIDR out: the provider confuses IPv4 and IPv6 addresses there.' },
  's3:CompleteMultipartUpload': {
    pointer: '/layout', hint: 'Layout guide names it, though it is no action anywhere: use layout everywhere or guarded.'
  },
  's3:PutObjectAcl': { pointer: './acl', hint: 'Leave `acl` out: the provider lets no job set the ACL of an object.' },
  's3:x-amz-acl': { pointer: './acl', hint: 'The provider cannot bind s3:PutObjectAcl to a canned ACL: leave `acl` out.' },
  ...Object.fromEntries(Object.entries(optionActions).flatMap(([name, actions]) => {
    const option = { versionTags: 'tags', versionAttributes: 'attributes' }[name] ?? name
    const remedy = { pointer: `./${option}`, hint: `Leave \`${option}\` out: the provider lacks its actions, some of them or all.` }
    return actions.map(action => [action, remedy] as const)
  })),
  's3:prefix': {
    pointer: './prefix', hint: 'Listing cannot be bound to a prefix here: set "list": false on the entry, or ask for the whole bucket.'
  },
  'kms:Decrypt': kms,
  'kms:GenerateDataKey': kms,
  'kms:ViaService': kms,
  'aws:SourceVpc': vpc,
  'aws:SourceVpcArn': vpc,
  'aws:SourceVpce': vpc,
  'aws:VpcSourceIp': vpc
}
