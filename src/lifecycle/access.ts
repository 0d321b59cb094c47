import ipaddr from 'ipaddr.js'
import type { AccessSpec, Authorised, PolicyAttachment } from '../domain/access-spec.ts'
import type { Grant } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import type { At } from '../guardrails/guardrails.ts'
import type { RoleProfile } from '../iam/role-profile.ts'
import { getBucketLocation } from '../policy/actions.ts'
import { attachmentFor, canShare, hasAction, unfit } from '../policy/dialect.ts'
import type { Limits } from '../policy/limits.ts'
import { measure, type Measure } from '../policy/measure.ts'
import { normalise, type Warning } from '../policy/normalise.ts'
import { prove, type Proof, type Proven } from '../policy/prove/prove.ts'
import { render } from '../policy/render.ts'
import { firstIssueOf } from '../policy/window.ts'
import { ProblemError, problems } from '../problems.ts'
import type { GrantRequest, PolicyRequest } from '../request.ts'
import type { Account, Actor, Caller, Deployment, GrantDeps } from './deps.ts'

/**
 * The stages of a request before the ledger and IAM: normalise, render, authorise, prove. What renders too large is refused at once, for
 * little: the guardrails and the proof then have only what fits into a policy.
 */

/** A request within the ceilings of the deployment, in canonical form. The guardrails have not been asked yet. */
export interface NormalisedRequest<Spec extends AccessSpec = AccessSpec> {
  spec: Spec
  warnings: Warning[]
  /** Name of the role profile, with attach `session`. */
  profileName: string | undefined
  /** When the grant is issued, or was. Its life counts from then. */
  firstIssuedAt: Date
  /** A job of workers: how many at most. */
  workers?: number
  /** The accounts of the pool into which the guardrails let it go. */
  accounts?: Account[]
}

export interface Rendered<Spec extends AccessSpec = AccessSpec> extends NormalisedRequest<Spec> {
  policy: PolicyDocument
  measure: Measure
  attachment: PolicyAttachment
  profile: RoleProfile | null
}

/** What may be issued: the guardrails permitted the spec, and its policy is proven. */
export interface ProvenAccess extends Rendered<Authorised> {
  policy: Proven<PolicyDocument>
  /** Number of requests against which the policy was proven. */
  probes: number
}

/**
 * @param issueAt when a scheduled grant gets its key, and its life starts
 * @throws ProblemError with every finding
 */
export const normaliseRequest = (
  deployment: Deployment, request: PolicyRequest | GrantRequest, now: number, issueAt: number | null = null
): NormalisedRequest => {
  const { waitUntilReady, profile, attach, workers } = request as GrantRequest
  if (waitUntilReady) requireProbe(deployment)
  if (profile !== undefined && attach !== 'session') throw ProblemError.of([profileWithoutSession])
  if (workers) refuseOwnKey(request)
  const limits = limitsOf(deployment, workers !== undefined)
  const firstIssuedAt = firstIssueOf({ createdAt: now, issueAt })
  const normalised = normalise(request, limits, new Date(now), { firstIssuedAt })
  if (!normalised.ok) throw ProblemError.of(normalised.findings)
  const { spec, warnings } = normalised
  // Not in layout `guide`, whose reads have no condition on the source. Not with `auto`: two policies change at different moments (ADR 6).
  const shared = workers && attach === 'managed' && spec.layout !== 'guide' && canShare(deployment.dialect)
  return {
    spec: shared ? { ...spec, shared } : spec,
    warnings: workers ? warnings.filter(({ code }) => code !== 'source-any') : warnings,
    profileName: attach === 'session' ? profile ?? 'default' : undefined,
    firstIssuedAt,
    ...(workers && { workers: workers.max })
  }
}

type WithSource = Pick<GrantRequest, 'source' | 'sourceIps' | 'vpc'>

/**
 * Puts the address from which the request came in place of `source: "observed"`. Whatever is wrong with that address is then said of
 * the field that the caller sent.
 */
