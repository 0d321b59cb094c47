import { completeMultipartUpload } from '../policy/actions.ts'
import type { ConditionBlock, OneOrMany, Statement } from '../domain/policy-document.ts'
import { userAgent, type Reach, type S3Request } from './store.ts'

/**
 * What the doctor asks of the policies of a store: a table. Every question has requests that must be allowed beside requests that must
 * be denied, so that a store that denies everything, or nothing, never passes for one that enforces.
 */

/** The scratch buckets, what lies in them, and where requests come from. */
export interface Scene {
  partition: string
  bucket: string
  /** A second bucket, of which no policy speaks. */
  other: string
  now: number
  reach: Reach
  /** Two uploads that the admin began, for the calls on parts. */
  uploads: [listed: string, aborted: string]
  /** Whether the users have the tag `doctor`. */
  tagged: boolean
}

export interface Probe {
  statements: Statement[]
  /** Sent before, under the same policy; its answer is of no matter. */
  prepare?: S3Request
  request: S3Request
  wants: 'allowed' | 'denied'
}

export interface Question {
  id: string
  asks: string
  /** Asked of every way to attach a policy: whatever of these is refused makes the way useless to the service. */
  core?: true
  /** Why it cannot be asked here. */
  unasked?: (scene: Scene) => string | null
  /** The condition that it is about. */
  about?: { operator: string, key: string }
  action?: string
  probes: (scene: Scene) => Probe[]
}

export const keys = {
  mine: 'mine/a', alike: 'mine2/a', theirs: 'theirs/a', upload: 'mine/upload', deleted: 'mine/deleted', own: 'mine/own'
} as const

// --- parts of policies ---

const bucketOf = ({ partition, bucket }: Scene): string => `arn:${partition}:s3:::${bucket}`
const objectsOf = (scene: Scene, pattern = 'mine/*'): string => `${bucketOf(scene)}/${pattern}`
/** But for the canaries: each of them is of one policy. */
const allOf = (scene: Scene): string[] => [objectsOf(scene), objectsOf(scene, 'theirs/*')]

const statement = (Effect: 'Allow' | 'Deny', Action: OneOrMany, Resource: OneOrMany, Condition?: ConditionBlock): Statement =>
  ({ Effect, Action, Resource, ...(Condition && { Condition }) })
const allow = (action: OneOrMany, resource: OneOrMany, condition?: ConditionBlock) => statement('Allow', action, resource, condition)
const deny = (action: OneOrMany, resource: OneOrMany, condition?: ConditionBlock) => statement('Deny', action, resource, condition)

const second = (epochMs: number): string => `${new Date(epochMs).toISOString().slice(0, 19)}Z`
const day = 86_400_000

// --- requests ---

const read = ({ bucket, reach }: Scene, key: string = keys.mine): S3Request =>
  ({ method: 'GET', bucket, key, ...(reach.here !== null && { from: reach.here }) })
const write = ({ bucket }: Scene, key: string = keys.mine): S3Request => ({ method: 'PUT', bucket, key, body: 'x' })
const list = ({ bucket }: Scene, prefix?: string, more: Record<string, string> = {}): S3Request =>
  ({ method: 'GET', bucket, query: { 'list-type': '2', ...(prefix !== undefined && { prefix }), ...more } })
const sub = (scene: Scene, method: S3Request['method'], query: Record<string, string>, more: Partial<S3Request> = {}): S3Request =>
  ({ method, bucket: scene.bucket, key: keys.mine, query, ...more })
const ofBucket = ({ bucket }: Scene, query: Record<string, string>): S3Request => ({ method: 'GET', bucket, query })

const tagging = '<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>'
const xml = { 'content-type': 'application/xml' }

// --- what no job can do without ---

