import type { Grant, GrantState } from '../domain/grant.ts'
import { canonicalJson, measure } from '../policy/measure.ts'
import { normaliseChange } from '../policy/normalise.ts'
import { together } from '../policy/render.ts'
import { firstIssueOf, isSameWindow } from '../policy/window.ts'
import { ProblemError } from '../problems.ts'
import type { JoinRequest } from '../request.ts'
import { authorise, limitsOf, observing, proveAccess, renderAccess, requireProbe, type ProvenAccess } from './access.ts'
import { authoriseOnGrant, grantOfTeam, requireOwnName } from './authorise.ts'
import { requireClock } from './clock.ts'
import type { Caller, GrantDeps } from './deps.ts'
import { end } from './end.ts'
import { requireProfile } from './extend.ts'
import { busy, deliver, inSomeAccount, intentOf, jobChanged, redeliver, requireReasonToReplace, reserve, type Issued } from './issue.ts'
import { stateWord } from './lease.ts'
import { activate, provision } from './provision.ts'

/**
 * Gives a worker of a job its own principal: the job's access, bound to this worker's source. The stages are those of issue(). Under
 * a name that has a key already, the request must say that it may end that key.
 * @throws ProblemError
 */
export const join = (deps: GrantDeps, caller: Caller, jobGrantId: string, given: JoinRequest): Promise<Issued> =>
  observing(caller, given, async request => {
    requireClock(deps)
    const job = await jobOf(deps, caller, jobGrantId)
    requireOwnName(caller, request.name)
    if (request.waitUntilReady) requireProbe(deps.deployment)
    requireOpen(deps, job)
    const access = await workerAccess(deps, caller, job, request)
    const { warnings } = access
    return inSomeAccount(deps, access, async account => {
      const intent = () => intentOf(deps, access, {
        owner: job.owner,
        key: `worker:${job.id}/${request.name}`,
        attempt: request.attempt,
        joins: { jobGrantId: job.id, worker: request.name, policyArn: job.principal.policyArn },
        account
      })
      const reserved = await reserve(deps, caller, intent, job)
      if (reserved.outcome === 'existing') return { ...await rejoin(deps, caller, job, reserved.grant, request, access), warnings }
      const provisioned = await provision(deps, caller, reserved.grant, access.policy)
      const grant = await activate(deps, caller, reserved.grant, provisioned)
      return deliver(deps, request, { grant, credentials: provisioned.credentials, created: true, warnings })
    })
  })

/** Another start of a worker, or a retry. Its key is replaced, and its policy if its source or the job's window is another one now. */
const rejoin = async (
  deps: GrantDeps, caller: Caller, job: Grant, worker: Grant, request: JoinRequest, access: ProvenAccess
): Promise<Omit<Issued, 'warnings'>> => {
  if (worker.state === 'revoking') throw busy(5)
  await requireReasonToReplace(deps, worker, request)
  // A change or the end of the job before this has perhaps passed this worker already, and must not be undone. One after this finds
  // the worker claimed, and comes back; or it has changed the worker, and then redeliver() refuses.
  const now = await deps.ledger.get(job.id)
  if (now?.state !== 'active' || now.policyHash !== job.policyHash || now.expiresAt !== job.expiresAt || now.notBefore !== job.notBefore) {
    throw jobChanged()
  }
  // Not by the policy: in layout `guide` it says nothing of what is only read.
  const same = isSameWindow(access.spec.window, worker.spec.window) &&
    canonicalJson(access.spec.source) === canonicalJson(worker.spec.source)
  if (same) return redeliver(deps, caller, worker, request, undefined)
  // The attachment stays the same: a policy that has become too long for it is refused.
  const again = () => `The policy of a worker that has a key stays attached as ${worker.attach}. End the worker, and join again: the ` +
    `policy of a new one is attached as ${access.attachment}, where it fits. Or send fewer source CIDRs.`
  const fitting = access.attachment === worker.attach
    ? access
    : await withHint(again, () => workerAccess(deps, caller, job, request, worker.attach))
  return redeliver(deps, caller, worker, request, { ...fitting, spec: { ...fitting.spec, attach: worker.spec.attach } })
}

/** A job of workers that the caller's team has. Whether the caller may join it is decided with the worker's source. */
const jobOf = async (deps: GrantDeps, caller: Caller, id: string): Promise<Grant> => {
  const grant = await grantOfTeam(deps, caller, id, 'join')
  if (grant.maxWorkers !== null) return grant
  throw new ProblemError('grant-state', {
    detail: `Grant ${grant.id} is of a job with one process, which has its key.`,
    hint: 'Ask for a grant with `workers: {"max": …}`.'
  })
}

