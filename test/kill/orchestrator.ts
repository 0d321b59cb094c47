import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { guideRequest } from '../../src/request.ts'

/** A client as jobs have it: it asks until it has an answer, and remembers what it was answered. */

/** A job with one key, a job of workers, or one of its workers. */
export interface Job {
  /** Of a worker: that of its job, a slash, its name. */
  id: string
  /** A job of workers: those that joined, or asked to. */
  workers?: Job[]
  /** A worker: its job. */
  of?: Job
  /** A worker: which start of it asks. Each runs at an address of its own. */
  attempt: number
  /** Id of the grant, once answered. */
  grant?: string
  /** What the job holds: the last credentials that were answered. */
  key?: { accessKeyId: string, secretAccessKey: string }
  /** Asked last, not answered yet: the service may or may not have done it. */
  open?: Verb
  /** What the end was answered with. */
  ended?: 'ended' | 'ending'
  /** Its client is gone, without having seen an answer. */
  abandoned?: true
  /** Sent as Idempotency-Key; without it the job is the key, and the attempt says that it is the same start. */
  idempotencyKey?: string
}

export type Verb = 'issue' | 'retry' | 'rotate' | 'extend' | 'complete' | 'join' | 'rejoin' | 'leave'

/** The address of a worker, by its attempt. */
export const addressOf = ({ attempt }: Job): string => `203.0.113.${1 + attempt % 250}`

export interface Counts {
  requests: number
  answered: Record<Verb, number>
  /** Connections that broke before the answer. */
  lost: number
  refused: Record<string, number>
}

export interface Orchestrator {
  jobs: Job[]
  counts: Counts
  /** Requests that wait for their answer now. */
  inFlight: () => number
  /** Goes on until stopped. */
  start: (workers: number) => void
  stop: () => Promise<void>
  /** Asks again for everything that was not answered, until it is. */
  finish: () => Promise<void>
}

/** Jobs and workers that run at a time. */
const most = 40

/** Also the most that a job has in all its life, so that none waits for the place of one whose end takes five minutes. */
const mostWorkers = 8

