import type { AccessSpec } from '../../domain/access-spec.ts'
import type { PolicyDocument, Statement } from '../../domain/policy-document.ts'
import { compile, decide, type CompiledStatement, type IamRequest, type PolicyDecision } from './evaluate.ts'
import { intends, requiredAllows, requiredDenies, type ContextTest, type Requirement } from './intent.ts'
import { actionsOn, unprovable, validate, type ResourceKind } from './validate.ts'
import { contextValues, resources } from './probes.ts'
import { UnknownElementError } from './wildcard.ts'

declare const proven: unique symbol

/** A policy that prove() has found to be exactly what the spec says, frozen. Only prove() makes one; no other policy is issued. */
export type Proven<T> = T & { readonly [proven]: true }

/** A request on which policy and spec disagree. */
interface Counterexample {
  request: IamRequest
  /** Whether the policy should allow it. */
  wanted: boolean
  got: PolicyDecision
}

export type Proof =
  | { ok: true, proven: Proven<PolicyDocument>, probes: number }
  | { ok: false, reason: string, counterexample?: Counterexample, probes: number }

/** What a statement does, and what the spec asks for. */
type Role = 'allow' | 'deny' | 'mustAllow' | 'mustDeny'

/** A value of one dimension of a request; undefined: the request has no such context key. */
type Value = string | undefined

/** The tests that policy and spec have for one dimension. Equal ones are one. */
interface Tests { list: ContextTest[], indices: Map<string | ContextTest, number> }

/** A statement or a requirement: it applies to a request that passes all of its tests. A dimension without a test passes. */
interface Rule {
  role: Role
  /** By dimension: the index of the test. */
  tests: Map<string, number>
}

const noVariables = () => undefined

/** Collects the tests of statements and requirements, by dimension: `action`, `resource`, and the context keys in lower case. */
const collect = () => {
  const dimensions = new Map<string, Tests>()
  /** @param identity equal for equal tests */
  const indexOf = (dimension: string, identity: string | ContextTest, test: ContextTest): number => {
    const { list, indices } = dimensions.get(dimension) ?? { list: [], indices: new Map<string | ContextTest, number>() }
    dimensions.set(dimension, { list, indices })
    const index = indices.get(identity) ?? list.push(test) - 1
    indices.set(identity, index)
    return index
  }
  return {
    dimensions,
    /** @param statement as it is written in the policy */
    ofStatement: (compiled: CompiledStatement, { Action, Resource, NotResource }: Statement): Rule => {
      const tests = new Map([
        ['action', indexOf('action', JSON.stringify(Action), (name = '') => compiled.action(name))],
        ['resource', indexOf('resource', JSON.stringify([Resource, NotResource]), (arn = '') => compiled.resource(arn, noVariables))]
      ])
      for (const key of new Set(compiled.tests.map(test => test.key))) {
        const ofKey = compiled.tests.filter(test => test.key === key)
        tests.set(key, indexOf(key, ofKey.map(({ identity }) => identity).join(),
          value => ofKey.every(({ test }) => test(value === undefined ? undefined : [value], noVariables))))
      }
      return { role: compiled.effect === 'Allow' ? 'allow' : 'deny', tests }
    },
    ofRequirement: (role: Role, { action, resource, context }: Requirement): Rule => {
      const tests = new Map<string, number>()
      const add = (dimension: string, test: ContextTest) =>
        tests.set(dimension, indexOf(dimension, typeof test === 'function' ? test : `texts ${JSON.stringify(test)}`, test))
      add('action', action)
      add('resource', resource)
      for (const key in context) add(key, context[key] as ContextTest)
      return { role, tests }
    }
  }
}

/** The tests of one dimension, ready to be asked for many values. */
interface Judge {
  /** How many tests there are. */
  tests: number
  /** Adds the indices of the tests that a value passes to an empty list, in ascending order. */
  judge: (value: Value, passed: number[]) => void
}

