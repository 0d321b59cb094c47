import { Type, type Static } from '@sinclair/typebox'
import { Ajv } from 'ajv'
import { LineCounter, parseDocument, type Document } from 'yaml'
import { defaultLimits, type Limits } from '../policy/limits.ts'
import { normalise } from '../policy/normalise.ts'
import { firstIssueOf } from '../policy/window.ts'
import { GrantRequestSchema, profileNameOf, type GrantRequest } from '../request.ts'
import type { Caller, GuardrailDecision, Guardrails } from './guardrails.ts'
import { grantActions, requestActions } from './schema.ts'

/* An operator's own tests of a policy file: who asks for what, and what the decision must be. */

const strict = { additionalProperties: false }
const anyOf = <T extends string>(values: readonly T[]) => Type.Union(values.map(value => Type.Literal(value)))

const CallerSchema = Type.Object({
  id: Type.Optional(Type.String({ minLength: 1 })),
  kind: anyOf(['token', 'oidc'] as const),
  teams: Type.Array(Type.String({ minLength: 1 })),
  attributes: Type.Optional(Type.Record(Type.String(), Type.String()))
}, strict)

const CaseSchema = Type.Object({
  name: Type.String({ minLength: 1 }),
  // Either a name under `callers`, or the caller itself; the same for `request`.
  caller: Type.Union([Type.String(), CallerSchema]),
  action: Type.Optional(anyOf([...requestActions, ...grantActions, 'list'] as const)),
  request: Type.Optional(Type.Union([Type.String(), Type.Object({})])),
  grant: Type.Optional(Type.Object({
    team: Type.String(),
    jobId: Type.String(),
    owner: Type.String(),
    // For extend: when it was first issued.
    issuedAt: Type.Optional(Type.String()),
    labels: Type.Optional(Type.Record(Type.String(), Type.String())),
    // A worker's grant: its name.
    worker: Type.Optional(Type.String())
  }, strict)),
  // For join: the name of the worker.
  worker: Type.Optional(Type.String()),
  // With a pool: the account that is asked about.
  account: Type.Optional(Type.String()),
  team: Type.Optional(Type.String()),
  expect: anyOf(['allow', 'deny'] as const),
  by: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1 })])),
  at: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1 })]))
}, strict)
type Case = Static<typeof CaseSchema>

const CasesSchema = Type.Object({
  now: Type.String(),
  limits: Type.Optional(Type.Object({})),
  callers: Type.Optional(Type.Record(Type.String(), CallerSchema)),
  requests: Type.Optional(Type.Record(Type.String(), Type.Object({}))),
  cases: Type.Array(CaseSchema, { minItems: 1 })
}, strict)
type Cases = Static<typeof CasesSchema>

/** A file of cases, a caller or a request that is not valid. */
export class CasesError extends Error {
  override name = 'CasesError'
}

interface Outcome {
  name: string
  /** What was not as expected; null: everything was. */
  wrong: string | null
}

const ajv = new Ajv({ allErrors: false, strict: false, allowUnionTypes: true })
const validCases = ajv.compile<Cases>(CasesSchema)
const validCaller = ajv.compile<Static<typeof CallerSchema>>(CallerSchema)
const validRequest = ajv.compile<GrantRequest>(GrantRequestSchema)

/**
 * Reads a file of cases (the format is in docs/guardrails.md). YAML merge keys work, so that many requests can extend one.
 *
 * @throws CasesError with the line when it is not YAML, else with a pointer
 */
export const parseCases = (text: string, fileName: string): Cases => {
  const lineCounter = new LineCounter()
  const document = parseDocument(text, { merge: true, lineCounter, prettyErrors: false })
  const [error] = [...document.errors, ...document.warnings]
  if (error) {
    const { line, col } = lineCounter.linePos(error.pos[0])
    throw new CasesError(`${fileName}:${line}:${col}: ${error.message}`)
  }
  const cases = plain(document, fileName)
  if (!validCases(cases)) throw new CasesError(`${fileName}: ${firstError(validCases.errors)}`)
  if (Number.isNaN(Date.parse(cases.now))) throw new CasesError(`${fileName}: /now is not an instant`)
  const unknown = Object.keys(cases.limits ?? {}).find(name => !(name in { ...defaultLimits, maxStartAheadSeconds: 0 }))
  if (unknown !== undefined) throw new CasesError(`${fileName}: /limits/${unknown} is not a limit`)
  return cases
}

