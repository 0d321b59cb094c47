import { createHash, randomUUID } from 'node:crypto'
import { constants, lstatSync, mkdirSync } from 'node:fs'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { NoAnswerError, ProblemError, type Client, type DeliveryText, type GrantRequest } from '../client/index.ts'
import { UsageError, exit, note, type Command, type Io } from './command.ts'
import { toldExpiration, verdictOn } from './held-key.ts'
import { grantFlags, grantRequest, parseRequestArgs } from './request.ts'
import { secretFile } from './secret-file.ts'
import { clientOf, deadlineMs } from './settings.ts'

const { 'issue-at': _, ...issuedNow } = grantFlags
const flags = {
  ...issuedNow, 'idempotency-key': { type: 'string' }, cache: { type: 'string' }, 'no-cache': { type: 'boolean' }
} as const

/** How long an SDK keeps what it was told: botocore then runs this command every 15 minutes. */
const validForMs = 30 * 60_000
/** For a look at the grant, which a key that works does not wait for any longer. */
const lookingMs = 5_000

/**
 * What an AWS profile's `credential_process` runs. The processes of a user on one machine share a key through a file, best in memory,
 * for as long as the key works. Without a file every call gets the grant with a fresh key, and the key before it dies. The
 * Idempotency-Key is theirs alone, so that their calls are retries, and no key of another machine or user ends.
 */
export const credentialProcess: Command = async (args, io) => {
  const { values } = parseRequestArgs({ args, options: flags })
  if (values.cache !== undefined && values['no-cache']) throw new UsageError('--cache and --no-cache exclude each other.')
  const request = { ...await grantRequest(values, io), waitUntilReady: true }
  const given = values['idempotency-key'] ?? null
  // Another start asks for the same grant.
  const { attempt, replace, ...asked } = request
  const idempotencyKey = given ?? `credential-process-${digestOf([asked, hostname(), process.getuid?.()])}`
  const client = clientOf(io)
  const issue = () => issueWaiting(client, request, idempotencyKey).catch((error: unknown) => {
    if (error instanceof ProblemError && error.code === 'grant-state' && error.retryAfterSeconds === undefined) note(io, staysEnded)
    throw error
  })
  // Machines that share the file share the key, too.
  const of = digestOf([request, given])
  const path = values['no-cache'] ? undefined : values.cache ?? usualCache(of, io)
  const kept = path === undefined
    ? keptNow(of, await issue())
    : await cached(path, of, { looking: clientOf(io, { deadlineMs: lookingMs }), client, issue }, lookingMs + deadlineMs(io))
  const Expiration = toldExpiration(kept.end, validForMs, Date.now())
  io.out(`${JSON.stringify({ ...JSON.parse(kept.text) as object, Expiration })}\n`)
  return exit.ok
}

/** An SDK cannot wait by itself. Ceph and Tigris have no call that tells when the key is known; there nothing is made by the refusal. */
const issueWaiting = async (client: Client, request: GrantRequest, idempotencyKey: string): Promise<DeliveryText> => {
  try {
    return await client.issueAs('credential-process', request, { idempotencyKey })
  } catch (error) {
    const cannotWait = error instanceof ProblemError && error.code === 'dialect-unfit' && error.pointer === '/waitUntilReady'
    if (!cannotWait) throw error
    return client.issueAs('credential-process', { ...request, waitUntilReady: false }, { idempotencyKey })
  }
}

const digestOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex')

const staysEnded = 'a job that has ended, or whose window is over, stays ended: ask for it anew with another --idempotency-key.'

interface Kept extends Pick<DeliveryText, 'grantId' | 'text'> {
  /** Digest of what was asked for. */
  of: string
  receivedAt: number
  /** Until when the key works, epoch ms. */
  end: number
  /** When the grant was last looked at. */
  seenAt: number
}

const keptNow = (of: string, { grantId, text }: DeliveryText): Kept => {
  const now = Date.now()
  return { of, grantId, text, receivedAt: now, end: Date.parse((JSON.parse(text) as { Expiration: string }).Expiration), seenAt: now }
}

interface Ways { looking: Client, client: Client, issue: () => Promise<DeliveryText> }

const cached = (path: string, of: string, { looking, client, issue }: Ways, longestMs: number) => locked(path, longestMs, async () => {
  const found = await keptIn(path)
  const kept = found?.of === of ? found : undefined
  const next = await nextOf(kept, looking)
  if (next === kept) return next
  const file = await secretFile(path)
  try {
    const delivered = () => next === 'issue' || !kept
      ? issue()
      : client.rotateAs('credential-process', kept.grantId, validForMs / 1000)
    const fresh = typeof next === 'object' ? next : keptNow(of, await delivered())
    await file.write(JSON.stringify(fresh))
    return fresh
  } catch (error) {
    await file.discard()
    throw error
  }
})

