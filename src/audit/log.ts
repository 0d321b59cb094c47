import { createHash } from 'node:crypto'
import { mkdir, open, rm } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { auditKey, genesis, sealLine, type AuditKey, type ChainPoint } from './chain.ts'
import { systemActor, type NewAuditEvent } from './event.ts'
import { chainFile, chainFiles, instanceForm, openAppendFile, type AppendFile, type OpenFile } from './files.ts'
import { readTail, type Tail } from './recover.ts'

export { AuditBroken } from './recover.ts'

export interface AuditOptions {
  /** Stem of the files: `/var/lib/job-access/audit` gives `audit.<instance>.000000000001.jsonl` there. */
  path: string
  /** Name of this replica, unique among those that share the directory. */
  instance: string
  /** Epoch ms. */
  now: () => number
  /** 32 bytes or more. Only somebody who has it can then rewrite the chain. */
  hmacKey?: Buffer
  /**
   * `always` (default): the event is on the disk before record() resolves; it survives a crash of the machine. `batch`: the
   * kernel has it before record() resolves, and the disk within a second; it survives a crash of the process.
   */
  fsync?: 'always' | 'batch'
  /** Bytes after which a new file is begun. Default 64 MiB. */
  maxBytes?: number
  /** Gets a message about everything that an operator must look at. */
  onProblem?: (message: string) => void
  openFile?: OpenFile
}

export interface AuditState {
  head: ChainPoint
  /** When the last line was written, in milliseconds since 1970. */
  writtenAt: number
  /** Number of events that wait to be written. */
  waiting: number
  /** Why the log is stopped; undefined: it is not. */
  broken: string | undefined
}

