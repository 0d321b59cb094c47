import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { compose } from '../src/compose.ts'
import { readConfig } from '../src/config.ts'
import { buildApp } from '../src/http/app.ts'
import { createIam } from '../src/iam/client.ts'
import { loadGuardrails } from '../src/guardrails/guardrails.ts'
import { guideRequest } from '../src/request.ts'

/**
 * Whether one identity can stop the service: 60 requests at a time, each as expensive as a policy can be, while others ask for /healthz and
 * complete their grants. Fails when the 99th percentile of either is over 250 ms. The embedded IAM runs in a process of its own.
 */

const [atOnce, seconds, limitMs] = [60, Number(process.env.BENCH_SECONDS ?? 10), 250]
const rules = `@id("all") permit (principal, action, resource);
  @id("not-from-the-lab") forbid (principal, action, resource)
  when { context has source && context.source.isInRange(ip("198.18.0.0/15")) };`
const silent = { info () {}, warn () {}, error () {} }

const child = spawn(process.execPath, ['test/embedded-iam/levers/main.ts', '--port', '0', '--max-users', '200000', '--exit-with-stdin'],
  { stdio: ['pipe', 'pipe', 'inherit'] })
const [line] = await once(child.stdout, 'data')
const { url, admin } = JSON.parse(String(line))
const iam = createIam({ region: 'us-east-1', endpoint: url, stsEndpoint: url, credentials: admin })
const config = readConfig({
  JOB_ACCESS_MAX_GRANTS: '1000000', JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '1000000', JOB_ACCESS_RATE_PER_MINUTE: '10000000'
})
const guardrails = loadGuardrails(rules, 'bench.cedar')
const { service, generatedToken, close } = await compose(config, {
  log: silent, overrides: { iam, guardrails: { current: guardrails, reload: async () => ({ ok: true, guardrails, changed: false }) } }
})
const app = await buildApp(service, { logger: false, newRequestId: randomUUID })
const address = await app.listen({ host: '127.0.0.1', port: 0 })

const call = (method: string, path: string, body?: object) => fetch(address + path, {
  method,
  headers: { authorization: `Bearer ${generatedToken ?? ''}`, ...(body && { 'content-type': 'application/json' }) },
  ...(body && { body: JSON.stringify(body) })
})

let jobs = 0
/** It fits into a managed policy, and asks 900 questions. */
const worst = () => ({
  job: { id: `worst-${jobs++}`, team: 'nlp' },
  layout: 'guarded',
  access: Array.from({ length: 18 }, (_, index) => ({ bucket: `acmeco-${index}`, level: 'read' })),
  window: { durationSeconds: 3600 },
  sourceIps: Array.from({ length: 50 }, (_, index) => `203.0.${2 * index}.1`)
})

let until = 0
let answered = 0
const flood = async () => {
  while (performance.now() < until) {
    const answer = await call('POST', '/v1/grants', worst())
    if (answer.status !== 201) throw new Error(await answer.text())
    await answer.arrayBuffer()
    answered++
  }
}
const ids: string[] = []
for (let index = 0; index < 20 * seconds; index++) {
  const answer = await call('POST', '/v1/grants', { ...guideRequest, job: { id: `ends-${index}`, team: 'nlp' } })
  ids.push((await answer.json() as { grant: { id: string } }).grant.id)
}
const timed = async (measure: () => Promise<Response>): Promise<number> => {
  const began = performance.now()
  const answer = await measure()
  await answer.arrayBuffer()
  if (answer.status !== 200) throw new Error(`${answer.status}`)
  return performance.now() - began
}
const [health, complete]: [number[], number[]] = [[], []]
const measureAll = async () => {
  while (performance.now() < until) {
    health.push(await timed(() => call('GET', '/healthz')))
    const id = ids.pop()
    if (id !== undefined) complete.push(await timed(() => call('POST', `/v1/grants/${id}/complete`)))
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
until = performance.now() + seconds * 1000
await Promise.all([...Array.from({ length: atOnce }, flood), measureAll()])
const p99 = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? Infinity
for (const [name, values] of Object.entries({ '/healthz': health, complete })) {
  console.log(`${name}: p99 ${p99(values).toFixed(0)} ms of ${values.length}, while ${answered} of the most expensive grants were issued`)
  if (p99(values) > limitMs) process.exitCode = 1
}
await app.close()
await close()
iam.close()
child.kill()