const basics: Question[] = [
  {
    id: 'default-deny',
    asks: 'what no policy allows is denied',
    core: true,
    probes: scene => [
      { statements: [], request: read(scene), wants: 'denied' },
      { statements: [allow('s3:GetObject', objectsOf(scene))], request: read(scene), wants: 'allowed' },
      { statements: [allow('s3:GetObject', objectsOf(scene))], request: write(scene), wants: 'denied' },
      { statements: [allow('s3:GetObject', objectsOf(scene))], request: { ...read(scene), bucket: scene.other }, wants: 'denied' }
    ]
  },
  {
    id: 'objects-prefix',
    asks: 'a Resource binds objects to a prefix',
    core: true,
    probes: scene => {
      const statements = [allow(['s3:GetObject', 's3:PutObject'], objectsOf(scene))]
      return [
        { statements, request: read(scene), wants: 'allowed' },
        { statements, request: read(scene, keys.theirs), wants: 'denied' },
        { statements, request: read(scene, keys.alike), wants: 'denied' },
        { statements, request: write(scene, 'mine/b'), wants: 'allowed' },
        { statements, request: write(scene, 'mine2/b'), wants: 'denied' }
      ]
    }
  },
  {
    id: 'lists-prefix',
    asks: 's3:prefix binds listings to a prefix',
    core: true,
    probes: scene => {
      const statements = [allow('s3:ListBucket', bucketOf(scene), { StringLike: { 's3:prefix': 'mine/*' } })]
      return [
        { statements, request: list(scene, 'mine/'), wants: 'allowed' },
        { statements, request: list(scene, 'theirs/'), wants: 'denied' },
        { statements, request: list(scene, 'mine2/'), wants: 'denied' },
        { statements, request: list(scene), wants: 'denied' }
      ]
    }
  },
  {
    id: 'deny',
    asks: 'a Deny wins over an Allow',
    core: true,
    probes: scene => {
      const statements = [allow('s3:GetObject', allOf(scene)), deny('s3:*', objectsOf(scene, 'theirs/*'))]
      return [
        { statements, request: read(scene), wants: 'allowed' },
        { statements, request: read(scene, keys.theirs), wants: 'denied' }
      ]
    }
  },
  {
    id: 'not-resource',
    asks: 'a Deny with NotResource denies what it does not name',
    core: true,
    probes: scene => {
      const NotResource = [bucketOf(scene), objectsOf(scene), objectsOf(scene, 'canary/*')]
      const statements: Statement[] = [allow('s3:GetObject', allOf(scene)), { Effect: 'Deny', Action: 's3:*', NotResource }]
      return [
        { statements, request: read(scene), wants: 'allowed' },
        { statements, request: read(scene, keys.theirs), wants: 'denied' }
      ]
    }
  }
]

// --- conditions ---

interface Condition {
  operator: string
  key: string
  /** Values under which the condition is met, and under which it is not. */
  met: (scene: Scene) => OneOrMany
  unmet: (scene: Scene) => OneOrMany
  action?: string
  resource?: (scene: Scene) => string
  request?: (scene: Scene) => S3Request
  unasked?: (scene: Scene) => string | null
  core?: true
  id?: string
  asks?: string
}

/** Each in an Allow and in a Deny: an engine may drop a condition in one of them alone. */
const condition = (
  { operator, key, met, unmet, action = 's3:GetObject', resource = scene => objectsOf(scene), request = read, ...rest }: Condition
): Question => ({
  id: `${operator} ${key}`,
  asks: `${operator} ${key}, in an Allow and in a Deny`,
  about: { operator, key },
  ...rest,
  probes: scene => {
    const when = (value: OneOrMany): ConditionBlock => ({ [operator]: { [key]: value } })
    const target = resource(scene)
    const probe = (wants: Probe['wants'], ...statements: Statement[]): Probe => ({ statements, request: request(scene), wants })
    return [
      probe('allowed', allow(action, target, when(met(scene)))),
      probe('denied', allow(action, target, when(unmet(scene)))),
      probe('denied', allow(action, target), deny(action, target, when(met(scene)))),
      probe('allowed', allow(action, target), deny(action, target, when(unmet(scene))))
    ]
  }
})

const yesterday = ({ now }: Scene) => second(now - day)
const tomorrow = ({ now }: Scene) => second(now + day)
const from = (address: string) => (scene: Scene): S3Request => ({ ...read(scene), from: address })
const blocks = { 4: { all: '0.0.0.0/0', wrong: '192.0.2.1/32' }, 6: { all: '::/0', wrong: '2001:db8::1/128' } } as const
const ownBlock = ({ reach: { here, family } }: Scene): string =>
  here === null ? blocks[family].all : here.includes(':') ? `${here}/128` : `${here}/32`