/** Texts are looked up, by the lengths of their beginnings. */
const judgeOf = (tests: readonly ContextTest[]): Judge => {
  const functions: { index: number, test: (value: Value) => boolean }[] = []
  const whole = new Map<string, number[]>()
  const byLength = new Map<number, Map<string, number[]>>()
  const put = (map: Map<string, number[]>, text: string, index: number) => {
    const indices = map.get(text)
    if (indices === undefined) map.set(text, [index])
    else indices.push(index)
    return map
  }
  for (const [index, test] of tests.entries()) {
    if (typeof test === 'function') {
      functions.push({ index, test })
      continue
    }
    for (const text of test.whole) put(whole, text, index)
    for (const text of test.beginnings) byLength.set(text.length, put(byLength.get(text.length) ?? new Map(), text, index))
  }
  const beginnings = [...byLength].map(([length, texts]) => ({ length, texts, only: texts.size === 1 ? [...texts.keys()][0] : undefined }))
  const add = (passed: number[], indices: readonly number[]) => {
    for (const index of indices) if (!passed.includes(index)) passed.push(index)
  }
  const judge: Judge['judge'] = (value, passed) => {
    for (const { index, test } of functions) if (test(value)) passed.push(index)
    if (value === undefined) return
    const ofFunctions = passed.length
    const same = whole.get(value)
    if (same !== undefined) add(passed, same)
    for (const { length, texts, only } of beginnings) {
      // A single text of its length is compared in place: no part of the value is copied.
      if (only === undefined ? length > value.length : !value.startsWith(only)) continue
      const begun = texts.get(only ?? value.slice(0, length))
      if (begun !== undefined) add(passed, begun)
    }
    if (passed.length > ofFunctions && passed.length > 1) passed.sort((a, b) => a - b)
  }
  return { tests: tests.length, judge }
}

/**
 * The values of one dimension, as cases: values that pass the same tests are one case. Every statement and every requirement tests each
 * dimension separately and joins the results with "and", so such values always lead to the same decision.
 */
interface Dimension {
  cases: Value[]
  /** By test: the indices of the cases that pass it. */
  passing: number[][]
  /** What is known to be decided as required, whatever the values from this dimension on. */
  decided: Set<string>
}

const dimensionOf = ({ tests, judge }: Judge, values: Iterable<Value>): Dimension => {
  const cases: Value[] = []
  const passing = Array.from({ length: tests }, (): number[] => [])
  // Each list of tests has a number, which is found by the number of the list without its last test, and that test.
  const lists = new Map<number, number>()
  const known = new Set<number>()
  const passed: number[] = []
  for (const value of values) {
    passed.length = 0
    judge(value, passed)
    let list = 0
    for (const index of passed) {
      const step = list * tests + index
      list = lists.get(step) ?? lists.size + 1
      lists.set(step, list)
    }
    if (known.has(list)) continue
    known.add(list)
    for (const index of passed) passing[index]?.push(cases.length)
    cases.push(value)
  }
  return { cases, passing, decided: new Set() }
}

/** What is left of a rule from one dimension on: its test there, and what is left after that. Equal ones are the same object. */
interface Rest {
  id: number
  role: Role
  test: number | undefined
  next: Rest | undefined
  /** Those of which this is the next, by their test. */
  before: Map<number | undefined, Rest>
}

/** Rules as chains of tests, one per dimension in this order. */
const chained = (rules: readonly Rule[], dimensions: readonly string[]): Rest[] => {
  let count = 0
  const rest = (role: Role, test?: number, next?: Rest): Rest => ({ id: count++, role, test, next, before: new Map() })
  const ends = { allow: rest('allow'), deny: rest('deny'), mustAllow: rest('mustAllow'), mustDeny: rest('mustDeny') }
  const chains = rules.map(({ role, tests }) => dimensions.reduceRight((next, dimension) => {
    const test = tests.get(dimension)
    const known = next.before.get(test) ?? rest(role, test, next)
    next.before.set(test, known)
    return known
  }, ends[role]))
  return [...new Set(chains)]
}

/** Whether the policy decides as required on a request to which these apply. */
const agrees = (applying: readonly Rest[]): boolean => {
  const has = (wanted: Role) => applying.some(({ role }) => role === wanted)
  const denied = has('deny')
  return (!denied && has('allow')) === has('mustAllow') && (denied || !has('mustDeny'))
}

/**
 * Tries every case of one dimension after the other. What remains of the rules decides, whichever values led there, so that each set
 * of remains is decided once. Where no Allow and no requirement remains, the request is denied and may be, whatever its other values are.
 * @returns the values, one per dimension, of the first request on which policy and spec disagree
 */
const search = (dimensions: readonly Dimension[], rules: readonly Rest[], depth = 0): Value[] | undefined => {
  if (rules.every(({ role }) => role === 'deny')) return undefined
  const dimension = dimensions[depth]
  if (dimension === undefined) return agrees(rules) ? undefined : []
  const key = rules.map(({ id }) => id).join()
  if (dimension.decided.has(key)) return undefined
  dimension.decided.add(key)

  const alwaysLeft: Rest[] = []
  const leftAfter = new Map<number, Rest[]>()
  const testsOf = new Map<number, number[]>()
  for (const { test, next } of rules) {
    if (next === undefined) continue
    if (test === undefined) {
      alwaysLeft.push(next)
      continue
    }
    const ofTest = leftAfter.get(test)
    if (ofTest !== undefined) {
      ofTest.push(next)
      continue
    }
    leftAfter.set(test, [next])
    for (const index of dimension.passing[test] ?? []) {
      const tests = testsOf.get(index)
      if (tests === undefined) testsOf.set(index, [test])
      else tests.push(test)
    }
  }
  const tried = new Set<string>()
  for (const [index, value] of dimension.cases.entries()) {
    // All cases that pass none of these tests are alike.
    const tests = testsOf.get(index) ?? []
    const same = tests.join()
    if (tried.has(same)) continue
    tried.add(same)
    const left = [...alwaysLeft]
    for (const test of tests) left.push(...leftAfter.get(test) ?? [])
    left.sort((a, b) => a.id - b.id)
    const found = search(dimensions, left.filter((rest, at) => rest !== left[at - 1]), depth + 1)
    if (found !== undefined) return [value, ...found]
  }
  return undefined
}

const freeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze)
  return value
}

const kinds = Object.keys(actionsOn) as ResourceKind[]

/** As they are written, by their name in lower case: IAM ignores the case of actions. */
const actionNames = Object.fromEntries(kinds.map(kind =>
  [kind, new Map(actionsOn[kind].map(name => [name.toLowerCase(), name]))])) as Record<ResourceKind, Map<string, string>>

/** The statements, or what the evaluator does not know in the policy. */
const compileOrSay = (policy: PolicyDocument): CompiledStatement[] | string => {
  try {
    return compile(policy)
  } catch (error) {
    if (error instanceof UnknownElementError) return error.message
    throw error
  }
}

/**
 * Whether a policy allows exactly what the spec says: nothing more, nothing less. It looks at policy and spec alone, and does not
 * know how the one was made from the other.
 *
 * `probes` counts the requests that the proof covers: the full product of the actions, resources, instants, addresses and other
 * context values of probes.ts. They are decided case by case instead of one by one; no request is left out.
 */
export const prove = (policy: PolicyDocument, spec: AccessSpec): Proof => {
  // A copy, so that the policy that is issued is the one that was proven, whatever happens to the original.
  const document = JSON.parse(JSON.stringify(policy)) as PolicyDocument
  const statements = compileOrSay(document)
  if (typeof statements === 'string') return { ok: false, reason: statements, probes: 0 }
  const [wrong = unprovable(document, spec)] = validate(document, { allowGuideAction: spec.layout === 'guide' })
  if (wrong !== undefined) return { ok: false, reason: wrong, probes: 0 }

  const { dimensions, ofStatement, ofRequirement } = collect()
  const rules = [
    ...statements.map(compiled => ofStatement(compiled, document.Statement[compiled.index] as Statement)),
    ...requiredAllows(spec).map(requirement => ofRequirement('mustAllow', requirement)),
    ...requiredDenies(spec).map(requirement => ofRequirement('mustDeny', requirement))
  ]
  const testsOf = (dimension: string): ContextTest[] => dimensions.get(dimension)?.list ?? []
  const values = contextValues(document, spec, key => dimensions.has(key))
  // The keys with many tests first: what is left after them is the same for many requests.
  const keys = [...values.keys()].sort((a, b) => testsOf(b).length - testsOf(a).length)
  const all = chained(rules, ['action', 'resource', ...keys])
  const context = keys.map(key => dimensionOf(judgeOf(testsOf(key)), values.get(key) ?? []))
  const contexts = [...values.values()].reduce((product, { length }) => product * length, 1)
  const resourcesOf = resources(document, spec)

  const [ofActions, ofResources] = [judgeOf(testsOf('action')), judgeOf(testsOf('resource'))]
  let probes = 0
  for (const kind of kinds) {
    const names = actionNames[kind]
    const [actions, arns] = [dimensionOf(ofActions, names.keys()), dimensionOf(ofResources, resourcesOf[kind])]
    probes += names.size * resourcesOf[kind].length * contexts
    const found = search([actions, arns, ...context], all)
    if (found !== undefined) {
      const [action = '', resource, ...rest] = found
      const ofKeys = keys.map((key, i): [string, Value] => [key, rest[i]])
      return { ok: false, ...refute(statements, spec, requestOf(names.get(action), resource, ofKeys)), probes }
    }
  }
  return { ok: true, proven: freeze(document) as Proven<PolicyDocument>, probes }
}

const requestOf = (action = '', resource = '', context: [string, string | undefined][]): IamRequest => ({
  action,
  resource,
  context: Object.fromEntries(context.flatMap(([key, value]) => value === undefined ? [] : [[key, value]]))
})

/** What is wrong with a policy that does not decide as required on a request. */
const refute = (statements: CompiledStatement[], spec: AccessSpec, request: IamRequest) => {
  const got = decide(statements, request)
  const wanted = intends(spec, request)
  const reason = got.allowed === wanted
    ? 'the policy denies only implicitly what it must deny explicitly'
    : got.allowed ? 'the policy allows what was not asked for' : 'the policy does not allow what was asked for'
  return { reason, counterexample: { request, wanted, got } }
}
