import { attachmentsOf, hasAction, unfit, type Dialect } from '../policy/dialect.ts'
import { sessionUnfit, type RoleProfile } from '../iam/role-profile.ts'
import { getBucketLocation } from '../policy/actions.ts'
import type { Limits } from '../policy/limits.ts'
import { normalise, type Normalised } from '../policy/normalise.ts'
import type { AccessSpec, PolicyAttachment } from '../domain/access-spec.ts'
import type { PolicyDocument } from '../domain/policy-document.ts'
import { chooseAttachment, measure, tooLarge, type Measure } from '../policy/measure.ts'
import { prove, type Proof, type Proven } from '../policy/prove/prove.ts'
import { render, sidsOf } from '../policy/render.ts'
import type { Warning } from '../policy/normalise.ts'
import { ProblemError } from '../problems.ts'
import type { GrantRequest, PolicyRequest } from '../request.ts'

/** What a deployment holds every request against. */
export interface Rules {
  limits: Limits
  dialect: Dialect
  profiles: Record<string, RoleProfile>
}

/** A request rendered: normalised and fit for provider and attachment, but neither permitted nor proven. Nothing is issued from it. */
export interface Rendered {
  spec: AccessSpec
  policy: PolicyDocument
  measure: Measure
  attachment: PolicyAttachment
  profile: RoleProfile | null
  warnings: Warning[]
}

/** A request that passed everything short of issue: request -> guardrails -> render -> prove. */
export interface Prepared extends Rendered {
  policy: Proven<PolicyDocument>
  /** Requests against which the policy was proven. */
  probes: number
}

/** Says no by throwing a problem; the guardrails of the caller. */
export type Guard = (spec: AccessSpec) => void

/** @throws ProblemError with every finding of the stage that refused */
export const prepare = (rules: Rules, request: PolicyRequest | GrantRequest, guard: Guard, now: number): Prepared => {
  const { waitUntilReady, profile, attach } = request as GrantRequest
  if (waitUntilReady) refuseWaiting(rules.dialect)
  if (profile !== undefined && attach !== 'session') refuseProfile()
  return settle(rules, normalise(request, limitsOf(rules), new Date(now)), guard, now, profile)
}

/** The deployment's ceilings, and what its provider lacks. */
export const limitsOf = ({ limits, dialect }: Rules): Limits =>
  ({ ...limits, noBucketLocation: !hasAction(dialect, getBucketLocation.action) })

/** The stages after normalise(), shared with PATCH. */
export const settle = (rules: Rules, normalised: Normalised, guard: Guard, now: number, profileName?: string): Prepared => {
  if (!normalised.ok) throw ProblemError.of(normalised.findings)
  guard(normalised.spec)
  const rendered = fit(rules, normalised, now, profileName)
  const proof = prove(rendered.policy, rendered.spec)
  if (!proof.ok) throw unproven(proof)
  return { ...rendered, policy: proof.proven, probes: proof.probes }
}

/** Rendering alone. @throws ProblemError */
export const renderOnly = (rules: Rules, request: PolicyRequest, now: number): Rendered => {
  const normalised = normalise(request, limitsOf(rules), new Date(now))
  if (!normalised.ok) throw ProblemError.of(normalised.findings)
  return fit(rules, normalised, now)
}

const fit = (rules: Rules, { spec, warnings }: Normalised & { ok: true }, now: number, profileName?: string): Rendered => {
  const policy = render(spec)
  const entryOf = (sid: string) => spec.entries.find(entry => sidsOf(entry).includes(sid))?.pointer ?? ''
  const unfitting = unfit(policy, rules.dialect, entryOf)
  if (unfitting.length > 0) throw ProblemError.of(unfitting)
  const size = measure(policy)
  const attachment = attachmentOf(rules.dialect, spec, size)
  const profile = attachment === 'session' ? profileOf(rules, spec, profileName, now) : null
  return { spec, policy, measure: size, attachment, profile, warnings }
}

const attachmentOf = (dialect: Dialect, spec: AccessSpec, { characters }: Measure): PolicyAttachment => {
  const { attach } = spec
  const attachment = attachmentsOf(dialect)
  if (attach !== 'auto' && !attachment.includes(attach)) {
    throw ProblemError.of([{
      code: 'dialect-unfit', pointer: '/attach', detail: `${dialect.name} has no attach ${attach}.`, hint: `Use one of: auto, ${attachment.join(', ')}.`
    }])
  }
  const chosen = chooseAttachment(attach, characters, dialect.sizes)
  if (!chosen) throw ProblemError.of([tooLarge(spec, attach, dialect.sizes)])
  return chosen
}

const refuseWaiting = ({ name, identityProbe }: Dialect): void => {
  if (identityProbe !== null) return
  throw ProblemError.of([{
    code: 'dialect-unfit',
    pointer: '/waitUntilReady',
    detail: `${name} has no call that tells whose a key is.`,
    hint: 'Leave it out, and let the job try its first request again until it succeeds.'
  }])
}

/** It would be ignored, but for guardrails that trust it. */
const refuseProfile = (): never => {
  throw ProblemError.of([{
    code: 'session-unfit', pointer: '/profile', detail: 'A profile is for role sessions alone.', hint: 'Ask for attach `session`, or leave `profile` out.'
  }])
}

const profileOf = (rules: Rules, spec: AccessSpec, name: string | undefined, now: number): RoleProfile => {
  const names = Object.keys(rules.profiles)
  const wanted = name ?? 'default'
  const profile = Object.hasOwn(rules.profiles, wanted) ? rules.profiles[wanted] : undefined
  if (!profile) {
    throw ProblemError.of([{
      code: 'session-unfit',
      pointer: '/profile',
      detail: name ? `There is no role profile ${name}.` : 'There is no role profile named default.',
      hint: names.length > 0 ? `Profiles: ${names.join(', ')}.` : 'This service has no role profiles: use attach auto.'
    }])
  }
  const findings = sessionUnfit(profile, spec, now)
  if (findings.length > 0) throw ProblemError.of(findings)
  return profile
}

/** The alarm of a renderer that is wrong: reason and counterexample are for the log. */
export const unproven = ({ reason, counterexample }: Extract<Proof, { ok: false }>): ProblemError =>
  new ProblemError('policy-unproven', { cause: new Error(`${reason} ${JSON.stringify(counterexample ?? null)}`) })
