import { open } from 'node:fs/promises'
import { readLine, type AuditKey, type ChainPoint } from './chain.ts'

/** The end of an existing file, checked before anything is appended to it. */
export interface Tail {
  /** The last good line; undefined when the file has none. */
  point: ChainPoint | undefined
  /** Id of the key that sealed the last good line. */
  keyId: string | null
  /** Bytes up to and including the last good line. */
  goodBytes: number
  /** The last good line is complete, but its newline is missing. */
  newlineMissing: boolean
  /** What a crash in the middle of a write left after the good lines. */
  torn: Buffer | undefined
}

/** A crash cannot have left the log like this. Nothing is written to it any more. */
export class AuditBroken extends Error { override name = 'AuditBroken' }

// A crash damages only the end of a file. Checking all of it would take seconds at each start; `npm run audit:verify` does that.
const window = 1024 * 1024

/**
 * Checks the last MiB of a file. An unfinished write leaves a part of a line at the very end, and nothing after it. A whole line
 * that does not fit the chain was edited: AuditBroken.
 */
export async function readTail (path: string, keys: readonly AuditKey[]): Promise<Tail> {
  const { bytes, start } = await lastBytes(path)
  // In a longer file the first bytes that are read are the rest of a line.
  let offset = start === 0 ? 0 : bytes.indexOf(0x0a) + 1
  const tail: Tail = { point: undefined, keyId: null, goodBytes: 0, newlineMissing: false, torn: undefined }
  let tornAt: number | undefined
  while (offset < bytes.length) {
    const newline = bytes.indexOf(0x0a, offset)
    const end = newline < 0 ? bytes.length : newline
    const line = readLine(bytes.subarray(offset, end), keys)
    if (!line) {
      tornAt ??= offset
    } else {
      if (tornAt !== undefined) {
        throw new AuditBroken(`${path}: a broken line stands before line ${line.seq}, so it was not left by a crash`)
      }
      if (line.seal === 'bad') throw new AuditBroken(`${path}: line ${line.seq} is not what was written`)
      if (tail.point && (line.prev !== tail.point.hash || line.seq !== tail.point.seq + 1)) {
        throw new AuditBroken(`${path}: line ${line.seq} does not follow line ${tail.point.seq}`)
      }
      tail.point = line.point
      tail.keyId = line.keyId
      tail.goodBytes = start + end + (newline < 0 ? 0 : 1)
      tail.newlineMissing = newline < 0
    }
    offset = end + 1
  }
  if (tornAt !== undefined) tail.torn = bytes.subarray(tornAt)
  if (start > 0 && !tail.point) throw new AuditBroken(`${path}: its last ${window} bytes hold no audit line`)
  return tail
}

async function lastBytes (path: string): Promise<{ bytes: Buffer, start: number }> {
  const handle = await open(path, 'r')
  try {
    const { size } = await handle.stat()
    const start = Math.max(0, size - window)
    const bytes = Buffer.alloc(size - start)
    let read = 0
    while (read < bytes.length) {
      const { bytesRead } = await handle.read(bytes, read, bytes.length - read, start + read)
      if (bytesRead === 0) throw new AuditBroken(`${path}: it became shorter while it was read`)
      read += bytesRead
    }
    return { bytes, start }
  } finally {
    await handle.close()
  }
}
