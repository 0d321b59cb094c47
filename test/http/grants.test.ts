import t from 'tap'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

t.test('a grant that has ended has no key that is still to be deleted', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const { grant } = (await app.inject({ method: 'POST', url: '/v1/grants', headers, payload: guideJob() })).json()
  const rotated = await app.inject({ method: 'POST', url: `/v1/grants/${grant.id}/rotate`, headers, payload: { overlapSeconds: 3600 } })
  t.match(rotated.json().grant.previousKey, { accessKeyId: grant.accessKeyId })
  const done = await app.inject({ method: 'POST', url: `/v1/grants/${grant.id}/complete`, headers })
  t.match(done.json(), { state: 'revoked', previousKey: null })
})

t.test('a grant, from issue to end', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const issued = await app.inject({ method: 'POST', url: '/v1/grants', headers, payload: guideJob() })
  t.equal(issued.statusCode, 201)
  const { grant, credentials } = issued.json()
  t.equal(grant.state, 'active')
  t.equal(issued.headers['cache-control'], 'no-store')
  t.equal(await b.client.callerIdentity(credentials, Date.now() + 15_000), `arn:aws:iam::000000000000:user${grant.user.path}${grant.user.name}`)

  const rotated = await app.inject({ method: 'POST', url: `/v1/grants/${grant.id}/rotate`, headers, payload: {} })
  t.equal(rotated.statusCode, 200)
  t.not(rotated.json().credentials.accessKeyId, credentials.accessKeyId)
  await t.rejects(b.client.callerIdentity(credentials, Date.now() + 15_000), { name: 'IamError', message: /credentials/ }, 'the old key is dead')

  const changed = await app.inject({ method: 'PATCH', url: `/v1/grants/${grant.id}`, headers, payload: { window: { durationSeconds: 20000 } } })
  t.equal(changed.statusCode, 200)
  t.equal(changed.json().window.notAfter, '2025-07-16T06:03:20Z')

  const { explanation } = (await app.inject({ method: 'GET', url: `/v1/grants/${grant.id}/explanation`, headers })).json()
  t.strictSame(explanation.map(({ sid }: { sid: string }) => sid), changed.json().policy.Statement.map(({ Sid }: { Sid: string }) => Sid))
  t.match(explanation[0].text, /until 2025-07-16T06:03:20Z/, 'of the policy as it now is')

  const again = (payload: object) => app.inject({ method: 'POST', url: '/v1/grants', headers, payload })
  const second = await again(guideJob())
  t.equal(second.statusCode, 409)
  t.match(second.json(), { code: 'key-delivered', hint: /another `attempt`/ })
  t.notOk(second.headers['retry-after'])
  t.ok(await b.client.callerIdentity(rotated.json().credentials, Date.now() + 15_000), 'its key works on')
  const restarted = await again({ ...guideJob(), attempt: 'pod-2' })
  t.equal(restarted.statusCode, 200)
  t.match(restarted.json().grant, { id: grant.id, attempt: 'pod-2', window: { notAfter: '2025-07-16T03:30:00Z' } })
  await t.rejects(b.client.callerIdentity(rotated.json().credentials, Date.now() + 15_000), { name: 'IamError' }, 'now it is dead')

  const done = await app.inject({ method: 'POST', url: `/v1/grants/${grant.id}/complete`, headers })
  t.equal(done.statusCode, 200)
  t.equal(done.json().state, 'revoked')
  const twice = await app.inject({ method: 'POST', url: `/v1/grants/${grant.id}/complete`, headers })
  t.equal(twice.statusCode, 200)
  t.equal(b.iam.state.userCount, 0)
  const events = await app.inject({ method: 'GET', url: `/v1/grants/${grant.id}/events`, headers })
  t.comment(events.json().events.map((event: { action: string }) => event.action).join(' '))
  t.comment(b.iam.calls.map(call => call.action).join(' '))
})

