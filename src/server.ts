import cluster from 'node:cluster'
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import { pino } from 'pino'
import { buildApp } from './http/app.ts'
import { systemActor } from './audit/event.ts'
import { compose } from './compose.ts'
import { ceilingsOf, readConfig, type Config } from './config.ts'
import { version } from './http/openapi.ts'
import { WrongClockError } from './lifecycle/clock.ts'
import { periodic } from './lifecycle/periodic.ts'
import { reconcile } from './lifecycle/reconcile.ts'
import { lanesOf, sweep } from './lifecycle/sweep.ts'
import { logOptions } from './log.ts'
import { serveMetrics } from './metrics/serve.ts'
import { joinProcesses } from './processes/worker.ts'
import { portInUse, welcome } from './welcome.ts'

/** The process: reads the configuration, listens, runs the periodic tasks, handles signals. */
const main = async (config: Config): Promise<void> => {
  const log = pino(logOptions(config.LOG_LEVEL))
  // Without a handler SIGHUP ends the process. A SIGHUP that comes before the guardrails are loaded has nothing to reload.
  let reload = async (): Promise<void> => {}
  process.on('SIGHUP', () => {
    reload().catch(err => log.error({ err }, 'guardrails not reloaded; the old ones stay in force'))
  })
  const { total, accounts } = ceilingsOf(config)
  // Their library is loaded only where they are served.
  const { createMetrics } = config.JOB_ACCESS_METRICS_PORT > 0 ? await import('./metrics/metrics.ts') : {}
  const metrics = createMetrics?.({ now: Date.now, version, provider: config.JOB_ACCESS_PROVIDER, ceiling: total, ceilings: accounts })
  // Who starts this file alone would get one process.
  if (config.processes > 1 && !cluster.isWorker) throw new Error('JOB_ACCESS_PROCESSES needs start in the place of server: npm start.')
  const member = cluster.isWorker ? await joinProcesses(config) : undefined
  if (metrics) member?.measure(metrics)
  const composed = await compose(member?.config ?? config, {
    log, ...(metrics && { metrics }), ...(member && { overrides: member.overrides })
  })
  const { deps, guardrails, service } = composed
  // So that the first requests are not answered by a wrong clock. What it finds is logged; without an answer the service starts as well.
  await composed.clocks.check().catch(() => {})
  const app = await buildApp(service, { logger: log, newRequestId: randomUUID, ...(metrics && { metrics }) })
  const listen = async () => {
    const exposition = metrics && !member &&
      await serveMetrics(metrics.registry, { host: config.JOB_ACCESS_METRICS_HOST, port: config.JOB_ACCESS_METRICS_PORT })
    if (exposition) log.info({ url: exposition.url }, 'metrics served')
    return { exposition: exposition || undefined, address: await app.listen({ host: config.HOST, port: config.PORT }) }
  }
  const { exposition, address } = await listen().catch(async error => {
    // An open ledger or IAM would keep the process alive, although it listens nowhere.
    await app.close()
    await composed.close()
    throw portInUse(error, error.port === config.PORT ? 'PORT' : 'JOB_ACCESS_METRICS_PORT') ?? error
  })
  if (composed.generatedToken) process.stdout.write(welcome(address, composed.generatedToken, config.JOB_ACCESS_PROVIDER))

  /** An alert of its own says it. Rejects where nobody tells the time. */
  const isWrong = () => composed.clocks.check().then(() => false, error => {
    if (error instanceof WrongClockError) return true
    throw error
  })
  const paces = { concurrency: 4, perSecond: config.JOB_ACCESS_SWEEP_PER_SECOND }
  const tasks: Array<ReturnType<typeof periodic>> = []
  const sweeps = config.JOB_ACCESS_SWEEP_SECONDS > 0
  // Who neither sweeps nor is probed would stay wrong after one wrong answer: no issue asks IAM while the clock is wrong.
  if (!sweeps || member) {
    tasks.push(periodic(60_000, async () => { await isWrong() }, err => log.error({ err }, 'nobody tells the time')))
  }
  const tend = () => {
    // An account that hangs must not keep the others waiting.
    for (const lane of sweeps ? lanesOf(deps) : []) {
      tasks.push(periodic(config.JOB_ACCESS_SWEEP_SECONDS * 1000, async stop => {
        if (await isWrong()) return
        const report = await sweep(deps, { ...paces, lane }, stop)
        metrics?.swept(report, lane.account)
      }, err => {
        metrics?.swept(undefined, lane.account)
        log.error({ ...lane, err }, 'sweep failed')
      }))
    }
    for (const { account } of config.JOB_ACCESS_RECONCILE_SECONDS > 0 ? accounts : []) {
      tasks.push(periodic(config.JOB_ACCESS_RECONCILE_SECONDS * 1000, async () => {
        if (await isWrong()) return
        const report = await reconcile(deps, {
          ...paces,
          dryRun: false,
          graceMs: config.JOB_ACCESS_RECONCILE_GRACE_SECONDS * 1000,
          ...(account !== undefined && { account })
        })
        metrics?.reconciled(report, account)
        service.audit.reconciled(report.findings)
      }, err => {
        metrics?.reconciled(undefined, account)
        log.error({ account, err }, 'reconciliation failed')
      }))
    }
  }
  if (member) member.listening(address, tend)
  else tend()

  reload = async () => {
    const result = await guardrails.reload()
    const { sha256 } = result.guardrails
    if (result.ok) log.info({ sha256, changed: result.changed }, 'guardrails reloaded')
    else log.error({ sha256, findings: result.findings }, 'guardrails not reloaded; the old ones stay in force')
    service.audit.noted({
      actor: systemActor('service'),
      requestId: null,
      action: 'config.reload',
      outcome: result.ok ? 'done' : 'failed',
      detail: { guardrails: sha256 }
    })
  }

  // app.close() waits for the requests under way, the periodic tasks finish their grants, then the stores are closed.
  // SIGHUP reloads the guardrails, so that closeWithGrace must not end the process for it.
  const drainMs = config.JOB_ACCESS_DRAIN_SECONDS * 1000
  const { close } = closeWithGrace({
    delay: drainMs + 25_000, logger: log, skip: ['SIGHUP', ...(member ? ['SIGINT', 'SIGTERM'] as const : [])]
  }, async ({ signal, err }) => {
    if (err) log.fatal({ err }, 'stopping after an error')
    log.info({ signal }, 'stopping')
    // Until load balancers have seen that this replica is not ready, they send new connections, which would be refused.
    const stopping = new Error('the service is stopping')
    service.readiness.stopping = () => Promise.reject(stopping)
    if (!err) await delay(drainMs)
    await app.close()
    await Promise.all(tasks.map(task => task.stop()))
    service.audit.noted({ actor: systemActor('service'), requestId: null, action: 'service.stop', outcome: err ? 'failed' : 'done' })
    await composed.close()
    await member?.close()
    await exposition?.close()
  })
  member?.stopBy(() => { void close() })
}

try {
  await main(readConfig(process.env))
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
  // The channel to the first process would keep this one alive.
  cluster.worker?.disconnect()
}
