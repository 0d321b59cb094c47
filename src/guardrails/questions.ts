import type { CedarValueJson, Context, EntityJson, EntityUid, TypeAndId } from '@cedar-policy/cedar-wasm/nodejs'
import type { Admitted, Entry } from '../policy/admitted.ts'
import type { Question } from './engine.ts'
import type { Mentions } from './mentions.ts'
import { callerAttributes, type AccessAction, type Action, type GrantAction, type RequestAction } from './schema.ts'

/** Who asks; an Identity is one. */
export interface Caller {
  id: string
  kind: 'token' | 'oidc'
  /** `*` is every team. */
  teams: string[]
  attributes: Record<string, string>
}

/** A job as its grant names it. */
export interface GrantRef {
  team: string
  jobId: string
  /** Id of the identity that asked for the grant. */
  owner: string
  labels?: Record<string, string>
}

/** What a decision may depend on besides caller and request. */
export interface At {
  now: Date
  /** Role profile, with attach `session`. */
  profile?: string
}

/** Everything goes to Cedar as JSON data, never as policy text, so no name or prefix can become a rule. */
type Attributes = Record<string, CedarValueJson>

export const accessQuestion = (
  mentions: Mentions, caller: Caller, admitted: Admitted, entry: Entry, action: AccessAction, source: string | null, at: At
): Question => {
  const label = `${entry.bucket}/${entry.prefix}`
  const resource = uid('Access', mentions.has('JobAccess::Access') ? label : '')
  const attributes = {
    bucket: entry.bucket,
    prefix: entry.prefix,
    folder: entry.prefix.split('/', 1)[0] ?? '',
    list: entry.list,
    kmsKeyArns: entry.kmsKeyArns
  }
  const parents = mentions.has('JobAccess::Bucket') ? [uid('Bucket', entry.bucket)] : []
  return question(mentions, action, caller, entity(mentions, resource, attributes, parents),
    requestContext(admitted, entry.level === 'read' ? admitted.window.notAfter : admitted.window.outputNotAfter, source, at))
}

export const requestQuestion = (
  mentions: Mentions, caller: Caller, admitted: Admitted, action: RequestAction, source: string | null, at: At
): Question => {
  const writes = admitted.entries.some(({ level }) => level !== 'read')
  const end = writes ? admitted.window.outputNotAfter : admitted.window.notAfter
  const { id: jobId, team, labels } = admitted.job
  return question(mentions, action, caller, jobEntity(mentions, { jobId, team, labels, owner: caller.id }),
    requestContext(admitted, end, source, at))
}

export const grantQuestion = (mentions: Mentions, caller: Caller, grant: GrantRef, action: GrantAction, at: At): Question =>
  question(mentions, action, caller, jobEntity(mentions, grant), { now: datetime(at.now.toISOString()) })

export const teamQuestion = (mentions: Mentions, caller: Caller, team: string, at: At): Question =>
  question(mentions, 'list', caller, entity(mentions, uid('Team', team), { name: team }), { now: datetime(at.now.toISOString()) })

const question = (mentions: Mentions, action: Action, caller: Caller, resource: EntityJson, context: Context): Question => {
  const principal = callerEntity(mentions, caller)
  return { action, principal: principal.uid, resource: resource.uid, context: only(mentions, context), entities: [principal, resource] }
}

const callerEntity = (mentions: Mentions, { id, kind, teams, attributes }: Caller): EntityJson => {
  const entries = Object.entries(attributes)
  const own = entries.filter(([name]) => isCallerAttribute(name))
  const tags = entries.filter(([name]) => !isCallerAttribute(name))
  const parents = mentions.has('JobAccess::Team') ? teams.map(team => uid('Team', team)) : []
  return entity(mentions, uid('Caller', id), { kind, teams, ...Object.fromEntries(own) }, parents, tags)
}

const isCallerAttribute = (name: string): boolean => (callerAttributes as readonly string[]).includes(name)

const jobEntity = (mentions: Mentions, { team, jobId, owner, labels = {} }: GrantRef): EntityJson =>
  entity(mentions, uid('Job', jobId), { team, jobId, owner: { __entity: uid('Caller', owner) } }, [], Object.entries(labels))

const requestContext = ({ window, source: { kind, ...where }, attach, layout, job }: Admitted, end: string, source: string | null, at: At): Context => {
  const start = Date.parse(window.notBefore)
  const { vpcIds = [], vpcEndpointIds = [] } = where as { vpcIds?: string[], vpcEndpointIds?: string[] }
  return {
    now: datetime(at.now.toISOString()),
    start: datetime(window.notBefore),
    end: datetime(end),
    windowSeconds: (Date.parse(end) - start) / 1000,
    startsInSeconds: Math.ceil((start - at.now.getTime()) / 1000),
    sourceKind: kind,
    ...(source === null ? {} : { source: { __extn: { fn: 'ip', arg: source } } }),
    vpcIds,
    vpcEndpointIds,
    attach,
    layout,
    team: job.team,
    jobId: job.id,
    ...(at.profile === undefined ? {} : { profile: at.profile })
  }
}

const entity = (
  mentions: Mentions, id: TypeAndId, attributes: Attributes, parents: EntityUid[] = [], tags: Array<[string, string]> = []
): EntityJson => {
  const tagged = tags.length > 0 && (mentions.has('hasTag') || mentions.has('getTag'))
  return { uid: id, attrs: only(mentions, attributes), parents, ...(tagged ? { tags: Object.fromEntries(tags) } : {}) }
}

const only = (mentions: Mentions, attributes: Attributes): Attributes =>
  Object.fromEntries(Object.entries(attributes).filter(([name]) => mentions.has(name)))

const uid = (type: string, id: string): TypeAndId => ({ type: `JobAccess::${type}`, id })
const datetime = (iso: string): CedarValueJson => ({ __extn: { fn: 'datetime', arg: iso } })
