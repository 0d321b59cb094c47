import type { Context, EntityJson, EntityUid, PolicyJson } from '@cedar-policy/cedar-wasm/nodejs'
import { openCedar, type Cedar } from './cedar.ts'
import type { Policy } from './policies.ts'
import { actions, resourceTypes, type Action } from './schema.ts'

/** One request to Cedar: may this principal do this to this resource? */
export interface CedarRequest {
  action: Action
  principal: EntityUid
  resource: EntityUid
  context: Context
  entities: EntityJson[]
}

export interface CedarAnswer {
  allowed: boolean
  /** The policies that decided, in the order of the file: permits when it is allowed, forbids when it is denied. */
  policies: Policy[]
  /** Why Cedar could not evaluate the request, for the operator. Empty: it could. */
  faults: string[]
}

interface Engine {
  mentions: Record<Action, Mentions>
  ask (request: CedarRequest): CedarAnswer
}

/**
 * Parses the policies once, into one set per action. A set leaves out the policies whose scope names other actions or another type
 * of resource, as they cannot decide on this action.
 * Requests are not validated against the schema: that would take as long as the decision. This service builds every request in
 * the form of the schema, and a test checks that.
 */
export const buildEngine = (policies: Policy[]): Engine => {
  const slices = new Map<string, Policy[]>()
  const sliceOf = {} as Record<Action, string>
  for (const action of actions) {
    const slice = policies.filter(policy => appliesTo(policy, action))
    sliceOf[action] = slice.map(({ id }) => id).join(' ')
    slices.set(sliceOf[action], slice)
  }
  const prepare = (): Cedar => {
    const cedar = openCedar()
    for (const [name, slice] of slices) {
      const answer = cedar.preparsePolicySet(name, { staticPolicies: Object.fromEntries(slice.map(({ id, text }) => [id, text])) })
      if (answer.type === 'failure') throw new Error(answer.errors.map(error => error.message).join('; '))
    }
    return cedar
  }
  let ready: Cedar | undefined = prepare()

  const evaluate = (request: CedarRequest): CedarAnswer => {
    ready ??= prepare()
    const answer = ready.statefulIsAuthorized({
      principal: request.principal,
      action: { type: 'JobAccess::Action', id: request.action },
      resource: request.resource,
      context: request.context,
      entities: request.entities,
      preparsedPolicySetId: sliceOf[request.action]
    })
    if (answer.type === 'failure') return denied(answer.errors.map(error => error.message))
    const { decision, diagnostics } = answer.response
    // Cedar skips a policy that it cannot evaluate. It may have skipped a forbid, so nothing is allowed then.
    if (diagnostics.errors.length > 0) {
      return denied(diagnostics.errors.map(({ policyId, error }) => `policy "${policyId}": ${error.message}`))
    }
    const reasons = new Set(diagnostics.reason)
    return { allowed: decision === 'allow', policies: policies.filter(({ id }) => reasons.has(id)), faults: [] }
  }

  const mentions = {} as Record<Action, Mentions>
  for (const action of actions) mentions[action] = mentionsOf((slices.get(sliceOf[action]) ?? []).map(({ json }) => json))

  return {
    mentions,
    ask: request => {
      try {
        return evaluate(request)
      } catch (error) {
        // After a trap, every call of a WebAssembly instance fails: the next request gets a new instance.
        ready = undefined
        return denied([`Cedar failed: ${error instanceof Error ? error.message : String(error)}`])
      }
    }
  }
}

const denied = (faults: string[]): CedarAnswer => ({ allowed: false, policies: [], faults })

const appliesTo = ({ json: { action, resource } }: Policy, wanted: Action): boolean => {
  if (resource.op === 'is' && resource.entity_type !== `JobAccess::${resourceTypes[wanted]}`) return false
  // The schema has no action groups, so an action is in a set only when the set names it.
  if (action.op === 'All') return true
  if (action.op === 'in' && 'entities' in action) return action.entities.some(entity => idOf(entity) === wanted)
  return 'entity' in action && idOf(action.entity) === wanted
}

const idOf = (uid: EntityUid): string => '__entity' in uid ? uid.__entity.id : uid.id

// --- what policies mention ---

/**
 * Which attributes, types and methods a set of policies names. What no policy names cannot change a decision, so it is left out of
 * the request: Cedar reads entities and context from JSON each time, and this takes longer than evaluating the policies.
 */
export interface Mentions {
  has (name: string): boolean
}

/**
 * Collects every string of the policies' JSON form, keys and values alike: a policy needs the name of an attribute to read it, and
 * the type of an entity to name the entity. A test of a type (`resource is JobAccess::Access`) does not count, as every entity has
 * its type. A policy that uses the whole `context` (`context == {…}`) mentions everything.
 */
export const mentionsOf = (policies: PolicyJson[]): Mentions => {
  const names = new Set<string>()
  let whole = false
  const walk = (node: unknown, key: string, under: string): void => {
    if (typeof node === 'string') {
      names.add(node)
      if (key === 'Var' && node === 'context' && under !== '.' && under !== 'has') whole = true
    } else if (Array.isArray(node)) {
      for (const item of node) walk(item, key, under)
    } else if (node !== null && typeof node === 'object') {
      for (const [name, value] of Object.entries(node)) {
        if (name === 'entity_type' && under !== 'Record') continue
        names.add(name)
        // In { ".": { left: { Var } } } the operator is the key above `left`. The keys of a record literal are not operators.
        walk(value, name, name === 'Var' || name === 'left' || under === 'Record' ? under : name)
      }
    }
  }
  for (const { principal, resource, conditions } of policies) walk([principal, resource, conditions.map(({ body }) => body)], '', '')
  return { has: name => whole || names.has(name) }
}
