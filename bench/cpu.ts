import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as sdk from '@aws-sdk/client-iam'
import { guideRequest } from '../src/request.ts'
import { makeDir } from '../test/kill/processes.ts'
import { startService } from './service-process.ts'

/**
 * What one issue and one revocation cost: CPU time of the whole service, as `npm start` runs it, with its ledger in SQLite, its audit and
 * its log; clients and the IAM are processes of their own. The baseline does in the same run what nobody can leave out: three calls of the
 * AWS SDK's client as it comes, and one transaction of SQLite that is synced. Fails where the service costs more than 1.8 times that.
 *   BENCH_GRANTS=400 BENCH_ROUNDS=5 BENCH_PROFILE=DIR (--cpu-prof)
 *   BENCH_PEER=http://… compares with another service (BENCH_AT_ONCE=1,16,64; BENCH_PROCESSES=1 of ours): docs/benchmarks.md
 */

const { BENCH_GRANTS = '400', BENCH_ROUNDS = '5', BENCH_PROFILE, BENCH_PEER } = process.env
const { BENCH_AT_ONCE = '1,16,64', BENCH_PROCESSES = '1' } = process.env
const [count, rounds, limit] = [Number(BENCH_GRANTS), Number(BENCH_ROUNDS), 1.8]

interface Iam { url: string, admin: { accessKeyId: string, secretAccessKey: string } }

/** Who issues and revokes. */
interface Subject {
  issue: (job: string) => Promise<string>
  revoke: (id: string) => Promise<unknown>
  cpuMs: () => Promise<number>
  /** The most memory that each of its processes had, added up. */
  peakMb: () => Promise<number>
  stop: () => Promise<unknown>
}

const flags = ['--disable-warning=ExperimentalWarning']
const root = join(import.meta.dirname, '..')

