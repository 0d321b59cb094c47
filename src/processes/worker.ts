import type { Registry } from 'prom-client'
import type { Overrides } from '../compose.ts'
import type { Config } from '../config.ts'
import { loadIdentity } from '../identity/authenticator.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { Shared, ToPrimary, ToWorker } from './messages.ts'
import { remoteAudit } from './remote-audit.ts'

/** One of the processes that answer requests. */
export interface Member {
  /** Its configuration, with the ledger that all of them share. */
  config: Config
  /** What all of them share. */
  overrides: Overrides
  /** Its metrics say which process it is. The primary asks for them, and measures the audit itself. */
  measure: (metrics: Pick<Metrics, 'registry' | 'watchAudit'>) => void
  /** `tend` is called if this process shall sweep and reconcile. Tells the primary that requests are answered. */
  listening: (address: string, tend: () => void) => void
  /** `stop` is called once, however many say so: a terminal and systemd send a signal to each process, and the primary says it, too. */
  stopBy: (stop: () => void) => void
  /** Resolves when the audit has all that it was told. */
  close: () => Promise<void>
}

export const joinProcesses = async (config: Config): Promise<Member> => {
  const shared = Promise.withResolvers<Shared>()
  const told = { tend: Promise.withResolvers<void>(), stop: Promise.withResolvers<void>() }
  let registry: Registry | undefined
  const audit = remoteAudit(send)
  const measured = (id: number) => {
    Promise.resolve(registry?.getMetricsAsJSON())
      .then((metrics = []) => send({ kind: 'measured', id, metrics }), () => send({ kind: 'measured', id, metrics: null }))
  }

  process.on('message', (message: ToWorker) => {
    switch (message.kind) {
      case 'begin': return shared.resolve(message.shared)
      case 'tend': return told.tend.resolve()
      case 'stop': return told.stop.resolve()
      // Its handler is that of the signal.
      case 'reload': return process.emit('SIGHUP')
      case 'metrics': return measured(message.id)
      case 'audited': return audit.answered(message)
    }
  })
  const { number, ledgerUrl, audited, embedded, servers, tokenSha256 } = await shared.promise
  return {
    config: { ...config, ledgerUrl },
    overrides: {
      ...(audited && { audit }),
      ...(embedded && { embedded: { ...embedded, stop: notOurs } }),
      servers: Object.fromEntries(Object.entries(servers).map(([name, server]) => [name, { ...server, stop: notOurs }])),
      ...(tokenSha256 && {
        authenticator: loadIdentity({ tokens: [{ id: 'generated', sha256: tokenSha256, teams: ['*'] }], issuers: [] }, {
          now: () => new Date()
        })
      })
    },
    measure (metrics) {
      metrics.registry.setDefaultLabels({ process: String(number) })
      metrics.watchAudit = () => {}
      registry = metrics.registry
    },
    listening (address, tend) {
      void told.tend.promise.then(tend)
      send({ kind: 'listening', address })
    },
    stopBy (stop) {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => told.stop.resolve())
      void told.stop.promise.then(stop)
    },
    close: () => audit.close()
  }
}

/** The primary stops the embedded IAMs. */
const notOurs = async (): Promise<void> => {}

/** Without a primary, this process ends at once by itself (node:cluster): nobody would write its audit. */
const send = (message: ToPrimary): void => { process.send?.(message) }
