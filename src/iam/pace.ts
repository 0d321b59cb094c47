import { AsyncLocalStorage } from 'node:async_hooks'
import type { PrincipalProvisioner } from './provisioner.ts'
import { systemClock, type Clock } from './retry.ts'

/**
 * Paces all calls of the process to one service of the provider. IAM's limit is the account's and is not documented: a throttling answer
 * tells that it is reached. Then calls go at the rate that succeeded, less a part; without throttling the rate grows again (AIMD, as TCP
 * does it). A refused call costs the account as much as one that is done, and is sent again: without a pace nine of ten are in vain.
 */
export interface Pacer {
  /** Resolves when the call may be sent, with what is to be told of its answer; undefined: it may not before its deadline. */
  take(until: number): Promise<Answered | undefined>
}

type Answered = (throttled: boolean) => void

/**
 * Whose call it is. Revocations come first; then issues, in turn among teams; then what has time. An issue that has begun is finished
 * before another begins, or none would be done by its deadline.
 */
interface Turn {
  rank: 0 | 1 | 2
  team: string
  /** A call of it has succeeded. */
  begun?: boolean
  /** The first call of an issue is sent before this instant, or not at all; set when it is first waited for. */
  beginBy?: number
}

const turns = new AsyncLocalStorage<Turn>()

/** Calls at once before any throttling; each success allows one more. So a start with many jobs finds the limit with few refusals. */
const firstAtOnce = 8
const mostAtOnce = 256
/** What is left of the rate after throttling, and what it grows by in a second without. */
const cut = 0.8
const growth = 1.03
/** The answers to calls that were under way when the rate was cut do not cut it again. */
const holdMs = 1_000
/** From here on nothing is paced. */
const unlimited = 500

/**
 * What is begun just before its deadline is not finished by then, and has to be undone: where more waits than can be sent in time, nothing
 * would ever be finished. So an issue begins only with so much of its time left.
 */
const leftToFinish = (ms: number): number => Math.min(2_000, ms / 4)

interface Waiter { turn: Turn, until: number, go: (may: Answered | undefined) => void }

export const createPacer = (clock: Clock = systemClock): Pacer => {
  const waiting: Waiter[] = []
  const successes: number[] = []
  const servedAt = new Map<string, number>()
  let atOnce = firstAtOnce
  let running = 0
  let served = 0
  let rate = Infinity
  let grownAt = 0
  let cutAt = -Infinity
  let nextAt = -Infinity
  let pumping = false
  let wake = () => {}

  const next = (): Waiter | undefined => {
    const rankOf = ({ turn: { rank, begun } }: Waiter) => begun && rank === 1 ? 0.5 : rank
    const lastOf = ({ turn }: Waiter) => servedAt.get(turn.team) ?? -1
    let best: Waiter | undefined
    for (const one of waiting) {
      if (!best || rankOf(one) < rankOf(best) || (rankOf(one) === rankOf(best) && lastOf(one) < lastOf(best))) best = one
    }
    return best
  }

  const grow = (now: number) => {
    if (rate === Infinity) return
    rate *= growth ** ((now - grownAt) / 1000)
    grownAt = now
    if (rate > unlimited) rate = Infinity
  }

  const lastCallOf = ({ turn: { rank, begun, beginBy = Infinity }, until }: Waiter): number =>
    rank === 1 && !begun ? Math.min(beginBy, until) : until

  const expire = (now: number) => {
    for (const late of waiting.filter(one => now >= lastCallOf(one))) {
      waiting.splice(waiting.indexOf(late), 1)
      late.go(undefined)
    }
  }

  const answered = (turn: Turn, throttled: boolean) => {
    const now = clock.now()
    running--
    wake()
    if (!throttled) {
      turn.begun = true
      atOnce = Math.min(mostAtOnce, atOnce + 1)
      successes.push(now)
      if (successes.length > unlimited) successes.shift()
      return
    }
    grow(now)
    if (now - cutAt < holdMs) return
    cutAt = grownAt = now
    const lately = successes.filter(at => now - at < 1000).length
    rate = Math.max(0.5, Math.min(rate, Math.max(1, lately)) * cut)
    nextAt = Math.max(nextAt, now + 1000 / rate)
    atOnce = Math.max(firstAtOnce, Math.floor(atOnce / 2))
  }

  const pump = async () => {
    if (pumping) return
    pumping = true
    while (waiting.length > 0) {
      const now = clock.now()
      expire(now)
      const one = next()
      if (!one) break
      const pause = Math.min(lastCallOf(one) - now, nextAt - now)
      if (running >= atOnce) {
        // A deadline passes also while no call comes back.
        const first = Math.min(...waiting.map(lastCallOf))
        await Promise.race([new Promise<void>(resolve => { wake = resolve }), clock.pause(Math.max(1, Math.min(first - now, 1_000)))])
        continue
      }
      if (pause > 0) {
        await clock.pause(pause)
        continue
      }
      grow(now)
      // A pause that ended late is made up for, up to a tenth of a second.
      nextAt = Math.max(nextAt, now - 100) + 1000 / rate
      waiting.splice(waiting.indexOf(one), 1)
      servedAt.set(one.turn.team, served++)
      if (servedAt.size > 10_000) servedAt.clear()
      running++
      one.go(throttled => answered(one.turn, throttled))
    }
    pumping = false
  }

  return {
    take: until => new Promise(resolve => {
      const turn = turns.getStore() ?? { rank: 1, team: '' }
      // Of its whole time: what was refused, and comes again, has as much to do as before.
      turn.beginBy ??= until - leftToFinish(until - clock.now())
      waiting.push({ turn, until, go: resolve })
      void pump()
    })
  }
}

/** The provisioner's calls in their turn. */
export const inTurn = (provisioner: PrincipalProvisioner): PrincipalProvisioner => {
  const revoking: Turn = { rank: 0, team: '' }
  const later: Turn = { rank: 2, team: '' }
  const of = ({ tags }: { tags: Record<string, string> }): Turn => ({ rank: 1, team: tags['job-access:team'] ?? '' })
  const first = <A extends unknown[], R>(call: (...args: A) => R) => (...args: A): R => turns.run(revoking, call, ...args)
  const last = <A extends unknown[], R>(call: (...args: A) => R) => (...args: A): R => turns.run(later, call, ...args)
  return {
    ...provisioner,
    create: (plan, until) => turns.run(of(plan), provisioner.create, plan, until),
    mintKey: (plan, keep, until) => turns.run(of(plan), provisioner.mintKey, plan, keep, until),
    deleteKey: first(provisioner.deleteKey),
    pruneKeys: first(provisioner.pruneKeys),
    teardown: first(provisioner.teardown),
    discard: last(provisioner.discard),
    keys: last(provisioner.keys),
    policyEnd: last(provisioner.policyEnd),
    ready: last(provisioner.ready),
    ...(provisioner.shared && {
      shared: { ...provisioner.shared, remove: last(provisioner.shared.remove), end: last(provisioner.shared.end) }
    })
  }
}
