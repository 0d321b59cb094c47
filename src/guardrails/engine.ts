import type { Context, EntityJson, EntityUid } from '@cedar-policy/cedar-wasm/nodejs'
import { openCedar, type Cedar } from './cedar.ts'
import { mentionsOf, type Mentions } from './mentions.ts'
import type { Policy } from './policies.ts'
import { actions, resourceTypes, type Action } from './schema.ts'

/** One question to Cedar. */
export interface Question {
  action: Action
  principal: EntityUid
  resource: EntityUid
  context: Context
  entities: EntityJson[]
}

export interface Answer {
  allowed: boolean
  /** The policies that decided, in the order of the file: the permits of an allow, the forbids of a denial. */
  policies: Policy[]
  /** Why Cedar could not evaluate; for the operator. Never empty when `allowed` is false for that reason. */
  faults: string[]
}

export interface Engine {
  mentions: Record<Action, Mentions>
  ask (question: Question): Answer
}

/**
 * Parses the policies once, one set per action: a policy whose scope names other actions
 * or another type of resource cannot decide this one.
 * The schema is not used again: every request is built by us, in the shape of the schema (a test holds that), and checking
 * it each time would cost as much as the decision.
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

  const evaluate = (question: Question): Answer => {
    ready ??= prepare()
    const answer = ready.statefulIsAuthorized({
      principal: question.principal,
      action: { type: 'JobAccess::Action', id: question.action },
      resource: question.resource,
      context: question.context,
      entities: question.entities,
      preparsedPolicySetId: sliceOf[question.action]
    })
    if (answer.type === 'failure') return denied(answer.errors.map(error => error.message))
    const { decision, diagnostics } = answer.response
    // Cedar skips a policy that it cannot evaluate. A forbid that is skipped is a hole, so nothing is allowed then.
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
    ask: question => {
      try {
        return evaluate(question)
      } catch (error) {
        // A trapped WebAssembly instance answers nothing any more: the next question gets a new one.
        ready = undefined
        return denied([`Cedar failed: ${error instanceof Error ? error.message : String(error)}`])
      }
    }
  }
}

const denied = (faults: string[]): Answer => ({ allowed: false, policies: [], faults })

const appliesTo = ({ json: { action, resource } }: Policy, wanted: Action): boolean => {
  if (resource.op === 'is' && resource.entity_type !== `JobAccess::${resourceTypes[wanted]}`) return false
  // The schema has no action groups, so an action is in a set of actions only by being named there.
  if (action.op === 'All') return true
  if (action.op === 'in' && 'entities' in action) return action.entities.some(entity => idOf(entity) === wanted)
  return 'entity' in action && idOf(action.entity) === wanted
}

const idOf = (uid: EntityUid): string => '__entity' in uid ? uid.__entity.id : uid.id
