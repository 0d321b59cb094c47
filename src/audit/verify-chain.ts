import { genesis, readLine, type AuditKey, type ChainPoint } from './chain.ts'

export interface VerifiedFile {
  name: string
  bytes: Buffer
}

export interface VerifyOptions {
  keys?: readonly AuditKey[]
  /** A point that is known from elsewhere, e.g. the last one delivered: it must be in the chain. */
  head?: { hash: string, seq?: number }
}

type ChainFault =
  | 'not-a-line' | 'torn' | 'edited' | 'unkeyed' | 'key-needed' | 'wrong-key'
  | 'deleted' | 'reordered' | 'inserted' | 'replaced' | 'truncated' | 'head-differs' | 'empty'

type Verdict =
  | { ok: true, instance: string, first: number, last: ChainPoint, lines: number, files: number, keyed: boolean }
  | { ok: false, instance: string, file: string, line: number, seq: number | null, fault: ChainFault, message: string }

interface Place {
  file: string
  /** Line number within the file, from 1. */
  line: number
  bytes: Buffer
}

/** The lines of a file, and the bytes after the last newline: a whole file has none. */
function places ({ name, bytes }: VerifiedFile): { lines: Place[], rest: Buffer } {
  const lines: Place[] = []
  let offset = 0
  for (let newline = bytes.indexOf(0x0a); newline >= 0; newline = bytes.indexOf(0x0a, offset)) {
    lines.push({ file: name, line: lines.length + 1, bytes: bytes.subarray(offset, newline) })
    offset = newline + 1
  }
  return { lines, rest: bytes.subarray(offset) }
}

/**
 * Verifies the files of one instance's chain, in any order, and names the first line that is not as it was
 * written. Without a key, somebody who can write the files can also make a new chain that fits. Only `head` shows that.
 */
export function verifyChain (instance: string, files: readonly VerifiedFile[], { keys = [], head }: VerifyOptions = {}): Verdict {
  const contents = files.map(file => ({ file, ...places(file) })).sort((a, b) => firstSeq(a.lines) - firstSeq(b.lines))
  const all = contents.flatMap(({ lines }) => lines)
  let before: ChainPoint | undefined
  let first = 0
  let headAt: number | undefined
  let keyed = false

  for (const [index, place] of all.entries()) {
    const read = readLine(place.bytes, keys)
    const fail = (fault: ChainFault, message: string): Verdict =>
      ({ ok: false, instance, file: place.file, line: place.line, seq: read?.seq ?? null, fault, message })
    if (!read) return fail('not-a-line', 'is not an audit line: it was edited, or is not of this log')
    if (read.seal === 'key-unknown') {
      return keys.length === 0
        ? fail('key-needed', `is sealed with key ${read.keyId}: give it with --key-file`)
        : fail('wrong-key', `is sealed with key ${read.keyId}, not with ${keys.map(({ id }) => id).join(' or ')}`)
    }
    if (keys.length > 0 && read.keyId === null) {
      return fail('unkeyed', 'is sealed without a key: whoever can write the file can have made it')
    }
    if (read.seal === 'bad') return fail('edited', 'was edited: it does not fit its own hash')
    if (read.instance !== instance) return fail('inserted', `is of instance ${read.instance}`)
    if (before) {
      const wanted = before.seq + 1
      if (read.seq > wanted) {
        return all.slice(index).some(({ bytes }) => readLine(bytes)?.seq === wanted)
          ? fail('reordered', `has seq ${read.seq} where ${wanted} belongs, which comes later: lines were reordered`)
          : fail('deleted', `has seq ${read.seq} where ${wanted} belongs: lines ${wanted} to ${read.seq - 1} were deleted`)
      }
      if (read.seq < wanted) {
        return fail('inserted', `has seq ${read.seq} a second time or late, where ${wanted} belongs: a line was inserted or moved`)
      }
      if (read.prev !== before.hash) {
        return fail(
          'replaced', `does not follow the line before it: that one was replaced (line ${place.line - 1 || 'last of the file before'})`
        )
      }
    } else {
      if (read.seq === 1 && read.prev !== genesis.hash) return fail('replaced', 'is the first line, but names one before it')
      first = read.seq
    }
    keyed = read.keyId !== null
    before = read.point
    if (head && read.point.hash === head.hash && (head.seq === undefined || head.seq === read.seq)) headAt = read.seq
    if (head?.seq === read.seq && headAt !== read.seq) {
      return fail('head-differs', `is another line than the expected one with seq ${read.seq}: the chain was rewritten`)
    }
  }

  const lastPlace = all.at(-1)
  const where = { ok: false as const, instance, file: lastPlace?.file ?? files[0]?.name ?? '', line: (lastPlace?.line ?? 0) + 1, seq: null }
  const torn = contents.find(({ rest }) => rest.length > 0)
  if (torn) {
    return {
      ...where,
      file: torn.file.name,
      line: torn.lines.length + 1,
      fault: 'torn',
      message: `is unfinished (${torn.rest.length} bytes without a newline): a crash, or the service is writing; it is put right at the ` +
        'next start'
    }
  }
  if (!before) return { ...where, fault: 'empty', message: 'is missing: there is no line' }
  if (head && headAt === undefined) {
    const message = head.seq !== undefined && head.seq < first
      ? `the expected line ${head.seq} is older than the first one given (${first}): give the earlier files too`
      : `the expected head${head.seq === undefined ? '' : ` (line ${head.seq})`} is not in the chain, which ends at line ${before.seq}: ` +
        'lines were cut off'
    return { ...where, fault: 'truncated', message }
  }
  return { ok: true, instance, first, last: before, lines: all.length, files: files.length, keyed }
}

function firstSeq (lines: readonly Place[]): number {
  for (const { bytes } of lines) {
    const read = readLine(bytes)
    if (read) return read.seq
  }
  return Infinity
}

/** Which instance wrote a file, by its first readable line. */
export function instanceOf (file: VerifiedFile): string | undefined {
  for (const { bytes } of places(file).lines) {
    const read = readLine(bytes)
    if (read) return read.instance
  }
  return undefined
}