export interface Audit {
  /**
   * Resolves when the event is written durably (see fsync), in the order of the calls. Events that arrive
   * together share one write and one fsync. When it rejects with AuditUnavailable, the event is not in the log: then the caller
   * must not do what the event is about.
   */
  record(event: NewAuditEvent): Promise<void>
  state(): AuditState
  /** Rejects with AuditUnavailable when an event could not be written now. It writes to another file, so that the log does not grow. */
  check(): Promise<void>
  /** Writes the events that wait. */
  close(): Promise<void>
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
// About 20 batches: while a disk hangs, the events that wait for it must not fill the memory.
const longestQueue = 10_000
const syncEveryMs = 1000

// Our static tokens, and whatever looks like a JWT. No field is meant for them, so a token in a text is a mistake.
const secretForms = /jat_[a-z0-9][a-z0-9-]{0,62}_[A-Za-z0-9_-]{43}|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g

/** A copy of the event at this moment, without anything that looks like a token, and its JSON. */
function withoutSecrets (event: NewAuditEvent): { clean: NewAuditEvent, text: string } {
  // JSON escapes no character of a token, and a token has none of JSON's own.
  const text = JSON.stringify(event).replace(secretForms, '[token removed]')
  return { clean: JSON.parse(text) as NewAuditEvent, text }
}

/**
 * Opens the audit of one replica and continues its chain. A part of a line that a crash left at the end is moved to another file,
 * and the log records that. Rejects with AuditBroken when the end of the log was edited.
 */
export async function openAudit (options: AuditOptions): Promise<Audit> {
  const { path, instance, now, fsync = 'always', maxBytes = 64 * 1024 * 1024, openFile = openAppendFile } = options
  if (!instanceForm.test(instance)) throw new RangeError('An audit instance is named with letters, digits, - and _, at most 63.')
  const synced = fsync === 'always'
  const onProblem = options.onProblem ?? (() => {})
  const key = options.hmacKey && auditKey(options.hmacKey)
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })

  const found = await findHead(options, key, now)
  let head = found.head
  let current: Current = found.file
    ? { path: found.file.path, size: found.file.size, file: await openFile(found.file.path, { fresh: false, synced }) }
    : await begin(head.seq + 1)
  let queue: Entry[] = []
  let pumping = false
  let lastTurn: Promise<unknown> = Promise.resolve()
  let broken: string | undefined
  let closing: Promise<void> | undefined
  let closed = false
  let syncTimer: NodeJS.Timeout | undefined
  let writtenAt = 0
  // A log shipper may have read the part of a line that was cut off. It must not take the bytes that follow for the rest of that line.
  let cut = false
  // Events about the log itself; kept until they are written.
  let own: NewAuditEvent[] = []

  async function begin (firstSeq: number): Promise<Current> {
    const { path: fresh } = chainFile(path, instance, firstSeq)
    return { path: fresh, size: 0, file: await openFile(fresh, { fresh: true, synced }) }
  }

  /** Runs the work on the file one after the other, in order. */
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

  const sync = () => current.file.sync()

  async function roll (): Promise<void> {
    await sync()
    const old = current.file
    current = await begin(head.seq + 1)
    cut = false
    await old.close().catch(() => {})
  }

  /** Before each write: nobody else has written to the file, and it is still at its path. */
  async function checkPlace (): Promise<void> {
    const { size, inPlace } = await current.file.state()
    if (size !== current.size) {
      throw breakDown(`${current.path} has ${size} bytes instead of ${current.size}: it was changed, or another process has the same ` +
        'instance name')
    }
    if (inPlace) return
    const gone = current.path
    onProblem(`${gone} was moved or deleted; the chain goes on in a new file`)
    await roll()
    own.push({
      requestId: null,
      actor: systemActor('audit'),
      action: 'audit.recover',
      outcome: 'done',
      reason: 'file-gone',
      detail: { file: basename(gone) }
    })
  }

  async function write (entries: readonly Entry[]): Promise<void> {
    if (broken !== undefined) throw new AuditUnavailable(broken)
    await checkPlace()
    const at = new Date(now()).toISOString()
    let point = head
    const lines = [...own.map(event => ({ at, event })), ...entries].map(({ at, event }) => {
      const sealed = sealLine({ ...event, seq: point.seq + 1, at, instance }, point, key)
      point = sealed.point
      return sealed.line
    })
    const bytes = Buffer.from(`${lines.join('\n')}\n`)
    if (current.size > 0 && (cut || current.size + bytes.length > maxBytes)) await roll()
    try {
      await current.file.append(bytes)
    } catch (cause) {
      await undo()
      throw cause
    }
    head = point
    own = []
    current.size += bytes.length
    writtenAt = Date.parse(at)
    if (fsync === 'batch') {
      syncTimer ??= setTimeout(() => {
        syncTimer = undefined
        exclusively(sync).catch(error => { breakDown(`fsync: ${messageOf(error)}`) })
      }, syncEveryMs).unref()
    }
  }

  /** Removes what was written of a failed batch: it would break the chain, or record what did not happen. */
  async function undo (): Promise<void> {
    try {
      await current.file.truncate(current.size)
      cut = true
    } catch (error) {
      breakDown(`a write failed and could not be undone: ${messageOf(error)}`)
    }
  }

  async function pump (): Promise<void> {
    pumping = true
    while (queue.length > 0) {
      // Events of the same tick, and those that arrived during the write before, are written together.
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
    queue.push({ at: new Date(now()).toISOString(), event, resolve, reject })
    // Its outcome is that of each record's promise.
    if (!pumping) void pump()
    return promise
  }

  async function record (event: NewAuditEvent): Promise<void> {
    if (closed) throw new AuditUnavailable('The audit log is closed.')
    const { clean, text } = withoutSecrets(event)
    if (Buffer.byteLength(text) > longestLine) {
      throw new AuditUnavailable(`An audit event has at most ${longestLine} bytes.`)
    }
    if (queue.length >= longestQueue) throw new AuditUnavailable(`${longestQueue} audit events wait to be written.`)
    await enqueue(clean)
  }

  async function check (): Promise<void> {
    if (broken !== undefined) throw new AuditUnavailable(broken)
    if (queue.length >= longestQueue) throw new AuditUnavailable(`${queue.length} audit events wait to be written.`)
    const trial = `${current.path}.trial`
    try {
      // What a process that was killed here left.
      await rm(trial, { force: true })
      const file = await openFile(trial, { fresh: true, synced: false })
      try {
        await file.append(Buffer.alloc(longestLine))
        await file.sync()
      } finally {
        await file.close()
      }
    } catch (cause) {
      throw new AuditUnavailable(messageOf(cause), { cause })
    } finally {
      await rm(trial, { force: true }).catch(() => {})
    }
  }

  async function shut (): Promise<void> {
    closed = true
    await enqueue({ requestId: null, actor: systemActor('audit'), action: 'audit.close', outcome: 'done' }).catch(() => {})
    clearTimeout(syncTimer)
    if (broken === undefined) await exclusively(sync).catch(error => { breakDown(`fsync: ${messageOf(error)}`) })
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

  return {
    record,
    check,
    state: () => ({ head, writtenAt, waiting: queue.length, broken }),
    close: () => (closing ??= shut())
  }
}

export const messageOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

interface Head {
  head: ChainPoint
  /** The file to continue; undefined: start a new one. */
  file: { path: string, size: number } | undefined
  /** Events to write first. */
  events: NewAuditEvent[]
}

/** The end of the chain on the disk, after the repair of what a crash left. */
async function findHead ({ path, instance }: AuditOptions, key: AuditKey | undefined, now: () => number): Promise<Head> {
  const files = await chainFiles(path, instance)
  const events: NewAuditEvent[] = []
  for (const { path: file } of files.toReversed()) {
    const tail = await readTail(file, key ? [key] : [])
    if (tail.torn || tail.newlineMissing) events.unshift(await repair(file, tail, new Date(now())))
    if (!tail.point) continue
    // All lines of a file have the same key, so that the verifier can require it.
    const sameKey = tail.keyId === (key?.id ?? null)
    const newest = file === files.at(-1)?.path
    return {
      head: tail.point,
      events,
      // A torn line's place is left as it is: see `cut`.
      file: sameKey && newest && !tail.torn ? { path: file, size: tail.goodBytes + (tail.newlineMissing ? 1 : 0) } : begun(tail.point.seq)
    }
  }
  return { head: genesis, file: begun(0), events }

  /** A file that a crash left empty, or with only a part of a line. */
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