export const observing = async <Request extends WithSource, T>(
  { ip, unobserved }: Pick<Caller, 'ip' | 'unobserved'>, request: Request, work: (request: Request) => Promise<T>
): Promise<T> => {
  const { source, ...rest } = request
  if (source === undefined) return work(request)
  const stated = (['sourceIps', 'vpc'] as const).filter(field => request[field] !== undefined)
  if (stated.length > 0) {
    throw ProblemError.of(stated.map(field => ({
      code: 'source-ambiguous',
      pointer: `/${field}`,
      detail: 'The request states a source and asks to observe one.',
      hint: 'Leave one of them out.'
    })))
  }
  if (unobserved !== undefined) {
    throw ProblemError.of([{ code: 'source-unobserved', pointer: '/source', detail: unobserved, hint: problems['source-unobserved'][2] }])
  }
  try {
    // An IPv4 address of a socket that takes both families is ::ffff:203.0.113.42.
    return await work({ ...rest, sourceIps: [ipaddr.process(ip).toString()] } as Request)
  } catch (problem) {
    if (!(problem instanceof ProblemError) || problem.init.findings === undefined) throw problem
    throw ProblemError.of(problem.init.findings.map(finding => finding.pointer.startsWith('/sourceIps')
      ? { ...finding, pointer: '/source', detail: `Of the observed address ${ip}: ${finding.detail}` }
      : finding))
  }
}

/** The ceilings of the deployment, and what its provider lacks. Nobody gets a key of a job of workers, so it needs no source. */
export const limitsOf = ({ limits, dialect }: Deployment, ofWorkers = false): Limits => ({
  ...limits,
  ...(ofWorkers && { allowAnySource: true }),
  noBucketLocation: !hasAction(dialect, getBucketLocation.action)
})

/** Fields about the one key of a job, in the request of a job whose workers each have their own. */
const refuseOwnKey = (request: GrantRequest): void => {
  const findings = (['sourceIps', 'vpc', 'source', 'issueAt', 'waitUntilReady', 'format'] as const)
    .filter(field => request[field] !== undefined && request[field] !== false && request[field] !== 'json')
    .map(field => ({
      code: 'workers-unfit' as const,
      pointer: `/${field}`,
      detail: 'A job of workers has no key and no source of its own.',
      hint: field === 'issueAt'
        ? 'Give window.notBefore: keys of workers that join earlier work from then on.'
        : 'Each worker states it when it joins.'
    }))
  if (findings.length > 0) throw ProblemError.of(findings)
}

/**
 * Asks the guardrails for the whole spec.
 *
 * @param owner who asked for the grant that `extend` changes or `join` joins
 * @param worker name of the worker that joins
 * @param account the one where the access is, or must be; absent: any that takes it
 * @throws ProblemError `forbidden` with a finding per refused entry
 */
export const authorise = <Request extends NormalisedRequest>(
  deps: GrantDeps, caller: Caller, action: 'issue' | 'extend' | 'join' | 'render', normalised: Request, owner?: string, worker?: string,
  account?: string
): Request & { spec: Authorised } => {
  const { spec, profileName, firstIssuedAt, workers } = normalised
  const at: At = {
    now: new Date(deps.now()),
    firstIssuedAt,
    ...(profileName !== undefined && { profile: profileName }),
    ...(owner !== undefined && { owner }),
    ...(workers !== undefined && { workers }),
    ...(worker !== undefined && { worker })
  }
  const { current } = deps.guardrails
  const accounts = deps.pool?.accounts.filter(({ name, closed, profiles }) => account === undefined
    ? !closed && (profileName === undefined || Object.hasOwn(profiles, profileName))
    : name === account)
  const decisionFor = (account?: string) => current.decide(caller, spec, action, { ...at, ...(account !== undefined && { account }) })
  const decided = current.looksAtAccount ? accounts?.map(account => ({ account, decision: decisionFor(account.name) })) : undefined
  const allowed = decided?.filter(({ decision }) => decision.allowed)
  const { decision } = allowed?.[0] ?? decided?.[0] ?? { decision: decisionFor() }
  deps.audit.decided(caller, action, decision, { team: spec.job.team, jobId: spec.job.id })
  if (!decision.allowed) throw ProblemError.of(decision.findings)
  const permittedIn = allowed?.map(({ account }) => account) ?? accounts
  return { ...normalised, spec: permitted(spec), ...(permittedIn && { accounts: permittedIn }) }
}