const plain = (document: Document, fileName: string): unknown => {
  try {
    // Hundreds of cases may refer to one base request. The limit protects against files of strangers; this file is the operator's.
    return document.toJS({ maxAliasCount: -1 })
  } catch (error) {
    throw new CasesError(`${fileName}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** @throws CasesError */
export const parseCaller = (value: unknown, where: string): Caller => {
  if (!validCaller(value)) throw new CasesError(`${where}: ${firstError(validCaller.errors)}`)
  return callerOf(value)
}

/** @throws CasesError */
export const parseRequest = (value: unknown, where: string): GrantRequest => {
  if (!validRequest(value)) throw new CasesError(`${where}: ${firstError(validRequest.errors)}`)
  return value
}

/** Runs the cases in order. A case that cannot be run counts as wrong. */
export const runCases = (guardrails: Guardrails, cases: Cases): Outcome[] => cases.cases.map(test => {
  try {
    const decision = decideCase(guardrails, cases, test)
    return { name: test.name, wrong: difference(test, decision) }
  } catch (error) {
    if (!(error instanceof CasesError)) throw error
    return { name: test.name, wrong: error.message }
  }
})

const decideCase = (guardrails: Guardrails, cases: Cases, test: Case): GuardrailDecision => {
  const at = { now: new Date(cases.now) }
  const caller = typeof test.caller === 'string' ? callerOf(named(cases.callers, test.caller, 'caller')) : callerOf(test.caller)
  const action = test.action ?? 'issue'
  if (test.account !== undefined && !(requestActions as readonly string[]).includes(action)) {
    throw new CasesError(`${action} has no account`)
  }
  if (action === 'list') {
    if (test.team === undefined) throw new CasesError('list needs a team')
    return guardrails.decideOnTeam(caller, test.team, at)
  }
  if (action === 'collect' || action === 'rotate' || action === 'revoke' || action === 'view') {
    if (test.grant === undefined) throw new CasesError(`${action} needs a grant`)
    return guardrails.decideOnGrant(caller, test.grant, action, at)
  }
  if (action === 'join' && test.worker === undefined) throw new CasesError('join needs a worker')
  if (test.request === undefined) throw new CasesError(`${action} needs a request`)
  const request = parseRequest(typeof test.request === 'string' ? named(cases.requests, test.request, 'request') : test.request, 'request')
  const issuedAt = test.grant?.issuedAt
  const firstIssuedAt = issuedAt === undefined ? firstIssueBy(request, at.now) : new Date(epochMs(issuedAt, 'issuedAt'))
  const limits = { ...defaultLimits, ...(request.workers && { allowAnySource: true }), ...cases.limits as Partial<Limits> }
  const normalised = normalise(request, limits, at.now, { firstIssuedAt })
  if (!normalised.ok) {
    const why = normalised.findings.map(({ code, pointer, detail }) => `${code} at ${pointer || '/'}: ${detail}`)
    throw new CasesError(`the request is refused before the guardrails are asked: ${why.join('; ')}`)
  }
  const profile = profileNameOf(request)
  return guardrails.decide(caller, normalised.spec, action, {
    ...at,
    owner: test.grant?.owner ?? caller.id,
    firstIssuedAt,
    ...(profile !== undefined && { profile }),
    ...(request.workers && { workers: request.workers.max }),
    ...(test.worker !== undefined && { worker: test.worker }),
    ...(test.account !== undefined && { account: test.account })
  })
}

const difference = ({ expect, by, at }: Case, decision: GuardrailDecision): string | null => {
  const got = decision.allowed ? 'allow' : 'deny'
  const pointers = decision.allowed ? [] : decision.findings.map(({ pointer }) => pointer)
  const same = got === expect &&
    (by === undefined || sameSet(list(by), decision.decidedBy)) &&
    (at === undefined || sameSet(list(at), pointers))
  if (same) return null
  const faults = decision.allowed ? [] : decision.faults
  const expected = inWords(expect, list(by ?? []), list(at ?? []))
  return [`expected ${expected}, got ${inWords(got, decision.decidedBy, pointers)}`, ...faults].join('; ')
}

const inWords = (verdict: string, by: string[], at: string[]): string => [
  verdict,
  ...(by.length > 0 ? [`by ${by.join(', ')}`] : []),
  ...(at.length > 0 ? [`at ${at.map(pointer => pointer || '/').join(', ')}`] : [])
].join(' ')

/** When the life of a grant starts that is asked for now. @throws CasesError */
export const firstIssueBy = ({ issueAt }: GrantRequest, now: Date): Date =>
  firstIssueOf({ createdAt: now.getTime(), issueAt: issueAt === undefined ? null : epochMs(issueAt, 'issueAt') })

const epochMs = (text: string, what: string): number => {
  const instant = Date.parse(text)
  if (Number.isNaN(instant)) throw new CasesError(`${what} is not an instant`)
  return instant
}

const list = (value: string | string[]): string[] => typeof value === 'string' ? [value] : value
const sameSet = (a: string[], b: string[]): boolean => a.every(item => b.includes(item)) && b.every(item => a.includes(item))

const callerOf = ({ id = 'token:test', kind, teams, attributes = {} }: Static<typeof CallerSchema>): Caller =>
  ({ id, kind, teams, attributes })

const named = <T>(values: Record<string, T> | undefined, name: string, what: string): T => {
  const value = values && Object.hasOwn(values, name) ? values[name] : undefined
  if (value === undefined) throw new CasesError(`there is no ${what} ${JSON.stringify(name)}`)
  return value
}

const firstError = (errors: typeof validCases.errors): string => {
  const [error] = errors ?? []
  if (!error) return 'not valid'
  const extra = 'additionalProperty' in error.params ? ` (${String(error.params.additionalProperty)})` : ''
  return `${error.instancePath || '/'} ${error.message ?? 'is not valid'}${extra}`
}
