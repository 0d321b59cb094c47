import { randomUUID } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { UsageError } from './command.ts'
import type { HeldKey } from './held-key.ts'

export interface SecretFile {
  /** The file appears whole, readable by its owner only, or stays as it was. */
  write: (text: string) => Promise<void>
  discard: () => Promise<void>
}

/** Opens the place of a file before there is a secret to put there: what cannot be kept is not asked for. @throws UsageError */
export const secretFile = async (path: string): Promise<SecretFile> => {
  const beside = `${path}.${randomUUID()}.tmp`
  const file = await open(beside, 'wx', 0o600).catch((error: Error) => {
    throw new UsageError(`${path}: ${dirname(path)} cannot be written (${'code' in error ? String(error.code) : error.message}).`)
  })
  return {
    async write (text) {
      await file.writeFile(text)
      // Else a crash of the machine could leave the new name with nothing in it.
      await file.sync()
      await file.close()
      await rename(beside, path)
    },
    async discard () {
      await file.close().catch(() => {})
      await rm(beside, { force: true })
    }
  }
}

/** A credentials file as the AWS SDKs and most S3 tools read it, with the key as its default profile. */
export const writeCredentialsFile = async (path: string, { accessKeyId, secretAccessKey, sessionToken }: HeldKey): Promise<void> => {
  const file = await secretFile(path)
  const lines = [
    '[default]',
    `aws_access_key_id = ${accessKeyId}`,
    `aws_secret_access_key = ${secretAccessKey}`,
    ...(sessionToken === undefined ? [] : [`aws_session_token = ${sessionToken}`])
  ]
  try {
    await file.write(`${lines.join('\n')}\n`)
  } catch (error) {
    await file.discard()
    throw error
  }
}
