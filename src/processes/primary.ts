import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import closeWithGrace from 'close-with-grace'
import { pino, type Logger } from 'pino'
import { openConfiguredAudit } from '../audit/config.ts'
import type { Audit } from '../audit/log.ts'
import type { Config } from '../config.ts'
import { mintToken } from '../identity/authenticator.ts'
import { logOptions } from '../log.ts'
import { portInUse, welcome } from '../welcome.ts'
import { restartDelay } from './backoff.ts'
import type { Shared, ToPrimary, ToWorker } from './messages.ts'
import { answerTo } from './remote-audit.ts'

/** When a process ends by itself, another takes its place. */
interface Place {
  number: number
  worker: Worker
  startedAt: number
  /** It answers requests. */
  listening: boolean
  /** Starts another one after a while. */
  timer: NodeJS.Timeout | undefined
}

/**
 * Several processes on one port and one ledger. This one answers no requests. It hands connections to the others in turn, starts another
 * one when one ends, and has what there must be once: the chain of the audit, the port of the metrics, the embedded IAM. It
 * names the one process that sweeps and reconciles, and another when that one ends. What not every configuration needs is loaded only
 * where it is needed, so that this process stays small.
 * @param server the file that each process runs
 */
export const supervise = async (config: Config, server: string): Promise<void> => {
  const log = pino(logOptions(config.LOG_LEVEL))
  const closers: Array<() => unknown> = []
  const closeAll = async () => {
    for (const close of closers.splice(0).reverse()) {
      await Promise.resolve().then(close).catch(err => log.error({ err }, 'closing failed'))
    }
  }
  try {
    const { shared, token, audit } = await openShared(config, log, closers)
    const measures = config.JOB_ACCESS_METRICS_PORT > 0 ? await serveAll(config, audit, closers) : undefined
    if (measures) log.info({ url: measures.url }, 'metrics served')
    await runPlaces(config, { log, shared, token, audit, server, closeAll, restarted: measures?.restarted ?? (() => {}) })
  } catch (error) {
    await closeAll()
    throw error
  }
}

const openShared = async (config: Config, log: Logger, closers: Array<() => unknown>) => {
  const audit = config.audited
    ? await openConfiguredAudit(config.JOB_ACCESS_AUDIT, config.instance, log)
    : null
  if (audit) closers.push(() => audit.close())
  const startIam = async () => {
    const { startEmbeddedIam } = await import('../embedded-iam/server.ts')
    const { url, admin, accountId, stop } = await startEmbeddedIam()
    closers.push(stop)
    return { url, admin, accountId }
  }
  const servers: Shared['servers'] = {}
  const isEmbedded = config.JOB_ACCESS_PROVIDER === 'embedded'
  for (const { name } of isEmbedded ? config.accounts ?? [] : []) servers[name] = await startIam()
  let { ledgerUrl } = config
  if (/^(sqlite:)?:memory:$/.test(ledgerUrl)) {
    // No process can read another one's memory. This file ends with the service, as the memory would.
    const folder = mkdtempSync(join(tmpdir(), 'job-access-'))
    closers.push(() => rmSync(folder, { recursive: true, force: true }))
    ledgerUrl = join(folder, 'ledger.sqlite')
  }
  const minted = config.JOB_ACCESS_IDENTITY ? null : mintToken('generated')
  const shared: Omit<Shared, 'number'> = {
    ledgerUrl,
    audited: audit !== null,
    embedded: isEmbedded ? Object.values(servers)[0] ?? await startIam() : null,
    servers,
    tokenSha256: minted?.sha256 ?? null
  }
  return { shared, token: minted?.token, audit }
}

const send = (worker: Worker, message: ToWorker): void => { if (worker.isConnected()) worker.send(message) }

/** A process that does not answer by then is left out of this scrape, as Prometheus leaves out a replica. */
const measuredWithinMs = 3_000

/** One scrape has the metrics of every process. Each series says of which, so that a process that starts again is no reset of a sum. */
const serveAll = async (config: Config, audit: Audit | null, closers: Array<() => unknown>) => {
  const { AggregatorRegistry, collectDefaultMetrics, Counter, Registry } = await import('prom-client')
  const [{ auditMetrics }, { serveMetrics }] = await Promise.all([import('../metrics/audit.ts'), import('../metrics/serve.ts')])
  const own = new Registry()
  own.setDefaultLabels({ process: 'primary' })
  collectDefaultMetrics({ register: own })
  if (audit) auditMetrics(own).watchAudit(audit)
  const restarts = new Counter({
    name: 'job_access_process_restarts_total',
    help: 'Processes that were started in the place of one that ended by itself.',
    registers: [own]
  })
  let scrapes = 0
  const measure = (worker: Worker, id: number) => new Promise<object[]>(resolve => {
    const done = (metrics: object[] | null) => {
      clearTimeout(timer)
      worker.off('message', heard)
      resolve(metrics ?? [])
    }
    const heard = (message: ToPrimary) => { if (message.kind === 'measured' && message.id === id) done(message.metrics) }
    const timer = setTimeout(done, measuredWithinMs, null)
    worker.on('message', heard)
    send(worker, { kind: 'metrics', id })
  })
  const exposition = await serveMetrics({
    contentType: own.contentType,
    metrics: async () => {
      const id = ++scrapes
      const all = await Promise.all([
        own.getMetricsAsJSON(), ...Object.values(cluster.workers ?? {}).map(worker => worker ? measure(worker, id) : [])
      ])
      // No two series are the same, as each has the label of its process: nothing is summed.
      return AggregatorRegistry.aggregate(all.map(metrics => metrics.map(metric => ({ ...metric, aggregator: 'sum' })))).metrics()
    }
  }, { host: config.JOB_ACCESS_METRICS_HOST, port: config.JOB_ACCESS_METRICS_PORT })
    .catch(error => { throw portInUse(error, 'JOB_ACCESS_METRICS_PORT') ?? error })
  closers.push(() => exposition.close())
  return { url: exposition.url, restarted: () => restarts.inc() }
}

