import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CreateRoleCommand, IAMClient } from '@aws-sdk/client-iam'
import { createIam } from '../src/iam/client.ts'
import { guideRequest } from '../src/request.ts'
import { makeDir, service, startIam } from '../test/kill/processes.ts'
import { freshDatabase, startPostgres } from '../test/servers/postgres.ts'

/**
 * Workers of one job that join at once, with 20 ms a call to IAM: how long until all of them hold a key. IAM, each replica and
 * PostgreSQL are processes of their own. The same without delay is what the work costs on this machine: whatever the delay, it is
 * not faster than that.
 *   BENCH_WORKERS=64,512 BENCH_ROUNDS=3 BENCH_LATENCIES=20,0
 */

const { BENCH_WORKERS = '64,512', BENCH_ROUNDS = '3', BENCH_LATENCIES = '20,0' } = process.env
const numbers = (list: string) => list.split(',').map(Number)

/** Connections that one client of the SDK opens at most (NodeHttpHandler of @smithy/node-http-handler: `maxSockets` of its agent). */
const connections = 50
/** Calls of a worker, and how many of them one after another. */
const costs = { inline: { calls: 3, deep: 2 }, session: { calls: 1, deep: 1 } }

type Mode = keyof typeof costs

const postgres = await startPostgres()

const roleFor = async (iam: { url: string, admin: { accessKeyId: string, secretAccessKey: string } }, dir: string): Promise<string> => {
  const profile = {
    name: 'default', roleArn: 'arn:aws:iam::000000000000:role/jobs', maxSessionSeconds: 43_200, chained: false, revocable: false
  }
  const sdk = new IAMClient({ endpoint: iam.url, region: 'us-east-1', credentials: iam.admin })
  await sdk.send(new CreateRoleCommand({
    RoleName: 'jobs',
    MaxSessionDuration: profile.maxSessionSeconds,
    AssumeRolePolicyDocument: JSON.stringify({
      Version: '2012-10-17',
      Statement: [{
        Effect: 'Allow',
        Principal: { AWS: 'arn:aws:iam::000000000000:root' },
        Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity']
      }]
    })
  }))
  sdk.destroy()
  const file = join(dir, 'profiles.json')
  writeFileSync(file, JSON.stringify([profile]))
  return file
}

const world = async (latencyMs: number, count: number) => {
  const iam = await startIam(latencyMs)
  const dir = makeDir()
  const database = await freshDatabase(postgres.url)
  const env = {
    LOG_LEVEL: 'error',
    JOB_ACCESS_PROFILES: await roleFor(iam, dir.path),
    JOB_ACCESS_IAM_DEADLINE_MS: '15000',
    JOB_ACCESS_MAX_GRANTS: '100000',
    JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '100000'
  }
  const replicas = await Promise.all(Array.from({ length: count }, (_, index) =>
    service({ iam, dir, name: `replica-${index}`, ledger: { DATABASE_URL: database.url }, env })))
  await Promise.all(replicas.map(replica => replica.start()))
  const send = async (turn: number, path: string, body: object) => {
    const response = await fetch(`${replicas[turn % count]?.url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${dir.token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body)
    })
    return {
      status: response.status,
      retryAfter: Number(response.headers.get('retry-after') ?? 1),
      body: await response.json() as { grant: { id: string }, credentials?: object, code?: string }
    }
  }
  return {
    iam,
    send,
    async stop () {
      await Promise.all(replicas.map(replica => replica.kill()))
      await iam.stop()
      await database.drop()
      dir.remove()
    }
  }
}

type World = Awaited<ReturnType<typeof world>>

const callsOf = async ({ iam }: World): Promise<number> => (await iam.calls()).length

/** What one call takes here, on an idle IAM, with what client and loopback add. */
const roundTrip = async ({ iam }: World): Promise<number> => {
  const client = createIam({ region: 'us-east-1', endpoint: iam.url, stsEndpoint: iam.url, credentials: iam.admin })
  const times: number[] = []
  for (let n = 0; n < 30; n++) {
    const called = performance.now()
    await client.getUser('nobody', Date.now() + 5_000).catch(() => {})
    times.push(performance.now() - called)
  }
  client.close()
  return quantile(times, 0.5)
}

const quantile = (times: number[], q: number) => times.toSorted((a, b) => a - b)[Math.floor(times.length * q)] ?? 0

let jobs = 0
const { sourceIps: _, ...sourceless } = guideRequest

const joinAll = async (it: World, attach: Mode, workers: number) => {
  const job = { id: `job-${jobs++}`, team: 'nlp' }
  const opened = await it.send(0, '/v1/grants', { ...sourceless, attach, job, workers: { max: workers } })
  if (opened.status !== 201) throw new Error(`no job: ${opened.status} ${opened.body.code}`)
  const before = await callsOf(it)
  const times: number[] = []
  let repeated = 0
  const started = performance.now()
  await Promise.all(Array.from({ length: workers }, async (_, rank) => {
    const body = { name: `w-${rank}`, attempt: '0', sourceIps: [`203.0.${Math.floor(rank / 250)}.${1 + rank % 250}`] }
    for (;;) {
      const answer = await it.send(rank, `/v1/grants/${opened.body.grant.id}/workers`, body)
      if (answer.body.credentials) break
      if (answer.status < 429 && answer.status !== 409) throw new Error(`no key: ${answer.status} ${answer.body.code}`)
      repeated++
      await delay(answer.retryAfter * 1000)
    }
    times.push(performance.now() - started)
  }))
  const all = performance.now() - started
  const calls = await callsOf(it) - before
  await it.send(0, `/v1/grants/${opened.body.grant.id}/complete`, {})
  return { all, calls: calls / workers, repeated, p50: quantile(times, 0.5), p99: quantile(times, 0.99) }
}

const rows: Array<Record<string, string | number>> = []
for (const latency of numbers(BENCH_LATENCIES)) {
  for (const replicas of [1, 2]) {
    const it = await world(latency, replicas)
    // The first requests of a process compile its code.
    for (const attach of ['inline', 'session'] as const) await joinAll(it, attach, 32)
    const trip = await roundTrip(it)
    for (const attach of ['inline', 'session'] as const) {
      for (const workers of numbers(BENCH_WORKERS)) {
        const runs = []
        for (let round = 0; round < Number(BENCH_ROUNDS); round++) runs.push(await joinAll(it, attach, workers))
        const [best] = runs.toSorted((a, b) => a.all - b.all)
        if (!best) throw new Error('BENCH_ROUNDS must be at least 1')
        const { calls, deep } = costs[attach]
        const floor = Math.max(deep, calls * workers / connections / replicas) * trip
        rows.push({
          'ms a call': latency,
          'as measured': trip.toFixed(1),
          replicas,
          mode: attach === 'inline' ? 'user' : 'session',
          workers,
          'all, ms': runs.map(({ all }) => Math.round(all)).join(' '),
          'floor, ms': Math.round(floor),
          'best/floor': (best.all / floor).toFixed(1),
          'p50, ms': Math.round(best.p50),
          'p99, ms': Math.round(best.p99),
          'calls a worker': best.calls.toFixed(2),
          'asked again': runs.reduce((sum, { repeated }) => sum + repeated, 0)
        })
      }
    }
    await it.stop()
  }
}
console.table(rows)
await postgres.stop()
