import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { PolicyDocument } from '../../src/domain/policy-document.ts'

/**
 * A double of Tigris's IAM, made from its documentation (tigrisdata/tigris-os-docs, iam/) and from nothing else: the calls that it
 * lists, its actions and its condition operators. What it does not document is guessed like AWS. It checks no signature.
 */
export interface TigrisDouble {
  url: string
  admin: { accessKeyId: string, secretAccessKey: string }
  /** In the order of arrival: the call, and what it named. */
  calls: Array<{ action: string, params: Record<string, string>, status: number }>
  /** Key ids. */
  keys: Set<string>
  /** By policy name. */
  policies: Map<string, { document: string, attached: Set<string> }>
  /** Stands before every call: an error code to answer instead, or `drop` to answer nothing after it was done. */
  fault: ((action: string, params: Record<string, string>) => Fault | undefined) | null
  stop: () => Promise<void>
}

export type Fault = { code: string, status: number } | 'drop'

/** How many policies a page holds. */
const pageSize = 3

// iam/policies/supported-actions.
const supported = new Set(`AbortMultipartUpload CreateBucket DeleteBucket DeleteObject DeleteObjectTagging GetAccelerateConfiguration
  GetBucketAcl GetBucketCORS GetBucketOwnershipControls GetBucketPolicyStatus GetBucketRequestPayment GetBucketTagging
  GetLifecycleConfiguration GetObject GetObjectAcl GetObjectTagging ListAllMyBuckets ListBucket ListBucketMultipartUploads
  ListMultipartUploadParts PutAccelerateConfiguration PutBucketAcl PutBucketCORS PutLifecycleConfiguration PutBucketOwnershipControls
  PutBucketTagging PutObject PutObjectAcl PutObjectTagging RestoreObject`.split(/\s+/))
const operators = /^((Not)?IpAddress|Date(Not)?(Equals)|Date(Greater|Less)Than(Equals)?)$/

class Refusal extends Error {
  readonly code: string
  readonly status: number

  constructor (code: string, status: number) {
    super(code)
    this.code = code
    this.status = status
  }
}

const missing = () => new Refusal('NoSuchEntity', 404)

