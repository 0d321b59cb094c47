import { createHash } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { auditKey, genesis, sealLine, type AuditKey, type ChainPoint } from './chain.ts'
import { readCursor, startDelivery, type Delivery, type DeliveryState, type Sink } from './delivery.ts'
import { systemActor, type NewAuditEvent } from './event.ts'
import { chainFile, chainFiles, cursorPath, instanceForm, openAppendFile, type AppendFile, type OpenFile } from './files.ts'
import { AuditBroken, readTail, type Tail } from './recover.ts'

export { AuditBroken } from './recover.ts'

export interface AuditOptions {
  /** Stem of the files: `/var/lib/job-access/audit` gives `audit.<instance>.000000000001.jsonl` there. */
  path: string
  /** Name of this replica, unique among those that share the directory. */
  instance: string
  now: () => Date
  /** 32 bytes or more. With it nobody without it can rewrite the chain. */
  hmacKey?: Buffer
  /**
   * `always` (default): on the disk before record() resolves; survives the machine. `batch`: with the kernel before it
   * resolves, on the disk within a second; survives the process.
   */
  fsync?: 'always' | 'batch'
  /** Bytes after which a new file is begun. Default 64 MiB. */
  maxBytes?: number
  sinks?: Sink[]
  /** Told of what needs somebody to look; the log goes on or refuses as record() says. */
  onProblem?: (message: string) => void
  /** From 0 to 1, for the jitter of deliveries. */
  random?: () => number
  /** Of deliveries, in milliseconds. Default 500, doubled up to 60,000. */
  backoff?: { first: number, most: number }
  openFile?: OpenFile
}

export interface AuditState {
  head: ChainPoint
  /** Records that wait to be written. */
  waiting: number
  /** Why nothing is written any more; undefined: all is well. */
  broken: string | undefined
  deliveries: DeliveryState[]
}

export interface Audit {
  /**
   * Resolves when the event is written durably (see fsync), in the order of the calls. Many at once share one write
   * and one fsync. Rejects with AuditUnavailable: then the event is not in the log, and what it is about must not happen.
   */
  record(event: NewAuditEvent): Promise<void>
  state(): AuditState
  /** Writes what waits, then gives the sinks up to drainMs (default 2000) to catch up; the rest follows after the next start. */
  close(drainMs?: number): Promise<void>
}

export class AuditUnavailable extends Error { override name = 'AuditUnavailable' }

interface Entry {
  at: string
  event: NewAuditEvent
  resolve: () => void
  reject: (error: unknown) => void
}

interface Current {
  path: string
  file: AppendFile
  /** Bytes of whole, acknowledged lines. */
  size: number
}

const longestLine = 32 * 1024
const largestBatch = 512
// Some 20 batches: on a disk that hangs, memory must not fill up with what waits for it.
const longestQueue = 10_000
const syncEveryMs = 1000

// Our static tokens and anything that looks like a JWT: there is no field for them, so one in a text is a mistake.
const secretForms = /jat_[a-z0-9][a-z0-9-]{0,62}_[A-Za-z0-9_-]{43}|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g

/** A copy of the event at this moment, without anything that looks like a token. */
export function withoutSecrets (event: NewAuditEvent): NewAuditEvent {
  return JSON.parse(JSON.stringify(event), (_key, value: unknown) =>
    typeof value === 'string' ? value.replace(secretForms, '[token removed]') : value) as NewAuditEvent
}

/**
 * Opens the audit of one replica and goes on with its chain. What a crash left of its last write is moved aside and
 * recorded. Rejects with AuditBroken when the end of the log was edited or lines that were delivered are gone from it.
 */
