import type { PolicyDocument } from '../../domain/policy-document.ts'
import { compileTest, type Test } from './conditions.ts'
import { UnknownElementError, compileResources, compileWildcards, type Lookup, type Matcher } from './wildcard.ts'

/** A request as IAM sees it. `aws:CurrentTime` is ISO 8601 with a zone, or epoch seconds. */
export interface IamRequest {
  /** `s3:GetObject` */
  action: string
  /** `arn:aws:s3:::bucket/key`; `*` for an action that has no resource. */
  resource: string
  /** Condition keys, in upper or lower case, and their values. A key that is not here is missing from the request. */
  context: Record<string, string | string[]>
}

export interface PolicyDecision {
  allowed: boolean
  kind: 'allow' | 'explicit-deny' | 'implicit-deny'
  /** The statements that decided, by their index in the document. Empty: no statement applies, an implicit deny. */
  statements: { index: number, sid: string | undefined }[]
}

/** A statement in parts that are checked one by one; the statement applies when every part does. */
export interface CompiledStatement {
  index: number
  sid: string | undefined
  effect: 'Allow' | 'Deny'
  /** @param action in lower case */
  action: (action: string) => boolean
  resource: Matcher
  tests: CompiledTest[]
}

export interface CompiledTest {
  operator: string
  /** The condition key as written, and in lower case. */
  name: string
  key: string
  values: string[]
  test: Test
  /** Equal for tests that are the same text. */
  identity: string
}

const elements = new Set(['Sid', 'Effect', 'Action', 'NotAction', 'Resource', 'NotResource', 'Condition'])

const texts = (value: unknown, element: string): string[] => {
  const list = typeof value === 'string' ? [value] : value
  if (!Array.isArray(list) || list.length === 0 || !list.every(item => typeof item === 'string')) {
    throw new UnknownElementError(`${element} that is not text or a list of it`)
  }
  return list
}

/** A statement has one of Action and NotAction, and one of Resource and NotResource: never both, never neither. */
const oneOf = (statement: object, element: string, compile: (patterns: string[]) => Matcher): Matcher => {
  const { [element]: positive, [`Not${element}`]: negative } = statement as Record<string, unknown>
  if ((positive === undefined) === (negative === undefined)) {
    throw new UnknownElementError(`statement without one ${element} or Not${element}`)
  }
  const patterns = texts(positive ?? negative, element)
  const matches = compile(patterns)
  const inverted = positive === undefined
  // AWS does not say what such a statement covers when the variable has no value: everything or nothing.
  if (inverted && patterns.some(pattern => /\$\{(?![*?$]\})/.test(pattern))) {
    throw new UnknownElementError(`policy variable in Not${element}`)
  }
  return (text, lookup) => matches(text, lookup) !== inverted
}

const none: Lookup = () => undefined

const compileActions = (patterns: string[]): Matcher => {
  const odd = patterns.find(pattern => pattern.includes('${'))
  if (odd !== undefined) throw new UnknownElementError(`policy variable in the action ${JSON.stringify(odd)}`)
  return compileWildcards(patterns.map(pattern => pattern.toLowerCase()))
}

const compileConditions = (condition: unknown): CompiledTest[] => {
  if (condition === undefined) return []
  if (typeof condition !== 'object' || condition === null) throw new UnknownElementError('Condition that is not an object')
  return Object.entries(condition).flatMap(([operator, keys]) => {
    if (typeof keys !== 'object' || keys === null || Array.isArray(keys)) throw new UnknownElementError(`${operator} that is not an object`)
    return Object.entries(keys).map(([name, value]) => {
      const key = name.toLowerCase()
      const values = texts(value, operator)
      return { operator, name, key, values, test: compileTest(operator, values), identity: JSON.stringify([operator, key, values]) }
    })
  })
}

/**
 * Compiles a policy, so that it can decide on many requests.
 * @throws UnknownElementError for an element, operator or value that this evaluator does not know
 */
export const compile = (policy: PolicyDocument): CompiledStatement[] => {
  if (policy.Version !== '2012-10-17') throw new UnknownElementError(`Version ${JSON.stringify(policy.Version)}`)
  if (!Array.isArray(policy.Statement)) throw new UnknownElementError('Statement that is not a list')
  return policy.Statement.map((statement, index) => {
    const unknown = Object.keys(statement).find(element => !elements.has(element))
    if (unknown !== undefined) throw new UnknownElementError(`element ${JSON.stringify(unknown)}`)
    if (statement.Effect !== 'Allow' && statement.Effect !== 'Deny') {
      throw new UnknownElementError(`Effect ${JSON.stringify(statement.Effect)}`)
    }
    const action = oneOf(statement, 'Action', compileActions)
    return {
      index,
      sid: statement.Sid,
      effect: statement.Effect,
      action: text => action(text, none),
      resource: oneOf(statement, 'Resource', compileResources),
      tests: compileConditions(statement.Condition)
    }
  })
}

type Context = Map<string, readonly string[]>

/** The request's context by key in lower case; two keys that differ only in case are the same key, given twice. */
const fold = (context: IamRequest['context']): Context => {
  const folded: Context = new Map()
  for (const [name, value] of Object.entries(context)) {
    const key = name.toLowerCase()
    if (folded.has(key)) throw new UnknownElementError(`context key ${JSON.stringify(name)} twice`)
    folded.set(key, typeof value === 'string' ? [value] : value)
  }
  return folded
}

/** A request in the form that compiled statements take. */
interface CompiledRequest {
  action: string
  resource: string
  lookup: Lookup
  /** Whether a test of a statement holds. */
  holds: (test: CompiledTest) => boolean
}

/** @throws UnknownElementError when a context key is given twice; `holds`, when an operator cannot read the request's value */
export const compileRequest = ({ action, resource, context }: IamRequest): CompiledRequest => {
  const folded = fold(context)
  const lookup: Lookup = name => {
    const [value, another] = folded.get(name.toLowerCase()) ?? []
    return another === undefined ? value : undefined
  }
  return { action: action.toLowerCase(), resource, lookup, holds: ({ key, test }) => test(folded.get(key), lookup) }
}

/**
 * What compiled statements decide on a request: an explicit Deny wins, then an Allow, else the request is denied implicitly.
 * @throws UnknownElementError when an operator cannot read a value of the request's context
 */
export const decide = (statements: CompiledStatement[], request: IamRequest): PolicyDecision => {
  const { action, resource, lookup, holds } = compileRequest(request)
  const applies = statements.filter(statement =>
    statement.action(action) && statement.resource(resource, lookup) && statement.tests.every(holds))
  const decisive = (effect: 'Allow' | 'Deny') =>
    applies.filter(statement => statement.effect === effect).map(({ index, sid }) => ({ index, sid }))

  const denies = decisive('Deny')
  if (denies.length > 0) return { allowed: false, kind: 'explicit-deny', statements: denies }
  const allows = decisive('Allow')
  if (allows.length > 0) return { allowed: true, kind: 'allow', statements: allows }
  return { allowed: false, kind: 'implicit-deny', statements: [] }
}

/**
 * Whether an identity policy alone allows a request, and which statements decide.
 * Source: IAM User Guide, "Policy evaluation logic".
 * @throws UnknownElementError for anything in policy or request that this evaluator does not know; it never allows what it does not know
 */
export const evaluate = (policy: PolicyDocument, request: IamRequest): PolicyDecision => decide(compile(policy), request)
