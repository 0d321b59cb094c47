import { constants } from 'node:fs'
import { open, readdir, stat, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * One chain is one or more files, named by the first seq in them: `<stem>.<instance>.<12 digits>.jsonl`. No file is
 * ever renamed: a crash cannot leave a renaming half done, and a shell lists them in order.
 */
interface ChainFile {
  path: string
  firstSeq: number
}

export const instanceForm = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/

const stemOf = (path: string) => path.replace(/\.jsonl$/, '')

export function chainFile (path: string, instance: string, firstSeq: number): ChainFile {
  return { path: `${stemOf(path)}.${instance}.${String(firstSeq).padStart(12, '0')}.jsonl`, firstSeq }
}

/** The files of an instance's chain, oldest first. */
export async function chainFiles (path: string, instance: string): Promise<ChainFile[]> {
  const directory = dirname(path)
  const prefix = `${basename(stemOf(path))}.${instance}.`
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return names
    .filter(name => name.startsWith(prefix) && /^\d{12,}\.jsonl$/.test(name.slice(prefix.length)))
    .map(name => ({ path: join(directory, name), firstSeq: Number.parseInt(name.slice(prefix.length), 10) }))
    .sort((a, b) => a.firstSeq - b.firstSeq)
}

/** A new file survives a crash of the machine only when its directory has been synced, too. */
async function syncDirectory (path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** What the log does with a file; a test passes a file that fails. */
export interface AppendFile {
  /** Appends all of it, and onto the disk where the file is `synced`. When it rejects, any part of it may have been written. */
  append(bytes: Buffer): Promise<void>
  sync(): Promise<void>
  truncate(size: number): Promise<void>
  /** Size in bytes, and whether the path still leads to this very file. */
  state(): Promise<{ size: number, inPlace: boolean }>
  close(): Promise<void>
}

export type OpenFile = (path: string, how: { fresh: boolean, synced: boolean }) => Promise<AppendFile>

// Each call takes a turn of the thread pool, which costs more than the call: so one call writes and syncs, and one looks at the file.
export const openAppendFile: OpenFile = async (path, { fresh, synced }) => {
  const { O_APPEND, O_CREAT, O_DSYNC, O_EXCL, O_RDWR } = constants
  const handle = await open(path, O_RDWR | O_APPEND | O_CREAT | (fresh ? O_EXCL : 0) | (synced ? O_DSYNC : 0), 0o600)
  await handle.chmod(0o600)
  if (fresh) await syncDirectory(dirname(path))
  const own = await handle.stat()
  return {
    append: bytes => writeAll(handle, bytes),
    sync: () => handle.datasync(),
    truncate: async size => {
      await handle.truncate(size)
      await handle.sync()
    },
    async state () {
      const there = await stat(path).catch(() => undefined)
      return there?.ino === own.ino && there.dev === own.dev
        ? { size: there.size, inPlace: true }
        : { size: (await handle.stat()).size, inPlace: false }
    },
    close: () => handle.close()
  }
}

async function writeAll (handle: FileHandle, bytes: Buffer): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    // No position: the file is open for appending.
    written += (await handle.write(bytes, written, bytes.length - written, null)).bytesWritten
  }
}
