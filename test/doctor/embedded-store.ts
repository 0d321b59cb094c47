import type { PolicyDocument } from '../../src/domain/policy-document.ts'
import { openStore, type Answered, type Key, type S3Request, type Store } from '../../src/doctor/store.ts'
import type { Account } from '../../src/embedded-iam/account.ts'
import { freshAdmin, openAccount, startEmbeddedIam, type EmbeddedIam } from '../../src/embedded-iam/server.ts'
import { examine } from '../../src/doctor/examine.ts'
import type { ExamineOptions } from '../../src/doctor/context.ts'
import { concluded } from '../../src/iam/dialects/conclusions.ts'
import { noRole, stsAlone } from '../embedded-iam/levers/sts-alone.ts'
import { evaluate } from '../../src/policy/prove/evaluate.ts'

/** The embedded IAM, with an S3 in memory that asks the service's own evaluator: a store that enforces, but for its quirks. */
export interface Quirks {
  /** What the store makes of a policy before it goes by it. */
  reads?: (policy: PolicyDocument) => PolicyDocument
  decides?: 'always' | 'never'
  /** Believes X-Forwarded-For. */
  forwarded?: true
  anySecret?: true
  deadKeysWork?: true
  /** A call of IAM that every key may make. */
  anyKeyMay?: string
  /** Has AssumeRole alone; `leaky`: its sessions may call that, too. */
  sts?: 'alone' | 'leaky'
  /** Has inline policies alone. */
  inline?: true
}

export interface EmbeddedStore extends Store {
  account: Account
  iam: EmbeddedIam
  /** With `sts`: every call that came. */
  calls: Array<{ action: string, params: Readonly<Record<string, string>> }>
  now: () => number
  pause: (ms: number) => Promise<void>
  buckets: Map<string, Set<string>>
}

const verbs: Array<[method: string, query: string, action: string]> = [
  ['GET', 'location', 's3:GetBucketLocation'], ['GET', 'versioning', 's3:GetBucketVersioning'], ['GET', 'versions', 's3:ListBucketVersions'],
  ['GET', 'uploads', 's3:ListBucketMultipartUploads'], ['GET', 'list-type', 's3:ListBucket'],
  ['GET', 'attributes', 's3:GetObjectAttributes'], ['GET', 'uploadId', 's3:ListMultipartUploadParts'], ['PUT', 'acl', 's3:PutObjectAcl'],
  ['PUT', 'tagging', 's3:PutObjectTagging'], ['POST', 'restore', 's3:RestoreObject'], ['POST', 'uploads', 's3:PutObject'],
  ['DELETE', 'uploadId', 's3:AbortMultipartUpload']
]

const actionOf = ({ method, query = {} }: S3Request): string => {
  if ('tagging' in query && method === 'GET') return 'versionId' in query ? 's3:GetObjectVersionTagging' : 's3:GetObjectTagging'
  const [, , named] = verbs.find(([verb, name]) => verb === method && name in query) ?? []
  const plain = { GET: 'versionId' in query ? 's3:GetObjectVersion' : 's3:GetObject', PUT: 's3:PutObject', DELETE: 's3:DeleteObject', POST: 's3:PutObject' }
  return named ?? plain[method]
}