const requireOpen = (deps: GrantDeps, job: Grant): void => {
  const { id, state, expiresAt } = job
  if (state === 'active' && deps.now() < expiresAt) return
  if (state === 'pending') throw busy(1)
  throw new ProblemError('grant-state', {
    detail: state === 'active' ? `The window of grant ${id} is over.` : `The job has ended: grant ${id} is ${stateWord(job)}.`,
    hint: 'Ask for a new grant with POST /v1/grants, and join that.'
  })
}

/** Of a policy that is too large: a worker can send no more than another source. */
const withHint = async <T>(hint: (before: string) => string, work: () => T | Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof ProblemError) || error.code !== 'policy-too-large') throw error
    throw ProblemError.of((error.init.findings ?? []).map(finding => ({ ...finding, hint: hint(finding.hint) })))
  }
}

/** @param attach what the worker's policy is attached as already; absent: as the job asks */
const workerAccess = async (
  deps: GrantDeps, caller: Caller, job: Grant, { name, sourceIps, vpc }: JoinRequest, attach = job.spec.attach
): Promise<ProvenAccess> => {
  const firstIssuedAt = firstIssueOf(job)
  if (sourceIps === undefined && vpc === undefined) {
    throw ProblemError.of([{
      code: 'source-missing',
      pointer: '',
      detail: 'The request names no source, and the job has none for its workers.',
      hint: 'Give sourceIps, vpc, or `"source": "observed"`.'
    }])
  }
  const source = { ...(sourceIps && { sourceIps }), ...(vpc && { vpc }) }
  const normalised = normaliseChange(
    { spec: { ...job.spec, attach }, firstIssuedAt, active: true }, source, limitsOf(deps.deployment), new Date(deps.now())
  )
  if (!normalised.ok) throw ProblemError.of(normalised.findings)
  const { spec, warnings } = normalised
  const profileName = requireProfile(deps, job)?.name
  const own = await withHint(before => spec.shared ? before : `Send fewer source CIDRs. Or change the request of the job: ${before}`,
    () => renderAccess(deps.deployment, { spec, warnings, profileName, firstIssuedAt }))
  const policy = spec.shared ? together(job.policy, own.policy) : own.policy
  const rendered = { ...own, policy, measure: spec.shared ? measure(policy) : own.measure }
  await deps.turn(caller.id)
  // The guardrails see the attachment that the job asked for.
  const asked = { ...rendered, spec: { ...spec, attach: job.spec.attach } }
  // Its workers share what is in the job's account: a policy, or a role.
  const authorised = authorise(deps, caller, 'join', asked, job.owner, name, job.principal.account)
  await deps.turn(caller.id)
  return proveAccess(authorised)
}

/** The worker of a job by its name: the one that lives, or else the last one. @throws ProblemError `worker-unknown` */
export const workerOf = async (
  deps: GrantDeps, caller: Caller, jobGrantId: string, name: string, action: 'view' | 'revoke'
): Promise<Grant> => {
  const job = await grantOfTeam(deps, caller, jobGrantId, action)
  const newest = async (states?: GrantState[]): Promise<Grant | undefined> =>
    (await deps.ledger.list({ parentId: job.id, worker: name, ...(states && { states }) }, { limit: 1 }))[0]
  // Ids sort by the clock of the replica that made them, so the newest is not always the live one.
  const worker = await newest(['pending', 'active', 'revoking']) ?? await newest()
  if (!worker) throw new ProblemError('worker-unknown')
  return authoriseOnGrant(deps, caller, worker.id, action)
}

/**
 * The worker is gone, or must be: its key is deleted. The job and its other workers go on. May be called twice.
 *
 * @param attempt the start that is to end: a later one under this name goes on. Undefined: whichever it is
 */
export const endWorker = async (deps: GrantDeps, caller: Caller, jobGrantId: string, name: string, attempt?: string): Promise<Grant> =>
  end(deps, caller, (await workerOf(deps, caller, jobGrantId, name, 'revoke')).id, 'completed', worker => {
    if (attempt === undefined || worker.attempt === attempt) return
    throw new ProblemError('worker-replaced', {
      detail: `Attempt ${JSON.stringify(attempt)} of worker ${name} does not have its key: ` +
        `${worker.attempt === null ? 'a start without an attempt' : `attempt ${JSON.stringify(worker.attempt)}`} has its key, and goes on.`
    })
  })
