import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Account, AccountOptions } from './account.ts'
import { createAccount } from './account.ts'
import { answerControl, isControl } from './control.ts'
import { injected, maxBody, receive, serve } from './dispatch.ts'
import type { Call, Effect, Faults } from './faults.ts'
import { createFaults } from './faults.ts'
import * as identifiers from './identifiers.ts'
import { addAwsPolicies } from './policies.ts'
import type { State } from './view.ts'
import { viewOf } from './view.ts'

export interface AdminKeys { accessKeyId: string, secretAccessKey: string }

export interface EmbeddedIamOptions extends AccountOptions {
  host?: '127.0.0.1'
  /** Default 0: any free port. */
  port?: number
  /** Every answer comes this much later, in ms; the effect is immediate. */
  latencyMs?: number
  faults?: Faults
  /** The only keys that may call IAM; default: fresh ones. */
  adminKeys?: AdminKeys
  /** Serves /_embedded/{faults,state,calls,reset} without authentication: for tests of another process only. */
  control?: boolean
  /** What a call on a missing user gets; AccessDenied is what AWS tells a caller whose rights are bound to a path. */
  missingUser?: 'NoSuchEntity' | 'AccessDenied'
  /** How many of the latest calls are kept, at least; default 10,000. */
  keepCalls?: number
}

export interface EmbeddedIam {
  url: string
  admin: AdminKeys
  accountId: string
  state: State
  /** In the order of arrival. */
  calls: readonly Call[]
  faults: Faults
  /** Back to an empty account without calls and faults; the admin keys stay. */
  reset: () => void
  /** Closes every connection, answered or not. */
  stop: () => Promise<void>
}

/**
 * A small IAM and STS in memory, on loopback, that the AWS SDK takes for the real ones. Nothing it issues opens
 * anything at AWS: it is for development and tests.
 */
export async function startEmbeddedIam (options: EmbeddedIamOptions = {}): Promise<EmbeddedIam> {
  const host = options.host ?? '127.0.0.1'
  if (host !== '127.0.0.1') throw new TypeError('The embedded IAM listens on 127.0.0.1 only.')
  const admin = options.adminKeys ?? freshAdmin()
  const faults = options.faults ?? createFaults()
  const latencyMs = options.latencyMs ?? 0
  const keepCalls = options.keepCalls ?? 10_000
  const calls: Call[] = []
  const stopped = new AbortController()
  const wait = async (ms: number): Promise<void> => { await sleep(ms, undefined, { signal: stopped.signal }) }
  let account = openAccount(options, admin)

  const reset = (): void => {
    account = openAccount(options, admin)
    calls.length = 0
    faults.clear()
  }
  const state = viewOf(() => account)

  const server = createServer((req, res) => {
    handle(req, res).catch((error: unknown) => {
      // A client that went away is no fault of ours; anything else is, and must not pass for an answer.
      if (!res.headersSent) res.destroy(error instanceof Error ? error : undefined)
    })
  })
  // Longer than a client keeps an idle connection, or it would now and then write into a closed one.
  server.keepAliveTimeout = 75_000

  async function handle (req: IncomingMessage, res: ServerResponse): Promise<void> {
    const body = await read(req)
    if (options.control === true && isControl(req)) {
      answerControl(req, res, body, { state, calls, faults, reset })
      return
    }
    const received = receive(req, body)
    const { call, service } = received
    calls.push(call)
    if (keepCalls < calls.length / 2) calls.splice(0, calls.length - keepCalls)
    const effects = faults.strike(call)
    const fault = effects.length === 0 ? null : await before(effects, call, wait)
    if (fault?.kind === 'drop') { res.destroy(); return }
    if (fault?.kind === 'timeout') return

    let reply = fault?.kind === 'error' || fault?.kind === 'throttle'
      ? injected(service, fault)
      : serve(account, received, options.missingUser === 'AccessDenied')
    if (fault?.kind === 'errorAfter') reply = injected(service, fault)
    if (effects.length > 0) await after(effects, call)
    if (fault?.kind === 'dropAfter') { res.destroy(); return }
    if (fault?.kind === 'timeoutAfter') return
    if (latencyMs > 0) await wait(latencyMs)
    call.status = reply.status
    call.code = reply.code
    res.writeHead(reply.status, {
      'content-type': 'text/xml',
      'content-length': Buffer.byteLength(reply.xml),
      'x-amzn-requestid': reply.requestId
    })
    res.end(reply.xml)
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, host, resolve)
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${host}:${port}`,
    admin,
    accountId: account.id,
    state,
    calls,
    faults,
    reset,
    stop: async () => {
      stopped.abort()
      await new Promise<void>((resolve) => {
        server.close(() => { resolve() })
        server.closeAllConnections()
      })
    }
  }
}

function freshAdmin (): AdminKeys {
  return { accessKeyId: identifiers.accessKeyId('AKIA', () => false), secretAccessKey: identifiers.secretAccessKey() }
}

function openAccount (options: EmbeddedIamOptions, admin: AdminKeys): Account {
  const account = createAccount(options)
  addAwsPolicies(account)
  account.keys.set(admin.accessKeyId, {
    id: admin.accessKeyId,
    secret: admin.secretAccessKey,
    active: true,
    createdAt: account.now(),
    knownFrom: -Infinity,
    lastUsed: null,
    owner: { kind: 'admin', arn: `arn:aws:iam::${account.id}:user/embedded-admin`, id: 'AIDAEMBEDDEDADMINAAAA' },
    signing: new Map()
  })
  return account
}

/** Runs what comes before the call; the one fault that decides how it goes on. */
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

/** The body, or its first part when it is longer than `maxBody`. */
async function read (req: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    if (size > maxBody) continue
    chunks.push(chunk)
    size += chunk.length
  }
  return Buffer.concat(chunks)
}
