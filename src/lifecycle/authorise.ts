import type { Grant } from '../domain/grant.ts'
import { checks } from '../guardrails/guardrails.ts'
import { ProblemError } from '../problems.ts'
import type { AuthorisedAction, Caller, GrantDeps } from './deps.ts'

/** Who may do what with an existing grant: first its team is checked, then the guardrails. For requests see access.ts. */

/** A grant that the caller may act on. @throws ProblemError `grant-unknown`, or `forbidden` */
export const authoriseOnGrant = async (
  deps: GrantDeps, caller: Caller, id: string, action: 'view' | 'rotate' | 'revoke' | 'collect'
): Promise<Grant> => {
  const grant = await grantOfTeam(deps, caller, id, action)
  const { team, jobId, owner, spec, worker } = grant
  if (worker !== null && (action === 'rotate' || action === 'collect')) requireOwnName(caller, worker)
  const decision = deps.guardrails.current.decideOnGrant(
    caller, { team, jobId, owner, labels: spec.job.labels, ...(worker !== null && { worker }) }, action, { now: new Date(deps.now()) }
  )
  deps.audit.decided(caller, action, decision, { team, jobId, grantId: grant.id })
  if (!decision.allowed) throw ProblemError.of(decision.findings)
  return grant
}

/** A token that is for one worker gets no key of another one, whatever the guardrails say. @throws ProblemError `forbidden` */
export const requireOwnName = ({ attributes }: Pick<Caller, 'attributes'>, name: string): void => {
  const own = attributes.worker
  if (own === undefined || own === name) return
  throw ProblemError.of([{
    code: 'forbidden',
    pointer: '/name',
    detail: `This token is for worker ${JSON.stringify(own)}, and joins as no other.`,
    hint: `Join as ${JSON.stringify(own)}, or with the token of worker ${JSON.stringify(name)}.`
  }])
}

/** A grant of another team does not exist for the caller: 404, not 403, so that ids cannot be probed. @throws ProblemError */
export const grantOfTeam = async (deps: GrantDeps, caller: Caller, id: string, action: AuthorisedAction): Promise<Grant> => {
  const grant = await deps.ledger.get(id)
  if (!grant) throw new ProblemError('grant-unknown')
  const { team, jobId } = grant
  if (inTeam(caller, team)) return grant
  // The caller is not told; the reader of the audit is.
  const detail = 'A grant of another team was asked for, and answered as unknown.'
  const finding = { code: 'grant-unknown' as const, pointer: '', detail, hint: '' }
  deps.audit.decided(
    caller, action, { allowed: false, findings: [finding], decidedBy: [checks.team], faults: [] }, { team, jobId, grantId: grant.id }
  )
  throw new ProblemError('grant-unknown')
}

const inTeam = (caller: Pick<Caller, 'teams'>, team: string): boolean => caller.teams.includes('*') || caller.teams.includes(team)

/**
 * The teams whose grants the caller may list; undefined: every team. A team that is not the caller's is none, so the
 * answer is an empty page, as for a team without grants.
 * @throws ProblemError `forbidden` when the guardrails permit none
 */
export const listableTeams = ({ guardrails, now }: GrantDeps, caller: Caller, team: string | undefined): string[] | undefined => {
  const wanted = team === undefined ? caller.teams : inTeam(caller, team) ? [team] : []
  const at = { now: new Date(now()) }
  const allowed = wanted.filter(name => guardrails.current.decideOnTeam(caller, name, at).allowed)
  if (wanted.length > 0 && allowed.length === 0) {
    throw new ProblemError('forbidden', { detail: 'The guardrails do not let you list grants.', hint: 'Ask who owns the guardrails.' })
  }
  return allowed.includes('*') ? undefined : allowed
}
