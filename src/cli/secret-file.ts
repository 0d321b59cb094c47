import { randomUUID } from 'node:crypto'
import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { UsageError } from './command.ts'
import type { HeldKey } from './held-key.ts'

export interface SecretFile {
  /** The file appears whole, readable by its owner only, or stays as it was. */
  write: (text: string) => Promise<void>
  discard: () => Promise<void>
  /** Removes what `write` wrote. A file that somebody else has replaced since then stays. */
  remove: () => Promise<void>
}

/** Opens the place of a file before there is a secret to put there: what cannot be kept is not asked for. @throws UsageError */
export const secretFile = async (path: string): Promise<SecretFile> => {
  const isFolder = await stat(path).then(found => found.isDirectory(), () => false)
  if (isFolder) throw new UsageError(`${path}: this is a folder, so no file can be written there.`)
  const beside = `${path}.${randomUUID()}.tmp`
  const file = await open(beside, 'wx', 0o600).catch((error: Error) => {
    throw new UsageError(`${path}: ${dirname(path)} cannot be written (${'code' in error ? String(error.code) : error.message}).`)
  })
  let written: string | undefined
  return {
    async write (text) {
      await file.writeFile(text)
      // Else a crash of the machine could leave the new name with nothing in it.
      await file.sync()
      await file.close()
      await rename(beside, path)
      written = text
    },
    async discard () {
      await file.close().catch(() => {})
      await rm(beside, { force: true })
    },
    async remove () {
      if (written === undefined) return
      const present = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined
        throw error
      })
      if (present === written) await rm(path, { force: true })
    }
  }
}

/** A credentials file as the AWS SDKs and most S3 tools read it, with the key as its default profile. */
export const writeCredentialsFile = async (path: string, { accessKeyId, secretAccessKey, sessionToken }: HeldKey): Promise<SecretFile> => {
  const file = await secretFile(path)
  const lines = [
    '[default]',
    `aws_access_key_id = ${accessKeyId}`,
    `aws_secret_access_key = ${secretAccessKey}`,
    ...(sessionToken === undefined ? [] : [`aws_session_token = ${sessionToken}`])
  ]
  try {
    await file.write(`${lines.join('\n')}\n`)
    return file
  } catch (error) {
    await file.discard().catch(() => {})
    throw error
  }
}
