/**
 * Accounts of IAM and the service before them, as discrete events: calls that wait for their turn, buckets of tokens that refuse some,
 * quotas, deadlines, requests that are sent again. Pure: the same world, jobs and seed give the same outcome, and no time passes.
 * docs/scale.md says what it assumes, and how far it was from the real service.
 */

export interface World {
  /** Each has these buckets and quotas. */
  accounts: number
  /** By action: AWS says that each has its own and does not say how large it is. `*` is for every action of IAM without one here. */
  buckets: Record<string, Bucket>
  /** One more bucket, over all actions of IAM together. */
  together?: Bucket
  /** Users, and managed policies, that the service makes at most in an account. */
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
  /** All its workers hold a key from the beginning, by no call of this simulation. */
  runs?: boolean
}

export interface Outcome {
  /** Calls that IAM or STS got, by action, and how many of all were refused. */
  calls: Record<string, number>
  asked: number
  refused: number
  /** Workers that hold a key, and what they have waited for it: from their request, or from the start of the window if that is later. */
  joined: number
  /** When each got it. */
  keyAt: number[]
  waitMs: number[]
  /** The same until the key is known everywhere. */
  usableMs: number[]
  /** Joins that were answered with 503 since the deadline came first, and with 429 since the account was full. Each is sent again. */
  late: number
  full: number
  firstLateAt: number | undefined
  firstFullAt: number | undefined
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
const pace = {
  firstAtOnce: 8, mostAtOnce: 256, cut: 0.8, growth: 1.03, holdMs: 1_000, unlimited: 500, madeUpMs: 100, leftToFinishMs: 2_000
}
/** Of src/iam/client.ts, and the `Retry-After` of `iam-unavailable` and `too-many-grants`. */
const backoff = { baseMs: 50, mostMs: 2_000 }
const againMs = { late: 5_000, full: 60_000 }
/** How many workers of a job are ended or changed at a time. */
const workersAtOnce = 16
/** Of src/lifecycle/sweep.ts: JOB_ACCESS_SWEEP_SECONDS and JOB_ACCESS_SWEEP_PER_SECOND, and how many grants it works on at a time. */
const sweeper = { everyMs: 5_000, perSecond: 10, atOnce: 4 }
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

/** First in, first out, however long: `shift` of a long array moves all of it. */
const line = <T>() => {
  let items: T[] = []
  let head = 0
  return {
    first: (): T | undefined => items[head],
    push (item: T) { items.push(item) },
    shift (): T | undefined {
      if (head === items.length) return undefined
      const item = items[head++]
      if (head > 1_000 && 2 * head > items.length) {
        items = items.slice(head)
        head = 0
      }
      return item
    }
  }
}

/** At most so many at a time, each begun `spacingMs` after the one before. */
const gate = (atOnce: number, spacingMs: number, plan: (at: number, run: () => void) => void, now: () => number) => {
  const queue = line<(leave: () => void) => void>()
  let inside = 0
  let opensAt = 0
  const open = () => {
    while (inside < atOnce) {
      const work = queue.shift()
      if (!work) return
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

/** What happens next, earliest first; what was planned first among equals. A binary heap: millions of events wait in it. */
const agenda = () => {
  let times = new Float64Array(1024)
  let orders = new Float64Array(1024)
  const runs: Array<() => void> = []
  let order = 0
  const grown = (array: Float64Array<ArrayBuffer>) => {
    const longer = new Float64Array(2 * array.length)
    longer.set(array)
    return longer
  }
  const put = (index: number, at: number, order: number, run: () => void) => {
    times[index] = at
    orders[index] = order
    runs[index] = run
  }
  const move = (from: number, to: number) => put(to, times[from]!, orders[from]!, runs[from]!)
  const isBefore = (a: number, at: number, order: number) => times[a]! < at || (times[a] === at && orders[a]! < order)
  return {
    add (at: number, run: () => void) {
      let index = runs.length
      if (index === times.length) [times, orders] = [grown(times), grown(orders)]
      runs.push(run)
      const mine = order++
      for (let up = (index - 1) >> 1; index > 0 && !isBefore(up, at, mine); index = up, up = (index - 1) >> 1) move(up, index)
      put(index, at, mine, run)
    },
    next (): { at: number, run: () => void } | undefined {
      const [run] = runs
      if (!run) return undefined
      const first = { at: times[0]!, run }
      const last = runs.length - 1
      const [at, mine, moved] = [times[last]!, orders[last]!, runs.pop()!]
      if (last === 0) return first
      let index = 0
      for (;;) {
        let child = 2 * index + 1
        if (child + 1 < last && isBefore(child + 1, times[child]!, orders[child]!)) child++
        if (child >= last || !isBefore(child, at, mine)) break
        move(child, index)
        index = child
      }
      put(index, at, mine, moved)
      return first
    }
  }
}

/** One after the other, the calls of each at the same time. */
type Stages = string[][]

/** `made`: the calls of it that were done. */
type Done = (ok: boolean, made: string[]) => void

interface Operation {
  account: Account
  rank: 0 | 1
  until: number
  beginBy: number
  made: string[]
  failed: boolean
  /** Calls that are not answered, and of these those that are not sent. */
  open: number
  unsent: number
  next: () => void
}
interface Call { operation: Operation, action: string, failures: number }
interface Pacer {
  /** By rank: ends; what has begun; the rest. */
  waiting: Array<ReturnType<typeof line<Call>>>
  successes: number[]
  atOnce: number
  running: number
  rate: number
  grownAt: number
  cutAt: number
  nextAt: number
  wakesAt: number
}
interface Account {
  index: number
  buckets: Map<string, ReturnType<typeof tokenBucket>>
  together: ReturnType<typeof tokenBucket> | undefined
  /** What the service counts there: from before it is made until it is deleted. */
  reserved: Record<'users' | 'policies' | 'sessions', number>
  /** What is there. */
  users: number
  policies: number
  lane: Lane
}
/** An end that IAM did not do, of a worker or of a job. One operation at a time has it, until its lease lapses. */
interface End {
  lane: Lane
  dueAt: number
  leasedUntil: number
  failures: number
  over: boolean
  run: (leave: () => void) => void
}
/** What the sweepers of all replicas work on one after the other. */
interface Lane { ends: Set<End>, sweeps: number }
interface Replica { freeAt: number, pacers: Array<{ iam: Pacer, sts: Pacer }> }

const newPacer = (): Pacer => ({
  waiting: [line(), line(), line()],
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
const callsOfEnd: Record<Job['attach'], Stages> = {
  inline: [['DeleteAccessKey'], ['DeleteUserPolicy'], ['DeleteUser']],
  managed: [['DeleteAccessKey'], ['DetachUserPolicy'], ['DeleteUserPolicy'], ['DeleteUser']],
  session: []
}
const roomForVersion: Stages = [['CreatePolicyVersion'], ['ListPolicyVersions'], Array<string>(4).fill('DeletePolicyVersion')]
const isSts = (action: string) => action === 'AssumeRole'

/** @param isOver asked before each event; the rest does not happen then */
export const simulate = (
  world: World, jobs: Job[], seed = 1, isOver: (now: number, outcome: Outcome) => boolean = () => false
): Outcome => {
  const random = seeded(seed)
  const { add, next } = agenda()
  const outcome: Outcome = {
    calls: {},
    asked: 0,
    refused: 0,
    joined: 0,
    keyAt: [],
    waitMs: [],
    usableMs: [],
    late: 0,
    full: 0,
    firstLateAt: undefined,
    firstFullAt: undefined,
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

  const accounts = Array.from({ length: world.accounts }, (_, index): Account => ({
    index,
    buckets: new Map(),
    together: world.together && tokenBucket(world.together),
    reserved: { users: 0, policies: 0, sessions: 0 },
    users: 0,
    policies: 0,
    lane: { ends: new Set(), sweeps: 0 }
  }))

  const bucketOf = ({ buckets }: Account, action: string) => {
    const given = world.buckets[action] ?? (isSts(action) ? undefined : world.buckets['*'])
    if (given && !buckets.has(action)) buckets.set(action, tokenBucket(given))
    return buckets.get(action)
  }

  const takes = (account: Account, action: string, at: number): boolean => {
    outcome.asked++
    outcome.calls[action] = (outcome.calls[action] ?? 0) + 1
    const own = bucketOf(account, action)
    const together = isSts(action) ? undefined : account.together
    if ((own && !own.has(at)) || (together && !together.has(at))) {
      outcome.refused++
      return false
    }
    own?.take()
    together?.take()
    if (action === 'CreateUser') change(account, 'users', 1)
    if (action === 'DeleteUser') change(account, 'users', -1)
    if (action === 'CreatePolicy') change(account, 'policies', 1)
    if (action === 'DeletePolicy') change(account, 'policies', -1)
    return true
  }

  const change = (account: Account, what: 'users' | 'policies', by: 1 | -1) => {
    account[what] += by
    outcome[what] += by
    if (account[what] > world[what]) throw new Error(`LimitExceeded: ${account[what]} ${what}`)
    if (what === 'users') outcome.mostUsers = Math.max(outcome.mostUsers, outcome.users)
    else outcome.mostPolicies = Math.max(outcome.mostPolicies, outcome.policies)
  }

  // --- the pace of a replica ---

  const grow = (pacer: Pacer) => {
    if (pacer.rate === Infinity) return
    pacer.rate *= pace.growth ** ((now - pacer.grownAt) / 1000)
    pacer.grownAt = now
    if (pacer.rate > pace.unlimited) pacer.rate = Infinity
  }

  const pump = (pacer: Pacer) => {
    while (pacer.running < pacer.atOnce) {
      const queue = pacer.waiting.find(calls => calls.first())
      const call = queue?.first()
      if (!queue || !call) return
      const { operation } = call
      // Its deadline has passed.
      if (operation.unsent === 0) {
        queue.shift()
        continue
      }
      // It would not be finished by then.
      if (queue === pacer.waiting[2] && now >= operation.beginBy) {
        queue.shift()
        operation.unsent--
        operation.failed = true
        answered(operation)
        continue
      }
      if (pacer.nextAt > now) {
        if (pacer.wakesAt !== pacer.nextAt) add(pacer.wakesAt = pacer.nextAt, () => pump(pacer))
        return
      }
      grow(pacer)
      pacer.nextAt = Math.max(pacer.nextAt, now - pace.madeUpMs) + 1000 / pacer.rate
      queue.shift()
      operation.unsent--
      pacer.running++
      // Every call is half of its time on the way, so they arrive in the order in which they are sent.
      const ok = takes(operation.account, call.action, now + world.callMs / 2)
      after(world.callMs, () => {
        pacer.running--
        if (ok) succeeded(pacer, call)
        else throttled(pacer, call)
        pump(pacer)
      })
    }
  }

  const enqueue = (pacer: Pacer, operation: Operation, action: string, failures = 0) => {
    operation.unsent++
    pacer.waiting[operation.rank === 0 ? 0 : operation.made.length > 0 ? 1 : 2]!.push({ operation, action, failures })
    pump(pacer)
  }

  const succeeded = (pacer: Pacer, { operation, action }: Call) => {
    operation.made.push(action)
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
    after(wait, () => enqueue(pacer, call.operation, call.action, call.failures + 1))
  }

  // --- the operations of the service ---

  const replicas = Array.from({ length: world.replicas }, (): Replica =>
    ({ freeAt: 0, pacers: accounts.map(() => ({ iam: newPacer(), sts: newPacer() })) }))
  let turn = 0

  /** To the replicas in turn. Each works on one request after the other, and then waits for IAM. */
  const request = (work: (replica: Replica) => void) => {
    const replica = replicas[turn++ % replicas.length]!
    replica.freeAt = Math.max(replica.freeAt, now) + world.workMs
    add(replica.freeAt, () => work(replica))
  }

  /** In the order of their deadlines, as all have the same time. */
  const begun = line<Operation>()
  let awaited = -1
  const awaitDeadline = () => {
    const first = begun.first()
    if (first && first.until !== awaited) add(awaited = first.until, expire)
  }
  const expire = () => {
    for (let operation = begun.first(); operation && operation.until <= now; operation = begun.first()) {
      begun.shift()
      // A call that is under way is waited for.
      const { unsent } = operation
      operation.failed ||= unsent > 0
      operation.unsent = 0
      for (let count = 0; count < unsent; count++) answered(operation)
    }
    awaitDeadline()
  }

  /** @param stageDone how many stages are left */
  const operate = (
    replica: Replica, account: Account, rank: Operation['rank'], stages: Stages, done: Done, stageDone: (left: number) => void = () => {}
  ) => {
    const { iam, sts } = replica.pacers[account.index]!
    let stage = 0
    const operation: Operation = {
      account,
      rank,
      until: now + world.deadlineMs,
      beginBy: now + world.deadlineMs - Math.min(pace.leftToFinishMs, world.deadlineMs / 4),
      made: [],
      failed: false,
      open: 0,
      unsent: 0,
      next () {
        if (operation.failed) return done(false, operation.made)
        if (stage > 0) stageDone(stages.length - stage)
        const calls = stages[stage++]
        if (!calls) return done(true, operation.made)
        if (now >= operation.until) return done(false, operation.made)
        operation.open = calls.length
        for (const action of calls) enqueue(isSts(action) ? sts : iam, operation, action)
      }
    }
    begun.push(operation)
    awaitDeadline()
    operation.next()
  }

  /** A call of it was answered, or will not be sent. */
  const answered = (operation: Operation) => {
    if (--operation.open === 0) operation.next()
  }

  const leaseMs = 3 * world.deadlineMs
  /** Jobs whose workers share nothing are in no account. */
  const ofJobs: Lane = { ends: new Set(), sweeps: 0 }

  /** One replica's look at a lane; the next one comes some seconds after it has ended. */
  const sweep = (lane: Lane) => {
    const again = () => {
      if (lane.ends.size > 0) after(sweeper.everyMs, () => sweep(lane))
      else lane.sweeps--
    }
    // What becomes due meanwhile is of the next round.
    const begun = now
    let idle = 0
    let beginAt = now
    /** Each end is taken when it is the next one to begin. */
    const take = () => {
      let first: End | undefined
      for (const end of lane.ends) {
        if (end.dueAt <= begun && end.leasedUntil <= begun && !(first && first.dueAt <= end.dueAt)) first = end
      }
      const end = first
      if (!end) {
        if (++idle === sweeper.atOnce) again()
        return
      }
      end.leasedUntil = now + leaseMs
      beginAt = Math.max(beginAt, now) + 1000 / sweeper.perSecond
      add(beginAt - 1000 / sweeper.perSecond, () => end.run(take))
    }
    for (let worker = 0; worker < sweeper.atOnce; worker++) take()
  }

  const ended = (end: End) => {
    end.over = true
    end.lane.ends.delete(end)
  }

  /** It is the sweeper's: after 5 s, then after twice as long each time, at most five minutes, or when a lease lapses. */
  const postpone = (end: End, lapsesAt = Infinity) => {
    end.dueAt = Math.max(now + againMs.late, Math.min(lapsesAt, now + Math.min(300_000, againMs.late * 2 ** end.failures++)))
    end.leasedUntil = 0
    end.lane.ends.add(end)
    // Where nothing is left to do, no sweep is an event. They are spread over the time between two of them.
    for (; end.lane.sweeps < world.replicas; end.lane.sweeps++) {
      const phase = sweeper.everyMs * end.lane.sweeps / world.replicas
      add(phase + sweeper.everyMs * Math.ceil((now - phase) / sweeper.everyMs), () => sweep(end.lane))
    }
  }

  const newEnd = (lane: Lane, run: (end: End, leave: () => void) => void): End => {
    const end: End = {
      lane,
      dueAt: 0,
      leasedUntil: 0,
      failures: 0,
      over: false,
      run (leave) {
        end.leasedUntil = now + leaseMs
        run(end, leave)
      }
    }
    return end
  }

  const endOf = (account: Account, stages: Stages, done: () => void, stageDone?: (left: number) => void): End =>
    newEnd(account.lane, (end, leave) => request(replica => operate(replica, account, 0, stages, ok => {
      if (ok) ended(end)
      else postpone(end)
      leave()
      if (ok) done()
    }, stageDone)))

  /** What is done to all workers of a job. None is begun after the deadline. */
  const reach = <Worker extends { account: Account }>(
    workers: Worker[], isReached: (worker: Worker) => boolean, work: (worker: Worker, leave: () => void) => void, done: () => void
  ) => {
    const until = now + world.deadlineMs
    let open = workers.length
    if (open === 0) return done()
    for (const group of Map.groupBy(workers, ({ account }) => account.index).values()) {
      const inside = gate(workersAtOnce, 0, (_, run) => run(), () => now)
      for (const worker of group) {
        inside(next => {
          const left = () => {
            if (--open === 0) done()
            next()
          }
          if (isReached(worker) || now >= until) left()
          else work(worker, left)
        })
      }
    }
  }

  // --- where a grant goes ---

  /** The account with the most room; undefined: all are full. */
  const withRoom = (kind: keyof Account['reserved']): Account | undefined => {
    let best = accounts[0]!
    for (const account of accounts) if (account.reserved[kind] < best.reserved[kind]) best = account
    return kind === 'sessions' || best.reserved[kind] < world[kind] ? best : undefined
  }

  const refuse = (how: 'late' | 'full', again: () => void) => {
    outcome[how]++
    if (how === 'late') outcome.firstLateAt ??= now
    else outcome.firstFullAt ??= now
    after(againMs[how], again)
  }

  // --- the jobs ---

  for (const job of jobs) {
    const { attach } = job
    const counted = attach === 'session' ? 'sessions' : 'users'
    const live = new Map<number, Account>()
    /** Whose workers share something are all in one account. */
    let home: Account | undefined
    /** Whose join or end is under way, or whose principal there is. */
    let present = 0
    let hasPolicy = false
    let over = false
    let versions = 1

    const removePolicy = () => {
      const account = home
      if (!over || present > 0 || !hasPolicy || !account) return
      hasPolicy = false
      endOf(account, [['DeletePolicy']], () => { account.reserved.policies-- }).run(() => {})
    }

    const gone = (account: Account) => {
      present--
      account.reserved[counted]--
      removePolicy()
    }

    const endOfWorker = (account: Account, askedAt: number, stages = callsOfEnd[attach]): End => {
      let dead = false
      return endOf(account, stages, () => gone(account), left => {
        if (!dead && left === stages.length - 1) outcome.deadMs.push(now - askedAt)
        dead = true
      })
    }

    /** A failed join does not know of its key: it asks. */
    const undo = (account: Account, made: string[]) => {
      const keys = made.includes('CreateAccessKey') ? [['DeleteAccessKey']] : []
      endOfWorker(account, now, [['ListAccessKeys'], ...keys, ...callsOfEnd[attach].slice(1)]).run(() => {})
    }

    const hold = (worker: number, account: Account) => {
      live.set(worker, account)
      if (attach === 'session') after(world.sessionSeconds * 1000 * (job.runs && now === 0 ? random() : 1), () => renew(worker))
    }

    const join = (worker: number, askedAt: number) => {
      if (over) return
      request(replica => {
        if (over) return
        const account = home && (attach === 'session' || home.reserved.users < world.users) ? home : home ? undefined : withRoom(counted)
        if (!account) return refuse('full', () => join(worker, askedAt))
        present++
        account.reserved[counted]++
        operate(replica, account, 1, joinOf[attach], (ok, made) => {
          if (ok && !over) {
            hold(worker, account)
            outcome.joined++
            outcome.keyAt.push(now)
            const from = Math.max(askedAt, job.startsAt)
            outcome.waitMs.push(Math.max(0, now - from))
            const [least, most] = world.propagationMs
            outcome.usableMs.push(Math.max(0, now + least + random() * (most - least) - from))
            return
          }
          if (!ok) refuse('late', () => join(worker, askedAt))
          if (made.length === 0 || attach === 'session') gone(account)
          else if (ok) endOfWorker(account, now).run(() => {})
          else undo(account, made)
        })
      })
    }

    const renew = (worker: number) => {
      const account = live.get(worker)
      if (!account) return
      request(replica => operate(replica, account, 1, joinOf.session, ok =>
        after(ok ? world.sessionSeconds * 1000 : againMs.late, () => renew(worker))))
    }

    const open = () => {
      if (over) return
      if (attach === 'session') home = withRoom('sessions')
      if (attach !== 'managed') return begin()
      request(replica => {
        const account = withRoom('policies')
        if (!account) return refuse('full', open)
        account.reserved.policies++
        operate(replica, account, 1, [['CreatePolicy']], ok => {
          home = account
          hasPolicy = ok
          if (ok && !over) return begin()
          if (ok) return removePolicy()
          account.reserved.policies--
          refuse('late', open)
        })
      })
    }

    const begin = () => {
      for (let worker = 0; worker < job.workers; worker++) {
        const at = Math.max(now, job.asksAt + job.asksFor * worker / job.workers)
        add(at, () => join(worker, at))
      }
    }

    /** It holds what it would have been given. */
    const runs = () => {
      if (attach === 'session') home = withRoom('sessions')
      if (attach === 'managed') {
        home = withRoom('policies')
        if (!home) return refuse('full', open)
        home.reserved.policies++
        hasPolicy = true
        change(home, 'policies', 1)
      }
      for (let worker = 0; worker < job.workers; worker++) {
        const account = home ?? withRoom(counted)
        if (!account || (attach !== 'session' && account.reserved.users >= world.users)) {
          refuse('full', () => join(worker, 0))
          continue
        }
        present++
        account.reserved[counted]++
        if (attach !== 'session') change(account, 'users', 1)
        hold(worker, account)
      }
    }

    /** Of each worker a call, or of all together; a session has its policy until it ends. */
    const patch = (askedAt: number) => {
      if (over || attach === 'session' || live.size === 0) return
      const stages: Stages = attach === 'inline'
        ? [['PutUserPolicy']]
        : versions % 5 === 0 ? [...roomForVersion, ['CreatePolicyVersion']] : [['CreatePolicyVersion']]
      if (attach === 'managed') versions = versions % 5 === 0 ? 2 : versions + 1
      const changed = attach === 'managed' && home ? [home] : [...live.values()]
      const workers = changed.map(account => ({ account, isReached: false }))
      let left = changed.length
      const reachRest = () => reach(workers, ({ isReached }) => isReached, (worker, leave) => {
        worker.isReached = true
        insistOnChange(worker.account, stages, () => {
          leave()
          if (--left === 0) outcome.patchMs.push(now - askedAt)
        })
      }, () => { if (workers.some(({ isReached }) => !isReached)) after(againMs.late, reachRest) })
      reachRest()
    }

    const insistOnChange = (account: Account, stages: Stages, done: () => void) => {
      request(replica => operate(replica, account, 1, stages, ok => {
        if (ok || over) done()
        else after(againMs.late, () => insistOnChange(account, stages, done))
      }))
    }

    if (job.runs) runs()
    else add(job.asksAt, open)
    for (const at of job.patches) add(at, () => patch(at))
    for (const at of job.rotations) {
      add(at, () => {
        if (attach === 'session') return
        for (const account of live.values()) insistOnChange(account, [['CreateAccessKey'], ['DeleteAccessKey']], () => {})
      })
    }
    add(job.endsAt, () => {
      over = true
      const accounts = [...live.values()]
      live.clear()
      if (attach === 'session') for (const account of accounts) gone(account)
      else {
        const workers = accounts.map(account => ({ account, end: endOfWorker(account, job.endsAt) }))
        // The sweeper comes back for those that are left.
        newEnd(home?.lane ?? ofJobs, (end, leave) => {
          let progress = false
          reach(workers.toSorted((a, b) => a.end.failures - b.end.failures),
            ({ end: { over, dueAt, leasedUntil } }) => over || dueAt > now || leasedUntil > now,
            ({ end }, left) => {
              const isFirst = end.failures === 0
              end.run(() => {
                progress ||= isFirst || end.over
                left()
              })
            },
            () => {
              const left = workers.filter(({ end }) => !end.over)
              if (progress) end.failures = 0
              if (left.length === 0) ended(end)
              else postpone(end, Math.min(...left.map(({ end: { leasedUntil } }) => leasedUntil > now ? leasedUntil : Infinity)))
              leave()
            })
        }).run(() => {})
      }
      removePolicy()
    })
  }

  const lastEnd = jobs.reduce((last, { endsAt }) => Math.max(last, endsAt), 0)
  for (let event = next(); event && !isOver(event.at, outcome); event = next()) {
    now = event.at
    if (now > lastEnd + longestMs) throw new Error(`After ${Math.round(now / 3_600_000)} h there is still work to do.`)
    event.run()
  }
  return outcome
}
