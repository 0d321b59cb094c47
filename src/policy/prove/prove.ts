import type { AccessSpec } from '../../domain/access-spec.ts'
import type { PolicyDocument } from '../../domain/policy-document.ts'
import { compile, decide, type CompiledStatement, type IamRequest, type PolicyDecision } from './evaluate.ts'
import { intends, requiredAllows, requiredDenies, type ContextTest, type Requirement } from './intent.ts'
import { actionsOn, unprovable, validate, type ResourceKind } from './validate.ts'
import { contextValues, resources } from './probes.ts'

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

/** One bit per statement, required allow and required deny: those that a request, or one part of it, matches. */
type Bits = bigint

/** One value of a dimension, and the bits that it matches there. */
interface Case { value: string | undefined, bits: Bits }

/** Which bits stand for what. */
interface Legend { allows: Bits, denies: Bits, requiredAllows: Bits, requiredDenies: Bits }

/**
 * Values that match the same bits are one case: every statement and every requirement tests each dimension separately and joins
 * the results with "and", so such values always lead to the same decision.
 */
const cases = (values: Iterable<string | undefined>, matches: (value: string | undefined) => Bits): Case[] => {
  const byBits = new Map<Bits, Case>()
  for (const value of values) {
    const bits = matches(value)
    if (!byBits.has(bits)) byBits.set(bits, { value, bits })
  }
  return [...byBits.values()]
}

/** For each dimension of a request, which bits a value matches. */
interface BitTable {
  legend: Legend
  actions: (name: string) => Bits
  resources: (arn: string) => Bits
  context: (key: string) => (value: string | undefined) => Bits
  /** Whether a statement or a requirement tests this context key. */
  isTested: (key: string) => boolean
}

const noVariables = () => undefined

/** Policy and requirements as bits: a request matches the "and" of what its parts match. */
const bitTable = (statements: CompiledStatement[], allowed: Requirement[], denied: Requirement[]): BitTable => {
  const requirements = [...allowed, ...denied]
  const base = statements.length
  const all = base + requirements.length
  const bit = Array.from({ length: all }, (_, i): Bits => 1n << BigInt(i))
  const collect = (matches: (index: number) => boolean, from: number, to: number): Bits => {
    let bits = 0n
    for (let i = from; i < to; i++) if (matches(i)) bits |= bit[i] ?? 0n
    return bits
  }
  const bitsOf = (ofStatement: (statement: CompiledStatement) => boolean, ofRequirement: (requirement: Requirement) => boolean): Bits =>
    collect(i => {
      const statement = statements[i]
      const requirement = requirements[i - base]
      return statement !== undefined ? ofStatement(statement) : requirement !== undefined && ofRequirement(requirement)
    }, 0, all)

  return {
    legend: {
      allows: collect(i => statements[i]?.effect === 'Allow', 0, base),
      denies: collect(i => statements[i]?.effect === 'Deny', 0, base),
      requiredAllows: collect(() => true, base, base + allowed.length),
      requiredDenies: collect(() => true, base + allowed.length, all)
    },
    actions: name => {
      const folded = name.toLowerCase()
      return bitsOf(statement => statement.action(folded), requirement => requirement.action(folded))
    },
    resources: arn => bitsOf(statement => statement.resource(arn, noVariables), requirement => requirement.resource(arn)),
    isTested: key => requirements.some(requirement => key in requirement.context) ||
      statements.some(({ tests }) => tests.some(test => test.key === key)),
    context: key => {
      const tests = statements.map(statement => statement.tests.filter(test => test.key === key))
      return value => {
        const values = value === undefined ? undefined : [value]
        // Most statements have the same tests, and so do most requirements: each test runs once per value.
        const results = new Map<string | ContextTest, boolean>()
        const once = (test: string | ContextTest, run: () => boolean): boolean => {
          const known = results.get(test)
          if (known !== undefined) return known
          const result = run()
          results.set(test, result)
          return result
        }
        return bitsOf(
          statement => tests[statement.index]?.every(({ identity, test }) => once(identity, () => test(values, noVariables))) ?? true,
          requirement => {
            const test = requirement.context[key]
            return test === undefined || once(test, () => test(value))
          })
      }
    }
  }
}

/** Whether the policy decides as required on a request that matches these bits. */
const agrees = (bits: Bits, { allows, denies, requiredAllows, requiredDenies }: Legend): boolean => {
  const denied = (bits & denies) !== 0n
  const allowed = !denied && (bits & allows) !== 0n
  return allowed === ((bits & requiredAllows) !== 0n) && (denied || (bits & requiredDenies) === 0n)
}

/**
 * Walks the product of the dimensions. Once a request matches no Allow and no requirement any more, it is denied and may be,
 * whatever its other values are: the rest of that branch is skipped.
 * @returns the cases, one per dimension, of the first request on which they disagree
 */
const search = (dimensions: Case[][], legend: Legend): Case[] | undefined => {
  const relevant = legend.allows | legend.requiredAllows | legend.requiredDenies
  const walk = (depth: number, bits: Bits): Case[] | undefined => {
    if ((bits & relevant) === 0n) return undefined
    const dimension = dimensions[depth]
    if (dimension === undefined) return agrees(bits, legend) ? undefined : []
    for (const candidate of dimension) {
      const rest = walk(depth + 1, bits & candidate.bits)
      if (rest !== undefined) return [candidate, ...rest]
    }
    return undefined
  }
  return walk(0, -1n)
}

const freeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze)
  return value
}

const kinds = Object.keys(actionsOn) as ResourceKind[]

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
  const [wrong] = validate(document, { allowGuideAction: spec.layout === 'guide' })
  const reason = wrong ?? unprovable(document, spec)
  if (reason !== undefined) return { ok: false, reason, probes: 0 }

  const statements = compile(document)
  const table = bitTable(statements, requiredAllows(spec), requiredDenies(spec))
  const values = contextValues(document, spec, table.isTested)
  const context = [...values].map(([key, tried]) => cases(tried, table.context(key)))
  const contexts = [...values.values()].reduce((product, { length }) => product * length, 1)
  const resourcesOf = resources(document, spec)

  let probes = 0
  for (const kind of kinds) {
    const actions = cases(actionsOn[kind], name => table.actions(name ?? ''))
    const dimensions = [actions, cases(resourcesOf[kind], arn => table.resources(arn ?? '')), ...context]
    probes += actionsOn[kind].length * resourcesOf[kind].length * contexts
    const found = search(dimensions, table.legend)
    if (found !== undefined) {
      const [action, resource, ...rest] = found.map(({ value }) => value)
      const keys = [...values.keys()].map((key, i): [string, string | undefined] => [key, rest[i]])
      return { ok: false, ...refute(statements, spec, requestOf(action, resource, keys)), probes }
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
