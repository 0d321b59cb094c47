import { createHash } from 'node:crypto'
import type { Context } from '@cedar-policy/cedar-wasm/nodejs'
import type { Finding } from '../problems.ts'
import type { AccessSpec, Entry, Layout, Source } from '../domain/access-spec.ts'
import { placeOf } from '../policy/entries.ts'
import { openCedar } from './cedar.ts'
import { denialFinding, subjectOf } from './denial.ts'
import {
  buildEngine, grantRequest, requestsFor, teamRequest, type At, type Caller, type CedarAnswer, type CedarRequest, type GrantRef,
  type Origin
} from './engine.ts'
import { GuardrailsError, parsePolicies, type Policy } from './policies.ts'
import type { AccessAction, Action, GrantAction, RequestAction } from './schema.ts'

export type { At, Caller, GrantRef } from './engine.ts'
export { GuardrailsError }

export type GuardrailDecision = Allowed | Denied

export interface Allowed {
  allowed: true
  /** Ids of the policies that permitted, each once. */
  decidedBy: string[]
}

export interface Denied {
  allowed: false
  /** One per refused access entry, or one for the whole request; code `forbidden`. */
  findings: Finding[]
  /** Ids of the policies that forbade, and names of `checks`; each once. */
  decidedBy: string[]
  /** Why Cedar could not evaluate, for the log and never for the caller. Empty: it could. */
  faults: string[]
}

/** What can deny besides a policy. Each name has a space, which the id of a policy cannot have. */
export const checks = {
  noPolicy: 'no policy',
  team: 'team isolation',
  questions: 'too many questions',
  fault: 'evaluation failed'
} as const

/** One question of a decision, and Cedar's answer. */
export interface Step {
  /** JSON pointer of the access entry; `/job` for the request itself. */
  pointer: string
  action: Action
  /** In words, e.g. `writing to "acmeco-finetuned-models/nlp/"`. */
  subject: string
  /** The source range that it was asked for; null when no policy looks at the range, or the request has none. */
  source: string | null
  answer: CedarAnswer
}

export interface Guardrails {
  readonly fileName: string
  /** Of the policy text, in hexadecimal: it says which policies were in force. */
  readonly sha256: string
  readonly policies: readonly Policy[]
  /** Whether a policy looks at `context.account`; if none does, a decision is the same for every account. */
  readonly looksAtAccount: boolean
  /**
   * Decides on a whole request. The questions are the action on the job, then for every access entry each access action that
   * it needs, once per source range; every answer must allow. The team is checked first, whatever the policies say.
   */
  decide (caller: Caller, spec: AccessSpec, action: RequestAction, at: At): GuardrailDecision
  /** Decides on an existing grant. A caller of another team is refused, whatever the policies say. */
  decideOnGrant (caller: Caller, grant: GrantRef, action: GrantAction, at: At): GuardrailDecision
  /** Whether the caller may list the grants of a team; `*` stands for all teams. */
  decideOnTeam (caller: Caller, team: string, at: At): GuardrailDecision
  /** All questions of decide() and their answers, also those after a refusal. Checks neither the team nor their number. */
  trace (caller: Caller, spec: AccessSpec, action: RequestAction, at: At): Step[]
}

/**
 * A request with more questions is refused: this many take about 0.2 s of the one thread that serves all callers. 40 entries from
 * 50 source ranges are 2,000 questions.
 */
export const maxQuestions = 2000

/**
 * Parses and validates a policy text. Without policies nothing is allowed.
 *
 * @param fileName the name that findings give; no file is read
 * @throws GuardrailsError
 */
