import { Writable } from 'node:stream'
import { pino } from 'pino'
import t from 'tap'
import { logOptions } from '../src/log.ts'
import { appOf, bearer, bench, guideJob } from './harness.ts'

const logged = () => {
  const lines: string[] = []
  const stream = new Writable({ write (chunk, _encoding, done) { lines.push(String(chunk)); done() } })
  return { lines, log: pino(logOptions('trace'), stream) }
}

t.test('no log line contains a secret or a token', async t => {
  const { lines, log } = logged()
  const b = await bench(t, { log })
  const app = await appOf(t, b, log)
  const headers = bearer(b.tokens.nlp)
  const secrets = new Set<string>(Object.values(b.tokens))
  const post = async (url: string, payload: object = {}) => {
    const answer = await app.inject({ method: 'POST', url, headers, payload })
    const secret = answer.json().credentials?.secretAccessKey
    if (secret) secrets.add(secret)
    return answer.json()
  }
  const { grant } = await post('/v1/grants', guideJob({ waitUntilReady: true }))
  await post(`/v1/grants/${grant.id}/rotate`)
  await post('/v1/grants', guideJob({ replace: true }))
  b.iam.faults.on({ action: 'PutUserPolicy', times: 1 }, { kind: 'errorAfter' })
  b.iam.faults.on({ action: 'CreateAccessKey', nth: 1 }, { kind: 'dropAfter' })
  await post('/v1/grants', guideJob({ job: { id: 'second', team: 'nlp' } }))
  b.iam.faults.on({ action: 'CreateUser' }, { kind: 'error', code: 'AccessDenied' })
  await post('/v1/grants', guideJob({ job: { id: 'third', team: 'nlp' } }))
  await app.inject({ method: 'GET', url: '/v1/grants?token=abc', headers: bearer('jat_wrong_verysecretverysecretverysecretverysecret') })
  secrets.add('verysecretverysecretverysecret')
  await post(`/v1/grants/${grant.id}/complete`)
  await b.ledger.close()
  await post('/v1/grants', guideJob({ job: { id: 'fourth', team: 'nlp' } }))

  t.ok(secrets.size > 6, `${secrets.size} secrets looked for`)
  t.ok(lines.length > 8)
  for (const secret of secrets) for (const line of lines) if (line.includes(secret)) t.fail('a secret in the log', { line: line.replaceAll(secret, '[secret]') })
  t.ok(lines.some(line => line.includes('AccessDenied') || line.includes('denied')), 'the failures are logged')
  t.notMatch(lines.join(''), /token=abc/, 'URLs are logged without query strings')
})

t.test('secrets are removed, and errors are logged without their payload', async t => {
  const { lines, log } = logged()
  log.info({ credentials: { accessKeyId: 'AKIA1', secretAccessKey: 's3cr3t' } }, 'x')
  log.info({ headers: { authorization: 'Bearer s3cr3t' } }, 'x')
  log.error({ err: Object.assign(new Error('outer', { cause: Object.assign(new Error('inner'), { request: 's3cr3t' }) }), { $response: 's3cr3t' }) }, 'x')
  t.notMatch(lines.join(''), /s3cr3t/)
  t.match(lines.join(''), /AKIA1/)
  t.match(lines.join(''), /inner/)
})