export const embeddedStore = async (t: { teardown: (stop: () => Promise<void>) => void }, quirks: Quirks = {}): Promise<EmbeddedStore> => {
  const { reads = policy => policy, decides, forwarded, anySecret, deadKeysWork, anyKeyMay, inline, sts } = quirks
  let time = Date.now()
  const admin = freshAdmin()
  const account = openAccount({ now: () => new Date(time) }, admin)
  const alone = sts && stsAlone(account, { leaky: sts === 'leaky' })
  const iam = await startEmbeddedIam({ account: () => account, adminKeys: admin, ...(alone && { intercept: alone.intercept }) })
  const store = await openStore({ region: 'us-east-1', iamEndpoint: iam.url, credentials: admin })
  t.teardown(async () => { store.close(); await iam.stop() })
  const sessions = new Map<string, string>()
  const seen = new Map<string, string>()
  const buckets = new Map<string, Set<string>>()

  /** The policies of a key, each list of which must allow. */
  const policiesOf = ({ accessKeyId }: Key): string[][] => {
    const key = account.keys.get(accessKeyId)
    if (key?.owner.kind === 'user') {
      const { inline, attached, boundary } = key.owner.user
      const standing = (policy: typeof attached extends Set<infer P> ? P : never) => policy.versions.find(({ isDefault }) => isDefault)?.document ?? ''
      return [[...inline.values(), ...[...attached].map(standing)], ...(boundary ? [[standing(boundary)]] : [])]
    }
    return [[sessions.get(accessKeyId) ?? alone?.policies.get(accessKeyId) ?? '']]
  }

  const may = (request: S3Request, key: Key): boolean => {
    if (decides !== undefined) return decides === 'always'
    const { bucket, key: name, query = {}, headers = {}, from = '127.0.0.1' } = request
    const owner = account.keys.get(key.accessKeyId)?.owner
    const tag = owner?.kind === 'user' ? owner.user.tags.get('doctor')?.value : undefined
    const asked = {
      action: actionOf(request),
      resource: `arn:aws:s3:::${bucket}${name === undefined ? '' : `/${name}`}`,
      context: {
        'aws:CurrentTime': `${new Date(time).toISOString().slice(0, 19)}Z`,
        'aws:SourceIp': (forwarded && headers['x-forwarded-for']) || from,
        'aws:SecureTransport': 'false',
        'aws:UserAgent': 'job-access-doctor/1',
        ...(tag !== undefined && { 'aws:PrincipalTag/doctor': tag }),
        ...(query.prefix !== undefined && { 's3:prefix': query.prefix }),
        ...(query['max-keys'] !== undefined && { 's3:max-keys': query['max-keys'] }),
        ...(headers['x-amz-acl'] !== undefined && { 's3:x-amz-acl': headers['x-amz-acl'] })
      }
    }
    return policiesOf(key).every(documents => {
      const kinds = documents.map(document => {
        try {
          return evaluate(reads(JSON.parse(document) as PolicyDocument), asked).kind
        } catch {
          return 'explicit-deny'
        }
      })
      return kinds.includes('allow') && !kinds.includes('explicit-deny')
    })
  }

  const answer = (outcome: Answered['outcome'], body = ''): Answered => ({ outcome, code: outcome === 'denied' ? 'AccessDenied' : '200', body, date: Math.floor(time / 1000) * 1000 })

  const done = ({ method, bucket = '', key, query = {} }: S3Request): Answered => {
    const keys = buckets.get(bucket)
    if (key === undefined && method === 'PUT') buckets.set(bucket, new Set())
    if (key === undefined && method === 'DELETE') buckets.delete(bucket)
    if (key !== undefined && method === 'PUT') keys?.add(key)
    if (key !== undefined && method === 'DELETE' && !('uploadId' in query)) keys?.delete(key)
    if (bucket === '') return answer('passed', [...buckets.keys()].map(name => `<Name>${name}</Name>`).join(''))
    if (method === 'POST' && 'uploads' in query) return answer('passed', '<UploadId>u</UploadId>')
    return answer('passed', 'list-type' in query ? [...keys ?? []].map(name => `<Key>${name}</Key>`).join('') : '')
  }

  return {
    account,
    iam,
    calls: alone?.calls ?? [],
    buckets,
    now: () => time,
    async pause (ms) {
      time += ms
      // Other lanes go on.
      await new Promise(resolve => setImmediate(resolve))
    },
    async call (operation, input, key) {
      if (inline && /^(CreatePolicy|AssumeRole|CreateRole)$/.test(operation)) return { ok: false, code: 'InvalidAction', status: 400 }
      const called = await store.call(operation, input, operation === anyKeyMay ? undefined : key)
      if (called.ok && operation === 'AssumeRole') {
        sessions.set(called.output.Credentials.AccessKeyId, (input as { Policy: string }).Policy)
      }
      return called
    },
    async s3 (request, key) {
      if (key === undefined) return done(request)
      const known = account.keys.get(key.accessKeyId)
      if (known) seen.set(known.id, known.secret)
      const secret = known?.secret ?? (deadKeysWork ? seen.get(key.accessKeyId) : undefined)
      if (secret === undefined || (secret !== key.secretAccessKey && !anySecret)) return answer('unknown-key')
      if (!known) return done(request)
      return may(request, key) ? done(request) : answer('denied')
    },
    reach: { secure: false, family: 4, here: '127.0.0.1', elsewhere: '127.0.0.2', six: true }
  }
}

export const examined = async (store: EmbeddedStore, more: Partial<ExamineOptions> = {}) => {
  const found = await examine(store, {
    run: '0badcafe',
    now: store.now,
    pause: store.pause,
    signal: new AbortController().signal,
    partition: 'aws',
    patienceMs: 2_000,
    lanes: 3,
    progress: () => {},
    ...more
  })
  return { ...found, ...concluded(found.findings) }
}

export const leftIn = ({ account, buckets }: EmbeddedStore): string[] =>
  [...account.users.keys(), ...account.policyNames, ...[...account.roles.keys()].filter(name => name !== noRole), ...buckets.keys()]