const wrongBlock = ({ reach: { family } }: Scene): string => blocks[family].wrong
const noSix = ({ reach: { six } }: Scene) => six ? null : 'S3 is not reached at ::1'
const currentTime = 'aws:CurrentTime'
const sourceIp = 'aws:SourceIp'
const listing = { action: 's3:ListBucket', resource: bucketOf, request: (scene: Scene) => list(scene, 'mine/', { 'max-keys': '2' }) }

const conditions: Question[] = [
  { operator: 'DateLessThan', key: currentTime, met: tomorrow, unmet: yesterday, core: true as const },
  { operator: 'DateGreaterThanEquals', key: currentTime, met: yesterday, unmet: tomorrow, core: true as const },
  { operator: 'DateGreaterThan', key: currentTime, met: yesterday, unmet: tomorrow },
  { operator: 'DateLessThanEquals', key: currentTime, met: tomorrow, unmet: yesterday },
  { operator: 'IpAddress', key: sourceIp, met: ownBlock, unmet: wrongBlock, core: true as const },
  { operator: 'NotIpAddress', key: sourceIp, met: wrongBlock, unmet: ownBlock, core: true as const },
  {
    id: 'IpAddress aws:SourceIp, IPv6',
    asks: 'IpAddress aws:SourceIp of an IPv6 address, in an Allow and in a Deny',
    operator: 'IpAddress',
    key: sourceIp,
    met: () => '::1/128',
    unmet: () => blocks[6].wrong,
    request: from('::1'),
    unasked: noSix,
    core: true as const
  },
  { operator: 'StringLike', key: 's3:prefix', met: () => 'mine/*', unmet: () => 'theirs/*', ...listing },
  { operator: 'StringNotLike', key: 's3:prefix', met: () => 'theirs/*', unmet: () => 'mine/*', ...listing },
  { operator: 'StringEquals', key: 's3:prefix', met: () => 'mine/', unmet: () => 'theirs/', ...listing },
  { operator: 'StringNotEquals', key: 's3:prefix', met: () => 'theirs/', unmet: () => 'mine/', ...listing },
  { operator: 'ForAnyValue:StringLike', key: 's3:prefix', met: () => ['mine/*'], unmet: () => ['theirs/*'], ...listing },
  { operator: 'ForAllValues:StringLike', key: 's3:prefix', met: () => ['mine/*'], unmet: () => ['theirs/*'], ...listing },
  { operator: 'StringLikeIfExists', key: 's3:prefix', met: () => 'mine/*', unmet: () => 'theirs/*', ...listing },
  { operator: 'Null', key: 's3:prefix', met: () => 'false', unmet: () => 'true', ...listing },
  { operator: 'NumericLessThanEquals', key: 's3:max-keys', met: () => '2', unmet: () => '1', ...listing },
  {
    operator: 'Bool',
    key: 'aws:SecureTransport',
    met: ({ reach }: Scene) => String(reach.secure),
    unmet: ({ reach }: Scene) => String(!reach.secure)
  },
  { operator: 'StringLike', key: 'aws:UserAgent', met: () => `${userAgent.split('/')[0]}*`, unmet: () => 'another*' },
  {
    operator: 'StringEquals',
    key: 'aws:PrincipalTag/doctor',
    met: () => 'job-access',
    unmet: () => 'another',
    unasked: ({ tagged }: Scene) => tagged ? null : 'there are no tags'
  },
  {
    operator: 'StringLike',
    key: 's3:x-amz-acl',
    met: () => 'private',
    unmet: () => 'public-read',
    action: 's3:PutObjectAcl',
    request: (scene: Scene) => sub(scene, 'PUT', { acl: '' }, { headers: { 'x-amz-acl': 'private' } })
  }
].map(condition)

// --- addresses that a store may read as something else ---

