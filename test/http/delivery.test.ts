import { execFileSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { chooseFormat, deliver, mediaTypes } from '../../src/http/delivery.ts'
import type { Grant } from '../../src/domain/grant.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

t.test('the field wins over Accept; JSON is the default', async t => {
  const cases: Array<[Parameters<typeof chooseFormat>[0], string | undefined, string]> = [
    [undefined, undefined, 'json'],
    [undefined, '*/*', 'json'],
    [undefined, 'application/json', 'json'],
    [undefined, 'application/yaml', 'kubernetes-secret'],
    [undefined, 'text/x-env;q=0.9, */*;q=0.1', 'env'],
    [undefined, 'image/png, application/vnd.aws.credential-process+json', 'credential-process'],
    [undefined, 'text/x-env;q=0.1, application/json', 'json'],
    [undefined, 'application/json;q=0.5, application/yaml; q=0.8', 'kubernetes-secret'],
    [undefined, 'text/x-env, application/json', 'env'],
    ['aws-profile', 'application/yaml', 'aws-profile']
  ]
  for (const [format, accept, expected] of cases) t.equal(chooseFormat(format, accept), expected, `${format ?? ''} ${accept ?? ''}`)
  for (const refused of ['image/png', 'application/json;q=0', 'text/x-env;q=0.0, */*;q=0']) t.throws(() => chooseFormat(undefined, refused), { code: 'not-acceptable' }, refused)
})

t.test('every format over HTTP, once by Accept and once by field', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  for (const [format, type] of Object.entries(mediaTypes)) {
    const byField = await app.inject({
      method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.nlp), payload: guideJob({ job: { id: `${format}-1`, team: 'nlp' }, format: format as never })
    })
    const byAccept = await app.inject({
      method: 'POST', url: '/v1/grants', headers: { ...bearer(b.tokens.nlp), accept: type }, payload: guideJob({ job: { id: `${format}-2`, team: 'nlp' } })
    })
    for (const answer of [byField, byAccept]) {
      t.equal(answer.statusCode, 201, format)
      t.match(answer.headers['content-type'], type, format)
      t.match(answer.headers['job-access-grant'], /^[0-9a-z]{26}$/, format)
      t.equal(answer.headers.location, `/v1/grants/${answer.headers['job-access-grant']}`)
      t.equal(answer.headers['cache-control'], 'no-store')
      t.match(answer.body, /AKIAEMBEDDED/, format)
    }
  }
})

const grant = { id: '01k00000000000000000000000', jobId: 'Wiki_Fine.Tune', expiresAt: Date.parse('2025-07-16T04:00:00Z') } as Grant
const credentials = { accessKeyId: 'AKIAEXAMPLE', secretAccessKey: 'abc/def+ghi=', sessionToken: 'tok/en==', expiresAt: null }
const target = { endpoint: 'https://t3.storage.dev', region: 'auto' }

t.test('an env block is what a shell and docker --env-file read', async t => {
  const text = deliver('env', credentials, grant, target, 'a notice')
  const file = join(mkdtempSync(join(tmpdir(), 'env-')), 'job.env')
  writeFileSync(file, text)
  const read = (name: string) => execFileSync('sh', ['-c', `set -a; . "${file}"; printf %s "$${name}"`]).toString()
  t.equal(read('AWS_ACCESS_KEY_ID'), credentials.accessKeyId)
  t.equal(read('AWS_SECRET_ACCESS_KEY'), credentials.secretAccessKey)
  t.equal(read('AWS_SESSION_TOKEN'), credentials.sessionToken)
  t.equal(read('AWS_ENDPOINT_URL_S3'), target.endpoint)
  for (const line of text.trim().split('\n')) t.match(line, /^(#.*|[A-Z0-9_]+=\S+)$/)
})

t.test('a secret that a shell would break is refused, not written', async t => {
  t.throws(() => deliver('env', { ...credentials, secretAccessKey: 'a$(id)' }, grant, {}, null), { name: 'ProblemError' })
})

t.test('credential_process JSON', async t => {
  t.strictSame(JSON.parse(deliver('credential-process', credentials, grant, target, null)), {
    Version: 1,
    AccessKeyId: 'AKIAEXAMPLE',
    SecretAccessKey: 'abc/def+ghi=',
    SessionToken: 'tok/en==',
    Expiration: '2025-07-16T04:00:00Z'
  })
})

t.test('a Kubernetes Secret', async t => {
  const secret = parse(deliver('kubernetes-secret', credentials, grant, target, null))
  t.match(secret, { apiVersion: 'v1', kind: 'Secret', type: 'Opaque', stringData: { AWS_SECRET_ACCESS_KEY: 'abc/def+ghi=', AWS_REGION: 'auto' } })
  t.match(secret.metadata.name, /^job-access-wiki-fine-tune-01k0+$/)
  t.ok(secret.metadata.name.length <= 63)
  t.match(secret.metadata.annotations['job-access/expires'], '2025-07-16T04:00:00Z')
})

t.test('a shared-credentials profile', async t => {
  t.match(deliver('aws-profile', credentials, grant, {}, null),
    /\[default\]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = abc\/def\+ghi=\naws_session_token = tok\/en==\n$/)
})
