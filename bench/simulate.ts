/**
 * One account of IAM and the service before it, as discrete events: calls that wait for their turn, buckets of tokens that refuse some,
 * quotas, deadlines, requests that are sent again. Pure: the same world, jobs and seed give the same outcome, and no time passes.
 * docs/scale.md says what it assumes, and how far it was from the real service.
 */

export interface World {
  /** By action: AWS says that each has its own and does not say how large it is. `*` is for every action of IAM without one here. */
  buckets: Record<string, Bucket>
  /** One more bucket, over all actions of IAM together. */
  together?: Bucket
  /** Users, and managed policies, that the service makes at most. */
  users: number
  policies: number
  /** What a call takes, there and back. */
  callMs: number
  /** A new key is known everywhere so long after it was made: from, to. */
  propagationMs: [number, number]
  /** Processes, each with one core for `workMs` a request. */
  replicas: number
  workMs: number
  /** JOB_ACCESS_IAM_DEADLINE_MS. */
  deadlineMs: number
  /** Seconds of a role session, after which the agent asks for the next one. */
  sessionSeconds: number
}

export interface Bucket { perSecond: number, burst: number }

/** Times in ms from the beginning. */
export interface Job {
  /** When its first worker asks for a key, and how long after it the last one. */
  asksAt: number
  asksFor: number
  /** When its window starts: a key before that is early, not late. */
  startsAt: number
  endsAt: number
  workers: number
  /** `managed`: one policy for all its workers. */
  attach: 'inline' | 'managed' | 'session'
  /** When its window is moved, and when every worker gets another key. */
  patches: number[]
  rotations: number[]
}

export interface Outcome {
  /** Calls that IAM or STS got, by action, and how many of all were refused. */
  calls: Record<string, number>
  asked: number
  refused: number
  /** Workers that hold a key, and what they have waited for it: from their request, or from the start of the window if that is later. */
  joined: number
  waitMs: number[]
  /** The same until the key is known everywhere. */
  usableMs: number[]
  /** Joins that were answered with 503 since the deadline came first, and with 429 since the account was full. Each is sent again. */
  late: number
  full: number
  /** Ends: from the request until the key is dead. */
  deadMs: number[]
  patchMs: number[]
  mostUsers: number
  mostPolicies: number
  /** What is left at the end. */
  users: number
  policies: number
  lastAt: number
}

/** The numbers of src/iam/pace.ts; a test compares what they do. */
const pace = { firstAtOnce: 8, mostAtOnce: 256, cut: 0.8, growth: 1.03, holdMs: 1_000, unlimited: 500, madeUpMs: 100 }
/** Of src/iam/client.ts, and the `Retry-After` of `iam-unavailable` and `too-many-grants`. */
const backoff = { baseMs: 50, mostMs: 2_000 }
const againMs = { late: 5_000, full: 60_000 }
/** How many workers of a job are ended or changed at a time, and how many grants the sweeper works on; JOB_ACCESS_SWEEP_PER_SECOND. */
const workersAtOnce = 16
const sweeper = { atOnce: 4, perSecond: 10 }
/** A world that cannot do its work would go on for ever. */
const longestMs = 7 * 86_400_000

export const tokenBucket = ({ perSecond, burst }: Bucket) => {
  let tokens = burst
  let at = 0
  return {
    has (now: number): boolean {
      tokens = Math.min(burst, tokens + (now - at) * perSecond / 1000)
      at = now
      // A sum of many parts of a token is not quite a whole one.
      return tokens >= 1 - 1e-9
    },
    take () { tokens-- }
  }
}

