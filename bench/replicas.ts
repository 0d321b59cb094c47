import { makeDir, service, startIam } from '../test/kill/processes.ts'
import { balancer } from '../test/commands/balancer.ts'
import { freshDatabase, startPostgres } from '../test/servers/postgres.ts'
import { guideRequest } from '../src/request.ts'
import { quantile } from './simulate.ts'

/**
 * 1, 2 and 3 replicas on one PostgreSQL behind a balancer: issues and completions a second, and their p99, as ratios to one replica.
 * Each replica, the IAM and PostgreSQL are processes of their own, this one is balancer and client: on few cores they take them from
 * each other.
 *   BENCH_SECONDS=5 BENCH_CLIENTS=32 BENCH_ROUNDS=3 BENCH_LATENCY=20
 */

const { BENCH_SECONDS = '5', BENCH_CLIENTS = '32', BENCH_ROUNDS = '3', BENCH_LATENCY = '20' } = process.env
const [seconds, clients, rounds] = [BENCH_SECONDS, BENCH_CLIENTS, BENCH_ROUNDS].map(Number) as [number, number, number]

const postgres = await startPostgres()
const iam = await startIam(Number(BENCH_LATENCY))

const world = async (count: number) => {
  const dir = makeDir()
  const database = await freshDatabase(postgres.url)
  const env = { LOG_LEVEL: 'error', JOB_ACCESS_IAM_DEADLINE_MS: '15000' }
  const replicas = await Promise.all(Array.from({ length: count }, (_, index) =>
    service({ iam, dir, name: `replica-${index}`, ledger: { DATABASE_URL: database.url }, env })))
  await Promise.all(replicas.map(replica => replica.start()))
  const { url, close } = await balancer(replicas)
  return {
    async post (path: string, body: object) {
      const answer = await fetch(url + path, {
        method: 'POST',
        headers: { authorization: `Bearer ${dir.token}`, 'content-type': 'application/json' },
        body: JSON.stringify(body)
      })
      if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
      return await answer.json() as { grant: { id: string } }
    },
    async stop () {
      close()
      await Promise.all(replicas.map(replica => replica.kill()))
      await database.drop()
      dir.remove()
    }
  }
}

let jobs = 0
const load = async ({ post }: Awaited<ReturnType<typeof world>>, forMs: number) => {
  const times: Record<'issue' | 'complete', number[]> = { issue: [], complete: [] }
  const timed = async <T>(kind: keyof typeof times, work: Promise<T>): Promise<T> => {
    const asked = performance.now()
    const answer = await work
    times[kind].push(performance.now() - asked)
    return answer
  }
  const started = performance.now()
  await Promise.all(Array.from({ length: clients }, async () => {
    while (performance.now() - started < forMs) {
      const { grant } = await timed('issue', post('/v1/grants', { ...guideRequest, job: { id: `job-${jobs++}`, team: 'nlp' } }))
      await timed('complete', post(`/v1/grants/${grant.id}/complete`, {}))
    }
  }))
  const perSecond = times.issue.length / (performance.now() - started) * 1000
  return { perSecond, issue: quantile(times.issue, 0.99), complete: quantile(times.complete, 0.99) }
}

type Run = Awaited<ReturnType<typeof load>>

const counts = [1, 2, 3]
const runs = new Map<number, Run[]>(counts.map(count => [count, []]))
// Interleaved: what else the machine does hits all alike.
for (let round = 0; round < rounds; round++) {
  for (const count of counts) {
    const it = await world(count)
    // The first requests of a process compile its code.
    await load(it, 2_000)
    runs.get(count)?.push(await load(it, seconds * 1000))
    await it.stop()
  }
}
const median = (count: number, of: (run: Run) => number) => quantile((runs.get(count) ?? []).map(of), 0.5)
const row = (count: number, of: (run: Run) => number) => (median(count, of) / median(1, of)).toFixed(2)
console.table(counts.map(count => ({
  replicas: count,
  'issued and completed a second': median(count, run => run.perSecond).toFixed(1),
  'to one replica': row(count, run => run.perSecond),
  'issue p99, to one': row(count, run => run.issue),
  'complete p99, to one': row(count, run => run.complete)
})))
await iam.stop()
await postgres.stop()
