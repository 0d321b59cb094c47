import { guideRequest } from '../src/request.ts'
import { makeDir, startIam } from '../test/kill/processes.ts'
import { clientOf, inLanes, startService } from './service-process.ts'

/**
 * What a second process gains and costs: 64 requests at a time, to the service as `npm start` runs it, with 1 and with 2 processes, in
 * turns; on SQLite with the audit on. The IAM is a process of its own, and so is this client: they take their part of the cores. So the
 * requests that only render a policy say more than the issues do.
 *   BENCH_PROCESSES=1,2 BENCH_GRANTS=1500 BENCH_ROUNDS=3
 */

const { BENCH_PROCESSES = '1,2', BENCH_GRANTS = '1500', BENCH_ROUNDS = '3' } = process.env
const [atOnce, grants, rounds] = [64, Number(BENCH_GRANTS), Number(BENCH_ROUNDS)]

let jobs = 0
const job = () => ({ ...guideRequest, job: { id: `job-${jobs++}`, team: 'nlp' } })

const run = async (processes: number) => {
  const iam = await startIam(0)
  const dir = makeDir()
  const service = await startService(iam, dir, { LOG_LEVEL: 'info', JOB_ACCESS_PROCESSES: String(processes) })
  const { send, close } = clientOf(service.url, dir.token)
  const measure = async (path: string, count: number) => {
    const times: number[] = []
    const before = { at: performance.now(), cpu: service.cpu() }
    let left = count
    await inLanes(atOnce, () => left-- > 0, async () => {
      const began = performance.now()
      await send('POST', path, job())
      times.push(performance.now() - began)
    })
    times.sort((a, b) => a - b)
    return {
      perSecond: count / (performance.now() - before.at) * 1000,
      cpuMs: (service.cpu() - before.cpu) / count,
      p50: times[Math.floor(count * 0.5)] ?? 0,
      p99: times[Math.floor(count * 0.99)] ?? 0
    }
  }
  await measure('/v1/grants', 200)
  const idle = service.memory()
  const issued = await measure('/v1/grants', grants)
  const rendered = await measure('/v1/policies', 2 * grants)
  const memory = service.memory()
  close()
  await service.stop()
  await iam.stop()
  dir.remove()
  return { issued, rendered, idle, memory }
}

const counts = BENCH_PROCESSES.split(',').map(Number)
type Result = Awaited<ReturnType<typeof run>>
const results = new Map<number, Result[]>(counts.map(count => [count, []]))
for (let round = 0; round < rounds; round++) for (const count of counts) results.get(count)?.push(await run(count))

// The best round of each: what else the machine does only takes away.
const best = (all: Result[], kind: 'issued' | 'rendered') =>
  all.map(result => result[kind]).reduce((a, b) => a.perSecond > b.perSecond ? a : b)
const base = results.get(counts[0] ?? 1) ?? []
console.table([...results].flatMap(([processes, all]) => (['issued', 'rendered'] as const).map(kind => {
  const [own, first] = [best(all, kind), best(base, kind)]
  const ratio = (name: keyof typeof own) => (own[name] / first[name]).toFixed(2)
  return {
    processes,
    what: kind,
    'a second': Math.round(own.perSecond),
    ratio: ratio('perSecond'),
    'p50 ratio': ratio('p50'),
    'p99 ratio': ratio('p99'),
    'CPU ms each': own.cpuMs.toFixed(2),
    'CPU ratio': ratio('cpuMs')
  }
})))
console.table([...results].map(([processes, all]) => {
  /** The highest of all rounds, process by process. */
  const peaks = (all[0]?.memory ?? []).map((_, index) => Math.max(...all.map(({ memory }) => memory[index]?.peak ?? 0)))
  const idle = Math.max(...all.map(result => result.idle.at(-1)?.now ?? 0))
  const small = processes === 1 ? 0 : peaks[0] ?? 0
  const answering = processes === 1 ? peaks : peaks.slice(1)
  return {
    processes,
    'MB after 200 grants, each': idle,
    'MB at peak, each': answering.join(', '),
    'MB at peak, small one': small || '–',
    'MB in all': peaks.reduce((sum, peak) => sum + peak, 0)
  }
}))
