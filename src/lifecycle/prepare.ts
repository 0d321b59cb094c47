import { carriersOf, hasAction, unfit, type Dialect } from '../iam/dialects/dialect.ts'
import { sessionUnfit, type RoleProfile } from '../iam/role-profile.ts'
import { getBucketLocation } from '../policy/actions.ts'
import { admit, type Admission, type Limits } from '../policy/admit.ts'
import type { Admitted, Attach } from '../policy/admitted.ts'
import type { PolicyDocument } from '../policy/document.ts'
import { chooseAttach, measure, tooLarge, type Measure } from '../policy/measure.ts'
import { prove, type Proof, type Proven } from '../policy/prove/prove.ts'
import { render, sidsOf } from '../policy/render.ts'
import type { Warning } from '../policy/warnings.ts'
import { Problem } from '../problems.ts'
import type { GrantRequest, PolicyRequest } from '../request.ts'

/** What a deployment holds every request against. */
export interface Rules {
  limits: Limits
  dialect: Dialect
  profiles: Record<string, RoleProfile>
}

/** A request rendered: admitted and fit for provider and carrier, but neither permitted nor proven. Nothing is issued from it. */
export interface Rendered {
  admitted: Admitted
  policy: PolicyDocument
  measure: Measure
  carrier: Exclude<Attach, 'auto'>
  profile: RoleProfile | null
  warnings: Warning[]
}

/** A request that passed everything short of issue: request -> guardrails -> render -> prove. */
export interface Prepared extends Rendered {
  policy: Proven<PolicyDocument>
  /** Requests against which the policy was proven. */
  probes: number
}

/** Says no by throwing a Problem; the guardrails of the caller. */
export type Guard = (admitted: Admitted) => void

/** @throws Problem with every finding of the stage that refused */
export const prepare = (rules: Rules, request: PolicyRequest | GrantRequest, guard: Guard, now: number): Prepared => {
  const { waitUntilReady, profile, attach } = request as GrantRequest
  if (waitUntilReady) refuseWaiting(rules.dialect)
  if (profile !== undefined && attach !== 'session') refuseProfile()
  return settle(rules, admit(request, limitsOf(rules), new Date(now)), guard, now, profile)
}

/** The deployment's ceilings, and what its provider lacks. */
export const limitsOf = ({ limits, dialect }: Rules): Limits =>
  ({ ...limits, noBucketLocation: !hasAction(dialect, getBucketLocation.action) })

/** The stages behind admission, shared with PATCH. */
export const settle = (rules: Rules, admission: Admission, guard: Guard, now: number, profileName?: string): Prepared => {
  if (!admission.ok) throw Problem.of(admission.findings)
  guard(admission.admitted)
  const rendered = fit(rules, admission, now, profileName)
  const proof = prove(rendered.policy, rendered.admitted)
  if (!proof.ok) throw unproven(proof)
  return { ...rendered, policy: proof.proven, probes: proof.probes }
}

/** Rendering alone. @throws Problem */
export const renderOnly = (rules: Rules, request: PolicyRequest, now: number): Rendered => {
  const admission = admit(request, limitsOf(rules), new Date(now))
  if (!admission.ok) throw Problem.of(admission.findings)
  return fit(rules, admission, now)
}

const fit = (rules: Rules, { admitted, warnings }: Admission & { ok: true }, now: number, profileName?: string): Rendered => {
  const policy = render(admitted)
  const entryOf = (sid: string) => admitted.entries.find(entry => sidsOf(entry).includes(sid))?.pointer ?? ''
  const unfitting = unfit(policy, rules.dialect, entryOf)
  if (unfitting.length > 0) throw Problem.of(unfitting)
  const size = measure(policy)
  const carrier = carrierOf(rules.dialect, admitted, size)
  const profile = carrier === 'session' ? profileOf(rules, admitted, profileName, now) : null
  return { admitted, policy, measure: size, carrier, profile, warnings }
}

const carrierOf = (dialect: Dialect, admitted: Admitted, { characters }: Measure): Exclude<Attach, 'auto'> => {
  const { attach } = admitted
  const carriers = carriersOf(dialect)
  if (attach !== 'auto' && !carriers.includes(attach)) {
    throw Problem.of([{
      code: 'dialect-unfit', pointer: '/attach', detail: `${dialect.name} has no attach ${attach}.`, hint: `Use one of: auto, ${carriers.join(', ')}.`
    }])
  }
  const chosen = chooseAttach(attach, characters, dialect.sizes)
  if (!chosen) throw Problem.of([tooLarge(admitted, attach, dialect.sizes)])
  return chosen
}

const refuseWaiting = ({ name, identityProbe }: Dialect): void => {
  if (identityProbe !== null) return
  throw Problem.of([{
    code: 'dialect-unfit',
    pointer: '/waitUntilReady',
    detail: `${name} has no call that tells whose a key is.`,
    hint: 'Leave it out, and let the job try its first request again until it succeeds.'
  }])
}

/** It would be ignored, but for guardrails that trust it. */
const refuseProfile = (): never => {
  throw Problem.of([{
    code: 'session-unfit', pointer: '/profile', detail: 'A profile is for role sessions alone.', hint: 'Ask for attach `session`, or leave `profile` out.'
  }])
}

const profileOf = (rules: Rules, admitted: Admitted, name: string | undefined, now: number): RoleProfile => {
  const names = Object.keys(rules.profiles)
  const wanted = name ?? 'default'
  const profile = Object.hasOwn(rules.profiles, wanted) ? rules.profiles[wanted] : undefined
  if (!profile) {
    throw Problem.of([{
      code: 'session-unfit',
      pointer: '/profile',
      detail: name ? `There is no role profile ${name}.` : 'There is no role profile named default.',
      hint: names.length > 0 ? `Profiles: ${names.join(', ')}.` : 'This service has no role profiles: use attach auto.'
    }])
  }
  const findings = sessionUnfit(profile, admitted, now)
  if (findings.length > 0) throw Problem.of(findings)
  return profile
}

/** The alarm of a renderer that is wrong: reason and counterexample are for the log. */
export const unproven = ({ reason, counterexample }: Extract<Proof, { ok: false }>): Problem =>
  new Problem('policy-unproven', { cause: new Error(`${reason} ${JSON.stringify(counterexample ?? null)}`) })