/** @param urls replicas; each request goes to one of them @param seed of the choices */
export const orchestrator = (urls: string[], token: string, seed: number): Orchestrator => {
  const random = generator(seed)
  const pick = <T>(items: T[]): T | undefined => items[Math.floor(random() * items.length)]
  const jobs: Job[] = []
  const busy = new Set<Job>()
  const counts: Counts = {
    requests: 0,
    answered: { issue: 0, retry: 0, rotate: 0, extend: 0, complete: 0, join: 0, rejoin: 0, leave: 0 },
    lost: 0,
    refused: {}
  }
  let flying = 0
  let stopping = new AbortController()
  let working: Promise<void>[] = []

  const request = async (job: Job, verb: Verb): Promise<Response> => {
    const [method, path, body] = requestOf(job, verb, random)
    return fetch(`${pick(urls)}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(job.idempotencyKey !== undefined && { 'idempotency-key': job.idempotencyKey })
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(20_000)
    })
  }

  /** One try. True: it was answered for good. */
  const attempt = async (job: Job, verb: Verb): Promise<boolean> => {
    job.open = verb
    counts.requests++
    flying++
    try {
      const response = await request(job, verb)
      const answer = await response.json() as Answer
      if (response.ok) {
        note(job, verb, response.status, answer)
        return true
      }
      const code = answer.code ?? `${response.status}`
      counts.refused[code] = (counts.refused[code] ?? 0) + 1
    } catch (error) {
      counts.lost++
      // Some clients die too, and never ask again.
      if ((verb === 'issue' || verb === 'join') && !neverSent(error) && random() < 0.2) job.abandoned = true
    } finally {
      flying--
    }
    await delay(50 + random() * 100)
    return false
  }

  const note = (job: Job, verb: Verb, status: number, answer: Answer): void => {
    const grant = answer.grant ?? answer
    if (grant.id !== undefined) job.grant = grant.id
    if (answer.credentials) job.key = answer.credentials
    // 202: the service goes on by itself; until the five minutes of the age rule are over it may not say more.
    if (verb === 'complete' || verb === 'leave') job.ended = status === 200 ? 'ended' : 'ending'
    delete job.open
    // With a job its workers end. What one of them is asking for now may still be answered, with a key that must be dead.
    for (const worker of job.workers ?? []) {
      if (!job.ended) break
      worker.ended ??= job.ended
      delete worker.open
    }
    counts.answered[verb]++
  }

  const starting = (): Job => {
    const open = jobs.filter(({ workers, grant, ended }) => workers && workers.length < mostWorkers && grant !== undefined && !ended)
    const of = random() < 0.5 ? pick(open) : undefined
    if (of?.workers) {
      const worker = { id: `${of.id}/worker-${of.workers.length}`, of, attempt: 0 }
      of.workers.push(worker)
      return worker
    }
    return {
      id: `job-${jobs.length}-${randomUUID().slice(0, 8)}`,
      attempt: 0,
      ...(random() < 0.2 && { workers: [] }),
      ...(random() < 0.5 && { idempotencyKey: randomUUID() })
    }
  }

  const work = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      const idle = jobs.filter(job => !busy.has(job) && !job.ended && !job.abandoned)
      const old = idle.length >= most ? pick(idle) : undefined
      const job = old ?? starting()
      if (!old) jobs.push(job)
      busy.add(job)
      const verb = job.open ?? verbFor(job, random)
      if (verb === 'rejoin' && job.open === undefined) job.attempt++
      await attempt(job, verb)
      busy.delete(job)
    }
  }

  return {
    jobs,
    counts,
    inFlight: () => flying,
    start (workers) {
      stopping = new AbortController()
      working = Array.from({ length: workers }, () => work(stopping.signal))
    },
    async stop () {
      stopping.abort()
      await Promise.all(working)
    },
    async finish () {
      const open = jobs.filter(job => job.open !== undefined && !job.abandoned)
      const giveUpAt = Date.now() + 60_000
      const worker = async () => {
        for (let job = open.shift(); job; job = open.shift()) {
          while (job.open !== undefined && Date.now() < giveUpAt) await attempt(job, job.open)
        }
      }
      await Promise.all(Array.from({ length: 8 }, worker))
    }
  }
}

const neverSent = (error: unknown): boolean =>
  error instanceof Error && error.cause instanceof Error && 'code' in error.cause && error.cause.code === 'ECONNREFUSED'

interface Answer {
  id?: string
  code?: string
  grant?: { id: string }
  credentials?: { accessKeyId: string, secretAccessKey: string } | null
}

const verbFor = (job: Job, random: () => number): Verb => {
  if (job.grant === undefined) return job.of ? 'join' : 'issue'
  const dice = random()
  if (job.of) {
    if (dice < 0.2) return 'leave'
    return dice < 0.6 ? 'rejoin' : 'rotate'
  }
  // It lives longer, so that workers join.
  if (job.workers) return dice < 0.1 ? 'complete' : 'extend'
  if (dice < 0.4) return 'complete'
  if (dice < 0.6) return 'rotate'
  return dice < 0.8 ? 'retry' : 'extend'
}

const requestOf = (job: Job, verb: Verb, random: () => number): [method: string, path: string, body?: unknown] => {
  const { id, grant, of, workers, idempotencyKey } = job
  switch (verb) {
    case 'join':
    case 'rejoin': return ['POST', `/v1/grants/${of?.grant}/workers`, {
      name: nameOf(job), attempt: `${job.attempt}`, sourceIps: [addressOf(job)]
    }]
    case 'issue':
    case 'retry': return ['POST', '/v1/grants', {
      ...(workers ? { ...sourceless, workers: { max: mostWorkers } } : guideRequest),
      job: { id, team: 'nlp' },
      ...(idempotencyKey === undefined && !workers && { attempt: '1' })
    }]
    case 'rotate': return ['POST', `/v1/grants/${grant}/rotate`, { overlapSeconds: random() < 0.5 ? 0 : 1 }]
    case 'extend': return ['PATCH', `/v1/grants/${grant}`, { window: { durationSeconds: 10_800 + Math.floor(random() * 1000) } }]
    case 'complete': return ['POST', `/v1/grants/${grant}/complete`]
    case 'leave': return ['DELETE', `/v1/grants/${of?.grant}/workers/${nameOf(job)}`]
  }
}

const { sourceIps: _, ...sourceless } = guideRequest

const nameOf = ({ id }: Job) => id.slice(id.indexOf('/') + 1)

/** Mulberry32: the same choices for the same seed. */
const generator = (seed: number) => () => {
  seed = (seed + 0x6D2B79F5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}