t.test('a list says why each has ended, or is being ended', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const ask = async (method: 'GET' | 'POST' | 'DELETE', url: string, payload?: object) =>
    (await app.inject({ method, url: `/v1/grants${url}`, headers, ...(payload && { payload }) })).json()
  const issue = async (id: string, change: object = {}): Promise<string> =>
    (await ask('POST', '', { ...guideJob({ job: { id, team: 'nlp' } }), ...change })).grant?.id
  const failing = (action: string) => b.iam.faults.on({ action }, { kind: 'error', code: 'LimitExceeded' })
  failing('CreateAccessKey')
  t.equal(await issue('failed'), undefined)
  b.iam.faults.clear()
  await issue('expired', { window: { durationSeconds: 60 } })
  b.clock.advance(61_000)
  await sweep(b.deps, { concurrency: 4, perSecond: 1000 }, new AbortController().signal)
  await ask('POST', `/${await issue('completed')}/complete`)
  await ask('DELETE', `/${await issue('revoked')}`)
  const job = await issue('workers', { sourceIps: undefined, workers: { max: 2 } })
  for (const name of ['a', 'b']) await ask('POST', `/${job}/workers`, { name, sourceIps: ['203.0.113.42'] })
  await ask('DELETE', `/${job}/workers/a`)
  await ask('POST', `/${job}/complete`)
  await issue('active')
  const stuck = await issue('stuck')
  failing('DeleteUser')
  await ask('POST', `/${stuck}/complete`)

  type Seen = { job: { id: string }, worker: { name: string } | null, state: string, endReason: string | null }
  const seen = async (path: string) => Object.fromEntries(((await ask('GET', path)).grants as Seen[])
    .map(({ job, worker, state, endReason }) => [worker?.name ?? job.id, `${state} ${endReason}`]))
  t.strictSame(await seen(''), {
    failed: 'failed failed',
    expired: 'expired expired',
    completed: 'revoked completed',
    revoked: 'revoked revoked',
    workers: 'revoked completed',
    active: 'active null',
    stuck: 'revoking completed'
  })
  t.strictSame(await seen(`/${job}/workers`), { a: 'revoked completed', b: 'revoked job-ended' })
  const { words } = await ask('GET', `/${job}/blast-radius`)
  t.match(words[0], /^The grant is completed: /)
})

t.test('the blast radius of a grant without a key says that there is none yet, and what the key will open from when', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  const issueAt = '2025-07-16T02:00:00Z'
  const payload = guideJob({ issueAt, window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' } })
  const { grant } = (await app.inject({ method: 'POST', url: '/v1/grants', headers, payload })).json()
  const radius = async () => (await app.inject({ method: 'GET', url: `/v1/grants/${grant.id}/blast-radius`, headers })).json()
  const scheduled = await radius()
  t.match(scheduled.words.slice(0, 2), [
    `The grant is scheduled: it has no key before ${issueAt}. What follows is what that key will open.`,
    /^From 203\.0\.113\.42\/32, from 2025-07-16T02:00:00Z until 2025-07-16T04:00:00Z: /
  ])
  t.notMatch(scheduled.words.join(' '), /pending|now and/)
  t.match(scheduled, { at: '2025-07-16T02:00:00.000Z', data: { at: issueAt } })

  b.clock.advance(Date.parse(issueAt) - b.clock.now)
  await sweep(b.deps, { concurrency: 4, perSecond: 1000 }, new AbortController().signal)
  t.match((await radius()).words.slice(0, 2), [
    'Nobody has a key of the grant yet. What follows is what that key will open.',
    /^From 203\.0\.113\.42\/32, now and until 2025-07-16T04:00:00Z: /
  ])
  t.equal((await app.inject({ method: 'POST', url: `/v1/grants/${grant.id}/credentials`, headers, payload: {} })).statusCode, 200)
  t.match((await radius()).words[0], /^From 203/)
})
