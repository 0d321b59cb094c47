import { runUnsafeSimulation, type Simulation } from '@cloud-copilot/iam-simulate'
import t from 'tap'
import type { ConditionBlock, PolicyDocument, Statement } from '../../../src/domain/policy-document.ts'
import { evaluate, type IamRequest } from '../../../src/policy/prove/evaluate.ts'
import { examples } from './examples.ts'
import { randomRequest } from './random-requests.ts'
import { seeded, type Draw } from './seeded.ts'

/* eslint no-template-curly-in-string: off -- policy variables of IAM look like that */

/**
 * Our evaluator against another's, @cloud-copilot/iam-simulate (AGPL: a development dependency, which only tests import), on
 * random policies and requests. Small vocabularies, so that patterns and values meet often. What they leave out is `strays`, below.
 */
const draw = seeded(20250716)
const cases = 10_000

const words = ['runs/42/', 'runs/42', 'runs/4', 'Runs/42/', 'a.b', 'axb', '', 'x*', 'runs/42/a b']
const literals = [...words, 'runs/*', '*', 'a.?', "${aws:username, '42'}", '${$}{x}']
const wildcards = [
  ...words, 'runs/*', '*', 'runs/4?/', '?uns/*/', '*/42/', 'a.?', '*a*b*', '?', '**', '${*}', 'x${*}', "runs/${aws:username, '42'}/", "${aws:username, '42'}*"
]
const dates = ['2025-07-16T01:00:00Z', '2025-07-16T00:59:59Z', '2025-07-16T03:00:00+02:00', '2025-07-16', '2025-07-16T01:00:00.500Z', '2025-07-16T01:00Z']
const blocks = [
  '203.0.113.42/32', '203.0.113.0/24', '203.0.113.9/24', '10.0.0.0/8', '203.0.112.0/23', '203.0.113.128/25', '128.0.0.0/1', '2001:db8::/32', '::/0'
]
const addresses = ['203.0.113.42', '203.0.113.43', '203.0.113.200', '203.0.112.1', '10.1.2.3', '8.8.8.8', '2001:db8::1', '2001:db9::1', '2001:db8:0:0:0:0:0:2']
const arns = ['arn:aws:s3:::data', 'arn:aws:s3:::d*', 'arn:aws:iam::111122223333:user/a', 'arn:aws:iam::*:user/?', 'arn:aws:*:::data']
const numbers = ['1', '10', '9.5', '-3', '10.0']
const booleans = ['true', 'false']

interface Family { operators: string[], keys: string[], values: string[], texts: string[], multivalued: boolean }
const families: Family[] = [
  {
    operators: ['DateEquals', 'DateNotEquals', 'DateLessThan', 'DateLessThanEquals', 'DateGreaterThan', 'DateGreaterThanEquals'],
    keys: ['aws:CurrentTime', 'AWS:currenttime', 'aws:TokenIssueTime'],
    values: dates,
    texts: dates,
    multivalued: false
  },
  { operators: ['IpAddress'], keys: ['aws:SourceIp'], values: [...blocks, '203.0.113.42', '2001:db8::1'], texts: addresses, multivalued: false },
  { operators: ['IpAddress', 'NotIpAddress'], keys: ['aws:SourceIp', 'aws:VpcSourceIp'], values: blocks, texts: addresses, multivalued: false },
  {
    operators: ['StringEquals', 'StringNotEquals', 'StringEqualsIgnoreCase', 'StringNotEqualsIgnoreCase'],
    keys: ['s3:prefix', 'aws:SourceVpc', 'kms:ViaService', 'aws:TagKeys'],
    values: literals,
    texts: words,
    multivalued: true
  },
  {
    operators: ['StringLike', 'StringNotLike'],
    keys: ['s3:prefix', 'S3:PREFIX', 'aws:TagKeys'],
    values: wildcards,
    texts: words,
    multivalued: true
  },
  { operators: ['ArnEquals', 'ArnLike', 'ArnNotEquals', 'ArnNotLike'], keys: ['aws:PrincipalArn', 'aws:SourceVpcArn'], values: arns, texts: arns, multivalued: false },
  {
    operators: ['NumericEquals', 'NumericNotEquals', 'NumericLessThan', 'NumericLessThanEquals', 'NumericGreaterThan', 'NumericGreaterThanEquals'],
    keys: ['s3:max-keys'],
    values: numbers,
    texts: numbers,
    multivalued: false
  },
  { operators: ['Bool'], keys: ['aws:SecureTransport'], values: booleans, texts: booleans, multivalued: false },
  { operators: ['Null'], keys: ['s3:prefix', 'aws:SourceIp', 'aws:TagKeys'], values: booleans, texts: [], multivalued: false }
]

