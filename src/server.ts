import closeWithGrace from 'close-with-grace'
import { pino } from 'pino'
import { ulid } from 'ulid'
import { buildApp } from './app.ts'
import { systemActor } from './audit/event.ts'
import { compose } from './compose.ts'
import { ConfigInvalid, readConfig, type Config } from './config.ts'
import { clockwork } from './lifecycle/clockwork.ts'
import { reconcile } from './lifecycle/reconcile.ts'
import { sweep } from './lifecycle/sweep.ts'
import { logOptions } from './log.ts'
import { welcome } from './welcome.ts'

/** The process: configuration, listening, the sweeper's clock, signals. */
const main = async (config: Config): Promise<void> => {
  const log = pino(logOptions(config.LOG_LEVEL))
  const composed = await compose(config, { log })
  const { desk, guardrails, service } = composed
  const app = await buildApp(service, { logger: log, newRequestId: () => ulid().toLowerCase() })
  const address = await app.listen({ host: config.HOST, port: config.PORT })
  if (composed.generatedToken) process.stdout.write(welcome(address, composed.generatedToken, config.JOB_ACCESS_PROVIDER))

  const paces = { concurrency: 4, perSecond: config.JOB_ACCESS_SWEEP_PER_SECOND }
  const clocks = [
    ...(config.JOB_ACCESS_SWEEP_SECONDS > 0
      ? [clockwork(config.JOB_ACCESS_SWEEP_SECONDS * 1000, stop => sweep(desk, { ...paces, batch: 50 }, stop),
          err => log.error({ err }, 'sweep failed'))]
      : []),
    ...(config.JOB_ACCESS_RECONCILE_SECONDS > 0
      ? [clockwork(config.JOB_ACCESS_RECONCILE_SECONDS * 1000, () => reconcile(desk, composed.principals, {
          ...paces, dryRun: false, graceMs: config.JOB_ACCESS_RECONCILE_GRACE_SECONDS * 1000
        }), err => log.error({ err }, 'reconciliation failed'))]
      : [])
  ]

  process.on('SIGHUP', () => {
    reload().catch(err => log.error({ err }, 'guardrails not reloaded; the old ones stay in force'))
  })
  const reload = async () => {
    const result = await guardrails.reload()
    const { sha256 } = result.guardrails
    if (result.ok) log.info({ sha256, changed: result.changed }, 'guardrails reloaded')
    else log.error({ sha256, findings: result.findings }, 'guardrails not reloaded; the old ones stay in force')
    service.recorder.noted({
      actor: systemActor('service'), requestId: null, action: 'config.reload', outcome: result.ok ? 'done' : 'failed', detail: { guardrails: sha256 }
    })
  }

  // What is in flight is finished: app.close() waits for the requests, the clocks for their grants, then the stores close.
  closeWithGrace({ delay: 25_000, logger: log }, async ({ signal, err }) => {
    if (err) log.fatal({ err }, 'stopping after an error')
    log.info({ signal }, 'stopping')
    await app.close()
    await Promise.all(clocks.map(clock => clock.stop()))
    await composed.close()
  })
}

try {
  await main(readConfig(process.env))
} catch (error) {
  process.stderr.write(`${error instanceof ConfigInvalid || error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