/**
 * What becomes of the kept key: it stays, perhaps with another end, or its grant needs a fresh key (`rotate`), or there is no such
 * grant any more (`issue`). When the service does not answer, or does not know this caller now, the key is believed until its
 * window ends.
 */
const nextOf = async (kept: Kept | undefined, client: Client): Promise<Kept | 'rotate' | 'issue'> => {
  const now = Date.now()
  if (!kept || kept.end <= now) return 'issue'
  // The SDKs ask for every request of theirs by now; the service is not asked as often.
  if (kept.end - now < hurriedMs && now - kept.seenAt < seldomMs) return kept
  try {
    const { AccessKeyId: accessKeyId } = JSON.parse(kept.text) as { AccessKeyId: string }
    const grant = await client.get(kept.grantId)
    const verdict = verdictOn({ ...kept, accessKeyId }, grant, now)
    // A session has its own end, from which its renewal is reckoned; a user's key that was replaced ends.
    const endsAt = (end: number, renewAt: number) => grant.attach === 'session' ? end : Math.min(end, renewAt)
    if (verdict.is === 'good') return { ...kept, end: endsAt(verdict.end, verdict.renewAt), seenAt: now }
    return verdict.is === 'over' ? 'issue' : 'rotate'
  } catch (error) {
    if (error instanceof ProblemError && error.status === 404) return 'issue'
    if (error instanceof ProblemError || error instanceof NoAnswerError) return { ...kept, seenAt: now }
    throw error
  }
}

/** Botocore asks from 15 minutes before the end. */
const hurriedMs = 16 * 60_000
const seldomMs = 20_000

/** In memory where there is such a file system, in a folder of the user's own; undefined when there is no place for it. */
const usualCache = (of: string, io: Io): string | undefined => {
  const uid = process.getuid?.()
  const name = digestOf([of, io.env.JOBACCESS_URL])
  for (const parent of [io.env.XDG_RUNTIME_DIR, '/dev/shm', tmpdir()]) {
    if (!parent) continue
    const folder = join(parent, `job-access-${uid}`)
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      const { mode, uid: owner } = lstatSync(folder)
      if (owner === uid && (mode & 0o170077) === 0o040000) return join(folder, `${name}.json`)
      note(io, `${folder}: others can use it, or own it; remove it.`)
    } catch { /* the next place */ }
  }
  note(io, 'there is no place to keep the key: every call replaces it. Give --cache FILE.')
  return undefined
}

const keptIn = async (path: string): Promise<Kept | undefined> => {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => undefined)
  try {
    if (!file) return undefined
    const { mode, uid } = await file.stat()
    if ((mode & 0o077) !== 0 || uid !== process.getuid?.()) throw new UsageError(`${path}: others can read it, or own it; remove it.`)
    const kept = JSON.parse(await file.readFile('utf8')) as Kept
    return [kept.end, kept.receivedAt, kept.seenAt].every(Number.isFinite) ? kept : undefined
  } catch (error) {
    if (error instanceof UsageError) throw error
    return undefined
  } finally {
    await file?.close()
  }
}

/** @param longestMs how long `work` takes at the most: a lock that is much older is abandoned, e.g. after a crash of another host */
const locked = async <T>(path: string, longestMs: number, work: () => Promise<T>): Promise<T> => {
  const lock = `${path}.lock`
  const own = `${hostname()} ${process.pid} ${randomUUID()}`
  const staleMs = longestMs + 30_000
  for (const until = Date.now() + staleMs; !await tryLock(lock, own);) {
    if (await isAbandoned(lock, staleMs)) {
      await rm(lock, { force: true })
      continue
    }
    if (Date.now() > until) throw new NoAnswerError(`${lock} is held by another process.`)
    await sleep(100)
  }
  try {
    return await work()
  } finally {
    if (await readFile(lock, 'utf8').catch(() => '') === own) await rm(lock, { force: true })
  }
}

/** @returns whether it was not there before. */
const tryLock = async (lock: string, own: string): Promise<boolean> => {
  const file = await open(lock, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return undefined
    throw new UsageError(`${lock} cannot be written: ${error.code ?? error.message}`)
  })
  try {
    await file?.writeFile(own)
    return file !== undefined
  } finally {
    await file?.close()
  }
}

/** Whether the process that holds the lock has ended: an SDK's time limit or ^C kills it. On another host only the lock's age tells. */
const isAbandoned = async (lock: string, staleMs: number): Promise<boolean> => {
  const [host, pid] = (await readFile(lock, 'utf8').catch(() => '')).split(' ')
  if (host === hostname() && pid !== undefined) {
    try {
      process.kill(Number(pid), 0)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true
    }
  }
  const lockedAt = await stat(lock).then(({ mtimeMs }) => mtimeMs, () => Date.now())
  return Date.now() - lockedAt > staleMs
}
