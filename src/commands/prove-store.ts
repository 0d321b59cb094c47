import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { ulid } from 'ulid'
import { compose } from '../compose.ts'
import { readConfig, type Config } from '../config.ts'
import { inColumns } from '../doctor/report.ts'
import { openStore, type Answered, type Key, type S3Request, type Store } from '../doctor/store.ts'
import type { Way } from '../iam/dialects/file.ts'
import type { Caller, GrantDeps } from '../lifecycle/deps.ts'
import { end } from '../lifecycle/end.ts'
import { extend } from '../lifecycle/extend.ts'
import { issue } from '../lifecycle/issue.ts'
import { rotate } from '../lifecycle/rotate.ts'
import { logOptions } from '../log.ts'
import { toIso } from '../policy/window.ts'
import { ProblemError } from '../problems.ts'
import { UsageError, operatorCommand } from './command.ts'

const usage = (self: string) => `${self} --bucket BUCKET [--source-ip ADDRESS] [--layout LAYOUT] [--attach WAY]
       [--patience SECONDS] [--json] | --bucket BUCKET --clean
Issues grants at the configured provider, as the service does, and uses their keys: inside and beside the prefix, from the right and from a
wrong address, before and after the window; then extends, rotates and completes them. It removes whatever it made. Exits 0 when the store
kept to everything, 1 when it did not.

It needs the configuration of the service (JOB_ACCESS_PROVIDER, AWS_ENDPOINT_URL_IAM, ...) and its credentials, which must also be able to
write to BUCKET, below job-access-proof/. It does not use the ledger, the audit, the identities or the guardrails of the service.

  --bucket     a bucket that exists
  --source-ip  the address from which the store sees this machine; not needed where the store is on loopback
  --layout     everywhere (default) or guarded
  --attach     inline, managed or session (by the profile \`default\`); default: what the policy's size leads to
  --patience   how long a change may take to be in effect; default: 20
  --json       print JSON instead of the table
  --clean      remove what killed runs left; not while another run is under way`

interface Check {
  what: string
  wanted: Wanted
  seen: string
  ok: boolean
  /** How long it took until the store kept to it, or until it was given up. */
  ms: number
}

/** `dead`: denied, or the key is not known any more. A change may take until then to be in effect; without one the first answer counts. */
type Wanted = 'allowed' | 'denied' | 'dead'
type Ask = () => Promise<Answered>

const matches: Record<Wanted, Array<Answered['outcome']>> = {
  allowed: ['passed'], denied: ['denied'], dead: ['denied', 'unknown-key']
}

/** An address for documentation (RFC 5737): no request comes from there. */
const wrongAddress = '203.0.113.7'
/** Seconds by which the store's clock may differ from ours, and the part of a second that it leaves out. */
const skewSeconds = 2

/** Its grants are nobody else's business: a ledger in memory, no audit, and the guardrails that allow everything. */
const alone = ({ JOB_ACCESS_IDENTITY: _, JOB_ACCESS_GUARDRAILS: __, ...config }: Config): Config =>
  ({ ...config, ledgerUrl: ':memory:', audited: false, limits: { ...config.limits, allowPrivateSourceIps: true } })

const s3EndpointOf = ({ JOB_ACCESS_S3_ENDPOINT, iamEndpoint, AWS_REGION, JOB_ACCESS_S3_REGION, JOB_ACCESS_PARTITION }: Config): string => {
  if (JOB_ACCESS_S3_ENDPOINT !== undefined) return JOB_ACCESS_S3_ENDPOINT
  // Where another IAM is named, keys of its users are never sent to AWS.
  if (iamEndpoint !== undefined) throw new UsageError('JOB_ACCESS_S3_ENDPOINT is needed: where jobs reach S3.')
  return `https://s3.${JOB_ACCESS_S3_REGION ?? AWS_REGION}.amazonaws.com${JOB_ACCESS_PARTITION === 'aws-cn' ? '.cn' : ''}`
}

interface Proof {
  deps: GrantDeps
  store: Store
  bucket: string
  here: string
  layout: 'everywhere' | 'guarded'
  attach: Way | undefined
  run: string
  patienceMs: number
  signal: AbortSignal
  note: (check: Check) => void
  /** What the store has no way to do. */
  skip: (what: string) => void
}

interface Job { id: string, key: Key }

const callerOf = (run: string): Caller =>
  ({ id: 'prove-store', kind: 'token', teams: ['*'], attributes: {}, requestId: `prove-store-${run}`, ip: '127.0.0.1' })

const proofs = 'job-access-proof/'
const folderOf = (run: string) => `${proofs}${run}/`

