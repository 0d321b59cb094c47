import { setTimeout as sleep } from 'node:timers/promises'
import type { Client, DeliveryText } from '../client/index.ts'
import { deliveredEnv, verdictOn, type HeldKey } from './held-key.ts'

export interface KeeperOptions {
  client: Client
  first: HeldKey
  /** How long an SDK keeps what it was told, at the most. */
  validForMs: number
  /** How often the grant is looked at. */
  pollMs: number
  /** For how long a key that we replace goes on: it may be another agent's. */
  overlapSeconds: number
  /** A worker of a job gets its next key by joining again; absent: the grant is rotated. */
  rejoin?: Rejoin | undefined
  /** A fresh key was received. Called again at each turn until it succeeds. */
  received: (key: HeldKey) => Promise<void>
  note: (text: string) => void
  /** Ends it once aborted. */
  stopped: AbortSignal
}

/** How a worker joins its job again. */
export interface Rejoin {
  worker: string
  /** The start that it is. Once the worker has another one, that one has its key, and this one asks for no more. */
  attempt: string
  again: (client: Client) => Promise<DeliveryText>
}

/** What an SDK gets: the key, or why there is none and what to do. */
export type Held = { key: HeldKey } | Refusal

interface Refusal {
  status: 403 | 503
  code: 'grant-ended' | 'worker-replaced' | 'window-over' | 'key-replaced'
  message: string
}

/** Shorter than the JavaScript SDK waits for an answer, which is one second. */
const longestWaitMs = 800
const soonestPollMs = 1_000
const longestPauseMs = 15 * 60_000
/** The agents of a job got their first sessions together: each asks for its next one up to so long after it is due, by chance. */
const longestSpreadMs = 2 * 60_000
/** A key that is about to be replaced is told to end so soon, so that the SDKs ask again. */
const aboutToEndMs = 1_000

export interface KeptKey {
  held: () => Promise<Held>
  /** Resolves when nothing more is asked for and nothing more is received. */
  ended: Promise<void>
}

/**
 * Keeps the one key of a worker good, and gives it: looks at the grant, so that it knows of an extension, a rotation or
 * the end, and fetches a fresh key only when the present one is dead or about to die. While the service does not answer, the
 * present key stays.
 */
export const keepKey = (
  { client, first, validForMs, pollMs, overlapSeconds, rejoin, received, note, stopped }: KeeperOptions
): KeptKey => {
  let key = first
  let over: Refusal | undefined
  /** When a successor is due: the SDKs must have asked again by then where it ends the present key, which is so for a user's keys. */
  let renewAt = Infinity
  /** Successors in a row of a key that was hardly used. */
  let hasty = 0
  let trouble = ''
  /** The receiver does not have the present key yet. */
  let unwritten = false
  let writeFailed = false

  const look = async () => {
    const grant = await client.get(key.grantId)
    const now = Date.now()
    const verdict = verdictOn(key, grant, now)
    if (verdict.is === 'over') {
      over = refusal(403, 'grant-ended', `Grant ${key.grantId} has ended (${verdict.state}). Start the job again for a new one.`)
      note(`${key.grantId} has ended (${verdict.state}); no more credentials are given out.`)
      return
    }
    if (rejoin && grant.attempt !== rejoin.attempt) {
      const other = grant.attempt === null ? 'without an attempt' : `as attempt ${JSON.stringify(grant.attempt)}`
      over = refusal(403, 'worker-replaced', `Worker ${rejoin.worker} was started again ${other}, and that start has its key. ` +
        'End this process.')
      note(`worker ${rejoin.worker} was started again ${other}; no more credentials are given out here.`)
      return
    }
    if (verdict.is === 'good' && verdict.end > key.end) note(`${key.grantId}: the key works until ${iso(verdict.end)}.`)
    key = { ...key, end: verdict.end }
    renewAt = verdict.is === 'good' ? verdict.renewAt : Math.min(renewAt, now)
    if (verdict.is === 'replace') await renew(grant.attach === 'session')
  }

  const renew = async (session: boolean) => {
    if (!session) {
      note(`${key.grantId}: somebody else replaced the key; fetching a fresh one.`)
      // Two agents of one grant must not replace each other's key again and again.
      if (hasty > 0) await sleep(Math.min(longestPauseMs, 5_000 * 2 ** Math.min(hasty, 8)), undefined, { signal: stopped })
    }
    const delivered = await (rejoin ? rejoin.again(client) : client.rotateAs('env', key.grantId, session ? 0 : overlapSeconds))
    const now = Date.now()
    hasty = now - key.receivedAt < validForMs ? hasty + 1 : 0
    key = deliveredEnv(delivered, now).key
    renewAt = Infinity
    unwritten = true
  }

  const passOn = async () => {
    if (!unwritten) return
    try {
      await received(key)
      unwritten = false
      if (writeFailed) note('the fresh key is written now.')
      writeFailed = false
    } catch (error) {
      if (!writeFailed) note(`the fresh key could not be written, and this is tried again: ${messageOf(error)}`)
      writeFailed = true
    }
  }

  const pauseMs = () => {
    const now = Date.now()
    const usual = pollMs * (0.8 + 0.4 * Math.random())
    if (now >= renewAt) return Math.min(usual, 5_000)
    // Sooner before the end, so that an extension at the last minute is seen.
    const beforeEnd = key.end > now ? Math.max(soonestPollMs, (key.end - now) / 2) : usual
    const spread = key.sessionToken === undefined ? 0 : Math.min(longestSpreadMs, (key.end - renewAt) / 8) * Math.random()
    return Math.min(usual, beforeEnd, renewAt - now + spread)
  }

  const goesOn = () => !stopped.aborted && over === undefined
  const loop = async () => {
    while (goesOn()) {
      try {
        await sleep(pauseMs(), undefined, { signal: stopped })
        await look().finally(passOn)
        if (trouble !== '') note('all is well again.')
        trouble = ''
      } catch (error) {
        if (stopped.aborted) return
        const said = messageOf(error)
        if (said !== trouble) note(`${said} The present key is given out for as long as it works.`)
        trouble = said
      }
    }
  }
  const ended = loop().catch((error: unknown) => note(`unexpected: ${String(error)}`))

  const held = async (): Promise<Held> => {
    const renewalEndsIt = key.sessionToken === undefined
    const due = () => over === undefined && Date.now() >= (renewalEndsIt ? renewAt : Math.max(renewAt, key.end))
    for (const until = Date.now() + longestWaitMs; due() && Date.now() < until;) await sleep(20)
    const now = Date.now()
    const { grantId, end } = key
    if (over !== undefined) return over
    if (end > now) return { key: renewalEndsIt ? { ...key, end: Math.min(end, now < renewAt ? renewAt : now + aboutToEndMs) } : key }
    if (now >= renewAt) {
      const what = renewalEndsIt ? 'was replaced' : 'has ended'
      const message = `The key of grant ${grantId} ${what}, and no fresh one was received yet. Ask again in some seconds.`
      return refusal(503, 'key-replaced', message)
    }
    return refusal(403, 'window-over', `The window of grant ${grantId} ended at ${iso(end)}. Start the job again with a longer ` +
      `--duration; next time extend the window before it ends: job-access extend ${grantId} --duration 4h`)
  }
  return { held, ended }
}

const messageOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

const refusal = (status: Refusal['status'], code: Refusal['code'], message: string): Refusal => ({ status, code, message })

const iso = (epochMs: number): string => new Date(epochMs).toISOString().replace(/\.\d+Z/, 'Z')
