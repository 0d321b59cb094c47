import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { compose } from '../compose.ts'
import { readConfig, type Config } from '../config.ts'
import { reconcile } from '../lifecycle/reconcile.ts'
import { logOptions } from '../log.ts'

/**
 * The service with this configuration may be running, and an audit chain has one writer: this command has its own. A dry run changes
 * nothing, and has none.
 */
const besideService = (config: Config, dryRun: boolean): Config =>
  ({ ...config, audited: config.audited && !dryRun, instance: `${config.instance.slice(0, 53)}-reconcile` })

/** `npm run reconcile -- [--dry-run]`: compares provider and ledger now, prints one line per finding, exits 1 when something failed. */
const main = async (): Promise<number> => {
  const { values } = parseArgs({ options: { 'dry-run': { type: 'boolean', default: false } } })
  const config = readConfig(process.env)
  const dryRun = values['dry-run']
  const composed = await compose(besideService(config, dryRun), { log: pino(logOptions('warn'), pino.destination(2)) })
  try {
    const report = await reconcile(composed.deps, {
      dryRun,
      graceMs: config.JOB_ACCESS_RECONCILE_GRACE_SECONDS * 1000,
      concurrency: 4,
      perSecond: config.JOB_ACCESS_SWEEP_PER_SECOND
    })
    composed.service.audit.reconciled(report.findings)
    for (const finding of report.findings) process.stdout.write(`${JSON.stringify(finding)}\n`)
    process.stdout.write(`${report.seen} seen, ${report.findings.length} found, ${report.failed} failed${dryRun ? ' (dry run: nothing was changed)' : ''}\n`)
    return report.failed > 0 ? 1 : 0
  } finally {
    await composed.close()
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
