/* eslint no-template-curly-in-string: off -- policy variables of IAM look like that */
import fc from 'fast-check'
import t from 'tap'
import type { ConditionBlock, PolicyDocument } from '../../../src/domain/policy-document.ts'
import { evaluate, type IamRequest } from '../../../src/policy/prove/evaluate.ts'
import { UnknownElementError, compileWildcards } from '../../../src/policy/prove/wildcard.ts'

const policy = (...statements: object[]): PolicyDocument => ({
  Version: '2012-10-17',
  Statement: statements.map(statement => ({ Effect: 'Allow', Action: 's3:GetObject', Resource: '*', ...statement }))
})

const request = (changes: Partial<IamRequest> = {}): IamRequest =>
  ({ action: 's3:GetObject', resource: 'arn:aws:s3:::data/runs/42/a.bin', context: {}, ...changes })

const allows = (statement: object, changes: Partial<IamRequest> = {}) => evaluate(policy(statement), request(changes)).allowed

t.test('an explicit Deny wins, then an Allow, else nothing', async t => {
  const deny = { Sid: 'No', Effect: 'Deny' }
  t.same(evaluate(policy({ Sid: 'Yes' }, deny, { Sid: 'Never', Effect: 'Deny', Action: 's3:PutObject' }), request()),
    { allowed: false, kind: 'explicit-deny', statements: [{ index: 1, sid: 'No' }] })
  t.same(evaluate(policy({}, { Sid: 'Also' }), request()),
    { allowed: true, kind: 'allow', statements: [{ index: 0, sid: undefined }, { index: 1, sid: 'Also' }] })
  t.same(evaluate(policy({ Action: 's3:PutObject' }), request()), { allowed: false, kind: 'implicit-deny', statements: [] })
})

t.test('actions ignore case and may have wildcards', async t => {
  const table: [string | string[], boolean][] = [
    ['s3:GetObject', true], ['S3:getobject', true], ['s3:Get*', true], ['s3:Get?bject', true], ['*', true], ['s3:*', true],
    ['s3:GetObject?', false], ['s3:GetObjectAcl', false], ['s3:Get', false], [['s3:PutObject', 's3:GetObject'], true]
  ]
  for (const [Action, expected] of table) t.equal(allows({ Action }), expected, JSON.stringify(Action))
  t.notOk(allows({ Action: undefined, NotAction: 's3:Get*' }), 'NotAction')
  t.ok(allows({ Action: undefined, NotAction: ['s3:Put*', 's3:Delete*'] }), 'NotAction of others')
})

t.test('resources keep case; a wildcard before the last part stays within its part unless it ends it', async t => {
  const key = 'arn:aws:s3:::data/runs/42/a.bin'
  const table: [string, string, boolean][] = [
    ['arn:aws:s3:::data/*', key, true],
    ['arn:aws:s3:::data/runs/42/*', 'arn:aws:s3:::data/runs/42/', true],
    ['arn:aws:s3:::data/runs/42/*', 'arn:aws:s3:::data/runs/42', false],
    ['arn:aws:s3:::data/runs/42/*', 'arn:aws:s3:::data/runs/42x/a', false],
    ['arn:aws:s3:::data/*', 'arn:aws:s3:::data2/a', false],
    ['arn:aws:s3:::data/*', 'arn:aws:s3:::data', false],
    ['arn:aws:s3:::DATA/*', key, false],
    ['arn:aws:s3:::data/*.bin', key, true],
    ['arn:aws:s3:::*/runs/*/a.bi?', key, true],
    ['arn:aws:s3:::data/*', 'arn:aws:s3:::data/with:colons\nand lines', true],
    ['arn:aws:s3:::data/?', 'arn:aws:s3:::data/🦊', true],
    ['arn:aws:s3:::data/a.b', 'arn:aws:s3:::data/axb', false],
    ['arn:aws:s3:::data/${*}', 'arn:aws:s3:::data/*', true],
    ['arn:aws:s3:::data/${*}', 'arn:aws:s3:::data/a', false],
    ['arn:aws:s3:::data/${?}${$}{x}', 'arn:aws:s3:::data/?${x}', true],
    ['arn:aws:kms:*:111122223333:key/*', 'arn:aws:kms:eu-west-1:111122223333:key/a', true],
    ['arn:aws:kms:e?-west-1:111122223333:key/a', 'arn:aws:kms:eu-west-1:111122223333:key/a', true],
    ['arn:aws:kms:*st-1:111122223333:key/a', 'arn:aws:kms:a:b-west-1:111122223333:key/a', false],
    ['arn:aws:kms:*1:111122223333:key/a', 'arn:aws:kms:a:b1:111122223333:key/a', false],
    ['arn:aws:*:key/a', 'arn:aws:kms:eu-west-1:111122223333:key/a', true],
    ['arn:aws:s3:::data/*x*y', 'arn:aws:s3:::data/a:x:b:y', true],
    ['arn:aws:s3:*', key, true],
    ['*', '*', true],
    ['arn:aws:s3:::*', '*', false]
  ]
  for (const [Resource, resource, expected] of table) t.equal(allows({ Resource }, { resource }), expected, `${Resource} ${resource}`)
  t.notOk(allows({ Resource: undefined, NotResource: ['arn:aws:s3:::data/*'] }), 'NotResource')
  t.ok(allows({ Resource: undefined, NotResource: ['arn:aws:s3:::other/*', 'arn:aws:s3:::data'] }), 'NotResource of others')
})

