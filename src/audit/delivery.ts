import { open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { chainFiles, cursorPath, syncDirectory } from './files.ts'

/** Somewhere lines are sent to. At least once: after a crash or a lost answer the same line comes again with the same seq. */
export interface Sink {
  /** Names the cursor file: letters, digits, - and _. */
  name: string
  /** Most lines in one call. */
  maxLines: number
  /** Resolves when the receiver has them. Rejects when not, or not surely; TooLarge asks for fewer. */
  deliver(lines: DeliveredLine[], signal: AbortSignal): Promise<void>
}

export interface DeliveredLine {
  seq: number
  instance: string
  at: string
  action: string
  outcome: string
  /** The line as it stands in the file, without its newline. */
  text: string
}

export class TooLarge extends Error { override name = 'TooLarge' }
/** The receiver said when to come again. */
export class RetryLater extends Error {
  override name = 'RetryLater'
  readonly seconds: number

  constructor (message: string, seconds: number) {
    super(message)
    this.seconds = seconds
  }
}

export interface DeliveryState {
  sink: string
  /** Last line the receiver has. */
  deliveredSeq: number
  /** Failed attempts since the last success. */
  failures: number
  lastError: string | undefined
}

export interface Delivery {
  /** There may be more to deliver. */
  wake(): void
  state(): DeliveryState
  /** Lets it go on for up to drainMs, until all is delivered; then stops it. */
  stop(drainMs: number): Promise<void>
}

export interface DeliveryOptions {
  path: string
  instance: string
  sink: Sink
  /** How far the newest file may be read: what lies behind is not on the disk yet. */
  end: () => { path: string, size: number }
  random: () => number
  onProblem: (message: string) => void
  /** Milliseconds; default 500 and 60,000. */
  backoff?: { first: number, most: number }
}

interface Cursor {
  /** Last delivered line. */
  seq: number
  /** Where the next one starts; a hint that saves reading from the start. */
  file: string
  offset: number
}

export async function readCursor (path: string): Promise<Cursor | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const value = JSON.parse(text) as Partial<Cursor>
  if (!Number.isSafeInteger(value.seq) || typeof value.file !== 'string' || !Number.isSafeInteger(value.offset)) throw new Error(`${path} is not a cursor`)
  return value as Cursor
}

async function writeCursor (path: string, cursor: Cursor): Promise<void> {
  const temporary = `${path}.new`
  const handle = await open(temporary, 'w', 0o600)
  try {
    await handle.writeFile(JSON.stringify(cursor))
    await handle.datasync()
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
  await syncDirectory(dirname(path))
}

const mostBytes = 256 * 1024

/** Sends the chain to one sink, from where its cursor stands, for as long as it takes. Never in the way of record(). */
export function startDelivery (options: DeliveryOptions): Delivery {
  const { path, instance, sink, end, random, onProblem, backoff = { first: 500, most: 60_000 } } = options
  const cursorFile = cursorPath(path, instance, sink.name)
  const stopping = new AbortController()
  let cursor: Cursor = { seq: 0, file: '', offset: 0 }
  let failures = 0
  let lastError: string | undefined
  let lines = sink.maxLines
  let draining = false
  let bell = Promise.withResolvers<void>()

  const wake = () => {
    bell.resolve()
    bell = Promise.withResolvers<void>()
  }

  async function pause (ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, ms)
    stopping.signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
    clearTimeout(timer)
  }

  async function step (): Promise<'more' | 'done'> {
    const batch = await readBatch(path, instance, cursor, end(), lines)
    if (!batch) return 'done'
    const first = batch.lines[0]
    if (first && first.seq !== cursor.seq + 1) onProblem(`audit sink ${sink.name}: lines ${cursor.seq + 1} to ${first.seq - 1} were removed before they were delivered`)
    if (batch.lines.length > 0) await sink.deliver(batch.lines, stopping.signal)
    cursor = { ...batch.next, seq: batch.lines.at(-1)?.seq ?? cursor.seq }
    await writeCursor(cursorFile, cursor)
    return 'more'
  }

  async function run (): Promise<void> {
    let loaded = false
    while (!stopping.signal.aborted) {
      // Both as they are before the look: what comes during it must cause another.
      const rung = bell.promise
      const last = draining
      try {
        if (!loaded) cursor = await readCursor(cursorFile) ?? cursor
        loaded = true
        const more = await step()
        failures = 0
        lastError = undefined
        if (more === 'more') {
          lines = Math.min(sink.maxLines, lines * 2)
        } else {
          if (last) return
          await rung
        }
      } catch (error) {
        if (stopping.signal.aborted) return
        failures += 1
        lastError = error instanceof Error ? error.message : String(error)
        if (error instanceof TooLarge) lines = Math.max(1, Math.floor(lines / 2))
        if (failures === 1 || failures % 10 === 0) onProblem(`audit sink ${sink.name}: attempt ${failures} failed: ${lastError}`)
        const grown = Math.min(backoff.most, backoff.first * 2 ** Math.min(failures - 1, 20))
        const wait = error instanceof RetryLater ? Math.max(grown, error.seconds * 1000) : grown
        await pause(wait * (0.5 + random() / 2))
      }
    }
  }

  const running = run()
  return {
    wake,
    state: () => ({ sink: sink.name, deliveredSeq: cursor.seq, failures, lastError }),
    async stop (drainMs) {
      draining = true
      wake()
      const timer = setTimeout(() => stopping.abort(), drainMs)
      await running
      clearTimeout(timer)
    }
  }
}

interface Batch {
  lines: DeliveredLine[]
  next: { file: string, offset: number }
}

/** The next lines behind the cursor; undefined when there are none yet. */
async function readBatch (path: string, instance: string, cursor: Cursor, end: { path: string, size: number }, maxLines: number): Promise<Batch | undefined> {
  const files = (await chainFiles(path, instance)).map(file => file.path)
  let index = files.indexOf(cursor.file)
  let offset = cursor.offset
  if (index < 0) {
    index = 0
    offset = 0
  }
  for (; index < files.length; index += 1, offset = 0) {
    const file = files[index]
    if (file === undefined) break
    const limit = file === end.path ? end.size : Infinity
    const { bytes, complete } = await readFrom(file, offset, limit)
    const lines: DeliveredLine[] = []
    let used = 0
    while (lines.length < maxLines) {
      const newline = bytes.indexOf(0x0a, used)
      if (newline < 0) break
      const line = delivered(bytes.toString('utf8', used, newline))
      // Found again from the start of a file after the one with the cursor was archived.
      if (line.seq > cursor.seq) lines.push(line)
      used = newline + 1
    }
    if (used > 0) return { lines, next: { file, offset: offset + used } }
    if (!complete) throw new Error(`${file} has a line longer than ${mostBytes} bytes`)
    if (file === end.path) return undefined
  }
  return undefined
}

function delivered (text: string): DeliveredLine {
  const { seq, instance, at, action, outcome } = JSON.parse(text) as DeliveredLine
  return { seq, instance, at, action, outcome, text }
}

async function readFrom (path: string, offset: number, limit: number): Promise<{ bytes: Buffer, complete: boolean }> {
  const handle = await open(path, 'r')
  try {
    const { size } = await handle.stat()
    const length = Math.max(0, Math.min(size, limit) - offset)
    const bytes = Buffer.alloc(Math.min(length, mostBytes))
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, offset)
    return { bytes: bytes.subarray(0, bytesRead), complete: length <= mostBytes }
  } finally {
    await handle.close()
  }
}
