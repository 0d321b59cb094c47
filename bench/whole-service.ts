import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { CreateRoleCommand, IAMClient } from '@aws-sdk/client-iam'
import { compose } from '../src/compose.ts'
import { readConfig } from '../src/config.ts'
import { errorReply } from '../src/embedded-iam/dispatch.ts'
import { freshAdmin, openAccount, startEmbeddedIam, type EmbeddedIam } from '../src/embedded-iam/server.ts'
import { buildApp } from '../src/http/app.ts'
import { createIam, type Iam } from '../src/iam/client.ts'
import { createPacer, type Pacer } from '../src/iam/pace.ts'
import { systemClock, type Clock } from '../src/iam/retry.ts'
import { lanesOf, sweep, type Lane } from '../src/lifecycle/sweep.ts'
import { guideRequest } from '../src/request.ts'
import { tokenBucket, type Job, type World } from './simulate.ts'

/**
 * The jobs of a simulation, given to the whole service: its HTTP API, a ledger in a file of SQLite, the pool of accounts, each an embedded
 * IAM with the buckets and quotas of the simulated one. Only time is made up: it goes on when everybody waits for it. So it takes seconds,
 * and a slow machine measures the same as a fast one. What the work costs is not in it.
 */

/** Of jobs, simulated or done. Times in ms from the beginning. */
export interface Seen {
  keyAt: number[]
  late: number
  full: number
  firstLateAt: number | undefined
  firstFullAt: number | undefined
  asked: number
  refused: number
  /** Answers that the simulation does not know, by code. */
  others: string[]
}

interface Time extends Clock {
  /** Something is on its way over a connection, or has arrived: time does not go on meanwhile. */
  departs: () => void
  arrives: () => void
  run: <T>(work: Promise<T>) => Promise<T>
}

/** Time that goes on when everybody waits for it. */
const madeUp = (): Time => {
  let now = Date.now()
  let moving = 0
  const timers: Array<{ at: number, fire: () => void }> = []
  /** What needs no connection is done within a few turns of the event loop. */
  const isQuiet = async () => {
    for (let turn = 0; turn < 6; turn++) {
      await setImmediate()
      if (moving > 0) return false
    }
    return true
  }
  return {
    now: () => now,
    pause: ms => new Promise(resolve => { timers.push({ at: now + Math.max(0, ms), fire: resolve }) }),
    departs () { moving++ },
    arrives () { moving-- },
    async run (work) {
      const over = new AbortController()
      const end = () => over.abort()
      work.then(end, end)
      while (!over.signal.aborted) {
        if (!await isQuiet()) continue
        let first = 0
        for (const [index, { at }] of timers.entries()) if (at < timers[first]!.at) first = index
        const [next] = timers.splice(first, 1)
        if (!next) continue
        now = Math.max(now, next.at)
        next.fire()
      }
      return work
    }
  }
}

const real = (): Time => ({ ...systemClock, departs () {}, arrives () {}, run: work => work })

const roleName = 'jobs'
const longest = 43_200
const profile = { name: 'default', maxSessionSeconds: longest, chained: false, revocable: false }

/** An IAM that refuses what is over the limits of its buckets. */
const limitedIam = async ({ buckets: given, users, callMs }: World, accountId: string, time: Time, seen: Seen) => {
  const adminKeys = freshAdmin()
  const own = openAccount({ accountId, maxUsers: users, now: () => new Date(time.now()) }, adminKeys)
  const buckets = new Map<string, ReturnType<typeof tokenBucket>>()
  const begunAt = time.now()
  const server = await startEmbeddedIam({
    adminKeys,
    account: () => own,
    async intercept ({ service, call: { action } }, serve) {
      if (action === 'CreateRole') return serve()
      time.arrives()
      await time.pause(callMs / 2)
      const limit = given[action] ?? given['*']
      const bucket = buckets.get(action) ?? (limit && tokenBucket(limit))
      if (bucket) buckets.set(action, bucket)
      seen.asked++
      const has = bucket?.has(time.now() - begunAt) ?? true
      if (has) bucket?.take()
      else seen.refused++
      const reply = has ? serve() : errorReply(service, 400, 'Throttling', 'Rate exceeded')
      await time.pause(callMs / 2)
      time.departs()
      return reply
    }
  })
  const sdk = new IAMClient({ endpoint: server.url, region: 'us-east-1', credentials: adminKeys })
  const allow = {
    Effect: 'Allow',
    Principal: { AWS: `arn:aws:iam::${accountId}:root` },
    Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity']
  }
  await sdk.send(new CreateRoleCommand({
    RoleName: roleName,
    MaxSessionDuration: longest,
    AssumeRolePolicyDocument: JSON.stringify({ Version: '2012-10-17', Statement: [allow] })
  }))
  sdk.destroy()
  return server
}

const watched = (pacer: Pacer, { departs, arrives }: Time): Pacer => ({
  async take (until) {
    const answered = await pacer.take(until)
    if (!answered) return undefined
    departs()
    return throttled => {
      arrives()
      answered(throttled)
    }
  }
})

const { sourceIps: _, ...sourceless } = guideRequest
const silent = { info () {}, warn () {}, error () {} }

