import { setTimeout as sleep } from 'node:timers/promises'
import type { Received, Reply } from '../../../src/embedded-iam/dispatch.ts'
import { errorReply } from '../../../src/embedded-iam/dispatch.ts'
import { statusOf } from '../../../src/embedded-iam/refusal.ts'
import type { EmbeddedIam, EmbeddedIamOptions } from '../../../src/embedded-iam/server.ts'
import { freshAdmin, openAccount, startEmbeddedIam } from '../../../src/embedded-iam/server.ts'
import { answerControl, isControl } from './control.ts'
import type { Call, Effect, Faults } from './faults.ts'
import { createFaults } from './faults.ts'
import type { State } from './view.ts'
import { viewOf } from './view.ts'

export interface TestIamOptions extends Omit<EmbeddedIamOptions, 'account' | 'intercept'> {
  /** Every answer comes this much later, in ms; the effect is immediate. */
  latencyMs?: number
  faults?: Faults
  /** Serves /_embedded/{faults,state,calls,reset} without authentication: for tests of another process only. */
  control?: boolean
  /** How many of the latest calls are kept, at least; default 10,000. */
  keepCalls?: number
}

export interface TestIam extends EmbeddedIam {
  state: State
  /** In the order of arrival. */
  calls: readonly Call[]
  faults: Faults
  /** Its clock of signatures and of the Date header is ahead of the machine's by this, in ms. */
  wire: { aheadMs: number }
  /** Back to an empty account without calls and faults; the admin keys stay. */
  reset: () => void
}

/** The embedded IAM as tests use it: they see its account and its calls, and make its calls fail. */
export async function startTestIam (options: TestIamOptions = {}): Promise<TestIam> {
  const { latencyMs = 0, faults = createFaults(), control = false, keepCalls = 10_000, ...served } = options
  const admin = options.adminKeys ?? freshAdmin()
  const calls: Call[] = []
  const wire = { aheadMs: 0 }
  const stopped = new AbortController()
  const wait = async (ms: number): Promise<void> => { await sleep(ms, undefined, { signal: stopped.signal }) }
  let account = openAccount(options, admin)
  const state = viewOf(() => account)
  const reset = (): void => {
    account = openAccount(options, admin)
    calls.length = 0
    faults.clear()
    wire.aheadMs = 0
  }

  async function intercept (received: Received, serve: () => Reply): Promise<Reply | null> {
    if (control && isControl(received.req)) return answerControl(received, { state, calls, faults, wire, reset })
    const { service, req } = received
    const call: Call = { ...received.call, accessKeyId: claimedKeyId(req.headers.authorization), status: null, code: null }
    calls.push(call)
    if (keepCalls < calls.length / 2) calls.splice(0, calls.length - keepCalls)
    const effects = faults.strike(call)
    const fault = effects.length === 0 ? null : await before(effects, call, wait)
    if (fault?.kind === 'drop') req.socket.destroy()
    if (fault?.kind === 'drop' || fault?.kind === 'timeout') return null

    let reply = fault?.kind === 'error' || fault?.kind === 'throttle'
      ? injected(service, fault)
      : fault?.kind === 'answer' ? written(fault) : serve()
    if (fault?.kind === 'errorAfter') reply = injected(service, fault)
    if (fault?.kind === 'answerAfter') reply = written(fault)
    if (effects.length > 0) await after(effects, call)
    if (fault?.kind === 'dropAfter') req.socket.destroy()
    if (fault?.kind === 'dropAfter' || fault?.kind === 'timeoutAfter') return null
    if (latencyMs > 0) await wait(latencyMs)
    call.status = reply.status
    call.code = reply.code
    return reply
  }

  const iam = await startEmbeddedIam({
    wire: () => new Date(Date.now() + wire.aheadMs), ...served, adminKeys: admin, account: () => account, intercept
  })
  return {
    ...iam,
    state,
    calls,
    faults,
    wire,
    reset,
    stop: async () => {
      stopped.abort()
      await iam.stop()
    }
  }
}

/** The access key id that a request names, verified or not. */
function claimedKeyId (authorization = ''): string | null {
  return /Credential=(\w+)\//.exec(authorization)?.[1] ?? null
}

/** The answer of a fault, in place of the real one. */
function injected (service: Received['service'], fault: Effect & { kind: 'error' | 'errorAfter' | 'throttle' }): Reply {
  if (fault.kind === 'throttle') return errorReply(service, 400, 'Throttling', 'Rate exceeded')
  const code = fault.code ?? 'ServiceFailure'
  return errorReply(service, fault.status ?? statusOf(code), code, fault.message ?? 'Injected by a fault.')
}

function written ({ status, type, body }: Effect & { kind: 'answer' | 'answerAfter' }): Reply {
  return { status, code: null, type, body, requestId: '' }
}

/** Runs what comes before the call. Returns the one fault that decides how it goes on. */
async function before (effects: Effect[], call: Call, wait: (ms: number) => Promise<void>): Promise<Effect | null> {
  for (const effect of effects) {
    if (effect.kind === 'delay') await wait(effect.ms)
    if (effect.kind === 'run') await effect.before?.(call)
  }
  return effects.find(({ kind }) => kind !== 'delay' && kind !== 'run') ?? null
}

async function after (effects: Effect[], call: Call): Promise<void> {
  for (const effect of effects) {
    if (effect.kind === 'run') await effect.after?.(call)
  }
}
