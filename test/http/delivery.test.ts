import { execFileSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { changedView, chooseFormat, deliver, grantView, mediaTypes, pageView, sender, sessionWarnings } from '../../src/http/delivery.ts'
import { issue } from '../../src/lifecycle/issue.ts'
import type { Grant } from '../../src/domain/grant.ts'
import { appOf, bearer, bench, callerNamed, guideJob, startOfTime } from '../harness.ts'

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
  t.equal(read('S3_ENDPOINT_URL'), target.endpoint)
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
  t.match(deliver('aws-profile', credentials, grant, { endpoint: 'https://s3.example.com', region: 'eu-1' }, null),
    /\nendpoint_url = https:\/\/s3\.example\.com\nregion = eu-1\n$/)
})

t.test('a Secret’s name is one word, also where the job’s name is cut at a hyphen', async t => {
  const cut = { ...grant, jobId: `${'a'.repeat(24)}-b` }
  t.equal(parse(deliver('kubernetes-secret', credentials, cut, target, null)).metadata.name, `job-access-${'a'.repeat(24)}-${grant.id}`)
})

t.test('no value breaks a file: an endpoint and a session token are looked at, too', async t => {
  for (const format of ['env', 'aws-profile', 'kubernetes-secret'] as const) {
    t.throws(() => deliver(format, credentials, grant, { endpoint: 'https://s3.example.org/a b' }, null), { name: 'ProblemError' }, format)
    t.throws(() => deliver(format, { ...credentials, sessionToken: 'a\nb' }, grant, {}, null), { name: 'ProblemError' }, format)
  }
})

const hour = 3_600_000
const session = async (t: Test, change: Partial<Grant> = {}): Promise<Grant> => {
  const b = await bench(t)
  const { grant } = await issue(b.deps, callerNamed('token:nlp', ['nlp']), { request: guideJob() })
  return { ...grant, attach: 'session', deliveredAt: startOfTime, sessionsEndAt: startOfTime + hour, ...change }
}

t.test('credentials of a session end with the session or with the window, whichever is sooner', async t => {
  const grant = await session(t)
  const expiration = (expiresAt: number | null) =>
    JSON.parse(deliver('credential-process', { ...credentials, expiresAt }, grant, {}, null)).Expiration
  t.equal(expiration(startOfTime + hour), '2025-07-16T01:30:00Z')
  t.equal(expiration(grant.expiresAt + hour), expiration(grant.expiresAt), 'the policy ends it')
  t.equal(expiration(null), expiration(grant.expiresAt))
})

t.test('what a session warns of', async t => {
  const grant = await session(t)
  const warned = (end: number, previousUntil: number, change: Partial<Grant> = {}) =>
    sessionWarnings({ grant: { ...grant, ...change }, credentials: { ...credentials, expiresAt: end }, previousUntil }, startOfTime)
  const codes = (...given: Parameters<typeof warned>) => warned(...given).map(({ code }) => code)
  t.same(codes(grant.expiresAt, 0), [], 'it lasts as long as the window')
  t.same(codes(grant.expiresAt - 1, 0), ['session-ends-first'])
  t.same(codes(grant.expiresAt, startOfTime), [], 'the one before is over')
  t.same(codes(grant.expiresAt, startOfTime + 1), ['session-lives-on'])
  t.same(codes(grant.expiresAt - 1, startOfTime + 1, { attach: 'inline' }), [])
  const end = startOfTime + hour
  t.match(warned(end, 0, { notBefore: end }), [{ detail: /before the window starts/ }])
  t.match(warned(end, 0, { notBefore: end - 1 }), [{ detail: /before the window ends/ }])
})

t.test('what a grant’s view says of its keys and sessions', async t => {
  const grant = await session(t)
  const end = '2025-07-16T01:30:00.000Z'
  t.match(grantView(grant), { sessionsEndAt: end, previousKey: null, notice: null })
  t.equal(grantView({ ...grant, attach: 'inline' }).sessionsEndAt, null, 'a user has no session')
  const ended = { ...grant, state: 'revoked', ending: 'revoked' } as const
  t.equal(grantView({ ...ended, endReason: 'the principal is gone' }).endReason, 'user-gone')
  t.equal(grantView({ ...ended, endReason: null }).endReason, 'revoked', 'by an earlier release')
  t.equal(grantView({ ...grant, sessionsEndAt: null, deliveredAt: null }).sessionsEndAt, null, 'none yet')
  t.equal(grantView({ ...grant, state: 'revoking', dueAt: startOfTime + 5_000 }).notice, null, 'it is being revoked')
  t.match(grantView({ ...grant, state: 'revoking', dueAt: startOfTime + hour }).notice, /cannot be revoked: its keys work until 2025-07-16T01:30:00Z/)
  t.same(grantView({ ...grant, previousKeyId: null, previousKeyDiesAt: startOfTime }).previousKey, null)
  t.match(changedView(grant, startOfTime).notice, /next session has the new window/)
  t.equal(changedView(grant, startOfTime + hour).notice, null, 'no session lives')
})

t.test('a job of workers tells whether all of them were reached', async t => {
  const job = await session(t, { attach: 'inline', maxWorkers: 8, state: 'active' })
  t.equal(grantView({ ...job, dueAt: job.expiresAt }).notice, null)
  t.match(grantView({ ...job, dueAt: job.expiresAt - 1 }).notice, /window before this one/)
  t.match(grantView({ ...job, state: 'revoking' }).notice, /not ended yet/)
})

t.test('a page has a next one only where there is more', async t => {
  const one = await session(t)
  t.match(pageView([one, one], 2), { grants: { length: 2 }, next: null })
  t.match(pageView([one, one, one], 2), { grants: { length: 2 }, next: one.id })
  t.match(pageView([], 2), { grants: { length: 0 }, next: null })
})

t.test('an answer says whether the grant is new and its key ready, in every format', async t => {
  const grant = await session(t)
  const answer = async (delivery: { created?: boolean, ready?: boolean }, format: 'env' | 'json' = 'env') => {
    const said: unknown[] = []
    const reply = {
      code (status: number) {
        said.push(status)
        return reply
      },
      header (name: string, value: string) {
        if (name === 'job-access-ready') said.push(value)
        return reply
      },
      type: () => reply,
      send: () => reply
    }
    const send = sender({ notice: null, s3: {}, deps: { now: () => startOfTime } })
    await send(reply as never, format, { grant, credentials, ...delivery })
    return said
  }
  t.same(await answer({ created: true, ready: true }), [201, 'true'])
  t.same(await answer({ created: false, ready: false }), [200, 'false'])
  t.same(await answer({}), [200])
})
