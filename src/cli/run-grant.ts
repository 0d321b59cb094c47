import { ProblemError, type Client, type DeliveryText, type GrantRequest } from '../client/index.ts'
import { UsageError, note, noteUnfinished, noteUnready, report, type Io } from './command.ts'
import { deliveredEnv, type DeliveredEnv } from './held-key.ts'
import type { Rejoin } from './key-keeper.ts'
import { grantFlags, grantRequest, secondsOf } from './request.ts'
import { clientOf } from './settings.ts'

/** The grant of one run of a job: issued before it, completed after it. */

const { 'issue-at': _, ...issuedNow } = grantFlags
export const runFlags = {
  ...issuedNow,
  'idempotency-key': { type: 'string' },
  'per-job': { type: 'boolean' },
  'no-wait': { type: 'boolean' },
  'complete-seconds': { type: 'string' }
} as const

type RunValues = Parameters<typeof grantRequest>[0] &
  { 'idempotency-key'?: string, 'per-job'?: boolean, 'no-wait'?: boolean, 'complete-seconds'?: string }

export interface RunGrant extends DeliveredEnv {
  /** This run alone has it: not taken over, and no other run gets it by its idempotency key or its job. */
  ownRun: boolean
  /** Of a worker: how its agent gets the next key. */
  rejoin?: Rejoin
  complete: () => Promise<void>
}

/** A grant of an earlier run, which is taken over if it is the same job's and lives; its key then works for so long. */
export interface Earlier { grantId: string, overlapSeconds: number }

/** Every run has its own grant, unless the job is the key: then a second run must say that the first is gone (--attempt, --replace). */
export const issueForRun = async (values: RunValues, io: Io, lastAttempt: AbortSignal, earlier?: Earlier): Promise<RunGrant> => {
  if (values['per-job'] && values['idempotency-key'] !== undefined) {
    throw new UsageError('--per-job and --idempotency-key exclude each other.')
  }
  const request = { ...await grantRequest(values, io), waitUntilReady: !values['no-wait'] }
  const completing = endingClient(values, io)
  const key = values['per-job'] ? null : values['idempotency-key']
  const how = key === undefined ? {} : { idempotencyKey: key }
  const client = clientOf(io, { lastAttempt })
  const taken = earlier && await takenOver(client, request.job, earlier)
  const issued = taken ?? await client.issueAs('env', request, how)
  const ownRun = taken === undefined && key === undefined
  let delivered: DeliveredEnv
  try {
    delivered = deliveredEnv(issued, Date.now())
  } catch (error) {
    if (ownRun) await complete(completing, issued.grantId, `grant ${issued.grantId}`, io)
    else note(io, `left alive: grant ${issued.grantId}, which others may use. Sooner by: job-access complete ${issued.grantId}`)
    throw error
  }
  noteDelivery(io, delivered, issued.ready)
  return { ...delivered, ownRun, complete: () => complete(completing, issued.grantId, delivered.title, io) }
}

/** With a time limit of its own: an end must fit into the time that a scheduler leaves after its signal. */
export const endingClient = (values: { 'complete-seconds'?: string }, io: Io): Client =>
  clientOf(io, { deadlineMs: (secondsOf(values['complete-seconds'], '--complete-seconds') ?? 20) * 1000 })

export const noteDelivery = (io: Io, { notices }: DeliveredEnv, ready: boolean | undefined): void => {
  for (const notice of notices) note(io, notice)
  noteUnready(io, ready)
}

const takenOver = async (
  client: Client, job: GrantRequest['job'], { grantId, overlapSeconds }: Earlier
): Promise<DeliveryText | undefined> => {
  const grant = await client.get(grantId).catch((error: unknown) => {
    if (error instanceof ProblemError && error.status === 404) return undefined
    throw error
  })
  if (grant?.state !== 'active' || grant.job.id !== job.id || grant.job.team !== job.team) return undefined
  return client.rotateAs('env', grantId, overlapSeconds)
}

/** Never fails: what the job did is worth more than what became of its key, which ends with its window anyway. */
const complete = async (client: Client, id: string, title: string, io: Io): Promise<void> => {
  try {
    const { state } = await client.complete(id)
    noteUnfinished(io, id, state)
  } catch (error) {
    report(io, error)
    note(io, `NOT completed: ${title}. Its key dies with its window; sooner by: job-access complete ${id}`)
  }
}
