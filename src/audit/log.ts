import { createHash } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
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
  /** 32 bytes or more. With it nobody without it can rewrite the chain. */
  hmacKey?: Buffer
  /**
   * `always` (default): on the disk before record() resolves; survives the machine. `batch`: with the kernel before it
   * resolves, on the disk within a second; survives the process.
   */
  fsync?: 'always' | 'batch'
  /** Bytes after which a new file is begun. Default 64 MiB. */
  maxBytes?: number
  /** Told of what needs somebody to look; the log goes on or refuses as record() says. */
  onProblem?: (message: string) => void
  openFile?: OpenFile
}

export interface AuditState {
  head: ChainPoint
  /** When the last line was written, in milliseconds since 1970. */
  writtenAt: number
  /** Records that wait to be written. */
  waiting: number
  /** Why nothing is written any more; undefined: all is well. */
  broken: string | undefined
}

export interface Audit {
  /**
   * Resolves when the event is written durably (see fsync), in the order of the calls. Many at once share one write
   * and one fsync. Rejects with AuditUnavailable: then the event is not in the log, and what it is about must not happen.
   */
  record(event: NewAuditEvent): Promise<void>
  state(): AuditState
  /** Writes what waits. */
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
// Some 20 batches: on a disk that hangs, memory must not fill up with what waits for it.
const longestQueue = 10_000
const syncEveryMs = 1000

// Our static tokens and anything that looks like a JWT: there is no field for them, so one in a text is a mistake.
const secretForms = /jat_[a-z0-9][a-z0-9-]{0,62}_[A-Za-z0-9_-]{43}|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g

/** A copy of the event at this moment, without anything that looks like a token. */
function withoutSecrets (event: NewAuditEvent): NewAuditEvent {
  return JSON.parse(JSON.stringify(event), (_key, value: unknown) =>
    typeof value === 'string' ? value.replace(secretForms, '[token removed]') : value) as NewAuditEvent
}

/**
 * Opens the audit of one replica and goes on with its chain. What a crash left of its last write is moved aside and
 * recorded. Rejects with AuditBroken when the end of the log was edited.
 */
export async function openAudit (options: AuditOptions): Promise<Audit> {
  const { path, instance, now, fsync = 'always', maxBytes = 64 * 1024 * 1024, openFile = openAppendFile } = options
  if (!instanceForm.test(instance)) throw new RangeError('An audit instance is named with letters, digits, - and _, at most 63.')
  const onProblem = options.onProblem ?? (() => {})
  const key = options.hmacKey && auditKey(options.hmacKey)
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })

  const found = await findHead(options, key, now)
  let head = found.head
  let current: Current = found.file
    ? { path: found.file.path, size: found.file.size, file: await openFile(found.file.path, false) }
    : await begin(head.seq + 1)
  let queue: Entry[] = []
  let pumping = false
  let lastTurn: Promise<unknown> = Promise.resolve()
  let broken: string | undefined
  let closing: Promise<void> | undefined
  let closed = false
  let syncTimer: NodeJS.Timeout | undefined
  let writtenAt = 0
  // Who reads along may have seen the part of a line that was cut off: the bytes that follow must not be taken for its rest.
  let cut = false
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

  const sync = () => current.file.sync()

  async function roll (): Promise<void> {
    await sync()
    const old = current.file
    current = await begin(head.seq + 1)
    cut = false
    await old.close().catch(() => {})
  }

  /** Before each write: is the file still ours alone and where it was. */
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
      if (fsync === 'always') await current.file.sync()
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

  /** A part of a refused batch on the disk would break the chain, or tell of what did not happen. */
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
    queue.push({ at: new Date(now()).toISOString(), event, resolve, reject })
    // Its outcome is that of each record's promise.
    if (!pumping) void pump()
    return promise
  }

  async function record (event: NewAuditEvent): Promise<void> {
    if (closed) throw new AuditUnavailable('The audit log is closed.')
    const clean = withoutSecrets(event)
    if (Buffer.byteLength(JSON.stringify(clean)) > longestLine) {
      throw new AuditUnavailable(`An audit event has at most ${longestLine} bytes.`)
    }
    if (queue.length >= longestQueue) throw new AuditUnavailable(`${longestQueue} audit events wait to be written.`)
    await enqueue(clean)
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
    state: () => ({ head, writtenAt, waiting: queue.length, broken }),
    close: () => (closing ??= shut())
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
async function findHead ({ path, instance }: AuditOptions, key: AuditKey | undefined, now: () => number): Promise<Head> {
  const files = await chainFiles(path, instance)
  const events: NewAuditEvent[] = []
  for (const { path: file } of files.toReversed()) {
    const tail = await readTail(file, key ? [key] : [])
    if (tail.torn || tail.newlineMissing) events.unshift(await repair(file, tail, new Date(now())))
    if (!tail.point) continue
    // A file is sealed with one key throughout, so that the verifier can insist on it.
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
