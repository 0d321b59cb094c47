import type { Effect } from '../../embedded-iam/levers/faults.ts'
import { LedgerUnavailableError } from '../../../src/ledger/ledger.ts'
import { never, type Replica, type World } from '../world.ts'

/** One call that an operation makes, the n-th of its name, and whom it asks. */
export interface Point { to: 'iam' | 'ledger', call: string, nth: number }

/** What may go wrong at one call. `meanwhile`: what happens elsewhere while this replica stands still for longer than its lease. */
export interface Way {
  name: string
  /** The replica never answers again. */
  kills?: true
  stalls?: true
  /** A ledger that stayed away: only reconciliation finds an active grant without a user. */
  reconciles?: true
  /** Real ms per HTTP call; short where a call is left without an answer. */
  attemptMs?: number
  set: (w: World, r: Replica, point: Point, meanwhile: () => Promise<unknown>) => { struck: () => boolean }
}

const atIam = (w: World, { call, nth }: Point, ...effects: Effect[]) => {
  const faults = effects.map(effect => w.iam.faults.on({ action: call, nth }, effect))
  return { struck: () => faults.every(({ hits }) => hits > 0) }
}

/** From this call on, every call of the replica fails. */
const iamDown = (w: World, { call, nth }: Point, first: Effect) => {
  const fault = w.iam.faults.on({ action: call, nth }, first)
  const fall = () => { w.iam.faults.on({}, { kind: 'error', code: 'ServiceUnavailable' }) }
  w.iam.faults.on({ action: call, nth }, { kind: 'run', before: () => { setImmediate(fall) } })
  return { struck: () => fault.hits > 0 }
}

/** What a call costs that is not answered: the client's own limit. */
const unanswered = (w: World): Effect => ({ kind: 'run', before: () => w.clock.advance(5_000) })

const iamWays: Way[] = [
  { name: 'refused', set: (w, _r, point) => atIam(w, point, { kind: 'error', code: 'MalformedPolicyDocument' }) },
  { name: 'denied', set: (w, _r, point) => atIam(w, point, { kind: 'error', code: 'AccessDenied' }) },
  { name: 'error before effect', set: (w, _r, point) => atIam(w, point, { kind: 'error', code: 'ServiceFailure' }) },
  { name: 'error after effect', set: (w, _r, point) => atIam(w, point, { kind: 'errorAfter' }) },
  { name: 'connection lost after effect', set: (w, _r, point) => atIam(w, point, { kind: 'dropAfter' }) },
  { name: 'timeout before effect', attemptMs: 250, set: (w, _r, point) => atIam(w, point, unanswered(w), { kind: 'timeout' }) },
  { name: 'timeout after effect', attemptMs: 250, set: (w, _r, point) => atIam(w, point, unanswered(w), { kind: 'timeoutAfter' }) },
  { name: 'down from before its effect', set: (w, _r, point) => iamDown(w, point, { kind: 'error', code: 'ServiceUnavailable' }) },
  { name: 'down from after its effect', set: (w, _r, point) => iamDown(w, point, { kind: 'errorAfter' }) },
  {
    name: 'killed before effect',
    kills: true,
    set: (w, r, point) => atIam(w, point, { kind: 'run', before: () => r.die() }, { kind: 'timeout' })
  },
  {
    name: 'killed after effect',
    kills: true,
    set: (w, r, point) => atIam(w, point, { kind: 'run', after: () => r.die() }, { kind: 'timeoutAfter' })
  },
  {
    name: 'stalled before effect, answered late',
    stalls: true,
    set: (w, _r, point, meanwhile) => atIam(w, point, { kind: 'run', before: meanwhile })
  },
  {
    name: 'stalled after effect, answered late',
    stalls: true,
    set: (w, _r, point, meanwhile) => atIam(w, point, { kind: 'run', after: meanwhile })
  },
  {
    name: 'stalled before effect, never answered',
    stalls: true,
    set: (w, _r, point, meanwhile) => atIam(w, point, { kind: 'run', before: meanwhile }, { kind: 'dropAfter' })
  },
  {
    name: 'stalled after effect, never answered',
    stalls: true,
    set: (w, _r, point, meanwhile) => atIam(w, point, { kind: 'run', after: meanwhile }, { kind: 'dropAfter' })
  }
]

const failed = () => new LedgerUnavailableError('injected')

type Strike = (effect: () => Promise<unknown>) => Promise<unknown>

const atLedger = (r: Replica, { call, nth }: Point, strike: Strike, later?: () => Promise<unknown>) => {
  let seen = 0
  r.intercept = async (name, effect) => {
    if (seen >= nth && later) return later()
    if (name === call && ++seen === nth) return strike(effect)
    return effect()
  }
  return { struck: () => seen >= nth }
}

const down = async () => { throw failed() }

const ledgerWays: Way[] = [
  { name: 'error before effect', set: (_w, r, point) => atLedger(r, point, down) },
  { name: 'error after effect', set: (_w, r, point) => atLedger(r, point, async effect => { await effect(); throw failed() }) },
  { name: 'down from before its effect', reconciles: true, set: (_w, r, point) => atLedger(r, point, down, down) },
  {
    name: 'down from after its effect',
    reconciles: true,
    set: (_w, r, point) => atLedger(r, point, async effect => { await effect(); throw failed() }, down)
  },
  { name: 'killed before effect', kills: true, set: (_w, r, point) => atLedger(r, point, async () => { r.die(); return never() }) },
  {
    name: 'killed after effect',
    kills: true,
    set: (_w, r, point) => atLedger(r, point, async effect => { await effect(); r.die(); return never() })
  },
  {
    name: 'stalled before effect',
    stalls: true,
    set: (_w, r, point, meanwhile) => atLedger(r, point, async effect => { await meanwhile(); return effect() })
  },
  {
    name: 'stalled after effect',
    stalls: true,
    set: (_w, r, point, meanwhile) => atLedger(r, point, async effect => {
      const answer = await effect()
      await meanwhile()
      return answer
    })
  },
  {
    name: 'stalled after effect, error',
    stalls: true,
    set: (_w, r, point, meanwhile) => atLedger(r, point, async effect => { await effect(); await meanwhile(); throw failed() })
  }
]

/** A read, and the audit's record, have no effect to come before or after. */
const withoutEffect = (call: string): boolean => ['get', 'accounts'].includes(call) || call.startsWith('record ')

export const waysAt = ({ to, call }: Point): Way[] => {
  if (to === 'iam') return iamWays
  return withoutEffect(call) ? ledgerWays.filter(({ name }) => name.includes('before')) : ledgerWays
}