const addresses: Question[] = [
  {
    id: 'address-exact',
    asks: 'one address is told from its neighbour',
    core: true,
    unasked: ({ reach: { elsewhere } }) => elsewhere === null ? 'requests cannot come from a second address' : null,
    probes: scene => {
      const { here, elsewhere } = scene.reach
      const statements = [allow('s3:GetObject', objectsOf(scene), { IpAddress: { [sourceIp]: `${here}/32` } })]
      return [
        { statements, request: read(scene), wants: 'allowed' },
        { statements, request: from(elsewhere ?? '')(scene), wants: 'denied' }
      ]
    }
  },
  {
    id: 'forwarded-for',
    asks: 'an address in X-Forwarded-For is not believed',
    core: true,
    probes: scene => {
      const wrong = wrongBlock(scene)
      const headers = { 'x-forwarded-for': wrong.replace(/\/.*/, ''), 'x-real-ip': wrong.replace(/\/.*/, '') }
      const when = (block: string) => [allow('s3:GetObject', objectsOf(scene), { IpAddress: { [sourceIp]: block } })]
      return [
        { statements: when(ownBlock(scene)), request: { ...read(scene), headers }, wants: 'allowed' },
        { statements: when(wrong), request: { ...read(scene), headers }, wants: 'denied' }
      ]
    }
  },
  {
    id: 'address-family',
    asks: 'an IPv4 address is no address of ::/64, nor ::1 one of 0.0.0.0/16',
    unasked: scene => scene.reach.here === '127.0.0.1' ? noSix(scene) : 'S3 is not reached on loopback',
    probes: scene => {
      const when = (block: string) => [allow('s3:GetObject', objectsOf(scene), { IpAddress: { [sourceIp]: block } })]
      return [
        { statements: when('127.0.0.0/8'), request: read(scene), wants: 'allowed' },
        { statements: when('::/64'), request: read(scene), wants: 'denied' },
        { statements: when('::/64'), request: from('::1')(scene), wants: 'allowed' },
        { statements: when('0.0.0.0/16'), request: from('::1')(scene), wants: 'denied' }
      ]
    }
  }
]

// --- actions ---

interface ActionProbe {
  action: string
  request: (scene: Scene) => S3Request
  /** What rendered policies have beside the action: with these alone the request is denied. */
  beside: string[]
  /** What the request needs beside the action; default: the same. */
  needs?: string[]
  /** The key's own object, where a store asks for its owner. */
  own?: true
  bucket?: true
}

const object = ['s3:GetObject']
const put = ['s3:PutObject']
const located = ['s3:GetBucketLocation']

const actionProbes: ActionProbe[] = [
  { action: 's3:GetObject', request: read, beside: put, needs: [] },
  { action: 's3:ListBucket', request: scene => list(scene), bucket: true, beside: located },
  { action: 's3:GetBucketLocation', request: scene => ofBucket(scene, { location: '' }), bucket: true, beside: ['s3:ListBucketVersions'] },
  { action: 's3:PutObject', request: write, beside: object },
  { action: 's3:DeleteObject', request: scene => ({ ...write(scene, keys.deleted), method: 'DELETE', body: '' }), beside: object },
  {
    action: 's3:AbortMultipartUpload',
    request: scene => sub(scene, 'DELETE', { uploadId: scene.uploads[1] }, { key: keys.upload }),
    beside: put
  },
  {
    action: 's3:ListMultipartUploadParts',
    request: scene => sub(scene, 'GET', { uploadId: scene.uploads[0] }, { key: keys.upload }),
    beside: object
  },
  {
    action: 's3:PutObjectAcl',
    request: scene => sub(scene, 'PUT', { acl: '' }, { key: keys.own, headers: { 'x-amz-acl': 'private' } }),
    beside: put,
    own: true
  },
  { action: completeMultipartUpload, request: write, beside: object, needs: put },
  { action: 's3:GetObjectVersion', request: scene => sub(scene, 'GET', { versionId: 'null' }), beside: object },
  { action: 's3:GetBucketVersioning', request: scene => ofBucket(scene, { versioning: '' }), beside: located, bucket: true },
  { action: 's3:ListBucketVersions', request: scene => ofBucket(scene, { versions: '' }), beside: located, bucket: true },
  { action: 's3:GetObjectTagging', request: scene => sub(scene, 'GET', { tagging: '' }), beside: object },
  { action: 's3:PutObjectTagging', request: scene => sub(scene, 'PUT', { tagging: '' }, { body: tagging, headers: xml }), beside: put },
  {
    action: 's3:GetObjectVersionTagging',
    request: scene => sub(scene, 'GET', { tagging: '', versionId: 'null' }),
    beside: ['s3:GetObject', 's3:GetObjectTagging']
  },
  {
    action: 's3:GetObjectAttributes',
    request: scene => sub(scene, 'GET', { attributes: '' }, { headers: { 'x-amz-object-attributes': 'ObjectSize' } }),
    beside: object
  },
  {
    action: 's3:RestoreObject',
    request: scene => sub(scene, 'POST', { restore: '' }, { body: '<RestoreRequest><Days>1</Days></RestoreRequest>', headers: xml }),
    beside: object
  },
  { action: 's3:ListBucketMultipartUploads', request: scene => ofBucket(scene, { uploads: '' }), beside: located, bucket: true }
]

