import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { createIam } from '../../src/iam/client.ts'
import type { Grant } from '../../src/domain/grant.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { openLedger } from '../../src/ledger/open.ts'
import type { UserView } from '../embedded-iam/levers/view.ts'
import { addressOf, orchestrator, type Counts, type Job } from './orchestrator.ts'
import { makeDir, service, startIam, type IamProcess } from './processes.ts'

/**
 * Kills a real service with SIGKILL, again and again, while jobs ask it for grants, and looks at what is left: the provider is
 * a process of its own, the ledger a file or a database, and both live on.
 */

export interface KillLoopOptions {
  rounds: number
  /** Undefined: a SQLite file. */
  databaseUrl?: string
  seed: number
}

export interface KillLoopReport {
  rounds: number
  seconds: number
  counts: Counts
  /** Kills that hit at least one operation half-way, by the claims that they left; and those operations, by state of the grant. */
  kills: { hit: number, operations: Record<string, number> }
  jobs: { all: number, live: number, ended: number, ending: number, abandoned: number, unanswered: number }
  rows: Record<string, number>
  /** Live grants whose client died before the answer. */
  orphans: number
  /** Live grants of jobs of workers: they have no user of their own. */
  jobsOfWorkers: number
  users: number
  /** Each of these must be empty. */
  unsettled: string[]
  unknownKeys: string[]
  lostGrants: string[]
  strayUsers: string[]
  survivors: string[]
  doubles: string[]
  strayWorkers: string[]
  leaks: number
}

export const killLoop = async ({ rounds, databaseUrl, seed }: KillLoopOptions): Promise<KillLoopReport> => {
  const started = Date.now()
  const iam = await startIam(3)
  const dir = makeDir()
  const ledgerUrl = databaseUrl ?? `${dir.path}/ledger.sqlite`
  const server = await service({ iam, dir, ledger: databaseUrl ? { DATABASE_URL: databaseUrl } : { JOB_ACCESS_LEDGER: ledgerUrl } })
  const clients = orchestrator([server.url], dir.token, seed)
  const kills: KillLoopReport['kills'] = { hit: 0, operations: {} }
  const answers = () => Object.values(clients.counts.answered).reduce((sum, count) => sum + count)
  try {
    await server.start()
    clients.start(8)
    for (let round = 0; round < rounds; round++) {
      const before = answers()
      // Every third round is long enough for a sweep, which comes a second after the start: it is killed, too.
      await delay((round % 3 === 0 ? 1_000 : 100) + (round * 37) % 400)
      // On a busy machine the service, which has just started, is not at work yet.
      for (const giveUpAt = Date.now() + 10_000; answers() === before && Date.now() < giveUpAt;) await delay(10)
      await server.kill()
      const cut = await halfDone(ledgerUrl)
      if (cut.length > 0) kills.hit++
      for (const state of cut) kills.operations[state] = (kills.operations[state] ?? 0) + 1
      await server.start()
    }
    await delay(500)
    await clients.stop()
    await clients.finish()
    const unsettled = await quiet(iam, ledgerUrl)
    await server.stop()
    const left = await inspect(iam, ledgerUrl, clients.jobs)
    const secrets = clients.jobs.flatMap(({ key }) => key ? [key.secretAccessKey] : [])
    const written = dir.written()
    return {
      rounds,
      seconds: Math.round((Date.now() - started) / 1000),
      counts: clients.counts,
      kills,
      jobs: {
        all: clients.jobs.length,
        live: clients.jobs.filter(({ ended, grant }) => grant !== undefined && !ended).length,
        abandoned: clients.jobs.filter(({ abandoned }) => abandoned).length,
        ended: clients.jobs.filter(({ ended }) => ended === 'ended').length,
        ending: clients.jobs.filter(({ ended }) => ended === 'ending').length,
        unanswered: clients.jobs.filter(({ open, abandoned }) => open !== undefined && !abandoned).length
      },
      unsettled,
      ...left,
      leaks: secrets.filter(secret => written.includes(secret)).length
    }
  } finally {
    await clients.stop()
    await server.kill()
    await iam.stop()
    dir.remove()
  }
}