/** The middle of a grant's id, which is a ULID: names are cut, but never the id, so that --clean knows its own users. */
const mark = 'PR0VE5T0RE'
const markedId = (): string => {
  const id = ulid()
  return `${id.slice(0, 10)}${mark}${id.slice(-6)}`
}
const isMarked = (name: string): boolean => new RegExp(`-[0-9a-z]{10}${mark}[0-9a-z]{6}$`, 'i').test(name)

/** A grant's whole life, as a job has it. */
const prove = async ({ deps, store, bucket, here, layout, attach, run, patienceMs, signal, note, skip }: Proof): Promise<void> => {
  const caller = callerOf(run)
  const folder = folderOf(run)
  const inside = `${folder}job/`
  const put = async (key: string) => {
    const { outcome, code } = await store.s3({ method: 'PUT', bucket, key, body: 'of the operator' })
    if (outcome !== 'passed') throw new Error(`The configured credentials cannot write to ${bucket}/${key}: ${code}.`)
  }
  const [mine, other] = [`${inside}dataset`, `${folder}job-2/secret`]
  await put(mine)
  await put(other)

  const asking = (request: Omit<S3Request, 'bucket'>, key: Key): Ask => () => store.s3({ bucket, ...request }, key)
    .catch((error: unknown) => ({ outcome: 'odd', code: error instanceof Error ? error.message : String(error), body: '', date: null }))
  const from = store.reach?.here === null ? {} : { from: here }
  const read = (key: Key, name = mine) => asking({ method: 'GET', key: name, ...from }, key)
  const write = (key: Key, name: string) => asking({ method: 'PUT', key: name, body: 'of the job', ...from }, key)
  const list = (key: Key, prefix: string | null) =>
    asking({ method: 'GET', query: { 'list-type': '2', ...(prefix !== null && { prefix }) }, ...from }, key)

  const see = async (what: string, wanted: Wanted, ask: Ask, patience = 0): Promise<void> => {
    const began = Date.now()
    for (;;) {
      signal.throwIfAborted()
      const { outcome, code } = await ask()
      const ok = matches[wanted].includes(outcome)
      const ms = Date.now() - began
      if (ok || ms >= patience) {
        note({ what, wanted, seen: outcome === 'passed' ? 'allowed' : `${outcome} (${code})`, ok, ms })
        return
      }
      await delay(200, undefined, { signal })
    }
  }

  const begin = async (name: string, window: object): Promise<Job> => {
    signal.throwIfAborted()
    const { grant, credentials } = await issue(deps, caller, {
      request: {
        job: { id: `proof-${name}-${run}`, team: 'prove-store' },
        access: [{ bucket, prefix: inside, level: 'read-write', delete: true }],
        window,
        sourceIps: [here],
        layout,
        ...(attach && { attach })
      }
    })
    if (!credentials) throw new Error('The grant has no key.')
    return { id: grant.id, key: credentials }
  }

  const next = async (id: string): Promise<Key> => {
    const { credentials } = await rotate(deps, caller, id, 0)
    if (!credentials) throw new Error('The rotation gave no key.')
    return credentials
  }
  /** A session keeps the policy that it was given: the next one has the change. */
  const change = async (job: Job, to: Parameters<typeof extend>[3]): Promise<void> => {
    await extend(deps, caller, job.id, to)
    if (attach === 'session') job.key = await next(job.id)
  }

  // Long enough for a key that is only known when the patience is over.
  const ends = Math.ceil((Date.now() + patienceMs) / 1000) * 1000 + 8_000
  const open = { notBefore: toIso(Date.now() - 60_000), notAfter: toIso(ends) }
  const job = await begin('job', open)
  await see('reads below the prefix', 'allowed', read(job.key), patienceMs)
  const longer = { notAfter: toIso(Date.now() + 900_000) }
  await change(job, { window: longer })
  const closing = await begin('closing', { notBefore: toIso(Date.now() - 60_000), notAfter: toIso(ends) })
  const laterEnds = toIso(Date.now() + 4_500_000)
  const later = await begin('later', { notBefore: toIso(Date.now() + 3_600_000), notAfter: laterEnds })

  await see('reads below the prefix, extended', 'allowed', read(job.key), patienceMs)
  await see('lists the prefix', 'allowed', list(job.key, inside))
  await see('writes below the prefix', 'allowed', write(job.key, `${inside}checkpoint`))
  await see('deletes below the prefix', 'allowed', asking({ method: 'DELETE', key: `${inside}checkpoint`, ...from }, job.key))
  await see('reads beside the prefix', 'denied', read(job.key, other))
  await see('writes beside the prefix', 'denied', write(job.key, `${folder}job-2/stolen`))
  await see('deletes beside the prefix', 'denied', asking({ method: 'DELETE', key: `${folder}job-2/none`, ...from }, job.key))
  await see('lists beside the prefix', 'denied', list(job.key, `${folder}job-2/`))
  await see('lists the whole bucket', 'denied', list(job.key, null))
  if (store.reach?.elsewhere) {
    await see('reads from another address', 'denied', asking({ method: 'GET', key: mine, from: store.reach.elsewhere }, job.key))
  }

  await see('works before the window ends', 'allowed', read(closing.key), patienceMs)
  await change(job, { sourceIps: [wrongAddress] })
  await see('moved to another source', 'denied', read(job.key), patienceMs)
  await change(job, { sourceIps: [here] })
  await see('moved back', 'allowed', read(job.key), patienceMs)

  await see('before the window', 'denied', read(later.key), patienceMs)
  await change(later, { window: { ...open, notAfter: laterEnds } })
  await see('the window was moved to now', 'allowed', read(later.key), patienceMs)

  await delay(Math.max(0, ends - Date.now()), undefined, { signal })
  await see('after the window', 'denied', read(closing.key), skewSeconds * 1000)
  await see('after the first end of the window, extended', 'allowed', read(job.key))

  const fresh = await next(job.id)
  await see('rotated: the new key', 'allowed', read(fresh), patienceMs)
  if (attach === 'session') skip('that a rotation ends the session before: each goes on until its own end')
  else await see('rotated: the old key', 'dead', read(job.key), patienceMs)

  const { sessionsEndAt, state } = await end(deps, caller, job.id, 'completed')
  if (state !== 'revoking') await see('completed', 'dead', read(fresh), patienceMs)
  else skip(`that completion ends the sessions: their profile is not revocable, and they work until ${toIso(sessionsEndAt ?? 0)}`)
}

