import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { compose } from '../compose.ts'
import { readConfig, type Config } from '../config.ts'
import { reconcile } from '../lifecycle/reconcile.ts'
import { logOptions } from '../log.ts'
import { operatorCommand } from './command.ts'

const usage = (self: string) => `${self} [--dry-run]
Compares the provider with the ledger now, and puts right what differs, as the service does by itself. Prints one line of JSON per
finding, then a summary. Exits 1 when something could not be put right. It needs the configuration of the service, which may be running.

  --dry-run  change nothing`

/** An audit chain has one writer, and the service may be it: this command writes a chain of its own, a dry run none. */
const besideService = (config: Config, dryRun: boolean): Config =>
  ({ ...config, audited: config.audited && !dryRun, instance: `${config.instance.slice(0, 53)}-reconcile` })

await operatorCommand(usage, async args => {
  const { values: { 'dry-run': dryRun } } = parseArgs({ args, options: { 'dry-run': { type: 'boolean', default: false } } })
  const config = readConfig(process.env)
  const composed = await compose(besideService(config, dryRun), {
    log: pino(logOptions('warn'), pino.destination(2)), mustExist: true
  })
  try {
    await composed.clocks.check()
    const report = await reconcile(composed.deps, {
      dryRun,
      graceMs: config.JOB_ACCESS_RECONCILE_GRACE_SECONDS * 1000,
      concurrency: 4,
      perSecond: config.JOB_ACCESS_SWEEP_PER_SECOND
    })
    composed.service.audit.reconciled(report.findings)
    for (const finding of report.findings) process.stdout.write(`${JSON.stringify(finding)}\n`)
    process.stdout.write(`${report.seen} seen, ${report.findings.length} found, ${report.failed} failed` +
      `${dryRun ? ' (dry run: nothing was changed)' : ''}\n`)
    return report.failed > 0 ? 1 : 0
  } finally {
    await composed.close()
  }
})
