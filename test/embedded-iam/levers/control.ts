import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Received, Reply } from '../../../src/embedded-iam/dispatch.ts'
import type { Call, Effect, Faults, Match } from './faults.ts'
import type { State } from './view.ts'

interface Controlled {
  state: State
  calls: readonly Call[]
  faults: Faults
  wire: { aheadMs: number }
  reset: () => void
}

const prefix = '/_embedded/'
const effects: Record<string, Record<string, 'string' | 'number'>> = {
  error: { code: 'string', status: 'number', message: 'string' },
  errorAfter: { code: 'string', status: 'number', message: 'string' },
  delay: { ms: 'number' },
  timeout: {},
  timeoutAfter: {},
  drop: {},
  dropAfter: {},
  throttle: { times: 'number' }
}
const required: Record<string, readonly string[]> = { error: ['code'], delay: ['ms'] }

export function isControl (req: IncomingMessage): boolean {
  return req.url?.startsWith(prefix) === true
}

/**
 * Remote control for tests whose embedded IAM is another process:
 * `POST faults` {match, effect}, `GET faults`, `DELETE faults`, `GET state`, `GET calls`, `POST clock` (ms ahead of
 * the machine's), `POST reset`.
 */
export function answerControl ({ req, body }: Received, controlled: Controlled): Reply {
  const { state, calls, faults, wire, reset } = controlled
  // No web page in the developer's browser may use it, not even by rebinding a name to 127.0.0.1.
  const host = /^(?:127\.0\.0\.1|localhost)(?::\d+)?$/.test(req.headers.host ?? '')
  if (!host || req.headers.origin !== undefined) return json(403, { error: 'Not from a browser.' })
  switch (`${req.method} ${req.url?.slice(prefix.length)}`) {
    case 'GET state':
      return json(200, { users: state.users, policies: state.policies, roles: state.roles, calls: calls.length })
    case 'GET calls':
      return json(200, calls)
    case 'GET faults':
      return json(200, faults.list().map(({ id, match, effect, seen, hits }) => ({ id, match, effect, seen, hits })))
    case 'DELETE faults':
      faults.clear()
      return json(200, {})
    case 'POST faults':
      try {
        const { match, effect } = faultOf(JSON.parse(body.toString()))
        return json(201, { id: faults.on(match, effect).id })
      } catch (error) {
        return json(400, { error: error instanceof Error ? error.message : 'Not a fault.' })
      }
    case 'POST clock':
      wire.aheadMs = Number(body.toString())
      return json(Number.isInteger(wire.aheadMs) ? 200 : 400, {})
    case 'POST reset':
      reset()
      return json(200, {})
    default:
      return json(404, { error: 'No such control.' })
  }
}

/** A misspelt fault would have no effect, and its test would pass. So unknown fields are refused. */
function faultOf (value: unknown): { match: Match, effect: Effect } {
  const { match = {}, effect, ...rest } = fields(value, 'A fault')
  if (Object.keys(rest).length > 0) throw new TypeError('A fault has match and effect alone.')
  const { action, params, nth, times, ...unknown } = fields(match, 'match')
  if (Object.keys(unknown).length > 0) throw new TypeError('match has action, params, nth and times alone.')
  const actions = Array.isArray(action) ? action : [action ?? '']
  if (actions.some((each) => typeof each !== 'string')) throw new TypeError('match.action must be a string or an array of strings.')
  if (params !== undefined && Object.values(fields(params, 'match.params')).some((each) => typeof each !== 'string')) {
    throw new TypeError('match.params must hold strings.')
  }
  for (const count of [nth, times]) {
    if (count === undefined || (Number.isInteger(count) && (count as number) > 0)) continue
    throw new TypeError('match.nth and match.times count from 1.')
  }
  const { kind, ...settings } = fields(effect, 'effect')
  const known = typeof kind === 'string' && Object.hasOwn(effects, kind) ? effects[kind] : undefined
  if (!known) throw new TypeError(`effect.kind must be one of ${Object.keys(effects).join(', ')}.`)
  for (const [name, setting] of Object.entries(settings)) {
    const type: string = typeof setting
    if (type !== known[name]) throw new TypeError(`effect.${name} is not a setting of ${String(kind)}, or not of its type.`)
  }
  for (const name of required[String(kind)] ?? []) {
    if (settings[name] === undefined) throw new TypeError(`effect.${name} is missing.`)
  }
  return { match: match as Match, effect: effect as Effect }
}

function fields (value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError(`${what} must be an object.`)
  return value as Record<string, unknown>
}

function json (status: number, value: unknown): Reply {
  return { status, code: null, type: 'application/json', body: JSON.stringify(value), requestId: randomUUID() }
}
