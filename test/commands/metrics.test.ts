import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Registry } from 'prom-client'
import t from 'tap'
import { serveMetrics } from '../../src/metrics/serve.ts'
import { freePort } from '../servers/daemon.ts'
import { samples } from '../metrics/scrape.ts'

t.test('GET /metrics and nothing else', async t => {
  const registry = new Registry()
  const server = await serveMetrics(registry, { host: '127.0.0.1', port: 0 })
  t.teardown(() => server.close())
  const ok = await fetch(server.url)
  t.equal(ok.status, 200)
  t.match(ok.headers.get('content-type'), 'text/plain; version=0.0.4')
  t.equal((await fetch(server.url, { method: 'HEAD' })).status, 200)
  t.equal((await fetch(server.url, { method: 'POST' })).status, 405)
  t.equal((await fetch(new URL('/v1/grants', server.url))).status, 404)
  registry.metrics = async () => { throw new Error('secret') }
  const failed = await fetch(server.url)
  t.equal(failed.status, 500)
  t.notMatch(await failed.text(), /secret/)
})

t.test('the service serves them on their own port, and not on its public one', async t => {
  const port = await freePort('127.0.0.1')
  const service = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/server.ts'], {
    cwd: join(import.meta.dirname, '../..'),
    env: { PATH: process.env.PATH, PORT: '0', JOB_ACCESS_METRICS_PORT: String(port), JOB_ACCESS_SWEEP_SECONDS: '1', JOB_ACCESS_RECONCILE_SECONDS: '1' },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const ended = once(service, 'exit')
  t.teardown(() => { service.kill('SIGKILL') })
  let out = ''
  service.stdout.on('data', chunk => { out += String(chunk) })
  const seen = async (pattern: RegExp) => {
    while (!pattern.test(out) && service.exitCode === null) await new Promise(resolve => setTimeout(resolve, 100))
    return pattern.exec(out)?.[1] ?? ''
  }
  const url = await seen(/(http:\/\/127\.0\.0\.1:\d+)\/v1\/grants/)
  t.match(await seen(/metrics served/), '')
  t.equal((await fetch(`${url}/metrics`)).status, 404)
  const token = await seen(/Bearer (jat_[\w-]+)/)
  t.equal((await fetch(`${url}/v1/grants`, { headers: { authorization: `Bearer ${token}` } })).status, 200)

  let found = new Map<string, number>()
  while (service.exitCode === null) {
    found = samples(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text())
    if ((found.get('job_access_sweeps_total{outcome="done"}') ?? 0) > 0 && (found.get('job_access_reconciliations_total{outcome="done"}') ?? 0) > 0) break
    await new Promise(resolve => setTimeout(resolve, 200))
  }
  t.ok((found.get('job_access_sweeps_total{outcome="done"}') ?? 0) > 0, 'the sweeper is heard of')
  t.ok((found.get('job_access_reconciliations_total{outcome="done"}') ?? 0) > 0, 'so is reconciliation')
  t.equal(found.get('job_access_grants{state="active"}'), 0)
  t.equal(found.get('job_access_http_request_duration_seconds_count{method="GET",route="/v1/grants",status="2xx"}'), 1)
  t.ok([...found.keys()].some(name => name.startsWith('job_access_iam_calls_total{operation="ListUsers"')), 'and IAM')
  service.kill('SIGTERM')
  t.strictSame((await ended)[0], 0)
})

t.test('a port that is taken ends the start', async t => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => { taken.close() })
  const { port } = taken.address() as { port: number }
  for (const env of [{ PORT: '0', JOB_ACCESS_METRICS_PORT: String(port) }, { PORT: String(port), JOB_ACCESS_METRICS_PORT: String(await freePort('127.0.0.1')) }]) {
    const service = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'src/server.ts'], {
      cwd: join(import.meta.dirname, '../..'), env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'ignore', 'pipe']
    })
    t.teardown(() => { service.kill('SIGKILL') })
    let errors = ''
    service.stderr.on('data', chunk => { errors += String(chunk) })
    t.strictSame((await once(service, 'exit'))[0], 1)
    t.match(errors, /^Port \d+ is in use\. Set (JOB_ACCESS_METRICS_)?PORT to another one/)
  }
})
