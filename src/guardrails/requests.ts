import type { CedarValueJson, Context, EntityJson, EntityUid, TypeAndId } from '@cedar-policy/cedar-wasm/nodejs'
import type { AccessSpec, Entry } from '../domain/access-spec.ts'
import type { CedarRequest, Mentions } from './engine.ts'
import { callerAttributes, type AccessAction, type Action, type GrantAction, type RequestAction } from './schema.ts'

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
}

/** What else a decision may depend on, besides caller and request. */
export interface At {
  now: Date
  /** Role profile, with attach `session`. */
  profile?: string
  /** Who asked for the grant that `extend` changes. Absent: nobody, so that no policy sees the caller as the owner. */
  owner?: string
}

/*
 * Cedar gets everything as JSON data, never as policy text, so that no name or prefix can become part of a policy. Attributes that
 * no policy mentions are left out (see Mentions). What the Cedar requests about one spec have in common is made once.
 */

interface SpecRequests {
  job (action: RequestAction, source: string | null): CedarRequest
  access (action: AccessAction, entry: Entry, source: string | null): CedarRequest
}

/** The Cedar requests about a spec: about its job and about each of its entries. */
export const requestsFor = (mentions: Record<Action, Mentions>, caller: Caller, spec: AccessSpec, at: At): SpecRequests => {
  const { job, window } = spec
  const principals = new Map<Action, EntityJson>()
  const principal = (action: Action): EntityJson => madeOnce(principals, action, () => callerEntity(mentions[action], caller))
  const contexts = new Map<string, Context>()
  const context = (action: Action, end: string, source: string | null): Context =>
    madeOnce(contexts, `${action} ${end} ${source}`, () => requestContext(mentions[action], spec, end, source, at))
  const writes = spec.entries.some(({ level }) => level !== 'read')

  return {
    job: (action, source) => {
      const owner = action === 'extend' ? at.owner ?? '' : caller.id
      return cedarRequest(action, principal(action), jobEntity(mentions[action], { jobId: job.id, team: job.team, labels: job.labels, owner }),
        context(action, writes ? window.outputNotAfter : window.notAfter, source))
    },
    access: (action, entry, source) => cedarRequest(action, principal(action), accessEntity(mentions[action], entry),
      context(action, entry.level === 'read' ? window.notAfter : window.outputNotAfter, source))
  }
}

export const grantRequest = (mentions: Mentions, caller: Caller, grant: GrantRef, action: GrantAction, at: At): CedarRequest =>
  cedarRequest(action, callerEntity(mentions, caller), jobEntity(mentions, grant), instantOnly(mentions, at))

export const teamRequest = (mentions: Mentions, caller: Caller, team: string, at: At): CedarRequest =>
  cedarRequest('list', callerEntity(mentions, caller), { uid: uid.team(team), attrs: only(mentions, { name: () => team }), parents: [] },
    instantOnly(mentions, at))

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

const accessEntity = (mentions: Mentions, { bucket, prefix, list, kmsKeyArns }: Entry): EntityJson => ({
  // Two entries that are otherwise equal become one Cedar request, so an entry has an id only where a policy names entries.
  uid: uid.access(mentions.has('JobAccess::Access') ? `${bucket}/${prefix}` : ''),
  attrs: only(mentions, {
    bucket: () => bucket,
    prefix: () => prefix,
    folder: () => prefix.slice(0, Math.max(0, prefix.indexOf('/'))),
    list: () => list,
    kmsKeyArns: () => kmsKeyArns
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
  mentions: Mentions, { window, source: from, attach, layout, job }: AccessSpec, end: string, source: string | null, at: At
): Context =>
  only(mentions, {
    now: () => datetime(at.now.toISOString()),
    start: () => datetime(window.notBefore),
    end: () => datetime(end),
    windowSeconds: () => (Date.parse(end) - Date.parse(window.notBefore)) / 1000,
    startsInSeconds: () => Math.ceil((Date.parse(window.notBefore) - at.now.getTime()) / 1000),
    source: () => from.kind === 'ip' ? ipaddr(source) : undefined,
    vpcSource: () => from.kind === 'vpc' ? ipaddr(source) : undefined,
    vpcIds: () => from.kind === 'vpc' && from.vpcIds.length > 0 ? from.vpcIds : undefined,
    vpcEndpointIds: () => from.kind === 'vpc' && from.vpcEndpointIds.length > 0 ? from.vpcEndpointIds : undefined,
    attach: () => attach,
    layout: () => layout,
    team: () => job.team,
    jobId: () => job.id,
    profile: () => at.profile
  })

const instantOnly = (mentions: Mentions, { now }: At): Context => only(mentions, { now: () => datetime(now.toISOString()) })

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