interface Running {
  log: Logger
  shared: Omit<Shared, 'number'>
  token: string | undefined
  audit: Audit | null
  server: string
  closeAll: () => Promise<void>
  restarted: () => void
}

const runPlaces = async (config: Config, { log, shared, token, audit, server, closeAll, restarted }: Running): Promise<void> => {
  cluster.setupPrimary({ exec: server, serialization: 'advanced' })
  const places: Place[] = []
  const firstEnded = Promise.withResolvers<number>()
  const firstListens = Promise.withResolvers<null>()
  let tending: Place | undefined
  let reloadedAt = 0
  let [started, stopping] = [false, false]

  const appoint = () => {
    if (tending?.listening || stopping) return
    tending = places.find(({ listening }) => listening)
    if (!tending) return
    log.info({ process: tending.number, pid: tending.worker.process.pid }, 'this process sweeps and reconciles')
    send(tending.worker, { kind: 'tend' })
  }

  const listens = (place: Place, address: string) => {
    place.listening = true
    // The guardrails that it has read may be older than the signal.
    if (reloadedAt >= place.startedAt) send(place.worker, { kind: 'reload' })
    log.info({ process: place.number, pid: place.worker.process.pid, address }, 'a process answers requests')
    if (token !== undefined && !started) process.stdout.write(welcome(address, token, config.JOB_ACCESS_PROVIDER))
    started = true
    firstListens.resolve(null)
    appoint()
  }

  const start = (number: number, failures = 0): void => {
    const worker = cluster.fork()
    const place: Place = { number, worker, startedAt: Date.now(), listening: false, timer: undefined }
    places[number - 1] = place
    send(worker, { kind: 'begin', shared: { ...shared, number } })
    worker.on('message', (message: ToPrimary) => {
      switch (message.kind) {
        case 'listening': return listens(place, message.address)
        case 'record':
        case 'check':
          void answerTo(audit, message).then(answer => send(worker, answer))
          return undefined
        case 'measured': return undefined
      }
    })
    worker.on('error', err => log.error({ err, process: number }, 'a process cannot be told anything'))
    worker.on('exit', (code, signal) => {
      place.listening = false
      // A signal leaves no code, and what a signal ended has not said why.
      firstEnded.resolve(code || 1)
      if (!started && signal) log.error({ process: number, pid: worker.process.pid, signal }, 'the first process ended before it answered')
      if (stopping || !started) return
      const again = restartDelay(failures, Date.now() - place.startedAt)
      log.error({ process: number, pid: worker.process.pid, code, signal, afterMs: again.afterMs }, 'a process ended and is started again')
      place.timer = setTimeout(() => {
        restarted()
        start(number, again.failures)
      }, again.afterMs)
      appoint()
    })
  }

  process.on('SIGHUP', () => {
    reloadedAt = Date.now()
    for (const { worker, listening } of places) if (listening) send(worker, { kind: 'reload' })
  })

  // What is wrong with the configuration is said once, and one process alone brings the ledger up to date.
  start(1)
  const failed = await Promise.race([firstListens.promise, firstEnded.promise])
  if (failed !== null) {
    process.exitCode = failed
    return closeAll()
  }
  for (let number = 2; number <= config.processes; number++) start(number)

  // A little longer than each process has for its own end.
  closeWithGrace({ delay: config.JOB_ACCESS_DRAIN_SECONDS * 1000 + 27_000, logger: log, skip: ['SIGHUP'] }, async ({ signal, err }) => {
    if (err) log.fatal({ err }, 'stopping after an error')
    log.info({ signal }, 'stopping all processes')
    stopping = true
    const codes = await Promise.all(places.map(async ({ worker, timer }) => {
      clearTimeout(timer)
      if (worker.isDead()) return 0
      const ended = once(worker, 'exit')
      send(worker, { kind: 'stop' })
      return (await ended)[0] as number | null
    }))
    await closeAll()
    if (codes.some(code => code !== 0)) throw new Error('A process did not end in order; the log says why.')
  })
}