t.test('policy variables come from the context, or their default, or match nothing', async t => {
  const Resource = 'arn:aws:s3:::data/${aws:username}/*'
  const context = (name: string | string[]) => ({ resource: 'arn:aws:s3:::data/ann/a', context: { 'AWS:UserName': name } })
  t.ok(allows({ Resource }, context('ann')))
  t.notOk(allows({ Resource }, context('bob')))
  t.notOk(allows({ Resource }, context('*')), 'a wildcard in a value is a character')
  t.notOk(allows({ Resource }, context(['ann', 'bob'])), 'several values')
  t.notOk(allows({ Resource }, { resource: 'arn:aws:s3:::data/${aws:username}/a' }), 'no value')
  t.ok(allows({ Resource: "arn:aws:s3:::data/${aws:username, 'ann'}/*" }, { resource: 'arn:aws:s3:::data/ann/a' }), 'default')
  t.ok(allows({ Condition: { StringLike: { 's3:prefix': '${aws:username}/*' } } }, { context: { 'aws:username': 'ann', 's3:prefix': 'ann/x' } }))
})

const time = 'aws:CurrentTime'
const ip = 'aws:SourceIp'
const word = 'aws:UserAgent'
const noon = '2025-07-16T12:00:00Z'

t.test('conditions', async t => {
  const table: [ConditionBlock, IamRequest['context'], boolean][] = [
    // dates
    [{ DateLessThan: { [time]: noon } }, { [time]: '2025-07-16T11:59:59.999Z' }, true],
    [{ DateLessThan: { [time]: noon } }, { [time]: noon }, false],
    [{ DateLessThanEquals: { [time]: noon } }, { [time]: '2025-07-16T14:00:00+02:00' }, true],
    [{ DateGreaterThan: { [time]: noon } }, { [time]: noon }, false],
    [{ DateGreaterThanEquals: { [time]: noon } }, { [time]: '1752667200' }, true],
    [{ DateGreaterThan: { [time]: '1752667199' } }, { [time]: noon }, true],
    [{ DateEquals: { [time]: ['2025-07-16', noon] } }, { [time]: noon }, true],
    [{ DateEquals: { [time]: '2025-01-31' } }, { [time]: '2025-01-31T00:00:00Z' }, true],
    [{ DateLessThan: { [time]: '2024-02-29T12:00:00Z' } }, { [time]: '2024-02-29' }, true],
    [{ DateEquals: { [time]: '2025-07-16' } }, { [time]: '2025-07-16T00:00:00Z' }, true],
    [{ DateNotEquals: { [time]: [noon, '2025-07-16'] } }, { [time]: noon }, false],
    [{ DateNotEquals: { [time]: noon } }, {}, true],
    [{ DateLessThan: { [time]: noon } }, {}, false],
    [{ DateLessThanIfExists: { [time]: noon } }, {}, true],
    // addresses
    [{ IpAddress: { [ip]: '203.0.113.42/32' } }, { [ip]: '203.0.113.42' }, true],
    [{ IpAddress: { [ip]: '203.0.113.42' } }, { [ip]: '203.0.113.43' }, false],
    [{ IpAddress: { [ip]: ['198.51.100.0/24', '203.0.113.0/28'] } }, { [ip]: '203.0.113.15' }, true],
    [{ IpAddress: { [ip]: '203.0.113.0/28' } }, { [ip]: '203.0.113.16' }, false],
    [{ IpAddress: { [ip]: '203.0.113.9/28' } }, { [ip]: '203.0.113.1' }, true],
    [{ IpAddress: { [ip]: '0.0.0.0/0' } }, { [ip]: '2001:db8::1' }, false],
    [{ IpAddress: { [ip]: '203.0.113.0/24' } }, { [ip]: '::ffff:203.0.113.1' }, false],
    [{ IpAddress: { [ip]: '2001:db8::/32' } }, { [ip]: '2001:0DB8:0:0::1' }, true],
    [{ IpAddress: { [ip]: '2001:db8::/32' } }, { [ip]: '2001:db9::' }, false],
    [{ IpAddress: { [ip]: '203.0.113.0/24' } }, {}, false],
    [{ NotIpAddress: { [ip]: ['203.0.113.0/24', '198.51.100.0/24'] } }, { [ip]: '198.51.100.9' }, false],
    [{ NotIpAddress: { [ip]: '203.0.113.0/24' } }, { [ip]: '2001:db8::1' }, true],
    [{ NotIpAddress: { [ip]: '203.0.113.0/24' } }, {}, true],
    [{ IpAddressIfExists: { [ip]: '203.0.113.0/24' } }, {}, true],
    // texts
    [{ StringEquals: { [word]: ['a', 'b'] } }, { 'AWS:useragent': 'b' }, true],
    [{ StringEquals: { [word]: 'a*' } }, { [word]: 'ab' }, false],
    [{ StringEquals: { [word]: 'A' } }, { [word]: 'a' }, false],
    [{ StringEquals: { [word]: 'a' } }, {}, false],
    [{ StringEqualsIgnoreCase: { [word]: 'A' } }, { [word]: 'a' }, true],
    [{ StringNotEquals: { [word]: ['a', 'b'] } }, { [word]: 'b' }, false],
    [{ StringNotEquals: { [word]: ['a', 'b'] } }, { [word]: 'c' }, true],
    [{ StringNotEquals: { [word]: 'a' } }, {}, true],
    [{ StringNotEqualsIgnoreCase: { [word]: 'A' } }, { [word]: 'a' }, false],
    [{ StringLike: { [word]: 'runs/42/*' } }, { [word]: 'runs/42/' }, true],
    [{ StringLike: { [word]: 'runs/42/*' } }, { [word]: 'runs/42' }, false],
    [{ StringLike: { [word]: '' } }, { [word]: '' }, true],
    [{ StringLike: { [word]: 'a?c' } }, { [word]: 'aBc' }, true],
    [{ StringLike: { [word]: 'a*b*c' } }, { [word]: 'a:b:c' }, true],
    [{ StringNotLike: { [word]: 'a*' } }, { [word]: 'abc' }, false],
    [{ StringNotLike: { [word]: 'a*' } }, {}, true],
    [{ StringEquals: { [word]: 'a${*}' } }, { [word]: 'a*' }, true],
    [{ StringNotLike: { [word]: '${aws:username}*' } }, { [word]: 'abc' }, true],
    // ARNs
    [{ ArnEquals: { [word]: 'arn:aws:s3:::da*' } }, { [word]: 'arn:aws:s3:::data' }, true],
    [{ ArnLike: { [word]: 'arn:*:s3:::x' } }, { [word]: 'arn:aws:x:s3:::x' }, false],
    [{ ArnLike: { [word]: 'arn:aws:s3:::a' } }, { [word]: 'no arn' }, false],
    [{ ArnNotLike: { [word]: 'arn:aws:s3:::a' } }, { [word]: 'arn:aws:s3:::b' }, true],
    [{ ArnNotEquals: { [word]: 'arn:aws:s3:::a' } }, {}, true],
    // numbers, booleans, presence
    [{ NumericLessThan: { 's3:max-keys': '10' } }, { 's3:max-keys': '9.5' }, true],
    [{ NumericLessThanEquals: { 's3:max-keys': '10' } }, { 's3:max-keys': '10' }, true],
    [{ NumericGreaterThan: { 's3:max-keys': '10' } }, { 's3:max-keys': '10' }, false],
    [{ NumericGreaterThanEquals: { 's3:max-keys': '10' } }, { 's3:max-keys': '10.0' }, true],
    [{ NumericEquals: { 's3:max-keys': '10' } }, {}, false],
    [{ NumericNotEquals: { 's3:max-keys': '10' } }, { 's3:max-keys': '10' }, false],
    [{ Bool: { 'aws:SecureTransport': 'false' } }, { 'aws:SecureTransport': 'False' }, true],
    [{ Bool: { 'aws:SecureTransport': 'false' } }, {}, false],
    [{ BoolIfExists: { 'aws:SecureTransport': 'false' } }, {}, true],
    [{ Null: { [word]: 'true' } }, {}, true],
    [{ Null: { [word]: 'false' } }, {}, false],
    [{ Null: { [word]: 'false' } }, { [word]: '' }, true],
    // several values in the request
    [{ 'ForAllValues:StringEquals': { [word]: ['a', 'b'] } }, { [word]: ['a', 'b'] }, true],
    [{ 'ForAllValues:StringEquals': { [word]: ['a', 'b'] } }, { [word]: ['a', 'c'] }, false],
    [{ 'ForAllValues:StringEquals': { [word]: 'a' } }, {}, true],
    [{ 'ForAnyValue:StringEquals': { [word]: ['a', 'b'] } }, { [word]: ['c', 'b'] }, true],
    [{ 'ForAnyValue:StringEquals': { [word]: 'a' } }, {}, false],
    [{ 'ForAnyValue:StringNotEquals': { [word]: 'a' } }, { [word]: ['a', 'b'] }, true],
    [{ 'ForAllValues:StringLikeIfExists': { [word]: 'a' } }, {}, true],
    // operators and keys are ANDed
    [{ StringEquals: { [word]: 'a', 'aws:username': 'ann' } }, { [word]: 'a' }, false],
    [{ StringEquals: { [word]: 'a' }, IpAddress: { [ip]: '203.0.113.0/24' } }, { [word]: 'a', [ip]: '203.0.113.7' }, true],
    [{ StringEquals: { [word]: 'a' }, IpAddress: { [ip]: '203.0.113.0/24' } }, { [word]: 'b', [ip]: '203.0.113.7' }, false]
  ]
  for (const [Condition, context, expected] of table) {
    t.equal(allows({ Condition }, { context }), expected, `${JSON.stringify(Condition)} of ${JSON.stringify(context)}`)
  }
})

