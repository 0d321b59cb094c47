import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import type { AccessSpec } from '../../../src/domain/access-spec.ts'
import { defaultLimits } from '../../../src/policy/limits.ts'
import { normalise } from '../../../src/policy/normalise.ts'
import type { PolicyDocument, Statement } from '../../../src/domain/policy-document.ts'
import { evaluate, type IamRequest } from '../../../src/policy/prove/evaluate.ts'
import { intention } from '../../../src/policy/prove/intent.ts'
import { actionsOn, validate, type ResourceKind } from '../../../src/policy/prove/validate.ts'
import { contextValues, resources } from '../../../src/policy/prove/probes.ts'
import { prove, type Proven } from '../../../src/policy/prove/prove.ts'
import { render } from '../../../src/policy/render.ts'
import { specOf, entry, examples } from './examples.ts'
import { seeded } from './seeded.ts'

t.test('hand-written policies of every layout are proven', async t => {
  for (const { name, spec, policy } of examples) {
    const proof = prove(policy, spec)
    t.match(proof, { ok: true }, name)
    t.ok(proof.probes > 10_000, `${name}: ${proof.probes} requests covered`)
  }
})

t.test('what is proven is a frozen copy', async t => {
  const [example] = examples
  if (example === undefined) throw new Error('no example')
  const policy = structuredClone(example.policy)
  const proof = prove(policy, example.spec)
  if (!proof.ok) throw new Error(proof.reason)
  policy.Statement[0]!.Resource = '*'
  t.same(proof.proven, example.policy, 'later changes of the original do not reach it')
  t.throws(() => { proof.proven.Statement[0]!.Resource = '*' }, TypeError)
  t.throws(() => { (proof.proven.Statement[0]!.Action as string[]).push('s3:*') }, TypeError)
})

t.test('the issuer’s type refuses a policy that is not proven', async t => {
  const issue = (policy: Proven<PolicyDocument>) => policy.Version
  const [example] = examples
  if (example === undefined) throw new Error('no example')
  // @ts-expect-error -- a plain document carries no proof; tsc fails here if it ever does
  issue(example.policy)
  const proof = prove(example.policy, example.spec)
  // @ts-expect-error -- nor does a proof that was not looked at
  issue(proof.proven)
  if (proof.ok) t.equal(issue(proof.proven), '2012-10-17')
})

t.test('every golden policy is proven', async t => {
  const files = readdirSync('test/golden').filter(name => name.endsWith('.json'))
  t.ok(files.length >= 40, `${files.length} files`)
  for (const file of files) {
    const { request, limits, now, policy } = JSON.parse(readFileSync(`test/golden/${file}`, 'utf8'))
    const normalised = normalise(request, { ...defaultLimits, ...limits }, new Date(now))
    if (!normalised.ok) throw new Error(`${file} is not spec`)
    t.match(prove(policy, normalised.spec), { ok: true }, file)
  }
})

/** Points of the full product, decided one by one. */
const points = function * (policy: PolicyDocument, spec: AccessSpec, seed: number, count: number): Generator<IamRequest> {
  const draw = seeded(seed)
  const values = contextValues(policy, spec, () => true)
  const arns = resources(policy, spec)
  for (let i = 0; i < count; i++) {
    const kind = draw.of(Object.keys(actionsOn) as ResourceKind[])
    const context: IamRequest['context'] = {}
    for (const [key, list] of values) {
      const value = draw.of(list)
      if (value !== undefined) context[key] = value
    }
    yield { action: draw.of(actionsOn[kind]), resource: draw.of(arns[kind]), context }
  }
}

t.test('deciding case by case gives the same as deciding requests one by one', async t => {
  for (const { name, spec, policy } of examples) {
    const intends = intention(spec)
    let wanted = 0
    for (const request of points(policy, spec, 7, 4000)) {
      const { allowed } = evaluate(policy, request)
      if (allowed) wanted++
      if (allowed !== intends(request)) t.fail(name, { request, allowed })
    }
    t.pass(`${name}: ${wanted} of 4000 allowed`)
  }
})

const statement = (changes: object): Statement => ({
  Sid: 'Data',
  Effect: 'Allow',
  Action: ['s3:GetObject', 's3:GetBucketLocation', 's3:ListBucket'],
  Resource: ['arn:aws:s3:::data', 'arn:aws:s3:::data/*'],
  Condition: {
    DateGreaterThanEquals: { 'aws:CurrentTime': '2025-07-16T01:00:00Z' },
    DateLessThan: { 'aws:CurrentTime': '2025-07-16T04:00:00Z' },
    IpAddress: { 'aws:SourceIp': '203.0.113.42/32' }
  },
  ...changes
})

