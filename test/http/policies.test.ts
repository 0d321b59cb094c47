import { readFileSync } from 'node:fs'
import t from 'tap'
import type { PolicyRequest } from '../../src/request.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

const golden = JSON.parse(readFileSync(new URL('../golden/guide-training-job.json', import.meta.url), 'utf8')).policy

const guide: PolicyRequest = {
  ...guideJob(),
  window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' },
  layout: 'guide'
}

t.test('the guide’s policy over HTTP, to the letter, key order included', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const answer = await app.inject({ method: 'POST', url: '/v1/policies', headers: bearer(b.tokens.nlp), payload: guide })
  t.equal(answer.statusCode, 200)
  const { policy, size, attach, explanation, warnings, proof } = answer.json()
  t.equal(JSON.stringify(policy), JSON.stringify(golden))
  t.equal(size.characters, JSON.stringify(golden).replace(/\s/g, '').length)
  t.match(size, { limits: { inline: 2048, managed: 6144 }, sha256: /^[0-9a-f]{64}$/ })
  t.equal(attach, 'inline')
  t.equal(explanation.length, 3)
  t.match(warnings.map((warning: { code: string }) => warning.code), ['guide-reads-unbound', 'guide-grants-acl', 'guide-unknown-action'])
  t.equal(proof, null, 'rendering alone does not prove')
  t.strictSame(b.iam.calls, [], 'no IAM call')
})

t.test('preflight asks the guardrails and proves', async t => {
  const b = await bench(t, { guardrails: '@id("reads") permit (principal, action in [JobAccess::Action::"render", JobAccess::Action::"read"], resource);' })
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const { output, ...reads } = guide
  const allowed = await app.inject({ method: 'POST', url: '/v1/policies?preflight=true', headers, payload: { ...reads, layout: 'guarded' } })
  t.equal(allowed.statusCode, 200)
  t.ok(allowed.json().proof.probes > 100)
  const denied = await app.inject({ method: 'POST', url: '/v1/policies?preflight=true', headers, payload: { ...guide, layout: 'guarded' } })
  t.equal(denied.statusCode, 403)
  t.match(denied.json(), { code: 'forbidden', pointer: '/output' })
  const foreign = await app.inject({ method: 'POST', url: '/v1/policies?preflight=true', headers: bearer(b.tokens.vision), payload: { ...reads, layout: 'guarded' } })
  t.equal(foreign.statusCode, 403, 'the team of another')
})

t.test('check answers a question about the policy of a request', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const question = { action: 's3:PutObject', bucket: 'acmeco-finetuned-models', key: 'model.bin', sourceIp: '203.0.113.42', at: '2025-07-16T02:00:00Z' }
  const cases: Array<[string, object, boolean]> = [
    ['inside', {}, true],
    ['another bucket', { bucket: 'acmeco-base-models' }, false],
    ['another address', { sourceIp: '203.0.113.43' }, false],
    ['before', { at: '2025-07-16T00:59:59Z' }, false],
    ['after', { at: '2025-07-16T04:00:00Z' }, false],
    ['another action', { action: 's3:DeleteObject' }, false]
  ]
  for (const [name, change, allowed] of cases) {
    const payload = { request: { ...guide, layout: 'everywhere' }, question: { ...question, ...change } }
    const answer = await app.inject({ method: 'POST', url: '/v1/policies/check', headers: bearer(b.tokens.nlp), payload })
    t.equal(answer.statusCode, 200, name)
    t.equal(answer.json().allowed, allowed, name)
    t.type(answer.json().because, 'string')
  }
})

t.test('a question that cannot be decided says what to give instead', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const question = { action: 's3:GetObject', bucket: 'acmeco-base-models', key: 'a', sourceIp: '203.0.113.42' }
  const copy = { ...question, action: 'CopyObject', bucket: 'acmeco-finetuned-models' }
  const cases: [string, object, string, RegExp, RegExp][] = [
    ['an access point', { ...question, bucket: 'arn:aws:s3:eu-west-1:111122223333:accesspoint/acme' }, 'bucket', /the ARN of an access point/, /name of the bucket behind it/],
    ['the ARN of a bucket', { ...question, bucket: 'arn:aws:s3:::acmeco-base-models' }, 'bucket', /the ARN of a bucket/, /what follows `:::`/],
    ['a URL', { ...question, bucket: 's3://acmeco-base-models' }, 'bucket', /a URL/, /alone/],
    ['a copy from an access point', { ...copy, copySource: 'arn:aws:s3:eu-west-1:111122223333:accesspoint/acme/object/a' }, 'copySource', /the ARN of an access point/, /behind it/],
    ['a copy from a URL', { ...copy, copySource: 's3://acmeco-base-models/a' }, 'copySource', /a URL/, /alone/],
    ['a copy from an alias', { ...copy, copySource: 'acme-s3alias/a' }, 'copySource', /alias of an access point/, /behind it/],
    ['a copy of nothing', copy, 'copySource', /^CopyObject reads another object\.$/, /^Give that object as bucket\/key\.$/],
    ['a time', { ...question, at: 'yesterday' }, 'at', /^The instant is not a date and time/, /^Write it like/]
  ]
  for (const [name, question, field, detail, hint] of cases) {
    const answer = await app.inject({ method: 'POST', url: '/v1/policies/check', headers: bearer(b.tokens.nlp), payload: { request: guide, question } })
    t.match(answer.json(), { status: 422, pointer: `/question/${field}`, detail, hint }, name)
  }
  const named = { ...copy, copySource: 'acmeco-base-models/x:y/a-s3alias' }
  t.equal((await app.inject({ method: 'POST', url: '/v1/policies/check', headers: bearer(b.tokens.nlp), payload: { request: guide, question: named } })).statusCode, 200)
})