const several = <T>(from: readonly T[], most: number): T[] => Array.from({ length: 1 + draw.below(most) }, () => draw.of(from))
/** Sometimes enough that the evaluator looks texts up instead of trying one pattern after the other. */
const most = () => draw.chance(0.2) ? 12 : 3
const oneOrMany = <T>(list: T[]): T | T[] => list.length === 1 && draw.chance(0.5) ? list[0] as T : list

const requestActions = ['s3:GetObject', 's3:PutObject', 's3:ListBucket', 's3:GetObjectVersion', 's3:DeleteObject', 's3:GetBucketLocation']
const policyActions = [...requestActions, 's3:*', '*', 's3:Get*', 's3:?etObject', 'S3:getobject', 's3:*Object', 'kms:*', 's3:GetObject?', 's3:*e*t*']
const requestResources = [
  'arn:aws:s3:::data', 'arn:aws:s3:::data/runs/42/a', 'arn:aws:s3:::data/runs/42x/a', 'arn:aws:s3:::data2/runs/42/a', 'arn:aws:s3:::DATA/runs/42/a',
  'arn:aws:s3:::data/a.b', 'arn:aws:s3:::data/axb', 'arn:aws:s3:::data/with:colon', 'arn:aws:s3:eu-west-1:111122223333:accesspoint/a'
]
const policyResources = [
  ...requestResources, '*', 'arn:aws:s3:::*', 'arn:aws:s3:::data/*', 'arn:aws:s3:::data*', 'arn:aws:s3:::data/runs/42/*', 'arn:aws:s3:::d?ta/*/42/*',
  'arn:aws:s3:::data/a.?', 'arn:aws:s3:*:111122223333:accesspoint/*', 'arn:aws:s3:::data/${*}', 'arn:aws:s3:::*/a', 'arn:aws:s3:::data/${$}{x}'
]
const withVariable = [...policyResources, 'arn:aws:s3:::data/runs/${aws:username}/*', "arn:aws:s3:::data/${aws:username, 'a'}.b"]

const condition = (): ConditionBlock => {
  const block: ConditionBlock = {}
  for (let i = draw.below(4); i > 0; i--) {
    const family = draw.of(families)
    const base = draw.of(family.operators)
    const key = draw.of(family.keys)
    const qualifier = key === 'aws:TagKeys' && base !== 'Null' ? draw.of(['ForAllValues:', 'ForAnyValue:']) : ''
    const operator = qualifier + base + (base !== 'Null' && qualifier !== 'ForAnyValue:' && draw.chance(0.25) ? 'IfExists' : '')
    block[operator] = { ...block[operator], [key]: oneOrMany(several(family.values, base === 'Null' ? 1 : most())) }
  }
  return block
}

const statement = (): Statement => {
  const action = oneOrMany(several(policyActions, 3))
  const block = condition()
  return {
    Effect: draw.chance(0.7) ? 'Allow' : 'Deny',
    ...(draw.chance(0.9) ? { Action: action } : { NotAction: action }),
    ...(draw.chance(0.85)
      ? { Resource: oneOrMany(several(withVariable, most())) }
      : { NotResource: oneOrMany(several(policyResources, most())) }),
    ...(Object.keys(block).length > 0 && { Condition: block })
  } as Statement
}

const request = (draw: Draw): IamRequest => {
  const context: IamRequest['context'] = {}
  const taken = new Set<string>()
  for (const { keys, texts, multivalued } of families) {
    for (const key of keys) {
      if (texts.length === 0 || taken.has(key.toLowerCase()) || draw.chance(0.35)) continue
      taken.add(key.toLowerCase())
      context[key] = multivalued && key === 'aws:TagKeys' ? several(texts, 3) : draw.of(texts)
    }
  }
  if (draw.chance(0.6)) context['aws:username'] = draw.of(['42', '*', 'a'])
  return { action: draw.of(requestActions), resource: draw.of(requestResources), context }
}

const kinds: Record<string, string> = { Allowed: 'allow', ExplicitlyDenied: 'explicit-deny', ImplicitlyDenied: 'implicit-deny' }

const oracle = (policy: PolicyDocument, { action, resource, context }: IamRequest): string | undefined => {
  const simulation: Simulation = {
    request: {
      principal: 'arn:aws:iam::111122223333:user/job',
      action,
      resource: { resource, accountId: '111122223333' },
      contextVariables: context
    },
    identityPolicies: [{ name: 'job', policy }],
    serviceControlPolicies: [],
    resourceControlPolicies: []
  }
  return kinds[runUnsafeSimulation(simulation, {})]
}