export async function openAudit (options: AuditOptions): Promise<Audit> {
  const { path, instance, now, fsync = 'always', maxBytes = 64 * 1024 * 1024, sinks = [], openFile = openAppendFile } = options
  if (!instanceForm.test(instance)) throw new RangeError('An audit instance is named with letters, digits, - and _, at most 63.')
  const onProblem = options.onProblem ?? (() => {})
  const key = options.hmacKey && auditKey(options.hmacKey)
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })

  const found = await findHead(options, key, now)
  let head = found.head
  let current: Current = found.file
    ? { path: found.file.path, size: found.file.size, file: await openFile(found.file.path, false) }
    : await begin(head.seq + 1)
  let synced = { path: current.path, size: current.size }
  let queue: Entry[] = []
  let pumping = false
  let lastTurn: Promise<unknown> = Promise.resolve()
  let broken: string | undefined
  let closing: Promise<void> | undefined
  let closed = false
  let syncTimer: NodeJS.Timeout | undefined
  let deliveries: Delivery[] = []
  // What the log has to say of itself; kept until it is written.
  let own: NewAuditEvent[] = []

  async function begin (firstSeq: number): Promise<Current> {
    const { path: fresh } = chainFile(path, instance, firstSeq)
    return { path: fresh, size: 0, file: await openFile(fresh, true) }
  }

  /** One at a time on the file, in order. */
  function exclusively<T> (work: () => Promise<T>): Promise<T> {
    const turn = lastTurn.then(work)
    lastTurn = turn.catch(() => {})
    return turn
  }

  function breakDown (message: string): AuditUnavailable {
    broken ??= message
    onProblem(`The audit log is stopped: ${message}`)
    return new AuditUnavailable(message)
  }

  async function sync (): Promise<void> {
    const { path, size } = current
    await current.file.sync()
    synced = { path, size }
    for (const delivery of deliveries) delivery.wake()
  }

  async function roll (): Promise<void> {
    await sync()
    const old = current.file
    current = await begin(head.seq + 1)
    await old.close().catch(() => {})
  }

  /** Before each write: is the file still ours alone and where it was. */
  async function checkPlace (): Promise<void> {
    const { size, inPlace } = await current.file.state()
    if (size !== current.size) {
      throw breakDown(`${current.path} has ${size} bytes instead of ${current.size}: it was changed, or another process has the same instance name`)
    }
    if (inPlace) return
    const gone = current.path
    onProblem(`${gone} was moved or deleted; the chain goes on in a new file`)
    await roll()
    own.push({ requestId: null, actor: systemActor('audit'), action: 'audit.recover', outcome: 'done', reason: 'file-gone', detail: { file: basename(gone) } })
  }

  async function write (entries: readonly Entry[]): Promise<void> {
    if (broken !== undefined) throw new AuditUnavailable(broken)
    await checkPlace()
    const at = now().toISOString()
    let point = head
    const lines = [...own.map(event => ({ at, event })), ...entries].map(({ at, event }) => {
      const sealed = sealLine({ ...event, seq: point.seq + 1, at, instance }, point, key)
      point = sealed.point
      return sealed.line
    })
    const bytes = Buffer.from(`${lines.join('\n')}\n`)
    if (current.size > 0 && current.size + bytes.length > maxBytes) await roll()
    try {
      await current.file.append(bytes)
      if (fsync === 'always') await current.file.sync()
    } catch (cause) {
      await undo()
      throw cause
    }
    head = point
    own = []
    current.size += bytes.length
    if (fsync === 'always') {
      synced = { path: current.path, size: current.size }
      for (const delivery of deliveries) delivery.wake()
    } else {
      syncTimer ??= setTimeout(() => {
        syncTimer = undefined
        exclusively(sync).catch(error => { breakDown(`fsync: ${messageOf(error)}`) })
      }, syncEveryMs).unref()
    }
  }

  /** A part of a refused batch on the disk would break the chain, or tell of what did not happen. */
  async function undo (): Promise<void> {
    try {
      await current.file.truncate(current.size)
    } catch (error) {
      breakDown(`a write failed and could not be undone: ${messageOf(error)}`)
    }
  }

  async function pump (): Promise<void> {
    pumping = true
    while (queue.length > 0) {
      // What is recorded in the same tick, or during the write before, goes together.
      await Promise.resolve()
      const batch = queue.slice(0, largestBatch)
      queue = queue.slice(batch.length)
      try {
        await exclusively(() => write(batch))
        for (const { resolve } of batch) resolve()
      } catch (error) {
        onProblem(`The audit log refused ${batch.length} records: ${messageOf(error)}`)
        const refusal = error instanceof AuditUnavailable ? error : new AuditUnavailable(messageOf(error), { cause: error })
        for (const { reject } of batch) reject(refusal)
      }
    }
    pumping = false
  }

  function enqueue (event: NewAuditEvent): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    queue.push({ at: now().toISOString(), event, resolve, reject })
    if (!pumping) pump()
    return promise
  }

  async function record (event: NewAuditEvent): Promise<void> {
    if (closed) throw new AuditUnavailable('The audit log is closed.')
    const clean = withoutSecrets(event)
    if (Buffer.byteLength(JSON.stringify(clean)) > longestLine) throw new AuditUnavailable(`An audit event has at most ${longestLine} bytes.`)
    if (queue.length >= longestQueue) throw new AuditUnavailable(`${longestQueue} audit events wait to be written.`)
    await enqueue(clean)
  }

  async function shut (drainMs: number): Promise<void> {
    closed = true
    await enqueue({ requestId: null, actor: systemActor('audit'), action: 'audit.close', outcome: 'done' }).catch(() => {})
    clearTimeout(syncTimer)
    if (broken === undefined) await exclusively(sync).catch(error => { breakDown(`fsync: ${messageOf(error)}`) })
    await Promise.all(deliveries.map(delivery => delivery.stop(drainMs)))
    await current.file.close()
  }

  try {
    const opened: NewAuditEvent = {
      requestId: null, actor: systemActor('audit'), action: 'audit.open', outcome: 'done', detail: { fsync, keyId: key?.id ?? null }
    }
    await Promise.all([...found.events, opened].map(enqueue))
  } catch (error) {
    await current.file.close().catch(() => {})
    throw error
  }
  deliveries = sinks.map(sink => startDelivery({
    path,
    instance,
    sink,
    onProblem,
    random: options.random ?? Math.random,
    end: () => synced,
    ...(options.backoff ? { backoff: options.backoff } : {})
  }))

  return {
    record,
    state: () => ({ head, waiting: queue.length, broken, deliveries: deliveries.map(delivery => delivery.state()) }),
    close: (drainMs = 2000) => (closing ??= shut(drainMs))
  }
}

