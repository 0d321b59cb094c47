import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as sdk from '@aws-sdk/client-iam'
import { guideRequest } from '../src/request.ts'
import { makeDir } from '../test/kill/processes.ts'
import { freePort, serverEnv } from '../test/servers/daemon.ts'

/**
 * What one issue and one revocation cost: CPU time of the whole service, as `npm start` runs it, with its ledger in SQLite, its audit and
 * its log; clients and the IAM are processes of their own. The baseline does in the same run what nobody can leave out: three calls of the
 * AWS SDK's client as it comes, and one transaction of SQLite that is synced. Fails where the service costs more than 1.8 times that.
 *   BENCH_GRANTS=400 BENCH_ROUNDS=5 BENCH_PROFILE=DIR (--cpu-prof)
 *   BENCH_PEER=http://… compares with another service, at 1, 16 and 64 at once: see docs/benchmarks.md
 */

const { BENCH_GRANTS = '400', BENCH_ROUNDS = '5', BENCH_PROFILE, BENCH_PEER } = process.env
const [count, rounds, limit] = [Number(BENCH_GRANTS), Number(BENCH_ROUNDS), 1.8]

interface Iam { url: string, admin: { accessKeyId: string, secretAccessKey: string } }

/** Who issues and revokes. */
interface Subject {
  issue: (job: string) => Promise<string>
  revoke: (id: string) => Promise<unknown>
  cpuMs: () => Promise<number>
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

const startService = async (iam: Iam): Promise<Subject> => {
  const dir = makeDir()
  writeFileSync(join(dir.path, 'audit.json'), JSON.stringify({ path: join(dir.path, 'audit') }))
  const port = await freePort('127.0.0.1')
  const tellCpu = 'process.on("message", () => process.send(process.cpuUsage())); process.channel.unref()'
  const child = spawn(process.execPath, [
    ...flags, '--import', `data:text/javascript,${tellCpu}`, ...(BENCH_PROFILE ? ['--cpu-prof', `--cpu-prof-dir=${BENCH_PROFILE}`] : []),
    join(root, 'src/server.ts')
  ], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    cwd: dir.path,
    env: serverEnv({
      PORT: String(port),
      JOB_ACCESS_PROVIDER: 'localstack',
      AWS_ENDPOINT_URL_IAM: iam.url,
      AWS_ENDPOINT_URL_STS: iam.url,
      AWS_ACCESS_KEY_ID: iam.admin.accessKeyId,
      AWS_SECRET_ACCESS_KEY: iam.admin.secretAccessKey,
      HOME: dir.path,
      JOB_ACCESS_IDENTITY: join(dir.path, 'identity.json'),
      JOB_ACCESS_AUDIT: join(dir.path, 'audit.json'),
      JOB_ACCESS_LEDGER: join(dir.path, 'ledger.sqlite'),
      JOB_ACCESS_RATE_PER_MINUTE: '10000000',
      JOB_ACCESS_MAX_GRANTS: '1000000',
      JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '1000000'
    })
  })
  const url = `http://127.0.0.1:${port}`
  while (!await fetch(`${url}/healthz`).then(({ ok }) => ok, () => false)) await new Promise(resolve => setTimeout(resolve, 25))
  const headers = { authorization: `Bearer ${dir.token}` }
  return {
    async issue (job) {
      const body = JSON.stringify({ ...guideRequest, job: { id: job, team: 'nlp' } })
      const all = { ...headers, 'content-type': 'application/json' }
      return (await json(`${url}/v1/grants`, { method: 'POST', headers: all, body })).grant.id
    },
    revoke: id => json(`${url}/v1/grants/${id}/complete`, { method: 'POST', headers }),
    async cpuMs () {
      child.send('cpu')
      const [{ user, system }] = await once(child, 'message')
      return (user + system) / 1000
    },
    async stop () {
      child.kill()
      await once(child, 'exit')
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
    async stop () {
      client.destroy()
      database.close()
      dir.remove()
    }
  }
}

const startPeer = async (iam: Iam, peer: string): Promise<Subject> => {
  const post = (path: string, body: object) =>
    json(`${peer}${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  await post('/start', { iam: iam.url, ...iam.admin })
  return {
    issue: async job => (await post('/issue', { job })).id,
    revoke: id => post('/revoke', { id }),
    cpuMs: async () => (await json(`${peer}/cpu`)).cpuMs,
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

let jobs = 0
const round = async (subject: Subject, atOnce: number, size: number): Promise<{ issue: Cost, revoke: Cost }> => {
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
const compared = async (subjects: Record<string, Subject>, atOnce: number) => {
  const found = Object.fromEntries(Object.keys(subjects).map(name => [name, { issue: [] as Cost[], revoke: [] as Cost[] }]))
  for (const subject of Object.values(subjects)) await round(subject, atOnce, count)
  for (let turn = 0; turn < rounds; turn++) {
    for (const [name, subject] of Object.entries(subjects)) {
      const { issue, revoke } = await round(subject, atOnce, count)
      found[name]?.issue.push(issue)
      found[name]?.revoke.push(revoke)
    }
  }
  return Object.entries(found).map(([name, { issue, revoke }]) => ({ name, issue: best(issue), revoke: best(revoke) }))
}

const fixed = ({ cpuMs, perSecond, p50, p99 }: Cost) =>
  ({ 'CPU ms': cpuMs.toFixed(2), 'per second': Math.round(perSecond), 'p50 ms': p50.toFixed(1), 'p99 ms': p99.toFixed(1) })

const againstBaseline = async () => {
  const iam = await startIam(0)
  const subjects = { baseline: await startBaseline(iam), service: await startService(iam) }
  const [baseline, service] = await compared(subjects, 16)
  if (!baseline || !service) throw new Error('nothing was measured')
  console.table((['issue', 'revoke'] as const).map(what => {
    const ratio = service[what].cpuMs / baseline[what].cpuMs
    if (ratio > limit) process.exitCode = 1
    return {
      what,
      'CPU ms': service[what].cpuMs.toFixed(2),
      'baseline CPU ms': baseline[what].cpuMs.toFixed(2),
      ratio: ratio.toFixed(2),
      'at most': limit,
      'per second': Math.round(service[what].perSecond),
      'baseline per second': Math.round(baseline[what].perSecond)
    }
  }))
  for (const subject of Object.values(subjects)) await subject.stop()
  await iam.stop()
}

const againstPeer = async (peer: string, latencyMs: number) => {
  const iam = await startIam(latencyMs)
  const subjects = { service: await startService(iam), peer: await startPeer(iam, peer) }
  for (const atOnce of [1, 16, 64]) {
    const rows = await compared(subjects, atOnce)
    console.log(`${latencyMs} ms a call to IAM, ${atOnce} at once`)
    console.table(rows.flatMap(({ name, ...costs }) => (['issue', 'revoke'] as const).map(what => ({ name, what, ...fixed(costs[what]) }))))
  }
  for (const subject of Object.values(subjects)) await subject.stop()
  await iam.stop()
}

console.log(`Node ${process.version}, load ${loadavg()[0]?.toFixed(1)} on ${availableParallelism()} cores, ${count} grants a round`)
await againstBaseline()
if (BENCH_PEER !== undefined) for (const latencyMs of [0, 20]) await againstPeer(BENCH_PEER, latencyMs)
