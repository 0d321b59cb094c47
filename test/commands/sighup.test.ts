import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { guideRequest } from '../../src/request.ts'
import { startService } from './service.ts'
import { openSet } from '../harness.ts'

/** The signal, at a real process. What reload() does with the file is tested in test/guardrails/reload.test.ts. */

t.test('SIGHUP puts a good file in force and keeps the old set when the file is bad; the service goes on', async t => {
  const file = join(t.testdir(), 'guardrails.cedar')
  writeFileSync(file, openSet)
  const service = await startService(t, { JOB_ACCESS_GUARDRAILS: file, JOB_ACCESS_RATE_PER_MINUTE: '100000' })

  const ask = async () => {
    const response = await fetch(`${service.url}/v1/policies?preflight=true`, {
      method: 'POST',
      headers: { authorization: `Bearer ${service.token}`, 'content-type': 'application/json' },
      body: JSON.stringify(guideRequest),
      signal: AbortSignal.timeout(60_000)
    })
    await response.body?.cancel()
    return response.status
  }
  const becomes = async (status: number) => {
    for (let tries = 0; tries < 1200 && service.process.exitCode === null; tries++) {
      if (await ask() === status) return true
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    return false
  }

  t.equal(await ask(), 200)
  writeFileSync(file, '@id("nobody") forbid (principal, action, resource);')
  service.process.kill('SIGHUP')
  t.ok(await becomes(403), 'the new set decides')

  writeFileSync(file, 'permit (principal, action, resource)')
  service.process.kill('SIGHUP')
  // Nothing outside tells that a reload is over.
  await new Promise(resolve => setTimeout(resolve, 500))
  t.equal(await ask(), 403, 'a bad file changes nothing')
  writeFileSync(file, openSet)
  service.process.kill('SIGHUP')
  t.ok(await becomes(200), 'and the next good one takes over')

  await service.stop('SIGTERM')
  t.equal(service.process.exitCode, 0)
})
