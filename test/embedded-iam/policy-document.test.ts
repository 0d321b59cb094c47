import { readFileSync, readdirSync } from 'node:fs'
import t from 'tap'
import { checkDocument, countedSize, uriEncode } from '../../src/embedded-iam/policy-document.ts'
import type { DocumentKind } from '../../src/embedded-iam/policy-document.ts'

const statement = { Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::b/*' }
const document = (part: object, base: object = statement): string =>
  JSON.stringify({ Version: '2012-10-17', Statement: [{ ...base, ...part }] })
const trust = { Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { AWS: '*' } }

const refused: Array<[string, string, RegExp, DocumentKind?]> = [
  ['not JSON', '{', /invalid Json/],
  ['nothing', '', /invalid Json/],
  ['a string', '"x"', /Syntax/],
  ['null', 'null', /Syntax/],
  ['an array', '[]', /Syntax/],
  ['an unknown field', JSON.stringify({ Statement: [statement], Extra: 1 }), /Syntax/],
  ['another version', JSON.stringify({ Version: '2012-10-18', Statement: [statement] }), /version/],
  ['a version that is a number', JSON.stringify({ Version: 2012, Statement: [statement] }), /version/],
  ['no statement', '{"Version":"2012-10-17"}', /Syntax/],
  ['an empty list', '{"Version":"2012-10-17","Statement":[]}', /Syntax/],
  ['a statement that is text', '{"Version":"2012-10-17","Statement":"x"}', /Syntax/],
  ['null among the statements', JSON.stringify({ Statement: [statement, null] }), /Syntax/],
  ['an unknown field in a statement', document({ Actions: 's3:*' }), /Syntax/],
  ['no effect', document({ Effect: undefined }), /Syntax/],
  ['effect in lower case', document({ Effect: 'allow' }), /Syntax/],
  ['a Sid with a space', document({ Sid: 'a b' }), /alpha-numeric/],
  ['a Sid that is a number', document({ Sid: 1 }), /alpha-numeric/],
  ['a Sid twice', JSON.stringify({ Statement: [{ ...statement, Sid: 'A' }, { ...statement, Sid: 'A' }] }), /unique/],
  ['no action', document({ Action: undefined }), /actions/],
  ['an empty list of actions', document({ Action: [] }), /actions/],
  ['Action and NotAction', document({ NotAction: 's3:*' }), /Syntax/],
  ['an action without a service', document({ Action: 'GetObject' }), /vendor/],
  ['an action that is a number', document({ Action: [1] }), /Syntax/],
  ['no resource', document({ Resource: undefined }), /resources/],
  ['a bucket’s name for a resource', document({ Resource: 'bucket' }), /ARN format/],
  ['a principal in an identity policy', document({ Principal: '*' }), /principal/],
  ['an unknown operator', document({ Condition: { StringEqual: { 'aws:username': 'a' } } }), /Invalid Condition type : StringEqual$/],
  ['an unknown prefix of an operator', document({ Condition: { 'ForNoValue:Bool': { k: true } } }), /Invalid Condition/],
  ['conditions in a list', document({ Condition: [] }), /Syntax/],
  ['a condition without keys', document({ Condition: { Bool: true } }), /Syntax/],
  ['a condition with an object', document({ Condition: { Bool: { k: {} } } }), /Syntax/],
  ['a trust policy without principal', document({ Principal: undefined }, trust), /Principal/, 'trust'],
  ['a trust policy with a resource', document({ Resource: '*' }, trust), /Resource/, 'trust'],
  ['a principal that is no object', document({ Principal: 'me' }, trust), /Syntax/, 'trust']
]

const taken: Array<[string, string, DocumentKind?]> = [
  ['the plain one', document({})],
  ['no version', JSON.stringify({ Statement: [statement] })],
  ['the old version', JSON.stringify({ Version: '2008-10-17', Id: 'x', Statement: statement })],
  ['Sids, one left empty twice', JSON.stringify({ Statement: ['', '', 'A9'].map((Sid) => ({ ...statement, Sid })) })],
  ['NotAction and NotResource', document({ Action: undefined, Resource: undefined, NotAction: ['s3:*'], NotResource: '*' })],
  ['everything', document({ Action: '*', Resource: '*' })],
  ['wildcards', document({ Action: ['s3:*Object?', 'access-analyzer:*'], Resource: ['arn:aws-cn:s3:::b/$' + '{*}'] })],
  ['an action that no service has', document({ Action: 's3:CompleteMultipartUpload' })],
  ['conditions', document({
    Condition: {
      DateGreaterThan: { 'aws:CurrentTime': '2025-07-16T01:00:00Z' },
      NotIpAddress: { 'aws:SourceIp': ['192.0.2.0/24'] },
      'ForAnyValue:StringLikeIfExists': { 's3:prefix': ['a/*'] },
      Null: { 'aws:TokenIssueTime': true }
    }
  })],
  ['a trust policy', document({}, trust), 'trust']
]

t.test('what IAM refuses', (t) => {
  for (const [name, text, message, kind = 'identity'] of refused) {
    t.throws(() => checkDocument(text, kind), { code: 'MalformedPolicyDocument', status: 400, message }, name)
  }
  t.end()
})

t.test('what IAM takes', (t) => {
  for (const [name, text, kind = 'identity'] of taken) t.doesNotThrow(() => checkDocument(text, kind), name)
  t.end()
})

t.test('every policy that the project renders is taken', (t) => {
  const folder = new URL('../golden/', import.meta.url)
  const files = readdirSync(folder).filter((file) => file.endsWith('.json'))
  for (const file of files) {
    const golden = JSON.parse(readFileSync(new URL(file, folder), 'utf8'))
    t.doesNotThrow(() => checkDocument(JSON.stringify(golden.policy), 'identity'), file)
  }
  t.ok(files.length > 0)
  t.end()
})

t.test('white space does not count, wherever it stands', (t) => {
  t.equal(countedSize(' {"a" :\t"b c"\r\n}'), 10)
  t.equal(countedSize('\u00a0é'), 2, 'what is not ASCII white space counts')
  t.end()
})

t.test('documents are encoded by RFC 3986', (t) => {
  t.equal(uriEncode('!\'()* ~é'), '%21%27%28%29%2A%20~%C3%A9')
  t.end()
})