const actions: Question[] = actionProbes.map(({ action, request, beside, needs = beside, bucket, own }) => ({
  id: action,
  asks: `${action} gives what it is for`,
  action,
  probes: scene => {
    const resource = bucket ? bucketOf(scene) : objectsOf(scene)
    const rest = { request: request(scene), ...(own && { prepare: write(scene, keys.own) }) }
    return [
      { ...rest, statements: [allow(beside, resource)], wants: 'denied' },
      { ...rest, statements: [allow([action, ...needs], resource)], wants: 'allowed' }
    ]
  }
}))

/** In the order in which they are reported. */
export const questions: Question[] = [...basics, ...conditions, ...addresses, ...actions]

/** What the doctor never tries, and why. */
export const untried: Array<[id: string, asks: string, why: string]> = [
  ['kms', 'kms:Decrypt and kms:GenerateDataKey', 'needs a key of AWS KMS'],
  ['vpc', 'aws:SourceVpc, aws:SourceVpce, aws:VpcSourceIp', 'needs requests through a VPC endpoint'],
  ['bucket-policy', 'a Deny wins over a bucket policy', 'the doctor writes no bucket policies']
]

/** A window in two policies: `opens` and `closes` are instants. */
export const windows: Array<[id: string, asks: string, statements: (scene: Scene, opens: number, closes: number) => Statement[]]> = [
  ['window-allow', 'a window of an Allow opens and closes to the second', (scene, opens, closes) => [
    allow('s3:GetObject', objectsOf(scene),
      { DateGreaterThanEquals: { [currentTime]: second(opens) }, DateLessThan: { [currentTime]: second(closes) } })
  ]],
  ['window-deny', 'a window of two Denies opens and closes to the second', (scene, opens, closes) => [
    allow('s3:GetObject', objectsOf(scene)),
    deny('s3:*', objectsOf(scene), { DateLessThan: { [currentTime]: second(opens) } }),
    deny('s3:*', objectsOf(scene), { DateGreaterThanEquals: { [currentTime]: second(closes) } })
  ]]
]

/** Calls of IAM that a job's key must not have, with which it could give itself more. */
export const widenings: Array<[operation: string, input: (user: string, policy: string, arn: string) => object]> = [
  ['PutUserPolicy', (UserName, PolicyDocument) => ({ UserName, PolicyName: 'wider', PolicyDocument })],
  ['DeleteUserPolicy', UserName => ({ UserName, PolicyName: 'job-access' })],
  ['CreatePolicy', (UserName, PolicyDocument) => ({ PolicyName: `${UserName}-wider`, PolicyDocument })],
  ['AttachUserPolicy', (UserName, _document, PolicyArn) => ({ UserName, PolicyArn })],
  ['CreateUser', UserName => ({ UserName: `${UserName}-wider` })],
  ['ListUsers', () => ({})],
  ['CreateAccessKey', UserName => ({ UserName })]
]

/** Read with every policy, so that it is known which one is in effect. */
export const canary = (scene: Scene, key: string): Statement => allow('s3:GetObject', objectsOf(scene, key))
export const readOf = (scene: Scene, key: string): S3Request => read(scene, key)
export const everything = (scene: Scene): Statement[] => [allow('s3:*', [bucketOf(scene), ...allOf(scene)])]
/** What a role must allow, so that the policy of its session decides. */
export const wholeBucket = (scene: Scene): Statement[] => [allow('s3:*', [bucketOf(scene), objectsOf(scene, '*')])]
export const onlyMine = (scene: Scene): Statement[] => [allow('s3:*', [objectsOf(scene), objectsOf(scene, 'canary/*')])]
