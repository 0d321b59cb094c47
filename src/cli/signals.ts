import type { ChildProcess } from 'node:child_process'
import { constants } from 'node:os'

/** Signals that would end this process before the grant is completed, and signals that a job may use. */
const relayed = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const
const ending: readonly string[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']
/** A terminal sends these to the whole foreground group, so the child has them already; a second one could interrupt its clean-up. */
const fromTerminal: readonly string[] = ['SIGINT', 'SIGHUP', 'SIGQUIT']

export interface Relay {
  /** Aborted by the first signal that ends a process. */
  ended: AbortSignal
  /** The first one. */
  first: () => NodeJS.Signals | undefined
  to: (child: ChildProcess) => void
}

/** From now on no signal ends this process; they go to the child while there is one. */
export const relaySignals = (terminal: boolean): Relay => {
  const end = new AbortController()
  let first: NodeJS.Signals | undefined
  let child: ChildProcess | undefined
  for (const signal of relayed) {
    process.on(signal, () => {
      if (ending.includes(signal)) {
        first ??= signal
        end.abort()
      }
      if (!terminal || !fromTerminal.includes(signal)) child?.kill(signal)
    })
  }
  return { ended: end.signal, first: () => first, to: started => { child = started } }
}

/** The exit code that a shell gives. */
export const codeOfSignal = (signal: NodeJS.Signals): number => 128 + constants.signals[signal]