/** @param forMs what comes after it does not count */
export const serve = async (world: World, jobs: Job[], forMs: number, isReal = false): Promise<Seen> => {
  const time = isReal ? real() : madeUp()
  const seen: Seen = { keyAt: [], late: 0, full: 0, firstLateAt: undefined, firstFullAt: undefined, asked: 0, refused: 0, others: [] }
  const dir = mkdtempSync(join(tmpdir(), 'whole-service-'))
  const servers: Record<string, EmbeddedIam> = {}
  for (let index = 0; index < world.accounts; index++) {
    servers[`account-${index}`] = await limitedIam(world, `00000000000${index}`, time, seen)
  }
  const [embedded] = Object.values(servers)
  const accounts = Object.entries(servers).map(([name, { accountId }]) => ({
    name,
    users: world.users,
    managedPolicies: world.policies,
    profiles: [
      { ...profile, roleArn: `arn:aws:iam::${accountId}:role/${roleName}` }
    ]
  }))
  writeFileSync(join(dir, 'accounts.json'), JSON.stringify(accounts))
  const config = readConfig({
    JOB_ACCESS_ACCOUNTS_FILE: join(dir, 'accounts.json'),
    JOB_ACCESS_LEDGER: join(dir, 'ledger.sqlite'),
    JOB_ACCESS_IAM_DEADLINE_MS: String(world.deadlineMs),
    JOB_ACCESS_MAX_GRANTS: '100000',
    JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '100000',
    JOB_ACCESS_RATE_PER_MINUTE: '10000000'
  })
  const pacer = () => watched(createPacer(time), time)
  const clients: Iam[] = []
  const { service, deps, generatedToken, close } = await compose(config, {
    log: silent,
    overrides: {
      now: () => Math.floor(time.now()),
      clock: time,
      servers,
      ...(embedded && { embedded }),
      iamIn (name, onCall) {
        const { url, admin } = servers[name]!
        const iam = createIam({
          region: 'us-east-1',
          endpoint: url,
          stsEndpoint: url,
          credentials: admin,
          now: time.now,
          sleep: time.pause,
          // The client ends a call by the real clock. Where the deadline is near it does so here, too; a slow machine does it more often.
          attemptMs: 3_600_000,
          pacers: { iam: pacer(), sts: pacer() },
          onCall (call) {
            if (call.outcome === 'unavailable') seen.others.push('a call was ended by the real clock')
            onCall(call)
          }
        })
        clients.push(iam)
        return iam
      }
    }
  })
  // Its pauses are of the real clock.
  if (!isReal) Object.assign(deps, { turn: async () => {} })
  const app = await buildApp(service, { logger: false, newRequestId: randomUUID })
  app.addHook('onRequest', async () => time.arrives())
  app.addHook('onSend', async () => time.departs())
  const address = await app.listen({ host: '127.0.0.1', port: 0 })

  const startedAt = time.now()
  const since = () => time.now() - startedAt
  const until = (at: number) => time.pause(Math.max(0, at - since()))

  const send = async (path: string, body: object) => {
    time.departs()
    const answer = await fetch(address + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${generatedToken}`, 'content-type': 'application/json' },
      body: JSON.stringify(body)
    })
    const { grant, code } = await answer.json() as { grant?: { id: string }, code?: string }
    time.arrives()
    return { status: answer.status, id: grant?.id, code: code ?? 'none', retryAfter: Number(answer.headers.get('retry-after') ?? Infinity) }
  }

  /** As a client does: sent again after Retry-After, until the job has ended. */
  const insist = async (endsAt: number, path: string, body: object): Promise<string | undefined> => {
    while (since() < endsAt && since() < forMs) {
      const { status, id, code, retryAfter } = await send(path, body)
      if (since() >= forMs) return undefined
      if (status < 300) return id
      if (code === 'iam-unavailable') {
        seen.late++
        seen.firstLateAt ??= since()
      } else if (status === 429) {
        seen.full++
        seen.firstFullAt ??= since()
      } else if (since() < endsAt) seen.others.push(code)
      await time.pause(Math.min(retryAfter * 1000, forMs - since()))
    }
    return undefined
  }

  const run = async ({ asksAt, asksFor, endsAt, attach, workers }: Job, index: number) => {
    await until(asksAt)
    const job = await insist(endsAt, '/v1/grants', {
      ...sourceless, attach, window: { durationSeconds: longest }, job: { id: `job-${index}`, team: 'nlp' }, workers: { max: workers }
    })
    if (job === undefined) return
    const joins = Array.from({ length: workers }, async (_, rank) => {
      await until(asksAt + asksFor * rank / workers)
      const body = { name: `w-${rank}`, attempt: '0', sourceIps: ['203.0.113.9'] }
      if (await insist(endsAt, `/v1/grants/${job}/workers`, body) !== undefined && since() < endsAt) seen.keyAt.push(since())
    })
    if (endsAt < forMs) {
      await until(endsAt)
      await send(`/v1/grants/${job}/complete`, {})
    }
    await Promise.all(joins)
  }

  const over = new AbortController()
  /** As src/server.ts does it. */
  const sweeping = async (lane: Lane) => {
    while (since() < forMs && !over.signal.aborted) {
      await time.pause(Math.min(5_000, forMs - since()))
      await sweep(deps, { concurrency: 4, perSecond: 10, lane, clock: time }, over.signal)
    }
  }
  await time.run(Promise.all([...jobs.map(run), ...lanesOf(deps).map(sweeping)]))
  over.abort()
  await app.close()
  await close()
  for (const iam of clients) iam.close()
  for (const server of Object.values(servers)) await server.stop()
  rmSync(dir, { recursive: true })
  return seen
}
