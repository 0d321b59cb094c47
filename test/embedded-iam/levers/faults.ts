import type { Params } from '../../../src/embedded-iam/params.ts'

/** One request as the server saw it. */
export interface Call {
  action: string
  /** The form's fields but Action and Version: `UserName`, `Tags.member.1.Key`, ... They hold no secret. */
  params: Params
  /** As claimed, verified or not; null without a readable Authorization header. */
  accessKeyId: string | null
  /** HTTP status of the answer; null while there is none, and for ever where a fault leaves the call without an answer. */
  status: number | null
  /** Error code of the answer. */
  code: string | null
}

/** Which calls. Everything given must hold. */
export interface Match {
  /** One action, or any of several; absent: any action. */
  action?: string | readonly string[]
  /** These fields with these values, e.g. `{ UserName: 'job-1' }`. */
  params?: Readonly<Record<string, string>>
  /** The n-th call that matches the rest, from 1, counted from when the fault was set; absent: from the first. */
  nth?: number
  /** How many calls from there on; default 1 with `nth`, else all until removed. */
  times?: number
}

export type Effect =
  /** Answers with this error and does nothing. Status default: that of the code. */
  | { kind: 'error', code: string, status?: number, message?: string }
  /** Does it, then answers this error; default ServiceFailure, 500. */
  | { kind: 'errorAfter', code?: string, status?: number, message?: string }
  /** Waits, then does it. Several delays add up. */
  | { kind: 'delay', ms: number }
  /** Does nothing and never answers: the client's timeout has to end it. */
  | { kind: 'timeout' }
  /** Does it and never answers. */
  | { kind: 'timeoutAfter' }
  /** Closes the connection and does nothing. */
  | { kind: 'drop' }
  /** Does it and closes the connection. */
  | { kind: 'dropAfter' }
  /** Answers Throttling this many times (default: as often as the match says) and does nothing. */
  | { kind: 'throttle', times?: number }
  /** Not over HTTP. Answers this and does nothing: a proxy's page, a list that is not up to date. */
  | { kind: 'answer', status: number, type: string, body: string }
  /** Not over HTTP. Does it, then answers so. */
  | { kind: 'answerAfter', status: number, type: string, body: string }
  /** Not over HTTP. Runs code of the test before or after the call is done, e.g. to kill the process that made it. */
  | { kind: 'run', before?: (call: Call) => unknown, after?: (call: Call) => unknown }

export interface Fault {
  readonly id: number
  readonly match: Match
  readonly effect: Effect
  /** Calls that fitted all but `nth` and `times`. */
  readonly seen: number
  /** Calls that got the effect. */
  readonly hits: number
  remove: () => void
}

export interface Faults {
  /** Sets a fault. Of several that fit one call, the first set decides, except that delays and runs all happen. */
  on: (match: Match, effect: Effect) => Fault
  list: () => readonly Fault[]
  clear: () => void
  /** For the server: counts the call and returns the effects it gets. */
  strike: (call: Pick<Call, 'action' | 'params'>) => Effect[]
}

export function createFaults (): Faults {
  const faults: Array<Fault & { seen: number, hits: number }> = []
  let lastId = 0
  return {
    on (match, effect) {
      const fault = {
        id: ++lastId,
        match,
        effect,
        seen: 0,
        hits: 0,
        remove: () => {
          const at = faults.indexOf(fault)
          if (at >= 0) faults.splice(at, 1)
        }
      }
      faults.push(fault)
      return fault
    },
    list: () => faults,
    clear: () => { faults.length = 0 },
    strike (call) {
      const effects: Effect[] = []
      for (const fault of faults) {
        if (!fits(fault.match, call)) continue
        fault.seen++
        if (!isDue(fault)) continue
        fault.hits++
        effects.push(fault.effect)
      }
      return effects
    }
  }
}

function fits ({ action, params }: Match, call: Pick<Call, 'action' | 'params'>): boolean {
  if (typeof action === 'string' ? action !== call.action : action && !action.includes(call.action)) return false
  return Object.entries(params ?? {}).every(([key, value]) => call.params[key] === value)
}

function isDue ({ match, effect, seen }: Fault): boolean {
  const first = match.nth ?? 1
  const times = (effect.kind === 'throttle' ? effect.times : undefined) ?? match.times ?? (match.nth === undefined ? Infinity : 1)
  return seen >= first && seen < first + times
}
