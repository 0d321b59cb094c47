import type { AccessSpec, Authorised, PolicyAttachment } from '../domain/access-spec.ts'
import type { Grant } from '../domain/grant.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { sessionUnfit, type RoleProfile } from '../iam/role-profile.ts'
import { getBucketLocation } from '../policy/actions.ts'
import { attachmentsOf, hasAction, unfit, type Dialect } from '../policy/dialect.ts'
import type { Limits } from '../policy/limits.ts'
import { chooseAttachment, measure, tooLarge, type Measure } from '../policy/measure.ts'
import { normalise, type Warning } from '../policy/normalise.ts'
import { prove, type Proof, type Proven } from '../policy/prove/prove.ts'
import { render, sidsOf } from '../policy/render.ts'
import { ProblemError } from '../problems.ts'
import type { GrantRequest, PolicyRequest } from '../request.ts'
import type { Deployment } from './deps.ts'

/** The stages of a request that need neither ledger nor IAM: normalise, render, prove. Authorise stands between the first two. */

/** A request within the ceilings of the deployment, in canonical form. Nobody has been asked yet whether the caller may have it. */
export interface NormalisedRequest<Spec extends AccessSpec = AccessSpec> {
  spec: Spec
  warnings: Warning[]
  /** Name of the role profile, with attach `session`. */
  profileName: string | undefined
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

/** @throws ProblemError with every finding */
export const normaliseRequest = (deployment: Deployment, request: PolicyRequest | GrantRequest, now: number): NormalisedRequest => {
  const { waitUntilReady, profile, attach } = request as GrantRequest
  if (waitUntilReady && deployment.dialect.identityProbe === null) throw ProblemError.of([cannotWait(deployment.dialect)])
  if (profile !== undefined && attach !== 'session') throw ProblemError.of([profileWithoutSession])
  const admission = normalise(request, limitsOf(deployment), new Date(now))
  if (!admission.ok) throw ProblemError.of(admission.findings)
  return { spec: admission.spec, warnings: admission.warnings, profileName: attach === 'session' ? profile ?? 'default' : undefined }
}

/** The ceilings of the deployment, and what its provider lacks. */
export const limitsOf = ({ limits, dialect }: Deployment): Limits =>
  ({ ...limits, noBucketLocation: !hasAction(dialect, getBucketLocation.action) })

/** Renders the policy and finds the attachment that provider and size allow. @throws ProblemError with every finding */
export const renderAccess = <Spec extends AccessSpec>(deployment: Deployment, normalised: NormalisedRequest<Spec>, now: number): Rendered<Spec> => {
  const { spec, profileName } = normalised
  const policy = render(spec)
  const entryOf = (sid: string) => spec.entries.find(entry => sidsOf(entry).includes(sid))?.pointer ?? ''
  const unfitting = unfit(policy, deployment.dialect, entryOf)
  if (unfitting.length > 0) throw ProblemError.of(unfitting)
  const size = measure(policy)
  const attachment = attachmentOf(deployment.dialect, spec, size)
  const profile = attachment === 'session' ? profileOf(deployment, spec, profileName ?? 'default', now) : null
  return { ...normalised, policy, measure: size, attachment, profile }
}

/** @throws ProblemError `policy-unproven`: the alarm of a renderer that is wrong */
export const proveAccess = (rendered: Rendered<Authorised>): ProvenAccess => {
  const proof = prove(rendered.policy, rendered.spec)
  if (!proof.ok) throw unproven(proof)
  return { ...rendered, policy: proof.proven, probes: proof.probes }
}

/** The policy of a grant that an earlier operation stored. It is proven anew, since a ledger can be changed. @throws ProblemError */
export const proveStored = ({ policy, spec }: Pick<Grant, 'policy' | 'spec'>): Proven<PolicyDocument> => {
  const proof = prove(policy, spec)
  if (!proof.ok) throw unproven(proof)
  return proof.proven
}

/** The caller is told nothing; reason and counterexample are for the log. */
const unproven = ({ reason, counterexample }: Extract<Proof, { ok: false }>): ProblemError =>
  new ProblemError('policy-unproven', { cause: new Error(`${reason} ${JSON.stringify(counterexample ?? null)}`) })

const attachmentOf = (dialect: Dialect, spec: AccessSpec, { characters }: Measure): PolicyAttachment => {
  const { attach } = spec
  const attachments = attachmentsOf(dialect)
  if (attach !== 'auto' && !attachments.includes(attach)) {
    throw ProblemError.of([{
      code: 'dialect-unfit', pointer: '/attach', detail: `${dialect.name} has no attach ${attach}.`, hint: `Use one of: auto, ${attachments.join(', ')}.`
    }])
  }
  const chosen = chooseAttachment(attach, characters, dialect.sizes)
  if (!chosen) throw ProblemError.of([tooLarge(spec, attach, dialect.sizes)])
  return chosen
}

const cannotWait = ({ name }: Dialect) => ({
  code: 'dialect-unfit',
  pointer: '/waitUntilReady',
  detail: `${name} has no call that tells whose a key is.`,
  hint: 'Leave it out, and let the job try its first request again until it succeeds.'
} as const)

/** It would be ignored, but for guardrails that trust it. */
const profileWithoutSession = {
  code: 'session-unfit', pointer: '/profile', detail: 'A profile is for role sessions alone.', hint: 'Ask for attach `session`, or leave `profile` out.'
} as const

const profileOf = ({ profiles }: Deployment, spec: AccessSpec, name: string, now: number): RoleProfile => {
  const names = Object.keys(profiles)
  const profile = Object.hasOwn(profiles, name) ? profiles[name] : undefined
  if (!profile) {
    throw ProblemError.of([{
      code: 'session-unfit',
      pointer: '/profile',
      detail: `There is no role profile ${name === 'default' ? 'named default' : name}.`,
      hint: names.length > 0 ? `Profiles: ${names.join(', ')}.` : 'This service has no role profiles: use attach auto.'
    }])
  }
  const findings = sessionUnfit(profile, spec, now)
  if (findings.length > 0) throw ProblemError.of(findings)
  return profile
}