export const startTigrisDouble = async (): Promise<TigrisDouble> => {
  const keys: TigrisDouble['keys'] = new Set()
  const policies: TigrisDouble['policies'] = new Map()
  const arnOf = (name: string) => `arn:aws:iam::org_1:policy/${name}`
  const policyOf = (arn = '') => {
    const policy = policies.get(arn.slice(arnOf('').length))
    if (!policy) throw missing()
    return policy
  }
  const member = (tag: string, items: string[]) => `<${tag}>${items.map(item => `<member>${item}</member>`).join('')}</${tag}>`
  const end = '<IsTruncated>false</IsTruncated>'

  const actions: Record<string, (params: Record<string, string>) => string> = {
    CreateAccessKey () {
      const id = `tid_${randomBytes(8).toString('hex')}`
      keys.add(id)
      return `<AccessKey><UserName>${id}</UserName><AccessKeyId>${id}</AccessKeyId><Status>Active</Status>` +
        `<SecretAccessKey>tsec_${randomBytes(8).toString('hex')}</SecretAccessKey></AccessKey>`
    },
    ListAccessKeys: () => member('AccessKeyMetadata', [...keys].map(id => `<AccessKeyId>${id}</AccessKeyId>`)) + end,
    DeleteAccessKey ({ AccessKeyId = '' }) {
      if (!keys.delete(AccessKeyId)) throw missing()
      for (const { attached } of policies.values()) attached.delete(AccessKeyId)
      return ''
    },
    CreatePolicy ({ PolicyName = '', PolicyDocument = '' }) {
      if (policies.has(PolicyName)) throw new Refusal('EntityAlreadyExists', 409)
      check(JSON.parse(PolicyDocument) as PolicyDocument)
      policies.set(PolicyName, { document: PolicyDocument, attached: new Set() })
      return `<Policy><PolicyName>${PolicyName}</PolicyName><Arn>${arnOf(PolicyName)}</Arn><DefaultVersionId>v1</DefaultVersionId></Policy>`
    },
    ListPolicies ({ Marker }) {
      const names = [...policies.keys()].sort().filter(name => Marker === undefined || name > Marker)
      const page = names.slice(0, pageSize)
      const rows = page.map(name => `<PolicyName>${name}</PolicyName><Arn>${arnOf(name)}</Arn><Path>/</Path>`)
      const more = names.length > pageSize ? `<IsTruncated>true</IsTruncated><Marker>${page.at(-1)}</Marker>` : end
      return member('Policies', rows) + more
    },
    GetPolicy: ({ PolicyArn = '' }) => {
      policyOf(PolicyArn)
      return `<Policy><Arn>${PolicyArn}</Arn><DefaultVersionId>v1</DefaultVersionId></Policy>`
    },
    GetPolicyVersion: ({ PolicyArn }) => `<PolicyVersion><Document>${encodeURIComponent(policyOf(PolicyArn).document)}</Document></PolicyVersion>`,
    DeletePolicy ({ PolicyArn = '' }) {
      if (policyOf(PolicyArn).attached.size > 0) throw new Refusal('DeleteConflict', 409)
      policies.delete(PolicyArn.slice(arnOf('').length))
      return ''
    },
    AttachUserPolicy ({ PolicyArn, UserName = '' }) {
      const { attached } = policyOf(PolicyArn)
      if (!keys.has(UserName)) throw missing()
      attached.add(UserName)
      return ''
    },
    DetachUserPolicy ({ PolicyArn, UserName = '' }) {
      if (!policyOf(PolicyArn).attached.delete(UserName)) throw missing()
      return ''
    },
    ListEntitiesForPolicy: ({ PolicyArn }) => member('PolicyUsers', [...policyOf(PolicyArn).attached].map(id => `<UserName>${id}</UserName>`)) + end
  }

  const check = (document: PolicyDocument): void => {
    const refuse = () => { throw new Refusal('MalformedPolicyDocument', 400) }
    if (document.Version !== '2012-10-17') refuse()
    for (const { Action, Resource, Condition = {} } of document.Statement) {
      if (Resource === undefined) refuse()
      for (const action of [Action ?? []].flat()) if (!action.includes('*') && !supported.has(action.slice('s3:'.length))) refuse()
      for (const [operator, asked] of Object.entries(Condition)) {
        if (!operators.test(operator)) refuse()
        for (const key of Object.keys(asked)) if (key !== (operator.startsWith('Date') ? 'aws:CurrentTime' : 'aws:SourceIp')) refuse()
      }
    }
  }

  const answer = (action: string, params: Record<string, string>): { status: number, xml: string } | null => {
    const fault = double.fault?.(action, params)
    try {
      if (fault !== undefined && fault !== 'drop') throw new Refusal(fault.code, fault.status)
      // "Not supported" is all that the documentation says of the other calls.
      const result = (actions[action] ?? (() => { throw new Refusal('NotImplemented', 501) }))(params)
      return fault === 'drop' ? null : { status: 200, xml: `<${action}Response><${action}Result>${result}</${action}Result></${action}Response>` }
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      return { status: error.status, xml: `<ErrorResponse><Error><Code>${error.code}</Code><Message>of the double</Message></Error></ErrorResponse>` }
    }
  }

  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { Action: action = '', Version: _, ...params } = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()))
      const call = { action, params, status: 0 }
      double.calls.push(call)
      const answered = answer(action, params)
      if (answered === null) return response.destroy()
      call.status = answered.status
      response.writeHead(answered.status, { 'content-type': 'text/xml' }).end(answered.xml)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const double: TigrisDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    admin: { accessKeyId: 'tid_admin', secretAccessKey: 'tsec_admin' },
    calls: [],
    keys,
    policies,
    fault: null,
    stop: () => new Promise(resolve => {
      server.closeAllConnections()
      server.close(() => resolve())
    })
  }
  return double
}
