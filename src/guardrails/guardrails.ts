import { createHash } from 'node:crypto'
import type { Context } from '@cedar-policy/cedar-wasm/nodejs'
import type { Finding } from '../problems.ts'
import type { AccessSpec, Entry, Layout, Source } from '../domain/access-spec.ts'
import { openCedar } from './cedar.ts'
import { buildEngine, type Answer, type Question } from './engine.ts'
import { GuardrailsError, parsePolicies, type Policy } from './policies.ts'
import { grantQuestion, questionsOf, teamQuestion, type At, type Caller, type GrantRef } from './questions.ts'
import type { AccessAction, Action, GrantAction, RequestAction } from './schema.ts'
import { subjectOf, wordDenial } from './words.ts'

export type { At, Caller, GrantRef } from './questions.ts'
export { GuardrailsError }

export type Decision = Allowed | Denied

export interface Allowed {
  allowed: true
  /** Ids of the policies that permitted, each once. */
  decidedBy: string[]
}

export interface Denied {
  allowed: false
  /** One per refused access entry, or one for the whole; code `forbidden`. */
  findings: Finding[]
  /** Ids of the policies that forbade, and of `checks` that no policy made; each once. */
  decidedBy: string[]
  /** Why Cedar could not evaluate, for the log and never for the caller; empty in an ordinary denial. */
  faults: string[]
}

/** What else can deny. A space is no part of a policy's id. */
export const checks = {
  noPolicy: 'no policy',
  team: 'team isolation',
  questions: 'too many questions',
  fault: 'evaluation failed'
} as const

/** One question of a decision and its answer. */
export interface Step {
  /** JSON pointer of the access entry; `/job` for the request itself. */
  pointer: string
  action: Action
  /** In words, e.g. `writing to "acmeco-finetuned-models/nlp/"`. */
  subject: string
  /** The source range it was asked for; null where no policy looks at it, or there is none. */
  source: string | null
  answer: Answer
}

export interface Guardrails {
  readonly fileName: string
  /** Of the policy text, hex: which rules were in force. */
  readonly sha256: string
  readonly policies: readonly Policy[]
  /**
   * Decides a whole request: the action on the job, then for every access entry each of read, write, delete and setAcl that it
   * needs, once per source range. All must be allowed. The team is checked before, whatever the policies say.
   */
  decide (caller: Caller, spec: AccessSpec, action: RequestAction, at: At): Decision
  /** Decides on a grant that exists. A caller of another team is refused whatever the policies say. */
  decideOnGrant (caller: Caller, grant: GrantRef, action: GrantAction, at: At): Decision
  /** Whether the caller may list the grants of a team; `*` is all of them. */
  decideOnTeam (caller: Caller, team: string, at: At): Decision
  /** Every question that decide() would have to ask, with its answer: no short cuts, no check of the team or of their number. */
  trace (caller: Caller, spec: AccessSpec, action: RequestAction, at: At): Step[]
}

/** Beyond it a request is refused unasked: some 0.2 s of a thread that serves everyone. 2,000 is 40 entries from 50 ranges. */
export const maxQuestions = 2000

/**
 * Parses and validates a policy text once. No policies: nothing is allowed.
 *
 * @param fileName for findings only; nothing is read
 * @throws GuardrailsError
 */