/** Ends every grant, also one whose issue failed half-way. What could not be removed. */
const removeGrants = async (
  deps: GrantDeps, ids: string[], { run, withinMs, attach }: Pick<Proof, 'run' | 'attach'> & { withinMs: number }
): Promise<string[]> => {
  const left: string[] = []
  const deadline = Date.now() + withinMs
  for (const id of ids) {
    for (;;) {
      const state = await end(deps, callerOf(run), id, 'revoked').then(({ dueAt }) => dueAt === null ? 'over' : 'revoking',
        (error: unknown) => error instanceof ProblemError ? error.code : String(error))
      // A session that cannot be revoked ends by itself: there is nothing that could be removed.
      if (state === 'over' || state === 'grant-unknown' || (state === 'revoking' && attach === 'session')) break
      if (Date.now() > deadline) {
        left.push(`grant ${id}: ${state}`)
        break
      }
      await delay(1_000)
    }
  }
  return left
}

/** What there still is at the provider. A name ends with the id of its grant. */
const principalsOf = async (deps: GrantDeps, ids: string[], attach: Way = 'inline'): Promise<string[]> => {
  const names: string[] = []
  for await (const { ref } of deps.provisioners[attach].list(() => deps.waitingNow() + deps.deadlineMs)) {
    if (ids.some(id => ref.name.endsWith(id))) names.push(ref.name)
  }
  return names
}

const removeObjects = async (store: Store, bucket: string, prefix: string): Promise<{ removed: string[], left: string[] }> => {
  const removed: string[] = []
  for (;;) {
    const { outcome, code, body } = await store.s3({ method: 'GET', bucket, query: { 'list-type': '2', prefix } })
    if (code === 'NoSuchBucket') return { removed, left: [] }
    if (outcome !== 'passed') return { removed, left: [`the objects of ${bucket} could not be listed: ${code}`] }
    const keys = [...body.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key = '']) => key)
    if (keys.length === 0) return { removed, left: [] }
    for (const key of keys) {
      const { outcome, code } = await store.s3({ method: 'DELETE', bucket, key })
      if (outcome !== 'passed') return { removed, left: [`object ${key}: ${code}`] }
      removed.push(`object ${key}`)
    }
  }
}

