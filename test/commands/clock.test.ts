import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startTestIam } from '../embedded-iam/levers/start.ts'
import { guideJob } from '../harness.ts'
import { startService } from './service.ts'

t.test('a service whose clock disagrees with the provider’s, as a process of its own', async t => {
  const iam = await startTestIam()
  t.teardown(() => iam.stop())
  const dir = t.testdir({})
  writeFileSync(join(dir, 'audit.json'), JSON.stringify({ path: join(dir, 'audit') }))
  const service = await startService(t, {
    JOB_ACCESS_PROVIDER: 'aws',
    JOB_ACCESS_ALLOW: 'no-boundary',
    JOB_ACCESS_LEDGER: ':memory:',
    JOB_ACCESS_AUDIT: join(dir, 'audit.json'),
    JOB_ACCESS_SWEEP_SECONDS: '1',
    AWS_ENDPOINT_URL: iam.url,
    AWS_ACCESS_KEY_ID: iam.admin.accessKeyId,
    AWS_SECRET_ACCESS_KEY: iam.admin.secretAccessKey,
    LOG_LEVEL: 'fatal'
  })
  const call = async (method: string, path: string, body?: object) => {
    const answer = await fetch(service.url + path, {
      method,
      headers: { authorization: `Bearer ${service.token}`, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) })
    })
    return { status: answer.status, body: await answer.json() as { grant: { id: string } } }
  }
  const until = async (wanted: number) => {
    for (;;) {
      const answer = await call('GET', '/readyz')
      if (answer.status === wanted) return answer
      await new Promise(resolve => setTimeout(resolve, 200))
    }
  }
  const job = (id: string) => guideJob({ job: { id, team: 'nlp' }, window: { durationSeconds: 3600 } })
  await until(200)
  const issued = await call('POST', '/v1/grants', job('one'))
  t.equal(issued.status, 201)
  const path = `/v1/grants/${issued.body.grant.id}`

  iam.wire.aheadMs = -2 * 3_600_000
  t.match((await until(503)).body, { checks: { iam: 'ok', ledger: 'ok', clock: 'failed' } })
  t.match(await call('POST', '/v1/grants', job('two')), { status: 503, body: { code: 'clock-wrong', detail: /ahead of that of the provider/ } })
  t.match(await call('PATCH', path, { window: { durationSeconds: 7200 } }), { status: 503, body: { code: 'clock-wrong' } })
  t.match((await call('GET', path)).body, { state: 'active' }, 'no sweep ended it')
  t.match(await call('POST', `${path}/complete`), { status: 200, body: { state: 'revoked' } })
  t.equal(iam.state.userCount, 0)

  iam.wire.aheadMs = 0
  await until(200)
  t.match(await call('POST', '/v1/grants', job('three')), { status: 201 })
})