/** The only place where a spec becomes an authorised one. */
const permitted = (spec: AccessSpec): Authorised => spec as Authorised

/** Renders the policy and finds the attachment that provider and size allow. @throws ProblemError with every finding */
export const renderAccess = <Spec extends AccessSpec>(
  deployment: Deployment, normalised: NormalisedRequest<Spec>
): Rendered<Spec> => {
  const { spec, profileName } = normalised
  const policy = render(spec)
  const unfitting = unfit(policy, deployment.dialect, spec)
  if (unfitting.length > 0) throw ProblemError.of(unfitting)
  const size = measure(policy)
  const { attachment, finding } = attachmentFor(spec, size, deployment.dialect)
  if (finding) throw ProblemError.of([finding])
  const profile = attachment === 'session' ? profileOf(deployment, profileName ?? 'default') : null
  return { ...normalised, policy, measure: size, attachment, profile }
}

/** @throws ProblemError `policy-unproven`: the renderer has a bug, and an alert tells the operator */
export const proveAccess = (rendered: Rendered<Authorised>): ProvenAccess => {
  const proof = prove(rendered.policy, rendered.spec)
  if (!proof.ok) throw unproven(proof)
  return { ...rendered, policy: proof.proven, probes: proof.probes }
}

/** The policy of a grant that an earlier operation stored. It is proven anew, since a ledger can be changed. @throws ProblemError */
export const proveStored = async (
  deps: Pick<GrantDeps, 'turn'>, { id }: Actor, { policy, spec }: Pick<Grant, 'policy' | 'spec'>
): Promise<Proven<PolicyDocument>> => {
  await deps.turn(id, { holds: true })
  const proof = prove(policy, spec)
  if (!proof.ok) throw unproven(proof)
  return proof.proven
}

/** Reason and counterexample are only for the log, not for the caller. */
const unproven = ({ reason, counterexample }: Extract<Proof, { ok: false }>): ProblemError =>
  new ProblemError('policy-unproven', { cause: new Error(`${reason} ${JSON.stringify(counterexample ?? null)}`) })

/** For waitUntilReady. @throws ProblemError `dialect-unfit` */
export const requireProbe = ({ dialect: { name, identityProbe } }: Pick<Deployment, 'dialect'>): void => {
  if (identityProbe !== null) return
  throw ProblemError.of([{
    code: 'dialect-unfit',
    pointer: '/waitUntilReady',
    detail: `${name} has no call that tells whose a key is.`,
    hint: 'Leave it out, and let the job try its first request again until it succeeds.'
  }])
}

/** It would have no effect, and guardrails that look at it would be misled. */
const profileWithoutSession = {
  code: 'session-unfit',
  pointer: '/profile',
  detail: 'A profile is for role sessions alone.',
  hint: 'Ask for attach `session`, or leave `profile` out.'
} as const

const profileOf = ({ profiles, dialect }: Deployment, name: string): RoleProfile => {
  // With a pool several accounts may have a profile of this name, each with a role of its own.
  const names = [...new Set(Object.values(profiles).map(profile => profile.name))]
  const profile = Object.values(profiles).find(profile => profile.name === name)
  if (!profile) {
    throw ProblemError.of([{
      code: 'session-unfit',
      pointer: '/profile',
      detail: `There is no role profile ${name === 'default' ? 'named default' : name}.`,
      hint: names.length > 0
        ? `Profiles: ${names.join(', ')}.`
        : `This service has no role profiles: ${dialect.principals === 'sessions' ? 'its operator must give it some' : 'use attach auto'}.`
    }])
  }
  return profile
}
