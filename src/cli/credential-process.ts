import { createHash } from 'node:crypto'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { NoAnswerError, ProblemError, type Client, type DeliveryText, type GrantRequest } from '../client/index.ts'
import { UsageError, exit, type Command } from './command.ts'
import { grantFlags, grantRequest } from './request.ts'
import { secretFile } from './secret-file.ts'
import { clientOf } from './settings.ts'

const { 'issue-at': _, ...issuedNow } = grantFlags
const flags = { ...issuedNow, 'idempotency-key': { type: 'string' }, cache: { type: 'string' } } as const

/**
 * What an AWS profile's `credential_process` runs. Every call gets the job's one grant with a fresh key, and the key before it dies:
 * right for one process. Several processes of a job share a key through `--cache FILE`, best on a file system in memory.
 */
export const credentialProcess: Command = async (args, io) => {
  const { values } = parseArgs({ args, options: flags })
  const request = { ...await grantRequest(values, io), waitUntilReady: true }
  const idempotencyKey = values['idempotency-key'] ?? null
  const client = clientOf(io)
  const issue = () => client.issueAs('credential-process', request, { idempotencyKey })
  const looking = clientOf(io, { deadlineMs: 5_000 })
  const { text } = values.cache === undefined ? await issue() : await cached(values.cache, looking, { request, idempotencyKey }, issue)
  io.out(`${text}\n`)
  return exit.ok
}

interface Kept extends Pick<DeliveryText, 'grantId' | 'text'> { of: string }

interface Asked { request: GrantRequest, idempotencyKey: string | null }

const cached = async (path: string, client: Client, what: Asked, issue: () => Promise<DeliveryText>) => {
  const of = createHash('sha256').update(JSON.stringify(what)).digest('hex')
  return locked(path, async () => {
    const kept = await keptIn(path)
    if (kept?.of === of && await lives(kept, client)) return kept
    const file = await secretFile(path)
    try {
      const { grantId, text } = await issue()
      await file.write(JSON.stringify({ of, grantId, text } satisfies Kept))
      return { grantId, text }
    } catch (error) {
      await file.discard()
      throw error
    }
  })
}

/** A key that was rotated or revoked is not handed out again; when the service does not answer, it is believed until its window ends. */
const lives = async ({ grantId, text }: Kept, client: Client): Promise<boolean> => {
  const { AccessKeyId, Expiration } = JSON.parse(text) as { AccessKeyId: string, Expiration: string }
  if (Date.parse(Expiration) <= Date.now()) return false
  try {
    const { state, accessKeyId } = await client.get(grantId)
    return state === 'active' && accessKeyId === AccessKeyId
  } catch (error) {
    return error instanceof NoAnswerError || (error instanceof ProblemError && (error.status >= 500 || error.status === 429))
  }
}

const keptIn = async (path: string): Promise<Kept | undefined> => {
  try {
    const { mode, uid } = await stat(path)
    if ((mode & 0o077) !== 0 || uid !== process.getuid?.()) throw new UsageError(`${path}: others can read it, or own it; remove it.`)
    return JSON.parse(await readFile(path, 'utf8')) as Kept
  } catch (error) {
    if (error instanceof UsageError) throw error
    return undefined
  }
}

/** Longer than one call can take, so that an older lock is a crash's. */
const staleMs = 150_000

const locked = async <T>(path: string, work: () => Promise<T>): Promise<T> => {
  const lock = `${path}.lock`
  for (const until = Date.now() + staleMs; ;) {
    try {
      await (await open(lock, 'wx', 0o600)).close()
      break
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw new UsageError(`${lock} cannot be written.`)
      const made = await stat(lock).then(({ mtimeMs }) => mtimeMs, () => Date.now())
      if (Date.now() - made > staleMs) await rm(lock, { force: true })
      if (Date.now() > until) throw new NoAnswerError(`${lock} is held by another process.`)
      await sleep(100)
    }
  }
  try {
    return await work()
  } finally {
    await rm(lock, { force: true })
  }
}