t.test('random policies and requests: both evaluators decide alike', async t => {
  const decided: Record<string, number> = {}
  let disagreements = 0
  for (let i = 0; i < cases; i++) {
    const policy: PolicyDocument = { Version: '2012-10-17', Statement: Array.from({ length: 1 + draw.below(3) }, statement) }
    const asked = request(draw)
    const ours = evaluate(policy, asked).kind
    decided[ours] = (decided[ours] ?? 0) + 1
    const theirs = oracle(policy, asked)
    if (ours !== theirs && ++disagreements <= 10) t.equal(ours, theirs, JSON.stringify({ policy, asked }))
  }
  t.equal(disagreements, 0)
  t.comment(`${cases} cases: ${JSON.stringify(decided)}`)
  for (const kind of Object.values(kinds)) t.ok((decided[kind] ?? 0) > cases / 50, `${kind} is decided often enough to mean something`)
})

t.test('policies of every layout, and requests near what they allow', async t => {
  let allowed = 0
  for (const { name, spec, policy } of examples) {
    for (let i = 0; i < 400; i++) {
      const asked = randomRequest(draw, spec)
      // See `strays`.
      const { 'aws:CurrentTime': time } = asked.context
      if (/^kms:/.test(asked.action) || asked.resource.endsWith('*') || /^\d+(\.\d+)?$/.test(String(time))) continue
      const ours = evaluate(policy, asked)
      if (ours.allowed) allowed++
      if (ours.kind !== oracle(policy, asked)) t.equal(ours.kind, oracle(policy, asked), `${name} ${JSON.stringify(asked)}`)
    }
  }
  t.ok(allowed > 50, `${allowed} allowed`)
})

const noon = '2025-07-16T12:00:00Z'
const noonEpoch = String(Date.parse(noon) / 1000)

/** Where the oracle strays from AWS's documentation, or cannot be asked; kept out of the vocabularies above, and nothing else is. */
const strays: [why: string, condition: ConditionBlock, context: IamRequest['context'], ours: string][] = [
  ['Date condition operators take epoch seconds as well as ISO 8601: the two can be compared',
    { DateLessThanEquals: { 'aws:CurrentTime': noonEpoch } }, { 'aws:CurrentTime': noon }, 'allow'],
  ['a block of all IPv4 addresses has them all', { IpAddress: { 'aws:SourceIp': '0.0.0.0/0' } }, { 'aws:SourceIp': '203.0.113.42' }, 'allow'],
  ['an address without a mask is a block like any other; one of the other family is not in it, and a negated operator matches',
    { NotIpAddress: { 'aws:SourceIp': '203.0.113.42' } }, { 'aws:SourceIp': '2001:db8::1' }, 'allow'],
  ['“IAM policy elements: Variables and tags”: ${*} stands for an asterisk in any string',
    { StringEquals: { 's3:prefix': 'x${*}' } }, { 's3:prefix': 'x*' }, 'allow'],
  ['“Policy variables with no value”: inverted operators do match against a null value',
    { StringNotEquals: { 's3:prefix': '${aws:username}' } }, { 's3:prefix': 'a' }, 'allow'],
  ['an asterisk stands for any characters, a line feed included', { StringLike: { 's3:prefix': 'a*' } }, { 's3:prefix': 'a\nb' }, 'allow']
]

t.test('the known differences still exist', async t => {
  for (const [why, Condition, context, ours] of strays) {
    const policy: PolicyDocument = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:GetObject', Resource: '*', Condition }] }
    const asked = { action: 's3:GetObject', resource: 'arn:aws:s3:::data/a', context }
    t.equal(evaluate(policy, asked).kind, ours, why)
    t.not(oracle(policy, asked), ours, 'and the oracle says otherwise')
  }
  const decrypt: PolicyDocument = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 'kms:Decrypt', Resource: '*' }] }
  const asked = { action: 'kms:Decrypt', resource: 'arn:aws:kms:eu-west-1:111122223333:key/1', context: {} }
  t.equal(evaluate(decrypt, asked).kind, 'allow')
  t.equal(oracle(decrypt, asked), 'implicit-deny', 'the oracle asks the key’s own policy as well, which we do not model')
  const object: PolicyDocument = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::data/a' }] }
  const star = { action: 's3:GetObject', resource: 'arn:aws:s3:::data/*', context: {} }
  t.equal(evaluate(object, star).kind, 'implicit-deny', 'a request for the key `*` is one for that key')
  t.equal(oracle(object, star), 'allow', 'and for the oracle a pattern of requests')
})