/** States of the grants that an operation held when it was killed. */
const halfDone = async (ledgerUrl: string): Promise<string[]> => {
  const ledger = await openLedger({ url: ledgerUrl })
  try {
    return (await all(ledger)).flatMap(({ state, claimedUntil }) => claimedUntil !== null && claimedUntil > Date.now() ? [state] : [])
  } finally {
    await ledger.close()
  }
}

/**
 * Until the sweeper has nothing left that it could do now: grants that wait for the five minutes of the age rule have no user.
 * @returns what it has left after two minutes
 */
const quiet = async (iam: IamProcess, ledgerUrl: string): Promise<string[]> => {
  const ledger = await openLedger({ url: ledgerUrl })
  const giveUpAt = Date.now() + 120_000
  try {
    for (;;) {
      const { users } = await iam.state()
      const rows = await all(ledger)
      const grants = new Map(rows.map(grant => [grant.principal.name, grant]))
      const now = Date.now()
      const isQuiet = ({ state, dueAt, claimedUntil, previousKeyId, maxWorkers, expiresAt }: Grant): boolean =>
        (dueAt ?? Infinity) > now && (claimedUntil ?? 0) <= now && !(state === 'active' && previousKeyId !== null) &&
        // While workers have another window, their job is due before its end.
        !(state === 'active' && maxWorkers !== null && dueAt !== expiresAt)
      const unsettled = [
        ...strayUsersOf(users, grants),
        ...rows.filter(row => !isQuiet(row)).map(({ policy, spec, ...row }) => JSON.stringify(row)),
        ...strayWorkersOf(rows)
      ]
      if (unsettled.length === 0 || now > giveUpAt) return unsettled
      await delay(250)
    }
  } finally {
    await ledger.close()
  }
}

const all = async (ledger: Ledger): Promise<Grant[]> => {
  const grants: Grant[] = []
  for (;;) {
    const last = grants.at(-1)?.id
    const page = await ledger.list({}, { limit: 200, ...(last !== undefined && { after: last }) })
    grants.push(...page)
    if (page.length < 200) return grants
  }
}

/** @param grants by the name of their user */
const strayUsersOf = (users: UserView[], grants: Map<string, Grant>): string[] =>
  users.filter(({ name }) => grants.get(name)?.state !== 'active').map(({ name }) => `${name}, grant ${grants.get(name)?.state}`)

/** Workers that outlive their job, or do not have its window. */
const strayWorkersOf = (grants: Grant[]): string[] => {
  const byId = new Map(grants.map(grant => [grant.id, grant]))
  return grants.filter(({ state, parentId }) => state === 'active' && parentId !== null).flatMap(worker => {
    const job = byId.get(worker.parentId ?? '')
    const { worker: name, jobId } = worker
    if (job?.state !== 'active') return [`${jobId}/${name} is active, its job ${job?.state}`]
    return worker.expiresAt === job.expiresAt && worker.spec.window.notAfter === job.spec.window.notAfter
      ? []
      : [`${jobId}/${name} ends at ${worker.expiresAt}, its job at ${job.expiresAt}`]
  })
}