export const loadGuardrails = (text: string, fileName: string): Guardrails => {
  const policies = parsed(text, fileName)
  const engine = buildEngine(policies)

  // Of two alternatives each must be allowed on its own, as whoever has the key may use either.
  const originsFor = (action: Action, from: Source): Origin[] => {
    if (from.kind === 'either') return [...originsFor(action, from.ip), ...originsFor(action, from.vpc)]
    if (from.kind === 'any' || from.cidrs.length === 0) return [{ from, range: null }]
    const asked = engine.mentions[action].has(from.kind === 'ip' ? 'source' : 'vpcSource')
    return asked ? from.cidrs.map(range => ({ from, range })) : [{ from, range: null }]
  }

  const plan = (caller: Caller, spec: AccessSpec, action: RequestAction, at: At): Planned[] => {
    const requests = requestsFor(engine.mentions, caller, spec, at)
    const job: Planned = {
      pointer: '/job',
      action,
      subject: () => subjectOf[action](spec.job.id, spec.job.team),
      origins: originsFor(action, spec.source),
      request: origin => requests.job(action, origin)
    }
    return [job, ...spec.entries.flatMap(entry => actionsOf(entry, spec.layout).map((action): Planned => ({
      pointer: entry.pointer,
      action,
      subject: () => subjectOf[action](placeOf(entry), ''),
      origins: originsFor(action, spec.source),
      request: origin => requests.access(action, entry, origin)
    })))]
  }

  // Entries that differ only in what no policy looks at make the same Cedar request, which is evaluated once.
  const asker = (): (request: CedarRequest) => CedarAnswer => {
    const answers = new Map<Context, Map<string, CedarAnswer>>()
    return request => {
      // In one decision the caller is always the same, and each context object belongs to one action.
      const about = answers.get(request.context) ?? new Map<string, CedarAnswer>()
      answers.set(request.context, about)
      const resource = JSON.stringify(request.entities[1])
      const answer = about.get(resource) ?? engine.ask(request)
      about.set(resource, answer)
      return answer
    }
  }

  const single = (caller: Caller, team: string, subject: string, request: () => CedarRequest): GuardrailDecision => {
    if (!belongsTo(caller, team)) return otherTeam(team, '')
    const answer = engine.ask(request())
    if (answer.allowed) return { allowed: true, decidedBy: decidersOf([answer]) }
    return { allowed: false, findings: [denialFinding('', subject, null, answer)], decidedBy: decidersOf([answer]), faults: answer.faults }
  }

  return {
    fileName,
    sha256: createHash('sha256').update(text).digest('hex'),
    policies,
    looksAtAccount: Object.values(engine.mentions).some(mentions => mentions.has('account')),
    decide: (caller, spec, action, at) => {
      if (!belongsTo(caller, spec.job.team)) return otherTeam(spec.job.team, '/job/team')
      const planned = plan(caller, spec, action, at)
      const count = planned.reduce((sum, { origins }) => sum + origins.length, 0)
      if (count > maxQuestions) return tooManyQuestions(count)
      const ask = asker()
      const refused = new Map<string, { finding: Finding, answer: CedarAnswer }>()
      const permits: CedarAnswer[] = []
      for (const { pointer, subject, origins, request } of planned) {
        // When the job itself is refused, its entries are not decided.
        if (refused.has('/job')) break
        for (const origin of origins) {
          if (refused.has(pointer)) break
          const answer = ask(request(origin))
          if (answer.allowed) permits.push(answer)
          else refused.set(pointer, { finding: denialFinding(pointer, subject(), namedIn(spec.source, origin), answer), answer })
        }
      }
      if (refused.size === 0) return { allowed: true, decidedBy: decidersOf(permits) }
      const denials = [...refused.values()]
      return {
        allowed: false,
        findings: denials.map(({ finding }) => finding),
        decidedBy: decidersOf(denials.map(({ answer }) => answer)),
        faults: denials.flatMap(({ answer }) => answer.faults)
      }
    },
    decideOnGrant: (caller, grant, action, at) => single(caller, grant.team, subjectOf[action](grant.jobId, grant.team),
      () => grantRequest(engine.mentions[action], caller, grant, action, at)),
    decideOnTeam: (caller, team, at) => single(caller, team, subjectOf.list(team, ''),
      () => teamRequest(engine.mentions.list, caller, team, at)),
    trace: (caller, spec, action, at) => {
      const ask = asker()
      return plan(caller, spec, action, at).flatMap(({ pointer, action, subject, origins, request }) =>
        origins.map(origin => ({ pointer, action, subject: subject(), source: origin.range, answer: ask(request(origin)) })))
    }
  }
}

/** What a refusal says after "from": the range, or which of two alternatives was refused. */
const namedIn = (source: Source, { from, range }: Origin): string | null => {
  if (range !== null || source.kind !== 'either') return range
  return from.kind === 'ip' ? 'sourceIps' : 'the VPC'
}

interface Planned {
  pointer: string
  action: Action
  subject: () => string
  origins: Origin[]
  request: (origin: Origin) => CedarRequest
}

const parsed = (text: string, fileName: string): Policy[] => {
  try {
    return parsePolicies(openCedar(), text, fileName)
  } catch (error) {
    if (error instanceof GuardrailsError) throw error
    // Cedar's parser is recursive and its stack is small: see cedar.ts.
    const why = error instanceof Error ? error.message : String(error)
    const message = `Cedar cannot parse this; is an expression nested too deeply? (${why})`
    throw new GuardrailsError([{ file: fileName, line: 1, column: 1, message }])
  }
}

/** Checked without Cedar, so that no policy can give access to another team. */
const belongsTo = ({ teams }: Caller, team: string): boolean => teams.includes(team) || teams.includes('*')

const otherTeam = (team: string, pointer: string): Denied => ({
  allowed: false,
  findings: [{
    code: 'forbidden',
    pointer,
    detail: `This identity does not belong to team ${JSON.stringify(team)}.`,
    hint: 'Name a team of this identity, or use an identity of that team.'
  }],
  decidedBy: [checks.team],
  faults: []
})

const tooManyQuestions = (count: number): Denied => ({
  allowed: false,
  findings: [{
    code: 'forbidden',
    pointer: '',
    detail: `${count} decisions would be needed, one per access entry and source range; the limit is ${maxQuestions}.`,
    hint: 'Name a CIDR instead of its addresses, a prefix above several, or split the request.'
  }],
  decidedBy: [checks.questions],
  faults: []
})

/** In the guide's layout a job can read where it writes, whatever the level. The names of objects are read, too. */
const actionsOf = (entry: Entry, layout: Layout): AccessAction[] => {
  const { level, acl, cannedAcl, delete: del, versions, tags, restore, list, listNames, bareName, uploads, prefix } = entry
  return [
    ...(level === 'write' && !list && layout !== 'guide' ? [] : ['read' as const]),
    ...(level === 'read' ? [] : ['write' as const]),
    ...(del ? ['delete' as const] : []),
    ...(acl || cannedAcl ? ['setAcl' as const] : []),
    ...(versions ? ['readVersions' as const] : []),
    ...(tags ? ['tag' as const] : []),
    ...(restore ? ['restore' as const] : []),
    ...(listNames || (bareName && list) ? ['listNames' as const] : []),
    ...(uploads && prefix !== '' ? ['listUploads' as const] : [])
  ]
}

const decidersOf = (answers: CedarAnswer[]): string[] => [...new Set(answers.flatMap(({ policies, faults }) => {
  if (faults.length > 0) return [checks.fault]
  return policies.length === 0 ? [checks.noPolicy] : policies.map(({ id }) => id)
}))]