/** What killed runs left, by the mark in their names. */
const clean = async (deps: GrantDeps, store: Store, bucket: string): Promise<{ removed: string[], left: string[] }> => {
  const { removed, left } = await removeObjects(store, bucket, proofs)
  const until = () => deps.waitingNow() + deps.deadlineMs
  for (const provisioner of new Set(Object.values(deps.provisioners))) {
    try {
      for await (const { ref } of provisioner.list(until)) {
        if (!isMarked(ref.name)) continue
        await provisioner.discard(ref, until())
        removed.push(ref.name)
      }
    } catch (error) {
      left.push(`users: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return { removed, left }
}

const table = (checks: Check[]): string =>
  inColumns(checks.map(({ what, wanted, seen, ok, ms }) => [ok ? 'ok' : 'NOT SO', what, wanted, seen, `${ms} ms`]))
    .map(line => `${line}\n`).join('')

const flags = {
  bucket: { type: 'string' },
  'source-ip': { type: 'string' },
  layout: { type: 'string', default: 'everywhere' },
  attach: { type: 'string' },
  patience: { type: 'string', default: '20' },
  json: { type: 'boolean', default: false },
  clean: { type: 'boolean', default: false }
} as const

await operatorCommand(usage, async args => {
  const { values } = parseArgs({ args, options: flags })
  const { bucket, layout, attach: asked, patience, json, clean: onlyClean, 'source-ip': sourceIp } = values
  if (bucket === undefined) throw new UsageError('--bucket is needed.')
  if (layout !== 'everywhere' && layout !== 'guarded') throw new UsageError('--layout is everywhere or guarded.')
  if (asked !== undefined && asked !== 'inline' && asked !== 'managed' && asked !== 'session') {
    throw new UsageError('--attach is inline, managed or session.')
  }
  if (!/^\d{1,3}$/.test(patience)) throw new UsageError('--patience takes seconds.')
  const config = readConfig(process.env)
  if (config.JOB_ACCESS_PROVIDER === 'embedded') throw new UsageError('JOB_ACCESS_PROVIDER is needed: the embedded IAM has no store.')
  const attach = asked ?? (config.dialect.principals === 'sessions' ? 'session' : undefined)
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort(new Error(`Stopped by ${signal}.`)))

  const s3Endpoint = s3EndpointOf(config)
  const patienceMs = Number(patience) * 1000
  const run = randomBytes(4).toString('hex')
  const checks: Check[] = []
  const left: string[] = []
  const untried: string[] = []
  let failure: string | null = null
  const store = await openStore({
    region: config.AWS_REGION,
    s3Endpoint,
    ...(config.JOB_ACCESS_S3_REGION !== undefined && { s3Region: config.JOB_ACCESS_S3_REGION }),
    ...(config.iamEndpoint !== undefined && { iamEndpoint: config.iamEndpoint })
  })
  try {
    const log = pino(logOptions('error'), pino.destination(2))
    if (onlyClean) {
      const { deps, close } = await compose(alone(config), { log })
      const { removed, left } = await clean(deps, store, bucket).finally(close)
      for (const what of removed) process.stdout.write(`removed ${what}\n`)
      for (const what of left) process.stderr.write(`Not removed: ${what}\n`)
      return left.length > 0 ? 1 : 0
    }
    const here = sourceIp ?? store.reach?.here
    if (!here) throw new UsageError('--source-ip is needed: the store is not on loopback.')
    if (!store.reach?.elsewhere) untried.push('a request from another address: only the grant was moved to one')
    const ids: string[] = []
    const newId = () => {
      const id = markedId()
      ids.push(id.toLowerCase())
      return id
    }
    const { deps, close } = await compose(alone(config), { log, overrides: { newId } })
    try {
      const note = (check: Check) => {
        checks.push(check)
        if (!json) process.stderr.write(`${check.ok ? 'ok' : 'NOT SO'}: ${check.what}\n`)
      }
      const skip = (what: string) => { untried.push(what) }
      await prove({ deps, store, bucket, here, layout, attach, run, patienceMs, signal: stop.signal, note, skip })
    } catch (error) {
      const cause: unknown = stop.signal.aborted ? stop.signal.reason : error
      failure = cause instanceof Error ? cause.message : String(cause)
    } finally {
      left.push(...await removeGrants(deps, ids, { run, attach, withinMs: 10_000 + patienceMs }))
      left.push(...await principalsOf(deps, ids, attach).catch((error: unknown) => [`the users could not be listed: ${String(error)}`]))
      const objects = await removeObjects(store, bucket, folderOf(run)).catch((error: unknown) => ({ left: [String(error)] }))
      left.push(...objects.left.map(what => `${folderOf(run)} in ${bucket}: ${what}`))
      await close()
    }
  } finally {
    store.close()
  }
  const ok = failure === null && left.length === 0 && checks.every(check => check.ok)
  const wrong = checks.filter(check => !check.ok).length
  const about = { provider: config.JOB_ACCESS_PROVIDER, iamEndpoint: config.iamEndpoint ?? null, s3Endpoint, bucket, layout }
  process.stdout.write(json
    ? `${JSON.stringify({ ok, ...about, at: new Date().toISOString(), failure, checks, untried, left }, null, 2)}\n`
    : `${table(checks)}${untried.map(line => `not tried: ${line}\n`).join('')}${checks.length} checks, ${wrong} wrong.\n`)
  if (failure !== null) process.stderr.write(`Not finished: ${failure}\n`)
  for (const line of left) process.stderr.write(`Not removed: ${line}\n`)
  return ok ? 0 : 1
})