/** Mulberry32: the same numbers for the same seed. */
export const seeded = (seed: number) => () => {
  seed = (seed + 0x6D2B79F5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

export const quantile = (values: number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? 0

/** At most so many at a time, each begun `spacingMs` after the one before. */
const gate = (atOnce: number, spacingMs: number, plan: (at: number, run: () => void) => void, now: () => number) => {
  const queue: Array<(leave: () => void) => void> = []
  let inside = 0
  let opensAt = 0
  const open = () => {
    while (inside < atOnce && queue.length > 0) {
      const work = queue.shift()!
      inside++
      opensAt = Math.max(opensAt, now()) + spacingMs
      plan(opensAt - spacingMs, () => work(() => {
        inside--
        open()
      }))
    }
  }
  return (work: (leave: () => void) => void) => {
    queue.push(work)
    open()
  }
}

/** What happens next, earliest first; what was planned first among equals. */
const agenda = () => {
  const heap: Array<{ at: number, order: number, run: () => void }> = []
  let order = 0
  const before = (a: number, b: number) => {
    const [x, y] = [heap[a], heap[b]]
    return x !== undefined && (y === undefined || x.at < y.at || (x.at === y.at && x.order < y.order))
  }
  const swap = (a: number, b: number) => { [heap[a], heap[b]] = [heap[b]!, heap[a]!] }
  return {
    add (at: number, run: () => void) {
      let index = heap.push({ at, order: order++, run }) - 1
      for (let up = (index - 1) >> 1; index > 0 && before(index, up); index = up, up = (index - 1) >> 1) swap(index, up)
    },
    next () {
      if (heap.length > 1) swap(0, heap.length - 1)
      const first = heap.pop()
      for (let index = 0; ;) {
        const child = before(2 * index + 2, 2 * index + 1) && 2 * index + 2 < heap.length ? 2 * index + 2 : 2 * index + 1
        if (child >= heap.length || !before(child, index)) return first
        swap(index, child)
        index = child
      }
    }
  }
}

/** One after the other, the calls of each at the same time. */
type Stages = string[][]

/** `begun`: a call of it was done. */
type Done = (ok: boolean, begun: boolean) => void

interface Operation { rank: 0 | 1, until: number, begun: boolean, failed: boolean, open: number, queued: Set<Call>, next: () => void }
interface Call { operation: Operation, action: string, failures: number }
interface Pacer {
  /** By rank: ends; what has begun; the rest. */
  waiting: [Call[], Call[], Call[]]
  successes: number[]
  atOnce: number
  running: number
  rate: number
  grownAt: number
  cutAt: number
  nextAt: number
  wakesAt: number
}

const newPacer = (): Pacer => ({
  waiting: [[], [], []],
  successes: [],
  atOnce: pace.firstAtOnce,
  running: 0,
  rate: Infinity,
  grownAt: 0,
  cutAt: -Infinity,
  nextAt: -Infinity,
  wakesAt: -1
})

/** The calls of each operation: docs/workers.md, "Limits and cost". */
const joinOf: Record<Job['attach'], Stages> = {
  inline: [['CreateUser'], ['PutUserPolicy', 'CreateAccessKey']],
  managed: [['CreateUser'], ['PutUserPolicy', 'AttachUserPolicy', 'CreateAccessKey']],
  session: [['AssumeRole']]
}
const endOf: Record<Job['attach'], Stages> = {
  inline: [['DeleteAccessKey'], ['DeleteUserPolicy'], ['DeleteUser']],
  managed: [['DeleteAccessKey'], ['DetachUserPolicy'], ['DeleteUserPolicy'], ['DeleteUser']],
  session: []
}
const roomForVersion: Stages = [['CreatePolicyVersion'], ['ListPolicyVersions'], Array<string>(4).fill('DeletePolicyVersion')]
const isSts = (action: string) => action === 'AssumeRole'

export const simulate = (world: World, jobs: Job[], seed = 1): Outcome => {
  const random = seeded(seed)
  const { add, next } = agenda()
  const outcome: Outcome = {
    calls: {},
    asked: 0,
    refused: 0,
    joined: 0,
    waitMs: [],
    usableMs: [],
    late: 0,
    full: 0,
    deadMs: [],
    patchMs: [],
    mostUsers: 0,
    mostPolicies: 0,
    users: 0,
    policies: 0,
    lastAt: 0
  }
  let now = 0
  const after = (ms: number, run: () => void) => add(now + ms, run)

  // --- IAM ---

  const buckets = new Map<string, ReturnType<typeof tokenBucket>>()
  const together = world.together && tokenBucket(world.together)
  const bucketOf = (action: string) => {
    const given = world.buckets[action] ?? (isSts(action) ? undefined : world.buckets['*'])
    if (given && !buckets.has(action)) buckets.set(action, tokenBucket(given))
    return buckets.get(action)
  }
  const takes = (action: string): boolean => {
    outcome.asked++
    outcome.calls[action] = (outcome.calls[action] ?? 0) + 1
    const own = [bucketOf(action), isSts(action) ? undefined : together].filter(bucket => bucket !== undefined)
    if (!own.every(bucket => bucket.has(now))) {
      outcome.refused++
      return false
    }
    for (const bucket of own) bucket.take()
    if (action === 'CreateUser') outcome.mostUsers = Math.max(outcome.mostUsers, ++outcome.users)
    if (action === 'DeleteUser') outcome.users--
    if (action === 'CreatePolicy') outcome.mostPolicies = Math.max(outcome.mostPolicies, ++outcome.policies)
    if (action === 'DeletePolicy') outcome.policies--
    return true
  }

  // --- the pace of a replica ---

  const grow = (pacer: Pacer) => {
    if (pacer.rate === Infinity) return
    pacer.rate *= pace.growth ** ((now - pacer.grownAt) / 1000)
    pacer.grownAt = now
    if (pacer.rate > pace.unlimited) pacer.rate = Infinity
  }

  const pump = (pacer: Pacer) => {
    for (;;) {
      const queue = pacer.waiting.find(calls => calls.length > 0)
      const call = queue?.[0]
      if (!queue || !call || pacer.running >= pacer.atOnce) return
      // Its deadline has passed.
      if (!call.operation.queued.has(call)) {
        queue.shift()
        continue
      }
      if (pacer.nextAt > now) {
        if (pacer.wakesAt !== pacer.nextAt) add(pacer.wakesAt = pacer.nextAt, () => pump(pacer))
        return
      }
      grow(pacer)
      pacer.nextAt = Math.max(pacer.nextAt, now - pace.madeUpMs) + 1000 / pacer.rate
      queue.shift()
      call.operation.queued.delete(call)
      pacer.running++
      after(world.callMs / 2, () => {
        const ok = takes(call.action)
        after(world.callMs / 2, () => {
          pacer.running--
          if (ok) succeeded(pacer, call)
          else throttled(pacer, call)
          pump(pacer)
        })
      })
    }
  }

  const enqueue = (pacer: Pacer, call: Call) => {
    const { rank, begun, queued } = call.operation
    queued.add(call)
    pacer.waiting[rank === 0 ? 0 : begun ? 1 : 2].push(call)
    pump(pacer)
  }

  const succeeded = (pacer: Pacer, { operation }: Call) => {
    operation.begun = true
    outcome.lastAt = now
    pacer.atOnce = Math.min(pace.mostAtOnce, pacer.atOnce + 1)
    pacer.successes.push(now)
    if (pacer.successes.length > pace.unlimited) pacer.successes.shift()
    answered(operation)
  }

  const throttled = (pacer: Pacer, call: Call) => {
    grow(pacer)
    if (now - pacer.cutAt >= pace.holdMs) {
      pacer.cutAt = pacer.grownAt = now
      const lately = pacer.successes.filter(at => now - at < 1000).length
      pacer.rate = Math.max(0.5, Math.min(pacer.rate, Math.max(1, lately)) * pace.cut)
      pacer.nextAt = Math.max(pacer.nextAt, now + 1000 / pacer.rate)
      pacer.atOnce = Math.max(pace.firstAtOnce, Math.floor(pacer.atOnce / 2))
    }
    const wait = random() * Math.min(backoff.mostMs, backoff.baseMs * 2 ** call.failures)
    if (now + wait >= call.operation.until) {
      call.operation.failed = true
      answered(call.operation)
      return
    }
    after(wait, () => enqueue(pacer, { ...call, failures: call.failures + 1 }))
  }

  // --- the operations of the service ---

  const replicas = Array.from({ length: world.replicas }, () => ({ iam: newPacer(), sts: newPacer(), freeAt: 0 }))
  let turn = 0

  /**
   * Sent to the replicas in turn; each works on one request after the other, and then waits for IAM.
   * @param stageDone how many stages are left
   */
  const operate = (rank: Operation['rank'], stages: Stages, done: Done, stageDone: (left: number) => void = () => {}) => {
    const replica = replicas[turn++ % replicas.length]!
    replica.freeAt = Math.max(replica.freeAt, now) + world.workMs
    add(replica.freeAt, () => {
      const left = [...stages]
      const operation: Operation = {
        rank,
        until: now + world.deadlineMs,
        begun: false,
        failed: false,
        open: 0,
        queued: new Set(),
        next () {
          if (operation.failed) return done(false, operation.begun)
          if (operation.begun) stageDone(left.length)
          const stage = left.shift()
          if (!stage) return done(true, true)
          if (now >= operation.until) return done(false, operation.begun)
          operation.open = stage.length
          for (const action of stage) enqueue(isSts(action) ? replica.sts : replica.iam, { operation, action, failures: 0 })
        }
      }
      add(operation.until, () => {
        // A call that is under way is waited for.
        const unsent = operation.queued.size
        operation.failed ||= unsent > 0
        operation.queued.clear()
        for (let count = 0; count < unsent; count++) answered(operation)
      })
      operation.next()
    })
  }

  /** A call of it was answered, or will not be sent. */
  const answered = (operation: Operation) => {
    if (--operation.open === 0) operation.next()
  }

  const swept = gate(sweeper.atOnce * world.replicas, 1000 / sweeper.perSecond / world.replicas, add, () => now)

  /** An end that IAM did not do in time is the sweeper's: after 5 s, then after twice as long each time, at most five minutes. */
  const insist = (stages: Stages, done: () => void, stageDone?: (left: number) => void, failures = 0, leave = () => {}) => {
    operate(0, stages, ok => {
      leave()
      if (ok) return done()
      after(Math.min(300_000, againMs.late * 2 ** failures), () => swept(leave => insist(stages, done, stageDone, failures + 1, leave)))
    }, stageDone)
  }

  // --- the jobs ---

  let reserved = { users: 0, policies: 0 }
  const reserve = (kind: 'users' | 'policies'): boolean => {
    if (reserved[kind] >= world[kind]) return false
    reserved = { ...reserved, [kind]: reserved[kind] + 1 }
    return true
  }
  const free = (kind: 'users' | 'policies') => { reserved = { ...reserved, [kind]: reserved[kind] - 1 } }

  for (const job of jobs) {
    const { attach } = job
    const live = new Set<number>()
    /** Whose join or end is under way, or whose principal there is. */
    let present = 0
    let hasPolicy = false
    let over = false
    let versions = 1

    const gone = () => {
      present--
      if (attach !== 'session') free('users')
      if (!over || present > 0 || !hasPolicy) return
      hasPolicy = false
      insist([['DeletePolicy']], () => free('policies'))
    }

    const reach = gate(workersAtOnce, 0, add, () => now)

    const endWorker = (askedAt: number) => {
      if (attach === 'session') return gone()
      const stages = endOf[attach]
      let dead = false
      reach(leave => insist(stages, gone, left => {
        if (!dead && left === stages.length - 1) outcome.deadMs.push(now - askedAt)
        dead = true
      }, 0, leave))
    }

    const join = (worker: number, askedAt: number) => {
      if (over) return
      if (attach !== 'session' && !reserve('users')) {
        outcome.full++
        after(againMs.full, () => join(worker, askedAt))
        return
      }
      present++
      operate(1, joinOf[attach], (ok, begun) => {
        if (ok && !over) {
          live.add(worker)
          outcome.joined++
          const from = Math.max(askedAt, job.startsAt)
          outcome.waitMs.push(Math.max(0, now - from))
          const [least, most] = world.propagationMs
          outcome.usableMs.push(Math.max(0, now + least + random() * (most - least) - from))
          if (attach === 'session') after(world.sessionSeconds * 1000, () => renew(worker))
          return
        }
        if (!ok) {
          outcome.late++
          after(againMs.late, () => join(worker, askedAt))
        }
        if (begun) endWorker(now)
        else gone()
      })
    }

    const renew = (worker: number) => {
      if (!live.has(worker)) return
      operate(1, joinOf.session, ok => after(ok ? world.sessionSeconds * 1000 : againMs.late, () => renew(worker)))
    }

    const open = () => {
      if (over) return
      if (attach === 'managed' && !hasPolicy) {
        if (!reserve('policies')) {
          outcome.full++
          after(againMs.full, open)
          return
        }
        operate(1, [['CreatePolicy']], ok => {
          hasPolicy = ok
          if (ok && !over) return begin()
          if (ok) return insist([['DeletePolicy']], () => free('policies'))
          free('policies')
          outcome.late++
          after(againMs.late, open)
        })
        return
      }
      begin()
    }

    const begin = () => {
      for (let worker = 0; worker < job.workers; worker++) {
        const at = Math.max(now, job.asksAt + job.asksFor * worker / job.workers)
        add(at, () => join(worker, at))
      }
    }

    /** Of each worker a call, or of all together; a session has its policy until it ends. */
    const patch = (askedAt: number) => {
      if (over || attach === 'session' || live.size === 0) return
      const stages: Stages = attach === 'inline'
        ? [['PutUserPolicy']]
        : versions % 5 === 0 ? [...roomForVersion, ['CreatePolicyVersion']] : [['CreatePolicyVersion']]
      if (attach === 'managed') versions = versions % 5 === 0 ? 2 : versions + 1
      let left = attach === 'inline' ? live.size : 1
      for (let count = left; count > 0; count--) {
        reach(leave => insistOnChange(stages, () => {
          leave()
          if (--left === 0) outcome.patchMs.push(now - askedAt)
        }))
      }
    }

    const insistOnChange = (stages: Stages, done: () => void) => {
      operate(1, stages, ok => {
        if (ok || over) done()
        else after(againMs.late, () => insistOnChange(stages, done))
      })
    }

    add(job.asksAt, open)
    for (const at of job.patches) add(at, () => patch(at))
    for (const at of job.rotations) {
      add(at, () => {
        if (attach !== 'session') live.forEach(() => insistOnChange([['CreateAccessKey'], ['DeleteAccessKey']], () => {}))
      })
    }
    add(job.endsAt, () => {
      over = true
      const workers = live.size
      live.clear()
      for (let worker = 0; worker < workers; worker++) endWorker(job.endsAt)
      if (workers === 0 && present === 0 && hasPolicy) {
        hasPolicy = false
        insist([['DeletePolicy']], () => free('policies'))
      }
    })
  }

  const lastEnd = Math.max(0, ...jobs.map(({ endsAt }) => endsAt))
  for (let event = next(); event; event = next()) {
    now = event.at
    if (now > lastEnd + longestMs) throw new Error(`After ${Math.round(now / 3_600_000)} h there is still work to do.`)
    event.run()
  }
  return outcome
}