const startIam = async (latencyMs: number): Promise<Iam & { stop: () => Promise<void> }> => {
  const child = spawn(process.execPath, [
    ...flags, join(root, 'test/embedded-iam/levers/main.ts'),
    '--latency', String(latencyMs), '--max-users', '200000', '--exit-with-stdin'
  ], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = await once(child.stdout, 'data')
  return { ...JSON.parse(String(line)), stop: async () => { child.kill(); await once(child, 'exit') } }
}

const json = async (url: string, init: { method?: string, headers?: Record<string, string>, body?: string } = {}) => {
  const answer = await fetch(url, init)
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${text}`)
  return text === '' ? {} : JSON.parse(text)
}

const startOurs = async (iam: Iam, processes: string): Promise<Subject> => {
  const dir = makeDir()
  writeFileSync(join(dir.path, 'audit.json'), JSON.stringify({ path: join(dir.path, 'audit') }))
  const profile = BENCH_PROFILE ? ['--cpu-prof', `--cpu-prof-dir=${BENCH_PROFILE}`] : []
  const { url, cpu, memory, stop } = await startService(iam, dir, { JOB_ACCESS_PROCESSES: processes }, profile)
  const headers = { authorization: `Bearer ${dir.token}` }
  return {
    async issue (job) {
      const body = JSON.stringify({ ...guideRequest, job: { id: job, team: 'nlp' } })
      const all = { ...headers, 'content-type': 'application/json' }
      return (await json(`${url}/v1/grants`, { method: 'POST', headers: all, body })).grant.id
    },
    revoke: id => json(`${url}/v1/grants/${id}/complete`, { method: 'POST', headers }),
    cpuMs: async () => cpu(),
    peakMb: async () => memory().reduce((sum, { peak }) => sum + peak, 0),
    async stop () {
      await stop()
      dir.remove()
    }
  }
}

/** The same calls, and what the ledger has of a grant, with nothing around them. */
const startBaseline = async (iam: Iam): Promise<Subject> => {
  const dir = makeDir()
  const client = new sdk.IAMClient({ endpoint: iam.url, region: 'us-east-1', credentials: iam.admin })
  const database = new DatabaseSync(join(dir.path, 'baseline.sqlite'))
  database.exec('pragma journal_mode = wal; pragma synchronous = full; create table grants (id text primary key, grant text not null)')
  const write = database.prepare('insert or replace into grants values (?, ?)')
  const transaction = (id: string, grant: string) => {
    database.exec('begin immediate')
    write.run(id, grant)
    database.exec('commit')
  }
  const document = JSON.stringify({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::acmeco-training-datasets/*'] }]
  })
  const grant = JSON.stringify({ policy: 'x'.repeat(1_300), spec: 'x'.repeat(1_300) })
  const keys = new Map<string, string | undefined>()
  return {
    async issue (UserName) {
      await client.send(new sdk.CreateUserCommand({ UserName, Path: '/bench/', Tags: [{ Key: 'job', Value: UserName }] }))
      const [{ AccessKey }] = await Promise.all([
        client.send(new sdk.CreateAccessKeyCommand({ UserName })),
        client.send(new sdk.PutUserPolicyCommand({ UserName, PolicyName: 'access', PolicyDocument: document }))
      ])
      keys.set(UserName, AccessKey?.AccessKeyId)
      transaction(UserName, grant)
      return UserName
    },
    async revoke (UserName) {
      await client.send(new sdk.DeleteAccessKeyCommand({ UserName, AccessKeyId: keys.get(UserName) }))
      await client.send(new sdk.DeleteUserPolicyCommand({ UserName, PolicyName: 'access' }))
      await client.send(new sdk.DeleteUserCommand({ UserName }))
      transaction(UserName, '')
    },
    async cpuMs () {
      const { user, system } = process.cpuUsage()
      return (user + system) / 1000
    },
    peakMb: async () => process.resourceUsage().maxRSS / 1024,
    async stop () {
      client.destroy()
      database.close()
      dir.remove()
    }
  }
}

/** How the other service is asked, by its harness: in the body, '{job}' and '{id}' stand for the job's name and for what is to end. */
interface PeerRequest { method: string, url: string, headers?: Record<string, string>, body?: unknown }
interface PeerRequests { issue: PeerRequest, revoke: PeerRequest, id: string }

/** The harness starts, measures and stops it; the requests that are measured do not go through the harness. */
const startPeer = async (iam: Iam, harness: string): Promise<Subject> => {
  const post = (path: string, body: object) =>
    json(`${harness}${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  const { issue, revoke, id } = await post('/start', { iam: iam.url, ...iam.admin }) as PeerRequests
  const send = ({ url, body, ...rest }: PeerRequest, place: string, value: string) =>
    json(url, { ...rest, ...(body !== undefined && { body: JSON.stringify(body, (_, part) => part === place ? value : part) }) })
  const names = id.split('/').slice(1)
  return {
    async issue (job) {
      const found = names.reduce((at, name) => at?.[name], await send(issue, '{job}', job))
      if (typeof found !== 'string') throw new Error(`the answer of the other service has no ${id}`)
      return found
    },
    revoke: found => send(revoke, '{id}', found),
    cpuMs: async () => (await json(`${harness}/cpu`)).cpuMs,
    peakMb: async () => (await json(`${harness}/cpu`)).peakMb,
    stop: () => post('/stop', {})
  }
}

interface Cost { cpuMs: number, perSecond: number, p50: number, p99: number }

const measured = async (subject: Subject, items: string[], atOnce: number, work: (item: string) => Promise<unknown>): Promise<Cost> => {
  const left = [...items]
  const times: number[] = []
  const before = await subject.cpuMs()
  const began = performance.now()
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) {
      const from = performance.now()
      await work(item)
      times.push(performance.now() - from)
    }
  }))
  const took = performance.now() - began
  times.sort((a, b) => a - b)
  const at = (q: number) => times[Math.floor(times.length * q)] ?? NaN
  return { cpuMs: (await subject.cpuMs() - before) / items.length, perSecond: items.length / took * 1000, p50: at(0.5), p99: at(0.99) }
}

const whats = ['issue', 'revoke'] as const
type What = typeof whats[number]

let jobs = 0
const round = async (subject: Subject, atOnce: number, size: number): Promise<Record<What, Cost>> => {
  const ids: string[] = []
  const names = Array.from({ length: size }, () => `job-${jobs++}`)
  const issue = await measured(subject, names, atOnce, async job => ids.push(await subject.issue(job)))
  return { issue, revoke: await measured(subject, ids, atOnce, subject.revoke) }
}

