import { ProblemError, type Client } from '../client/index.ts'
import { UsageError, note, noteUnfinished, report, type Io } from './command.ts'
import { deliveredEnv } from './held-key.ts'
import { grantFlags, type Values } from './request.ts'
import { endingClient, issueForRun, noteDelivery, runFlags, type Earlier, type RunGrant } from './run-grant.ts'
import { clientOf } from './settings.ts'
import { jobFlags, jobGrantOf, joinRequest, workerFlags } from './workers.ts'

/** The access of one run: of a job, which is issued, or of one worker of a job, which joins. */

export const startFlags = { ...runFlags, ...jobFlags, ...workerFlags } as const

export const grantForRun = (
  values: Parameters<typeof issueForRun>[0] & WorkerValues, io: Io, lastAttempt: AbortSignal, earlier?: Earlier
): Promise<RunGrant> => {
  if (values.worker !== undefined) return joinForRun(values, io, lastAttempt)
  if (values.grant !== undefined) throw new UsageError('--grant is the job of a worker: give --worker NAME and --attempt START, too.')
  return issueForRun(values, io, lastAttempt, earlier)
}

type WorkerValues = Values<typeof workerFlags> & { [name in keyof typeof jobFlags]?: string } &
  { 'no-wait'?: boolean, 'complete-seconds'?: string }

/**
 * It joins, and its end is the worker's, never the job's.
 * What `exec` and `agent` do for a worker needs no more than the actions join and view, and revoke for the end.
 */
const joinForRun = async (values: WorkerValues, io: Io, lastAttempt: AbortSignal): Promise<RunGrant> => {
  const stray = Object.keys(values).find(name => name in onlyOfJobs)
  if (stray !== undefined) throw new UsageError(`--${stray} does not go with --worker: the grant of the job says what its workers may do.`)
  const { attempt } = values
  if (!attempt) {
    throw new UsageError('--worker wants --attempt START, which start of the worker this is: the pod’s UID, the restart count. ' +
      'Another one than before ends the key of the start before, so each start gives its own.')
  }
  const job = await jobGrantOf(values)
  const { replace, ...again } = { ...joinRequest(values), attempt }
  const first = { ...again, ...(replace && { replace }), waitUntilReady: !values['no-wait'] }
  const ending = endingClient(values, io)
  const joined = await clientOf(io, { lastAttempt }).joinAs('env', job, first)
  const complete = () => endOwn(ending, { job, name: again.name, attempt }, io)
  try {
    const delivered = deliveredEnv(joined, Date.now())
    noteDelivery(io, delivered, joined.ready)
    const rejoin = { worker: again.name, attempt, again: (client: Client) => client.joinAs('env', job, again) }
    return { ...delivered, ownRun: true, rejoin, complete }
  } catch (error) {
    await complete()
    throw error
  }
}

/** Never fails, like the end of a grant. A start that has taken this one's place keeps its key. */
const endOwn = async (
  client: Client, { job, name, attempt }: { job: string, name: string, attempt: string }, io: Io
): Promise<void> => {
  try {
    const { state } = await client.endWorker(job, name, { attempt })
    noteUnfinished(io, name, state)
  } catch (error) {
    if (error instanceof ProblemError && error.code === 'worker-replaced') {
      note(io, `worker ${name} was started again, and is not ended here.`)
      return
    }
    report(io, error)
    const how = error instanceof ProblemError && error.status === 403 ? ' The guardrails must permit revoke for that.' : ''
    note(io, `NOT ended: worker ${name}.${how} Its key dies with the job; sooner by: ` +
      `job-access end-worker ${job} --worker ${name} --attempt ${attempt}`)
  }
}

const onlyOfJobs: Record<string, unknown> = {
  ...Object.fromEntries(Object.entries(grantFlags).filter(([name]) => !(name in workerFlags))),
  'per-job': true,
  'idempotency-key': true,
  'complete-on-exit': true
}
