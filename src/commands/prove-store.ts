import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { ulid } from 'ulid'
import { compose } from '../compose.ts'
import { readConfig, type Config } from '../config.ts'
import { inColumns } from '../doctor/report.ts'
import { openStore, type Answered, type Key, type S3Request, type Store } from '../doctor/store.ts'
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
       [--patience SECONDS] [--json]
Issues grants at the configured provider, as the service does, and uses their keys: inside and beside the prefix, from the right and from a
wrong address, before and after the window; then extends, rotates and completes them. It removes whatever it made. Exits 0 when the store
kept to everything, 1 when it did not.

It needs the configuration of the service (JOB_ACCESS_PROVIDER, AWS_ENDPOINT_URL_IAM, ...) and its credentials, which must also be able to
write to BUCKET, below job-access-proof/. It does not use the ledger, the audit, the identities or the guardrails of the service.

  --bucket     a bucket that exists
  --source-ip  the address from which the store sees this machine; not needed where the store is on loopback
  --layout     everywhere (default) or guarded
  --attach     inline or managed; default: what the policy's size leads to
  --patience   how long a change may take to be in effect; default: 20
  --json       print JSON instead of the table`

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
  attach: 'inline' | 'managed' | undefined
  run: string
  patienceMs: number
  signal: AbortSignal
  note: (check: Check) => void
}

const callerOf = (run: string): Caller =>
  ({ id: 'prove-store', kind: 'token', teams: ['*'], attributes: {}, requestId: `prove-store-${run}`, ip: '127.0.0.1' })

const folderOf = (run: string) => `job-access-proof/${run}/`

/** A grant's whole life, as a job has it. */
const prove = async ({ deps, store, bucket, here, layout, attach, run, patienceMs, signal, note }: Proof): Promise<void> => {
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

  const begin = async (name: string, window: object): Promise<{ id: string, key: Key }> => {
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

  // Long enough for a key that is only known when the patience is over.
  const ends = Math.ceil((Date.now() + patienceMs) / 1000) * 1000 + 8_000
  const open = { notBefore: toIso(Date.now() - 60_000), notAfter: toIso(ends) }
  const job = await begin('job', open)
  await see('reads below the prefix', 'allowed', read(job.key), patienceMs)
  const longer = { notAfter: toIso(Date.now() + 900_000) }
  await extend(deps, caller, job.id, { window: longer })
  const closing = await begin('closing', { notBefore: toIso(Date.now() - 60_000), notAfter: toIso(ends) })
  const later = await begin('later', { notBefore: toIso(Date.now() + 3_600_000), notAfter: toIso(Date.now() + 4_500_000) })

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
  await extend(deps, caller, job.id, { sourceIps: [wrongAddress] })
  await see('moved to another source', 'denied', read(job.key), patienceMs)
  await extend(deps, caller, job.id, { sourceIps: [here] })
  await see('moved back', 'allowed', read(job.key), patienceMs)

  await see('before the window', 'denied', read(later.key), patienceMs)
  await extend(deps, caller, later.id, { window: { ...open, ...longer } })
  await see('the window was moved to now', 'allowed', read(later.key), patienceMs)

  await delay(Math.max(0, ends - Date.now()), undefined, { signal })
  await see('after the window', 'denied', read(closing.key), skewSeconds * 1000)
  await see('after the first end of the window, extended', 'allowed', read(job.key))

  const { credentials: fresh } = await rotate(deps, caller, job.id, 0)
  if (!fresh) throw new Error('The rotation gave no key.')
  await see('rotated: the new key', 'allowed', read(fresh), patienceMs)
  await see('rotated: the old key', 'dead', read(job.key), patienceMs)

  await end(deps, caller, job.id, 'completed')
  await see('completed', 'dead', read(fresh), patienceMs)
}

/** Ends every grant, also one whose issue failed half-way. What could not be removed. */
const removeGrants = async (deps: GrantDeps, ids: string[], run: string, withinMs: number): Promise<string[]> => {
  const left: string[] = []
  const deadline = Date.now() + withinMs
  for (const id of ids) {
    for (;;) {
      const state = await end(deps, callerOf(run), id, 'revoked').then(({ dueAt }) => dueAt === null ? 'over' : 'revoking',
        (error: unknown) => error instanceof ProblemError ? error.code : String(error))
      if (state === 'over' || state === 'grant-unknown') break
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
const principalsOf = async (deps: GrantDeps, ids: string[]): Promise<string[]> => {
  const names: string[] = []
  for await (const { ref } of deps.provisioners.inline.list(() => deps.waitingNow() + deps.deadlineMs)) {
    if (ids.some(id => ref.name.endsWith(id))) names.push(ref.name)
  }
  return names
}

const removeObjects = async (store: Store, bucket: string, run: string): Promise<string[]> => {
  const left: string[] = []
  const { body } = await store.s3({ method: 'GET', bucket, query: { 'list-type': '2', prefix: folderOf(run) } })
  for (const [, key = ''] of body.matchAll(/<Key>([^<]*)<\/Key>/g)) {
    const { outcome, code } = await store.s3({ method: 'DELETE', bucket, key })
    if (outcome !== 'passed') left.push(`object ${key}: ${code}`)
  }
  return left
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
  json: { type: 'boolean', default: false }
} as const

await operatorCommand(usage, async args => {
  const { values: { bucket, layout, attach, patience, json, 'source-ip': sourceIp } } = parseArgs({ args, options: flags })
  if (bucket === undefined) throw new UsageError('--bucket is needed.')
  if (layout !== 'everywhere' && layout !== 'guarded') throw new UsageError('--layout is everywhere or guarded.')
  if (attach !== undefined && attach !== 'inline' && attach !== 'managed') throw new UsageError('--attach is inline or managed.')
  if (!/^\d{1,3}$/.test(patience)) throw new UsageError('--patience takes seconds.')
  const config = readConfig(process.env)
  if (config.JOB_ACCESS_PROVIDER === 'embedded') throw new UsageError('JOB_ACCESS_PROVIDER is needed: the embedded IAM has no store.')
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
    const here = sourceIp ?? store.reach?.here
    if (!here) throw new UsageError('--source-ip is needed: the store is not on loopback.')
    if (!store.reach?.elsewhere) untried.push('a request from another address: only the grant was moved to one')
    const ids: string[] = []
    const newId = () => {
      const id = ulid()
      ids.push(id.toLowerCase())
      return id
    }
    const { deps, close } = await compose(alone(config), { log: pino(logOptions('error'), pino.destination(2)), overrides: { newId } })
    try {
      const note = (check: Check) => {
        checks.push(check)
        if (!json) process.stderr.write(`${check.ok ? 'ok' : 'NOT SO'}: ${check.what}\n`)
      }
      await prove({ deps, store, bucket, here, layout, attach, run, patienceMs, signal: stop.signal, note })
    } catch (error) {
      const cause: unknown = stop.signal.aborted ? stop.signal.reason : error
      failure = cause instanceof Error ? cause.message : String(cause)
    } finally {
      left.push(...await removeGrants(deps, ids, run, 10_000 + patienceMs))
      left.push(...await principalsOf(deps, ids).catch((error: unknown) => [`the users could not be listed: ${String(error)}`]))
      left.push(...await removeObjects(store, bucket, run).catch((error: unknown) => [`${folderOf(run)} in ${bucket}: ${String(error)}`]))
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