export const loadGuardrails = (text: string, fileName: string): Guardrails => {
  const policies = parsed(text, fileName)
  const engine = buildEngine(policies)

  const sourcesFor = (action: Action, source: Source): Array<string | null> => {
    if (source.kind === 'any' || source.cidrs.length === 0) return [null]
    return engine.mentions[action].has(source.kind === 'ip' ? 'source' : 'vpcSource') ? source.cidrs : [null]
  }

  const plan = (caller: Caller, spec: AccessSpec, action: RequestAction, at: At): Planned[] => {
    const questions = questionsOf(engine.mentions, caller, spec, at)
    const job: Planned = {
      pointer: '/job',
      action,
      subject: () => subjectOf[action](spec.job.id, spec.job.team),
      sources: sourcesFor(action, spec.source),
      question: source => questions.request(action, source)
    }
    return [job, ...spec.entries.flatMap(entry => actionsOf(entry, spec.layout).map((action): Planned => ({
      pointer: entry.pointer,
      action,
      subject: () => subjectOf[action](entry.bucket, entry.prefix),
      sources: sourcesFor(action, spec.source),
      question: source => questions.access(action, entry, source)
    })))]
  }

  // Entries that differ only in what no policy looks at are one question.
  const asker = (): (question: Question) => Answer => {
    const answers = new Map<Context, Map<string, Answer>>()
    return question => {
      // Of one request, the caller is the same and a context is one object; it belongs to one action.
      const about = answers.get(question.context) ?? new Map<string, Answer>()
      answers.set(question.context, about)
      const resource = JSON.stringify(question.entities[1])
      const answer = about.get(resource) ?? engine.ask(question)
      about.set(resource, answer)
      return answer
    }
  }

  const single = (caller: Caller, team: string, subject: string, question: () => Question): Decision => {
    if (!belongsTo(caller, team)) return foreign(team, '')
    const answer = engine.ask(question())
    if (answer.allowed) return { allowed: true, decidedBy: decidersOf([answer]) }
    return { allowed: false, findings: [wordDenial('', subject, null, answer)], decidedBy: decidersOf([answer]), faults: answer.faults }
  }

  return {
    fileName,
    sha256: createHash('sha256').update(text).digest('hex'),
    policies,
    decide: (caller, spec, action, at) => {
      if (!belongsTo(caller, spec.job.team)) return foreign(spec.job.team, '/job/team')
      const planned = plan(caller, spec, action, at)
      const count = planned.reduce((sum, { sources }) => sum + sources.length, 0)
      if (count > maxQuestions) return tooMany(count)
      const ask = asker()
      const refused = new Map<string, { finding: Finding, answer: Answer }>()
      const permits: Answer[] = []
      for (const { pointer, subject, sources, question } of planned) {
        // What the whole request may not, no part of it may.
        if (refused.has('/job')) break
        for (const source of sources) {
          if (refused.has(pointer)) break
          const answer = ask(question(source))
          if (answer.allowed) permits.push(answer)
          else refused.set(pointer, { finding: wordDenial(pointer, subject(), source, answer), answer })
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
      () => grantQuestion(engine.mentions[action], caller, grant, action, at)),
    decideOnTeam: (caller, team, at) => single(caller, team, subjectOf.list(team, ''),
      () => teamQuestion(engine.mentions.list, caller, team, at)),
    trace: (caller, spec, action, at) => {
      const ask = asker()
      return plan(caller, spec, action, at).flatMap(({ pointer, action, subject, sources, question }) =>
        sources.map(source => ({ pointer, action, subject: subject(), source, answer: ask(question(source)) })))
    }
  }
}

interface Planned {
  pointer: string
  action: Action
  subject: () => string
  sources: Array<string | null>
  question: (source: string | null) => Question
}

const parsed = (text: string, fileName: string): Policy[] => {
  try {
    return parsePolicies(openCedar(), text, fileName)
  } catch (error) {
    if (error instanceof GuardrailsError) throw error
    // Cedar's parser is recursive, and its stack is small: see cedar.ts.
    const why = error instanceof Error ? error.message : String(error)
    const message = `Cedar cannot parse this; is an expression nested too deeply? (${why})`
    throw new GuardrailsError([{ file: fileName, line: 1, column: 1, message }])
  }
}

/** Beneath Cedar: a permissive policy cannot cross teams. */
const belongsTo = ({ teams }: Caller, team: string): boolean => teams.includes(team) || teams.includes('*')

const foreign = (team: string, pointer: string): Denied => ({
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

const tooMany = (count: number): Denied => ({
  allowed: false,
  findings: [{
    code: 'forbidden',
    pointer: '',
    detail: `${count} decisions would be needed, one per access entry and source range; ${maxQuestions} are made.`,
    hint: 'Name a CIDR instead of its addresses, a prefix above several, or split the request.'
  }],
  decidedBy: [checks.questions],
  faults: []
})

/** The guide's policy reads where it writes, whatever level was asked for. */
const actionsOf = ({ level, acl, delete: del }: Entry, layout: Layout): AccessAction[] => [
  ...(level === 'write' && layout !== 'guide' ? [] : ['read' as const]),
  ...(level === 'read' ? [] : ['write' as const]),
  ...(del ? ['delete' as const] : []),
  ...(acl ? ['setAcl' as const] : [])
]

const decidersOf = (answers: Answer[]): string[] => [...new Set(answers.flatMap(({ policies, faults }) => {
  if (faults.length > 0) return [checks.fault]
  return policies.length === 0 ? [checks.noPolicy] : policies.map(({ id }) => id)
}))]