const messageOf = (error: unknown) => error instanceof Error ? error.message : String(error)

interface Head {
  head: ChainPoint
  /** The file to go on in; undefined: a new one. */
  file: { path: string, size: number } | undefined
  /** To be recorded first. */
  events: NewAuditEvent[]
}

/** Where the chain stands on the disk, after putting right what a crash left. */
async function findHead ({ path, instance, sinks = [] }: AuditOptions, key: AuditKey | undefined, now: () => Date): Promise<Head> {
  const cursors = await Promise.all(sinks.map(sink => readCursor(cursorPath(path, instance, sink.name))))
  const delivered = Math.max(0, ...cursors.map(cursor => cursor?.seq ?? 0))
  const files = await chainFiles(path, instance)
  const events: NewAuditEvent[] = []
  for (const { path: file } of files.toReversed()) {
    const tail = await readTail(file, key ? [key] : [])
    if (tail.torn || tail.newlineMissing) events.unshift(await repair(file, tail, now()))
    if (!tail.point) continue
    if (tail.point.seq < delivered) {
      throw new AuditBroken(`${file} ends at line ${tail.point.seq}, but line ${delivered} was delivered: lines were removed. ` +
        'Move the files of this instance aside to start anew behind the delivered line.')
    }
    // A file is sealed with one key throughout, so that the verifier can insist on it.
    const sameKey = tail.keyId === (key?.id ?? null)
    const newest = file === files.at(-1)?.path
    return {
      head: tail.point,
      events,
      file: sameKey && newest ? { path: file, size: tail.goodBytes + (tail.newlineMissing ? 1 : 0) } : begun(tail.point.seq)
    }
  }
  // Seqs are how receivers tell new lines from repeated ones: they are never used twice.
  return { head: { ...genesis, seq: delivered }, file: begun(delivered), events }

  /** A file that a crash left empty, or with nothing but a torn line. */
  function begun (seq: number): { path: string, size: number } | undefined {
    const next = chainFile(path, instance, seq + 1).path
    return files.some(file => file.path === next) ? { path: next, size: 0 } : undefined
  }
}

async function repair (path: string, tail: Tail, at: Date): Promise<NewAuditEvent> {
  const handle = await open(path, 'r+')
  try {
    if (tail.torn) {
      const aside = await open(`${path}.torn.${at.getTime()}`, 'wx', 0o600)
      await aside.writeFile(tail.torn)
      await aside.sync()
      await aside.close()
      await handle.truncate(tail.goodBytes)
    } else {
      await handle.write('\n', tail.goodBytes)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  return {
    requestId: null,
    actor: systemActor('audit'),
    action: 'audit.recover',
    outcome: 'done',
    reason: tail.torn ? 'torn-line' : 'newline-missing',
    detail: {
      file: basename(path),
      ...(tail.torn ? { bytes: tail.torn.length, sha256: createHash('sha256').update(tail.torn).digest('hex') } : {})
    }
  }
}
