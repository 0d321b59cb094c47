import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { AuditEvent } from './event.ts'

/**
 * The form of one line. Writer and verifier both use it:
 *
 *   {"v":1,"seq":7,...,"prev":"<sha256 of the bytes of the line before>","hash":"<seal over all bytes before this comma>"}
 *
 * The seal covers bytes, not a parsed value, so that no reader needs canonical JSON. It is `sha256:<hex>`, or with a key
 * `hmac-sha256:<key id>:<hex>`: somebody who edits the file but does not have the key cannot make that one.
 */
export interface ChainPoint {
  seq: number
  /** Hex sha256 of the bytes of the line with this seq, without its newline. */
  hash: string
}

/** Before the first line. */
export const genesis: ChainPoint = { seq: 0, hash: '0'.repeat(64) }

export interface AuditKey {
  /** 8 hex digits that identify the key without revealing it. */
  id: string
  bytes: Buffer
}

const shortestKey = 32

export function auditKey (bytes: Buffer): AuditKey {
  if (bytes.length < shortestKey) throw new RangeError(`An audit key has ${shortestKey} bytes or more.`)
  return { bytes, id: createHmac('sha256', bytes).update('job-access audit key id').digest('hex').slice(0, 8) }
}

export const lineHash = (line: Buffer | string) => createHash('sha256').update(line).digest('hex')

function seal (body: Buffer | string, key: AuditKey | undefined): string {
  return key
    ? `hmac-sha256:${key.id}:${createHmac('sha256', key.bytes).update(body).digest('hex')}`
    : `sha256:${createHash('sha256').update(body).digest('hex')}`
}

/** The line of an event (without newline) and the chain after it. */
export function sealLine (event: AuditEvent, before: ChainPoint, key?: AuditKey): { line: string, point: ChainPoint } {
  const { seq, at, instance, requestId, actor, action, outcome, ...rest } = event
  const body = JSON.stringify({ v: 1, seq, at, instance, requestId, actor, action, outcome, ...rest, prev: before.hash }).slice(0, -1)
  const line = `${body},"hash":"${seal(body, key)}"}`
  return { line, point: { seq, hash: lineHash(line) } }
}

type SealState = 'good' | 'bad' | 'key-unknown'

interface ReadLine {
  seq: number
  prev: string
  instance: string
  event: AuditEvent
  /** Id of the key that sealed it; null: sealed without one. */
  keyId: string | null
  seal: SealState
  point: ChainPoint
}

const tail = /^,"hash":"(?:sha256:|hmac-sha256:([0-9a-f]{8}):)[0-9a-f]{64}"\}$/
const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Reads one line without its newline; undefined when it does not have the form of an audit line. */
export function readLine (line: Buffer, keys: readonly AuditKey[] = []): ReadLine | undefined {
  const cut = line.lastIndexOf(',"hash":"')
  if (cut < 0) return undefined
  const ending = tail.exec(line.toString('latin1', cut))
  if (!ending) return undefined
  let value: unknown
  try {
    value = JSON.parse(utf8.decode(line))
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { v, prev, hash, ...event } = value as AuditEvent & { v: unknown, prev: unknown, hash: string }
  if (v !== 1 || typeof prev !== 'string' || !Number.isSafeInteger(event.seq) || typeof event.instance !== 'string') return undefined
  const keyId = ending[1] ?? null
  const key = keyId === null ? undefined : keys.find(({ id }) => id === keyId)
  const state: SealState = keyId !== null && !key ? 'key-unknown' : sameText(seal(line.subarray(0, cut), key), hash) ? 'good' : 'bad'
  return {
    seq: event.seq,
    prev,
    instance: event.instance,
    event,
    keyId,
    seal: state,
    point: { seq: event.seq, hash: lineHash(line) }
  }
}

// Compares in constant time: otherwise the time of many tries would reveal a valid seal byte by byte.
const sameText = (a: string, b: string) => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
