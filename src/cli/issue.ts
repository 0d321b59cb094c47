import { mediaTypes, type Delivery, type DeliveryText, type IssueOptions, type TextFormat } from '../client/index.ts'
import { UsageError, exit, note, noteUnready, type Command, type Io } from './command.ts'
import { grantFlags, grantRequest, parseRequestArgs } from './request.ts'
import { secretFile, type SecretFile } from './secret-file.ts'
import { clientOf } from './settings.ts'

export const deliveryFlags = { format: { type: 'string' }, out: { type: 'string' } } as const

const flags = {
  ...grantFlags,
  ...deliveryFlags,
  'grant-file': { type: 'string' },
  'idempotency-key': { type: 'string' },
  workers: { type: 'string' },
  wait: { type: 'boolean' }
} as const

/** The job is the key unless one is given: a step that an orchestrator runs again says with --attempt which start it is. */
export const issue: Command = async (args, io) => {
  const { values } = parseRequestArgs({ args, options: flags })
  const request = {
    ...await grantRequest(values, io),
    ...(values.workers !== undefined && { workers: { max: countOf(values.workers) } }),
    ...(values.wait && { waitUntilReady: true })
  }
  const format = formatOf(values.format)
  if (format !== 'json' && request.issueAt !== undefined) throw new UsageError('--issue-at has no credentials yet: leave --format out.')
  if (format !== 'json' && request.workers) throw new UsageError('A job of workers has no key of its own: leave --format out.')
  const client = clientOf(io)
  const how: IssueOptions = { idempotencyKey: values['idempotency-key'] ?? null }
  const { issueAt, ...now } = request
  return deliver(io, values, async () =>
    format === 'json' ? textOf(await client.issue(request, how)) : client.issueAs(format, now, how))
}

const countOf = (value: string): number => {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value)
  throw new UsageError(`--workers ${value}: give how many workers the job may have at once.`)
}

export const formatOf = (format = 'json'): TextFormat | 'json' => {
  if (format === 'json' || format in mediaTypes) return format as TextFormat | 'json'
  throw new UsageError(`--format ${format}: give one of json, ${Object.keys(mediaTypes).join(', ')}.`)
}

export const textOf = (delivery: Delivery): DeliveryText => ({
  grantId: delivery.grant.id,
  text: `${JSON.stringify(delivery, null, 2)}\n`,
  ...(delivery.ready !== undefined && { ready: delivery.ready })
})

/** Puts what is delivered where it was asked for: a file that only its owner reads, or stdout. */
export const deliver = async (
  io: Io,
  { out, 'grant-file': grantFile }: { out?: string, 'grant-file'?: string },
  ask: () => Promise<DeliveryText>
): Promise<number> => {
  const files: SecretFile[] = []
  let issued: string | undefined
  try {
    const secret = out === undefined ? undefined : await secretFile(out)
    if (secret) files.push(secret)
    const id = grantFile === undefined ? undefined : await secretFile(grantFile)
    if (id) files.push(id)
    const { grantId, text, ready } = await ask()
    issued = grantId
    // The id first: with it the grant can be ended, whatever happens next.
    await id?.write(`${grantId}\n`)
    if (secret) await secret.write(text)
    else io.out(text)
    noteUnready(io, ready)
    return exit.ok
  } catch (error) {
    await Promise.allSettled(files.map(file => file.discard()))
    if (issued !== undefined) note(io, `grant ${issued} is alive, but could not be written down; end it: job-access complete ${issued}`)
    throw error
  }
}