t.test('what cannot be proven is refused, with a reason and without a throw', async t => {
  const spec = specOf({ layout: 'everywhere', entries: [entry({ sid: 'Data', bucket: 'data' })] })
  const { Condition } = statement({})
  const policy = (...Statement: Statement[]): PolicyDocument => ({ Version: '2012-10-17', Statement })
  t.match(prove(policy(statement({})), spec), { ok: true })
  const table: [RegExp, PolicyDocument][] = [
    [/no statement/, policy()],
    [/Sid twice/, policy(statement({}), statement({}))],
    [/letters and digits/, policy(statement({ Sid: 'Two words' }))],
    [/condition operator/, policy(statement({ Condition: { ...Condition, StringMatches: { 'aws:UserAgent': 'a' } } }))],
    [/not an instant/, policy(statement({ Condition: { ...Condition, DateLessThan: { 'aws:CurrentTime': 'tomorrow' } } }))],
    [/to the second in UTC/, policy(statement({ Condition: { ...Condition, DateLessThan: { 'aws:CurrentTime': '2025-07-16T04:00:00.5Z' } } }))],
    [/to the second in UTC/, policy(statement({ Condition: { ...Condition, DateLessThan: { 'aws:CurrentTime': '2025-07-16T06:00:00+02:00' } } }))],
    [/a key twice/, policy(statement({ Condition: { ...Condition, IpAddress: { 'aws:SourceIp': '203.0.113.42/32', 'AWS:sourceip': '203.0.113.42/32' } } }))],
    [/not an address/, policy(statement({ Condition: { ...Condition, IpAddress: { 'aws:SourceIp': '203.0.113.300/32' } } }))],
    [/not a canonical CIDR/, policy(statement({ Condition: { ...Condition, IpAddress: { 'aws:SourceIp': '203.0.113.42/24' } } }))],
    [/not a canonical CIDR/, policy(statement({ Condition: { ...Condition, IpAddress: { 'aws:SourceIp': '203.0.113.42' } } }))],
    [/is not an action/, policy(statement({ Action: ['s3:GetObjct'] }))],
    [/is not an action/, policy(statement({ Action: ['s3:CompleteMultipartUpload'] }))],
    [/none of its resources/, policy(statement({ Action: ['s3:*'] }))],
    [/none of its resources/, policy(statement({ Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::data'] }))],
    [/outside buckets/, policy(statement({ Action: ['s3:ListAllMyBuckets'], Resource: '*' }))],
    [/has no Action/, policy(statement({ Action: undefined, NotAction: ['s3:PutObject'] }))],
    [/NotResource|none of its resources/, policy(statement({ Resource: undefined, NotResource: ['arn:aws:s3:::other'] }))],
    [/allows on/, policy(statement({ Resource: ['arn:aws:s3:::data', 'arn:aws:s3:::data/*', 'arn:aws:s3:::data2/*'] }))],
    [/allows on/, policy(statement({ Resource: ['arn:aws:s3:::data*', 'arn:aws:s3:::data/*'] }))],
    [/allows on/, policy(statement({ Resource: ['arn:aws-cn:s3:::data', 'arn:aws-cn:s3:::data/*'] }))],
    [/wildcard or variable/, policy(statement({ Resource: ['arn:aws:s3:::data', 'arn:aws:s3:::data/*/x*'] }))],
    [/wildcard or variable/, policy(statement({ Resource: ['arn:aws:s3:::data', 'arn:aws:s3:::data/$' + '{aws:username}/*'] }))],
    [/has a variable in aws:SourceVpc/, policy(statement({ Condition: { ...Condition, StringEquals: { 'aws:SourceVpc': ['vpc-1', '$' + '{aws:username}'] } } }))],
    [/asks Bool of aws:SecureTransport/, policy(statement({ Condition: { ...Condition, Bool: { 'aws:SecureTransport': 'true' } } }))],
    [/asks DateLessThanIfExists/, policy(statement({ Condition: { ...Condition, DateLessThanIfExists: { 'aws:CurrentTime': '2025-07-16T04:00:00Z' } } }))],
    [/outside any window/, policy(statement({ Condition: { IpAddress: { 'aws:SourceIp': '203.0.113.42/32' } } }))],
    [/a value of aws:SourceIp twice/, policy(statement({ Condition: { ...Condition, IpAddress: { 'aws:SourceIp': ['203.0.113.42/32', '203.0.113.42/32'] } } }))],
    [/character/, policy(statement({ Resource: ['arn:aws:s3:::data', 'arn:aws:s3:::data/…*'] }))],
    [/Principal/, policy(statement({ Principal: '*' }))]
  ]
  for (const [reason, document] of table) t.match(prove(document, spec), { ok: false, reason, probes: 0 }, String(reason))
})

t.test('a guarded policy that denies only implicitly is refused', async t => {
  const bound = statement({}).Condition
  const spec = specOf({ layout: 'guarded', entries: [entry({ sid: 'Data', bucket: 'data' })] })
  const policy: PolicyDocument = { Version: '2012-10-17', Statement: [statement({ Condition: bound })] }
  t.match(prove(policy, { ...spec, layout: 'everywhere' }), { ok: true }, 'the same is right where no Deny is asked for')
  t.match(prove(policy, spec), { ok: false, reason: /only implicitly/, counterexample: { wanted: false, got: { kind: 'implicit-deny' } } })
})

t.test('each entry is proven separately: an entry does not get the rights of another one of the same bucket', async t => {
  const entries = [
    entry({ sid: 'In', bucket: 'data', prefix: 'in/' }),
    entry({ sid: 'Out', bucket: 'data', prefix: 'out/', level: 'write', list: false }),
    entry({ sid: 'Inner', bucket: 'data', prefix: 'in/tokens/', level: 'read-write', delete: true })
  ]
  for (const layout of ['everywhere', 'guarded'] as const) {
    const spec = specOf({ layout, entries })
    t.match(prove(render(spec), spec), { ok: true }, layout)
    const swapped = specOf({ layout, entries: entries.map((each, i) => ({ ...each, prefix: entries[(i + 1) % 3]!.prefix })) })
    t.match(prove(render(swapped), spec), { ok: false, counterexample: {} }, `${layout}, prefixes exchanged`)
  }
})

t.test('the most prefixes that a request may have: none has the rights of another, or is left out', async t => {
  const entries = Array.from({ length: 110 }, (_, index) => entry({
    bucket: 'data', prefix: `p${index}/`, ...(index % 2 === 0 ? { sid: 'Data', level: 'read' } : { sid: 'Out', level: 'read-write' })
  }))
  for (const layout of ['everywhere', 'guarded'] as const) {
    const spec = specOf({ layout, entries })
    const policy = render(spec)
    t.match(prove(policy, spec), { ok: true }, layout)
    const read = policy.Statement.find(({ Sid }) => Sid === 'Data')
    const listed = policy.Statement.find(({ Sid }) => Sid === 'DataList')
    const changed = (one: Statement | undefined, changes: Partial<Statement>): PolicyDocument =>
      ({ ...policy, Statement: policy.Statement.map(each => each === one ? { ...each, ...changes } : each) })
    const resources = [read?.Resource ?? []].flat()
    const objects = resources.filter(arn => arn.includes('/'))
    t.equal(objects.length, 55)
    const prefixes = [listed?.Condition?.StringLike?.['s3:prefix'] ?? []].flat()
    const { StringLike, ...bounds } = listed?.Condition ?? {}
    const like = (values: string[]) => ({ Condition: { StringLike: { 's3:prefix': values }, ...bounds } })
    for (const at of [0, 27, 54]) {
      const others = [...resources.filter(arn => !arn.includes('/')), ...objects.toSpliced(at, 1)]
      t.match(prove(changed(read, { Resource: others }), spec), { ok: false, counterexample: { wanted: true } }, `${objects[at]} left out`)
      const wider = `${objects[at]?.slice(0, -2)}*`
      t.match(prove(changed(read, { Resource: [...others, wider] }), spec), { ok: false, counterexample: { wanted: false } }, `${objects[at]} to ${wider}`)
      t.match(prove(changed(listed, like(prefixes.toSpliced(at, 1))), spec), { ok: false, counterexample: { wanted: true } }, `listing ${prefixes[at]} left out`)
      t.match(prove(changed(listed, like([...prefixes, `q${at}/*`])), spec), { ok: false, counterexample: { wanted: false } }, `listing q${at}/ added`)
    }
  }
})

t.test('a condition on a key that the spec does not have is found', async t => {
  const spec = specOf({ layout: 'guide', entries: [entry({ sid: 'Data', bucket: 'data' })] })
  const Action = ['s3:GetObject', 's3:ListBucket']
  const policy = (Condition?: Statement['Condition']): PolicyDocument => ({ Version: '2012-10-17', Statement: [statement({ Action, Condition })] })
  t.match(prove(policy(), spec), { ok: true })
  t.match(prove(policy({ StringEquals: { 'aws:SourceVpc': 'vpc-00000000' } }), spec), { ok: false, counterexample: { wanted: true } })
})

t.test('blocks at the ends of the address space', async t => {
  for (const cidrs of [['0.0.0.0/1'], ['128.0.0.0/1'], ['::/1'], ['8000::/1'], ['255.255.255.255/32', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128']]) {
    const spec = specOf({ layout: 'everywhere', source: { kind: 'ip', cidrs }, entries: [entry({ sid: 'Data', bucket: 'data' })] })
    t.match(prove(render(spec), spec), { ok: true }, cidrs.join())
  }
})

t.test('validate: the guide’s action is unknown, unless it is allowed', async t => {
  const [example] = examples
  if (example === undefined) throw new Error('no example')
  t.same(validate(example.policy), ['"s3:CompleteMultipartUpload" is not an action'])
  t.same(validate(example.policy, { allowGuideAction: true }), [])
})