t.test('what it does not know is never allowed', async t => {
  const statements: [string, object][] = [
    ['operator', { Condition: { StringMatches: { [word]: 'a' } } }],
    ['operator in another case', { Condition: { stringequals: { [word]: 'a' } } }],
    ['qualifier', { Condition: { 'ForSome:StringEquals': { [word]: 'a' } } }],
    ['ForAnyValue with IfExists', { Condition: { 'ForAnyValue:StringEqualsIfExists': { [word]: 'a' } } }],
    ['binary', { Condition: { BinaryEquals: { [word]: 'YQ==' } } }],
    ['condition that is no object', { Condition: 'always' }],
    ['no condition', { Condition: null }],
    ['operator without keys', { Condition: { StringEquals: 'a' } }],
    ['operator with null', { Condition: { StringEquals: null } }],
    ['operator with a list', { Condition: { StringEquals: ['a'] } }],
    ['day of no leap year', { Condition: { DateLessThan: { [time]: '2025-02-29' } } }],
    ['no value', { Condition: { StringEquals: { [word]: [] } } }],
    ['value that is no text', { Condition: { Bool: { [word]: true } } }],
    ['date', { Condition: { DateLessThan: { [time]: 'tomorrow' } } }],
    ['day that does not exist', { Condition: { DateLessThan: { [time]: '2025-02-30T00:00:00Z' } } }],
    ['date without zone', { Condition: { DateLessThan: { [time]: '2025-07-16T00:00:00' } } }],
    ['variable in a date', { Condition: { DateLessThan: { [time]: '${aws:TokenIssueTime}' } } }],
    ['CIDR', { Condition: { IpAddress: { [ip]: '999.1.1.1/99' } } }],
    ['octal address', { Condition: { IpAddress: { [ip]: '010.0.0.1' } } }],
    ['short address', { Condition: { IpAddress: { [ip]: '10.1/8' } } }],
    ['ARN', { Condition: { ArnLike: { [word]: '*' } } }],
    ['number', { Condition: { NumericEquals: { [word]: '0x10' } } }],
    ['Null', { Condition: { Null: { [word]: 'perhaps' } } }],
    ['open variable', { Resource: 'arn:aws:s3:::data/${aws:username' }],
    ['odd variable', { Resource: 'arn:aws:s3:::data/${}' }],
    ['variable in an action', { Action: 's3:${x}' }],
    ['variable in NotResource', { Resource: undefined, NotResource: 'arn:aws:s3:::data/${aws:username}/*' }],
    ['Principal', { Principal: '*' }],
    ['NotPrincipal', { NotPrincipal: '*' }],
    ['both Action and NotAction', { NotAction: 's3:*' }],
    ['no Resource', { Resource: undefined }],
    ['Effect', { Effect: 'allow' }],
    ['empty Action', { Action: [] }]
  ]
  for (const [name, statement] of statements) t.throws(() => allows(statement), UnknownElementError, name)
  t.throws(() => evaluate({ ...policy({}), Version: '2008-10-17' } as unknown as PolicyDocument, request()), UnknownElementError, 'Version')
  t.throws(() => evaluate({ Version: '2012-10-17', Statement: {} } as unknown as PolicyDocument, request()), UnknownElementError, 'Statement')
  const requests: [string, ConditionBlock, IamRequest['context']][] = [
    ['instant', { DateLessThan: { [time]: noon } }, { [time]: 'now' }],
    ['address', { IpAddress: { [ip]: '10.0.0.0/8' } }, { [ip]: 'localhost' }],
    ['several values of one', { StringEquals: { [word]: 'a' } }, { [word]: ['a', 'b'] }],
    ['a key twice', { StringEquals: { [word]: 'a' } }, { [word]: 'a', [word.toUpperCase()]: 'b' }]
  ]
  for (const [name, Condition, context] of requests) t.throws(() => allows({ Condition }, { context }), UnknownElementError, name)
})

t.test('a hostile pattern takes no longer than its length times that of the text', async t => {
  const Resource = `arn:aws:s3:::data/${'*a'.repeat(500)}b`
  t.notOk(allows({ Resource }, { resource: `arn:aws:s3:::data/${'a'.repeat(1024)}` }))
})

t.test('many patterns, which are looked up, match what one of them matches', async t => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 6 })
  const pattern = fc.tuple(text, fc.constantFrom('', '*', '*', '*', '?', '*a')).map(parts => parts.join(''))
  fc.assert(fc.property(fc.array(pattern, { minLength: 5, maxLength: 12 }), text, (patterns, asked) => {
    const any = (list: string[]) => compileWildcards(list)(asked, () => undefined)
    return any(patterns) === patterns.some(one => any([one]))
  }), { numRuns: 2000 })
})
