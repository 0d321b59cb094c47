import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import type { Client, Grant, GrantPage, ListQuery } from '../client/index.ts'
import { UsageError, exit, note, noteUnfinished, print, type Command, type Io } from './command.ts'
import { deliver, deliveryFlags, formatOf, textOf } from './issue.ts'
import { changeFlags, changeOf, secondsOf } from './request.ts'
import { clientOf } from './settings.ts'

const text = { type: 'string' } as const
const grantFile = { 'grant-file': text } as const

export const complete: Command = async (args, io) => {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { ...grantFile, job: text, team: text } })
  const client = clientOf(io)
  const { job, team } = values
  if (job === undefined && team === undefined) return completed(io, client, await idOf(positionals, values['grant-file']))
  if (job === undefined || team === undefined) throw new UsageError('complete wants --job and --team together.')
  if (positionals.length > 0 || values['grant-file'] !== undefined) throw new UsageError('complete wants a grant or a job, not both.')
  const ids = (await everyGrant(page => client.list({ job, team, state: 'live', ...page }))).map(({ id }) => id)
  if (ids.length === 0) note(io, 'the job has no live grant.')
  let worst: number = exit.ok
  for (const id of ids) worst = Math.max(worst, await completed(io, client, id))
  return worst
}

/** Ended already counts as done: an exit handler may run twice. */
const completed = async (io: Io, client: Client, id: string): Promise<number> => {
  const { state } = await client.complete(id)
  io.out(`${id} ${state}\n`)
  noteUnfinished(io, id, state)
  return exit.ok
}

export const rotate: Command = async (args, io) => {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { ...grantFile, ...deliveryFlags, overlap: text } })
  const id = await idOf(positionals, values['grant-file'])
  const overlap = secondsOf(values.overlap, '--overlap') ?? 0
  const format = formatOf(values.format)
  const client = clientOf(io)
  return deliver(io, values.out === undefined ? {} : { out: values.out },
    async () => format === 'json' ? textOf(await client.rotate(id, overlap)) : client.rotateAs(format, id, overlap))
}

export const extend: Command = async (args, io) => {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { ...grantFile, ...changeFlags } })
  const id = await idOf(positionals, values['grant-file'])
  print(io, await clientOf(io).extend(id, changeOf(values)))
  return exit.ok
}

export const show: Command = async (args, io) => {
  const { values, positionals } = parseArgs({
    args, allowPositionals: true, options: { ...grantFile, events: { type: 'boolean' }, 'blast-radius': { type: 'boolean' } }
  })
  const id = await idOf(positionals, values['grant-file'])
  const client = clientOf(io)
  if (values.events) print(io, await client.events(id))
  if (values['blast-radius']) io.out((await client.blastRadius(id)).words.map(line => `${line}\n`).join(''))
  if (!values.events && !values['blast-radius']) print(io, await client.get(id))
  return exit.ok
}

export const list: Command = async (args, io) => {
  const filters = { state: text, team: text, job: text, account: text }
  const { values } = parseArgs({ args, options: { ...filters, limit: text, json: { type: 'boolean' } } })
  const query = {
    ...(values.state !== undefined && { state: values.state as NonNullable<ListQuery['state']> }),
    ...(values.team !== undefined && { team: values.team }),
    ...(values.job !== undefined && { job: values.job }),
    ...(values.account !== undefined && { account: values.account })
  }
  const limit = Number(values.limit ?? 50)
  if (!Number.isInteger(limit) || limit < 1) throw new UsageError(`--limit ${values.limit}: give a number of grants.`)
  const client = clientOf(io)
  const grants = await everyGrant(page => client.list({ ...query, ...page }), limit)
  if (values.json) print(io, grants)
  else io.out(grants.map(rowOf).join(''))
  return exit.ok
}

const rowOf = ({ id, state, endReason, window, job }: Grant) => {
  const said = state === 'revoked' && endReason === 'completed' ? endReason : state
  return `${[id, said.padEnd(9), window.outputNotAfter, job.team, job.id].join('  ')}\n`
}

type AskPage = (page: { limit: number, after?: string }) => Promise<GrantPage>

/** Newest first, page by page. */
export const everyGrant = async (ask: AskPage, limit = Infinity): Promise<Grant[]> => {
  const grants: Grant[] = []
  for (let after: string | undefined; grants.length < limit;) {
    const page = await ask({ limit: Math.min(200, limit - grants.length), ...(after !== undefined && { after }) })
    grants.push(...page.grants)
    // An answer without `next`, or with one that was asked for, would be asked for again and again.
    if (page.next === null || page.next === undefined || page.next === after) break
    after = page.next
  }
  return grants
}

/** The one grant that is meant: its id, or a file that `issue --grant-file` wrote. */
export const idOf = async ([id, ...more]: string[], file: string | undefined): Promise<string> => {
  if (more.length > 0 || (id === undefined) === (file === undefined)) throw new UsageError('Give one grant: its id, or --grant-file FILE.')
  const given = id ?? await readFile(file ?? '', 'utf8').then(content => content.trim(), (error: Error) => {
    throw new UsageError(`--grant-file: ${error.message}`)
  })
  if (!/^[0-9a-z]{26}$/.test(given)) throw new UsageError(`${given.slice(0, 40)} is not the id of a grant.`)
  return given
}