const inspect = async (iam: IamProcess, ledgerUrl: string, jobs: Job[]) => {
  const ledger = await openLedger({ url: ledgerUrl })
  const client = createIam({ region: 'us-east-1', endpoint: iam.url, stsEndpoint: iam.url, credentials: iam.admin })
  try {
    const grants = await all(ledger)
    const { users } = await iam.state()
    const byName = new Map(grants.map(grant => [grant.principal.name, grant]))
    const byId = new Map(grants.map(grant => [grant.id, grant]))
    const rows: Record<string, number> = {}
    for (const { state } of grants) rows[state] = (rows[state] ?? 0) + 1
    const worksAs = (job: Job) => client.callerIdentity(job.key, Date.now() + 30_000)
      .then(arn => arn.slice(arn.lastIndexOf('/') + 1), () => undefined)

    const lostGrants: string[] = []
    const survivors: string[] = []
    for (const job of jobs) {
      const grant = byId.get(job.grant ?? '')
      if (job.ended) {
        // A worker whose job ended before it had an answer: what there may be of it is a stray.
        if (job.grant === undefined) continue
        const isEnding = grant?.state === 'revoking' && job.ended === 'ending'
        if (grant?.state !== 'revoked' && !isEnding) survivors.push(`${job.id}: completed, ledger says ${grant?.state}`)
        if (job.key && await worksAs(job)) survivors.push(`${job.id}: completed, its key works`)
      } else if (job.grant !== undefined && job.open === undefined) {
        const works = job.workers ? grant?.principal.name : await worksAs(job)
        if (job.of && (grant?.attempt !== `${job.attempt}` || !JSON.stringify(grant.policy).includes(`"${addressOf(job)}/32"`))) {
          lostGrants.push(`${job.id}: attempt ${job.attempt} runs at ${addressOf(job)}, ledger says ${grant?.attempt}`)
        }
        if (grant?.state !== 'active' || grant.accessKeyId !== (job.key?.accessKeyId ?? null) || works !== grant.principal.name) {
          const says = `ledger says ${grant?.state} with ${grant?.accessKeyId}`
          lostGrants.push(`${job.id}: ${says}, the job has ${job.key?.accessKeyId}, which is ${works}`)
        }
      }
    }
    // What nobody was answered may be live all the same: the ledger knew it before the client died.
    const abandoned = new Set(jobs.filter(job => job.abandoned).map(({ id }) => id))
    const active = grants.filter(({ state }) => state === 'active')
    const orphans = active.filter(({ jobId, worker }) => abandoned.has(worker === null ? jobId : `${jobId}/${worker}`)).length
    const perJob = new Map<string, number>()
    for (const { tags, keys } of users) {
      if (keys.length === 0) continue
      const job = `${tags['job-access:job']} ${tags['job-access:worker'] ?? ''}`
      perJob.set(job, (perJob.get(job) ?? 0) + 1)
    }
    return {
      rows,
      orphans,
      jobsOfWorkers: active.filter(({ maxWorkers }) => maxWorkers !== null).length,
      strayWorkers: strayWorkersOf(grants),
      users: users.length,
      unknownKeys: users.flatMap(({ name, keys }) => {
        const grant = byName.get(name)
        const unknown = keys.filter(({ id }) => id !== grant?.accessKeyId && id !== grant?.previousKeyId)
        return unknown.map(({ id }) => `${id} of ${name}, grant ${grant?.state}`)
      }),
      strayUsers: strayUsersOf(users, byName),
      lostGrants,
      survivors,
      doubles: [...perJob].filter(([, count]) => count > 1).map(([job, count]) => `${job} has ${count} users`)
    }
  } finally {
    client.close()
    await ledger.close()
  }
}

/** What must hold, and that the loop was one: kills hit requests, and jobs got answers of every kind. */
export const nothingLost = (t: Test, report: KillLoopReport): void => {
  const { unsettled, unknownKeys, lostGrants, strayUsers, survivors, doubles, strayWorkers, leaks, ...rest } = report
  t.comment(JSON.stringify(rest))
  t.same(unsettled, [], 'nothing is left to the sweeper')
  t.same(unknownKeys, [], 'no key at the provider that the ledger does not know')
  t.same(lostGrants, [], 'no grant lost that was answered')
  t.same(strayUsers, [], 'no user without a live row')
  t.same(survivors, [], 'nothing alive of what was completed')
  t.same(doubles, [], 'one user a job or worker')
  t.same(strayWorkers, [], 'no worker without its job, or with another window')
  t.equal(leaks, 0, 'no secret in ledger, audit or log')
  t.equal(rest.jobs.unanswered, 0, 'everything was answered in the end')
  t.ok(rest.kills.hit >= rest.rounds / 2, `${rest.kills.hit} of ${rest.rounds} kills cut operations in two`)
  t.ok(Object.values(rest.counts.answered).every(count => count > 0), 'every verb was answered')
  t.equal(rest.rows.active, rest.jobs.live + rest.orphans, 'the live jobs are those of the ledger')
  t.equal(rest.users, rest.jobs.live + rest.orphans - rest.jobsOfWorkers, 'and those of the provider')
}

/** `node test/kill/kill-loop.ts [rounds] [seed]`, for as long as one likes. DATABASE_URL: that database instead of a file. */
if (import.meta.main) {
  const [rounds = '50', seed = `${Date.now() % 100_000}`] = process.argv.slice(2)
  const { DATABASE_URL: databaseUrl } = process.env
  const report = await killLoop({ rounds: Number(rounds), seed: Number(seed), ...(databaseUrl && { databaseUrl }) })
  console.log(JSON.stringify(report, null, 2))
}
