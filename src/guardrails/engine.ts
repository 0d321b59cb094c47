import type { CedarValueJson, Context, EntityJson, EntityUid, PolicyJson, TypeAndId } from '@cedar-policy/cedar-wasm/nodejs'
import type { AccessSpec, Entry, Source } from '../domain/access-spec.ts'
import { openCedar, type Cedar } from './cedar.ts'
import type { Policy } from './policies.ts'
import { actions, callerAttributes, resourceTypes, type AccessAction, type Action, type GrantAction, type RequestAction } from './schema.ts'

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
  const always = new Map<Action, CedarAnswer>()
  for (const action of actions) {
    const slice = slices.get(sliceOf[action]) ?? []
    // What Cedar would answer, whatever the request.
    if (slice.length > 0 && slice.every(permitsAlways)) always.set(action, { allowed: true, policies: slice, faults: [] })
  }
  for (const action of actions) mentions[action] = mentionsOf((slices.get(sliceOf[action]) ?? []).map(({ json }) => json))

  return {
    mentions,
    ask: request => {
      try {
        return always.get(request.action) ?? evaluate(request)
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

/** Whether it permits every request of the actions that it applies to: no condition, and no principal or resource but by type. */
const permitsAlways = ({ effect, json: { principal, resource, conditions } }: Policy): boolean =>
  effect === 'permit' && conditions.length === 0 && principal.op === 'All' &&
  (resource.op === 'All' || (resource.op === 'is' && !('in' in resource)))

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

/** Who asks. An Identity is a Caller. */
export interface Caller {
  id: string
  kind: 'token' | 'oidc'
  /** `*` is every team. */
  teams: string[]
  attributes: Record<string, string>
}

/** A grant, by the job that it is for. */
export interface GrantRef {
  team: string
  jobId: string
  /** Id of the identity that asked for the grant. */
  owner: string
  labels?: Record<string, string>
  /** Of a worker's grant: its name. */
  worker?: string
}

/** What else a decision may depend on, besides caller and request. */
export interface At {
  now: Date
  /** Role profile, with attach `session`. */
  profile?: string
  /** Who asked for the grant that `extend` changes, or `join` joins. Absent: nobody, so that no policy sees the caller as the owner. */
  owner?: string
  /** When the grant is issued, or was: its life counts from then. Absent: now. */
  firstIssuedAt?: Date
  /** The most workers of the job. */
  workers?: number
  /** Name of the worker that joins. */
  worker?: string
  /** The account of the pool where the access is, or would be. */
  account?: string
}

/*
 * Cedar gets everything as JSON data, never as policy text, so that no name or prefix can become part of a policy. Attributes that
 * no policy mentions are left out (see Mentions). What the Cedar requests about one spec have in common is made once.
 */

/** Where the requests of a job come from in one question: one alternative of its source, and one range of that, or null. */
export interface Origin { from: Exclude<Source, { kind: 'either' }>, range: string | null }

interface SpecRequests {
  job (action: RequestAction, origin: Origin): CedarRequest
  access (action: AccessAction, entry: Entry, origin: Origin): CedarRequest
}

/** The Cedar requests about a spec: about its job and about each of its entries. */
export const requestsFor = (mentions: Record<Action, Mentions>, caller: Caller, spec: AccessSpec, at: At): SpecRequests => {
  const { job, window } = spec
  const principals = new Map<Action, EntityJson>()
  const principal = (action: Action): EntityJson => madeOnce(principals, action, () => callerEntity(mentions[action], caller))
  const contexts = new Map<string, Context>()
  const context = (action: Action, end: string, origin: Origin): Context =>
    madeOnce(contexts, `${action} ${end} ${origin.from.kind} ${origin.range}`, () =>
      requestContext(mentions[action], spec, end, origin, at))
  const writes = spec.entries.some(({ level }) => level !== 'read')

  return {
    job: (action, origin) => {
      const owner = action === 'extend' || action === 'join' ? at.owner ?? '' : caller.id
      const entity = jobEntity(mentions[action], { jobId: job.id, team: job.team, labels: job.labels, owner })
      return cedarRequest(action, principal(action), entity,
        context(action, writes ? window.outputNotAfter : window.notAfter, origin))
    },
    access: (action, entry, origin) => cedarRequest(action, principal(action), accessEntity(mentions[action], entry),
      context(action, entry.level === 'read' ? window.notAfter : window.outputNotAfter, origin))
  }
}

export const grantRequest = (mentions: Mentions, caller: Caller, grant: GrantRef, action: GrantAction, at: At): CedarRequest =>
  cedarRequest(action, callerEntity(mentions, caller), jobEntity(mentions, grant),
    only(mentions, { ...instant(at), worker: () => grant.worker }))

export const teamRequest = (mentions: Mentions, caller: Caller, team: string, at: At): CedarRequest =>
  cedarRequest('list', callerEntity(mentions, caller), { uid: uid.team(team), attrs: only(mentions, { name: () => team }), parents: [] },
    only(mentions, instant(at)))

const cedarRequest = (action: Action, principal: EntityJson, resource: EntityJson, context: Context): CedarRequest =>
  ({ action, principal: principal.uid, resource: resource.uid, context, entities: [principal, resource] })

const callerEntity = (mentions: Mentions, { id, kind, teams, attributes }: Caller): EntityJson => {
  const attrs = only(mentions, { kind: () => kind, teams: () => teams })
  const tags: Array<[string, string]> = []
  for (const [name, value] of Object.entries(attributes)) {
    if (!isCallerAttribute(name)) tags.push([name, value])
    else if (mentions.has(name)) attrs[name] = value
  }
  // Only `in` looks at parents. It need not name a team: `principal in resource` works with a team, too.
  return { uid: uid.caller(id), attrs, parents: mentions.has('in') ? teams.map(uid.team) : [], ...tagged(mentions, tags) }
}

const isCallerAttribute = (name: string): boolean => (callerAttributes as readonly string[]).includes(name)

/**
 * A policy sees the directory that holds everything that an entry opens. So a policy that was written for directories decides about a
 * key, and about the beginning of names, as about the whole directory: it never permits more than it did.
 */
const directoryOf = (prefix: string): string => prefix.slice(0, prefix.lastIndexOf('/') + 1)

const kindOf = ({ prefix, exact }: Entry): string =>
  exact ? 'key' : prefix === '' ? 'bucket' : prefix.endsWith('/') ? 'prefix' : 'keyPrefix'

const accessEntity = (mentions: Mentions, entry: Entry): EntityJson => ({
  // Two entries that are otherwise equal become one Cedar request, so an entry has an id only where a policy names entries.
  uid: uid.access(mentions.has('JobAccess::Access') ? `${entry.bucket}/${entry.prefix}` : ''),
  attrs: only(mentions, {
    bucket: () => entry.bucket,
    kind: () => kindOf(entry),
    prefix: () => directoryOf(entry.prefix),
    folder: () => directoryOf(entry.prefix).split('/')[0] ?? '',
    key: () => kindOf(entry) === 'key' ? entry.prefix : undefined,
    keyPrefix: () => kindOf(entry) === 'keyPrefix' ? entry.prefix : undefined,
    list: () => entry.list,
    attributes: () => entry.attributes === true,
    acl: () => entry.cannedAcl ?? (entry.acl ? 'any' : ''),
    kmsKeyArns: () => entry.kmsKeyArns
  }),
  parents: []
})

const jobEntity = (mentions: Mentions, { team, jobId, owner, labels = {} }: GrantRef): EntityJson => ({
  uid: uid.job(jobId),
  attrs: only(mentions, { team: () => team, jobId: () => jobId, owner: () => ({ __entity: uid.caller(owner) }) }),
  parents: [],
  ...tagged(mentions, Object.entries(labels))
})

const requestContext = (
  mentions: Mentions, { window, attach, layout, job }: AccessSpec, end: string, { from, range }: Origin, at: At
): Context =>
  only(mentions, {
    now: () => datetime(at.now.toISOString()),
    start: () => datetime(window.notBefore),
    end: () => datetime(end),
    windowSeconds: () => (Date.parse(end) - Date.parse(window.notBefore)) / 1000,
    lifetimeSeconds: () => Math.ceil((Date.parse(end) - (at.firstIssuedAt ?? at.now).getTime()) / 1000),
    startsInSeconds: () => Math.ceil((Date.parse(window.notBefore) - at.now.getTime()) / 1000),
    source: () => from.kind === 'ip' ? ipaddr(range) : undefined,
    vpcSource: () => from.kind === 'vpc' ? ipaddr(range) : undefined,
    vpcIds: () => from.kind === 'vpc' && from.vpcIds.length > 0 ? from.vpcIds : undefined,
    vpcArns: () => from.kind === 'vpc' ? from.vpcArns : undefined,
    vpcEndpointIds: () => from.kind === 'vpc' && from.vpcEndpointIds.length > 0 ? from.vpcEndpointIds : undefined,
    attach: () => attach,
    layout: () => layout,
    team: () => job.team,
    jobId: () => job.id,
    profile: () => at.profile,
    workers: () => at.workers,
    worker: () => at.worker,
    account: () => at.account
  })

const instant = ({ now }: At) => ({ now: () => datetime(now.toISOString()) })

/** The mentioned attributes; `undefined` stands for an optional attribute that is missing. */
const only = (mentions: Mentions, values: Record<string, () => CedarValueJson | undefined>): Record<string, CedarValueJson> => {
  const attributes: Record<string, CedarValueJson> = {}
  for (const name in values) {
    if (!mentions.has(name)) continue
    const value = values[name]?.()
    if (value !== undefined) attributes[name] = value
  }
  return attributes
}

// Object.fromEntries, because it makes an own property even of `__proto__`.
const tagged = (mentions: Mentions, tags: Array<[string, string]>): { tags?: Record<string, string> } =>
  tags.length > 0 && (mentions.has('hasTag') || mentions.has('getTag')) ? { tags: Object.fromEntries(tags) } : {}

const uid = {
  caller: (id: string): TypeAndId => ({ type: 'JobAccess::Caller', id }),
  team: (id: string): EntityUid => ({ type: 'JobAccess::Team', id }),
  access: (id: string): TypeAndId => ({ type: 'JobAccess::Access', id }),
  job: (id: string): TypeAndId => ({ type: 'JobAccess::Job', id })
}

const datetime = (iso: string): CedarValueJson => ({ __extn: { fn: 'datetime', arg: iso } })

const ipaddr = (range: string | null): CedarValueJson | undefined => range === null ? undefined : { __extn: { fn: 'ip', arg: range } }

const madeOnce = <K, V>(made: Map<K, V>, key: K, make: () => V): V => {
  const known = made.get(key)
  if (known !== undefined) return known
  const value = make()
  made.set(key, value)
  return value
}