/** The best of each figure: what else the machine does only adds. */
const best = (costs: Cost[]): Cost => ({
  cpuMs: Math.min(...costs.map(({ cpuMs }) => cpuMs)),
  perSecond: Math.max(...costs.map(({ perSecond }) => perSecond)),
  p50: Math.min(...costs.map(({ p50 }) => p50)),
  p99: Math.min(...costs.map(({ p99 }) => p99))
})

/** In turns, so that what else the machine does falls on all. */
const compared = async <Name extends string>(subjects: Record<Name, Subject>, atOnce: number) => {
  const all = Object.entries(subjects) as Array<[Name, Subject]>
  const found = Object.fromEntries(all.map(([name]) => [name, { issue: [], revoke: [] }])) as unknown as Record<Name, Record<What, Cost[]>>
  for (const [, subject] of all) await round(subject, atOnce, count)
  for (let turn = 0; turn < rounds; turn++) {
    for (const [name, subject] of all) {
      const costs = await round(subject, atOnce, count)
      for (const what of whats) found[name][what].push(costs[what])
    }
  }
  return found
}

/** With the least and the most of the rounds. */
const median = (values: number[], digits: number): string => {
  const [sorted, half] = [values.toSorted((a, b) => a - b), values.length / 2]
  const middle = ((sorted[Math.ceil(half) - 1] ?? NaN) + (sorted[Math.floor(half)] ?? NaN)) / 2
  return `${middle.toFixed(digits)} (${[sorted.at(0), sorted.at(-1)].map(value => value?.toFixed(digits)).join('-')})`
}

const againstBaseline = async () => {
  const iam = await startIam(0)
  const subjects = { baseline: await startBaseline(iam), service: await startOurs(iam, '1') }
  const found = await compared(subjects, 16)
  console.table(whats.map(what => {
    const [service, baseline] = [best(found.service[what]), best(found.baseline[what])]
    const ratio = service.cpuMs / baseline.cpuMs
    if (ratio > limit) process.exitCode = 1
    return {
      what,
      'CPU ms': service.cpuMs.toFixed(2),
      'baseline CPU ms': baseline.cpuMs.toFixed(2),
      ratio: ratio.toFixed(2),
      'at most': limit,
      'per second': Math.round(service.perSecond),
      'baseline per second': Math.round(baseline.perSecond)
    }
  }))
  for (const subject of Object.values(subjects)) await subject.stop()
  await iam.stop()
}

const figures = [['per second', 'perSecond', 0], ['p50 ms', 'p50', 1], ['p99 ms', 'p99', 1], ['CPU ms', 'cpuMs', 2]] as const

/** A ratio is that of one round, in which both took their turn. */
const againstPeer = async (peer: string, latencyMs: number) => {
  const iam = await startIam(latencyMs)
  const subjects = { service: await startOurs(iam, BENCH_PROCESSES), peer: await startPeer(iam, peer) }
  for (const atOnce of BENCH_AT_ONCE.split(',').map(Number)) {
    const { service, peer } = await compared(subjects, atOnce)
    console.log(`${latencyMs} ms a call to IAM, ${atOnce} at once; JOB_ACCESS_PROCESSES=${BENCH_PROCESSES}, median (least-most)`)
    console.table(whats.flatMap(what => figures.map(([figure, name, digits]) => {
      const [ours, theirs] = [service[what].map(cost => cost[name]), peer[what].map(cost => cost[name])]
      const ratios = ours.map((value, turn) => value / (theirs[turn] ?? NaN))
      return { what, figure, service: median(ours, digits), peer: median(theirs, digits), ratio: median(ratios, 2) }
    })))
  }
  const [ours, theirs] = [await subjects.service.peakMb(), await subjects.peer.peakMb()]
  console.log(`memory at peak, MB: service ${ours.toFixed()}, peer ${theirs.toFixed()}, ratio ${(ours / theirs).toFixed(2)}`)
  for (const subject of Object.values(subjects)) await subject.stop()
  await iam.stop()
}

console.log(`Node ${process.version}, load ${loadavg()[0]?.toFixed(1)} on ${availableParallelism()} cores, ${count} grants a round`)
await againstBaseline()
if (BENCH_PEER !== undefined) for (const latencyMs of [0, 20]) await againstPeer(BENCH_PEER, latencyMs)
