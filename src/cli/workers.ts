import { parseArgs } from 'node:util'
import type { Grant, JoinRequest, WorkersQuery } from '../client/index.ts'
import { UsageError, exit, noteUnfinished, print, type Command } from './command.ts'
import { everyGrant, idOf } from './grants.ts'
import { deliver, deliveryFlags, formatOf, textOf } from './issue.ts'
import { changeOf, sourceFlags, type Values } from './request.ts'
import { clientOf } from './settings.ts'

/** The workers of a job: each joins the job's grant by name, and has a key of its own. */

const text = { type: 'string' } as const

/** Which job: of `exec` and `agent`, too. */
export const jobFlags = { grant: text, 'grant-file': text } as const
/** Which worker of it, and from where. */
export const workerFlags = { worker: text, attempt: text, replace: { type: 'boolean' }, ...sourceFlags } as const

type JobValues = { [name in keyof typeof jobFlags]?: string }

/** @throws UsageError */
export const jobGrantOf = (values: JobValues, positionals: string[] = []): Promise<string> =>
  idOf(values.grant === undefined ? positionals : [...positionals, values.grant], values['grant-file'])

/** @throws UsageError */
export const workerNameOf = (worker: string | undefined): string => {
  if (!worker) throw new UsageError('Give the worker’s name: --worker NAME, e.g. the pod, the rank or the node.')
  return worker
}

/** As it was typed: the service says what does not fit. */
export const joinRequest = (values: Values<typeof workerFlags>): JoinRequest => {
  const { sourceIps, vpc } = changeOf(values)
  return {
    name: workerNameOf(values.worker),
    ...(values.attempt !== undefined && { attempt: values.attempt }),
    ...(values.replace && { replace: true }),
    ...(values.source !== undefined && { source: values.source as 'observed' }),
    ...(sourceIps && { sourceIps }),
    ...(vpc && { vpc })
  }
}

export const join: Command = async (args, io) => {
  const { values, positionals } = parseArgs({
    args, allowPositionals: true, options: { ...jobFlags, ...workerFlags, ...deliveryFlags, wait: { type: 'boolean' } }
  })
  const id = await jobGrantOf(values, positionals)
  const request = { ...joinRequest(values), ...(values.wait && { waitUntilReady: true }) }
  const format = formatOf(values.format)
  const client = clientOf(io)
  return deliver(io, values.out === undefined ? {} : { out: values.out },
    async () => format === 'json' ? textOf(await client.join(id, request)) : client.joinAs(format, id, request))
}

export const workers: Command = async (args, io) => {
  const { values, positionals } = parseArgs({
    args, allowPositionals: true, options: { ...jobFlags, state: text, json: { type: 'boolean' } }
  })
  const id = await jobGrantOf(values, positionals)
  const client = clientOf(io)
  const state = values.state as WorkersQuery['state']
  const grants = await everyGrant(page => client.workers(id, { ...page, ...(state !== undefined && { state }) }))
  if (values.json) print(io, grants)
  else io.out(grants.map(rowOf).join(''))
  return exit.ok
}

const rowOf = ({ id, state, worker, attempt, deliveredAt, source }: Grant): string => {
  const { sourceIps = [], vpc } = source
  const from = [...sourceIps, ...Object.values(vpc ?? {}).flat()].join(',')
  return `${[worker?.name ?? '', state.padEnd(8), deliveredAt ?? '-', attempt ?? '-', from, id].join('  ')}\n`
}

/** Ended already counts as done: an exit handler may run twice. */
export const endWorker: Command = async (args, io) => {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { ...jobFlags, worker: text, attempt: text } })
  const id = await jobGrantOf(values, positionals)
  const name = workerNameOf(values.worker)
  const { state } = await clientOf(io).endWorker(id, name, values.attempt === undefined ? {} : { attempt: values.attempt })
  io.out(`${name} ${state}\n`)
  noteUnfinished(io, name, state)
  return exit.ok
}
