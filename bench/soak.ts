import { setTimeout as delay } from 'node:timers/promises'
import { guideRequest } from '../src/request.ts'
import { makeDir, startIam } from '../test/kill/processes.ts'
import { clientOf, inLanes, startService } from './service-process.ts'

/**
 * Whether memory stays flat: for ten minutes, some jobs at a time, each of which issues a grant, checks an access, rotates and completes.
 * The service runs as `npm start` runs it, on SQLite with the audit on; IAM is a process of its own. Afterwards nothing may be left in IAM.
 *
 * Flat: of the samples after the first fifth, the median of the last quarter is at most a tenth above that of the first quarter. The first
 * fifth is left out, since a heap grows to its working size.
 *   BENCH_SOAK_SECONDS=600 BENCH_AT_ONCE=16 BENCH_PROCESSES=1
 */

const { BENCH_SOAK_SECONDS = '600', BENCH_AT_ONCE = '16', BENCH_PROCESSES = '1' } = process.env
const [atOnce, samples, mostGrowth] = [Number(BENCH_AT_ONCE), 40, 1.1]
const lastsMs = Number(BENCH_SOAK_SECONDS) * 1000

const iam = await startIam(0)
const dir = makeDir()
const service = await startService(iam, dir, { JOB_ACCESS_PROCESSES: BENCH_PROCESSES, JOB_ACCESS_SWEEP_SECONDS: '1' })
const { send, close } = clientOf(service.url, dir.token)

let grants = 0
const life = async () => {
  const job = { id: `job-${grants++}`, team: 'nlp' }
  const { grant: { id } } = await send<{ grant: { id: string } }>('POST', '/v1/grants', { ...guideRequest, job })
  await send('POST', `/v1/grants/${id}/check`, {
    action: 's3:GetObject', bucket: guideRequest.datasets?.[0]?.bucket, key: 'part-0', sourceIp: '203.0.113.42'
  })
  await send('POST', `/v1/grants/${id}/rotate`, {})
  await send('POST', `/v1/grants/${id}/complete`)
}

const began = Date.now()
const seen: Array<{ second: number, grants: number, mb: number }> = []
const watch = async () => {
  for (let n = 1; n <= samples; n++) {
    await delay(Math.max(0, began + n * lastsMs / samples - Date.now()))
    seen.push({ second: Math.round((Date.now() - began) / 1000), grants, mb: service.memory().reduce((sum, { now }) => sum + now, 0) })
  }
}
await Promise.all([inLanes(atOnce, () => Date.now() - began < lastsMs, life), watch()])

const leftMost = Date.now() + 60_000
const left = async () => {
  const { users, policies } = await iam.state()
  return { users: users.length, policies: policies.length }
}
// An overlap of keys ends with its grant; whatever a call has left unsure is the sweeper's.
let remains = await left()
while (remains.users + remains.policies > 0 && Date.now() < leftMost) {
  await delay(500)
  remains = await left()
}
const memory = service.memory()
close()
await service.stop()
await iam.stop()
dir.remove()

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
const settled = seen.slice(Math.floor(seen.length / 5)).map(({ mb }) => mb)
const quarter = Math.ceil(settled.length / 4)
const growth = median(settled.slice(-quarter)) / median(settled.slice(0, quarter))
console.table(seen.filter((_, index) => index % 4 === 3))
console.log(`${grants} grants in ${BENCH_SOAK_SECONDS} s; at most ${memory.map(({ peak }) => peak).join(', ')} MB a process`)
const verdict = growth <= mostGrowth ? 'flat' : 'NOT flat'
console.log(`${verdict}: the last quarter is ${growth.toFixed(2)} times the first, of at most ${mostGrowth}`)
console.log(`left in IAM: ${remains.users} users, ${remains.policies} policies`)
if (growth > mostGrowth || remains.users + remains.policies > 0) process.exitCode = 1
