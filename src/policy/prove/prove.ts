import type { AccessSpec } from '../../domain/access-spec.ts'
import type { PolicyDocument } from '../../domain/policy-document.ts'
import { compile, decide, type AccessRequest, type CompiledStatement, type Decision } from './evaluate.ts'
import { bars, intends, wishes, type ContextTest, type Wish } from './intent.ts'
import { actionsOn, type ResourceKind } from './known-actions.ts'
import { contextValues, resources } from './probes.ts'
import { misfit } from './shape.ts'
import { validate } from './validate.ts'

declare const proven: unique symbol

/** A policy that prove() has found to be what was asked, frozen. Nothing else makes one, and the issuer takes nothing else. */
export type Proven<T> = T & { readonly [proven]: true }

/** A request about which policy and wish disagree. */
export interface Counterexample {
  request: AccessRequest
  /** Whether the job asked to be able to do this. */
  wanted: boolean
  got: Decision
}

export type Proof =
  | { ok: true, proven: Proven<PolicyDocument>, probes: number }
  | { ok: false, reason: string, counterexample?: Counterexample, probes: number }

/** One bit per statement, wish and bar: what a request, or one part of it, fits. */
type Bits = bigint

/** One value of a dimension, and the bits whose part there it fits. */
interface Case { value: string | undefined, bits: Bits }

/** Which bits are which. */
interface Legend { allows: Bits, denies: Bits, wishes: Bits, bars: Bits }

/**
 * Values that fit the same bits are one case: every statement and every wish asks each dimension by itself and joins the
 * answers with "and", so no request can tell such values apart.
 */
const cases = (values: Iterable<string | undefined>, fits: (value: string | undefined) => Bits): Case[] => {
  const byBits = new Map<Bits, Case>()
  for (const value of values) {
    const bits = fits(value)
    if (!byBits.has(bits)) byBits.set(bits, { value, bits })
  }
  return [...byBits.values()]
}

interface Question {
  legend: Legend
  actions: (name: string) => Bits
  resources: (arn: string) => Bits
  context: (key: string) => (value: string | undefined) => Bits
  /** Whether any statement, wish or bar asks for this context key. */
  asks: (key: string) => boolean
}

const noVariables = () => undefined

/** Policy and wishes as bits, so that a request's answer is the "and" of its parts' bits. */
const questionOf = (statements: CompiledStatement[], wanted: Wish[], barred: Wish[]): Question => {
  const asks = [...wanted, ...barred]
  const base = statements.length
  const all = base + asks.length
  const bit = Array.from({ length: all }, (_, i): Bits => 1n << BigInt(i))
  const collect = (fits: (index: number) => boolean, from: number, to: number): Bits => {
    let bits = 0n
    for (let i = from; i < to; i++) if (fits(i)) bits |= bit[i] ?? 0n
    return bits
  }
  const split = (ofStatement: (statement: CompiledStatement) => boolean, ofWish: (wish: Wish) => boolean): Bits => collect(i => {
    const statement = statements[i]
    const wish = asks[i - base]
    return statement !== undefined ? ofStatement(statement) : wish !== undefined && ofWish(wish)
  }, 0, all)

  return {
    legend: {
      allows: collect(i => statements[i]?.effect === 'Allow', 0, base),
      denies: collect(i => statements[i]?.effect === 'Deny', 0, base),
      wishes: collect(() => true, base, base + wanted.length),
      bars: collect(() => true, base + wanted.length, all)
    },
    actions: name => {
      const folded = name.toLowerCase()
      return split(statement => statement.action(folded), wish => wish.action(folded))
    },
    resources: arn => split(statement => statement.resource(arn, noVariables), wish => wish.resource(arn)),
    asks: key => asks.some(wish => key in wish.context) || statements.some(({ tests }) => tests.some(test => test.key === key)),
    context: key => {
      const tests = statements.map(statement => statement.tests.filter(test => test.key === key))
      return value => {
        const values = value === undefined ? undefined : [value]
        // Most statements ask the same, and so do most wishes: one answer serves them all.
        const answers = new Map<string | ContextTest, boolean>()
        const once = (question: string | ContextTest, ask: () => boolean): boolean => {
          const known = answers.get(question)
          if (known !== undefined) return known
          const answer = ask()
          answers.set(question, answer)
          return answer
        }
        return split(
          statement => tests[statement.index]?.every(({ identity, test }) => once(identity, () => test(values, noVariables))) ?? true,
          wish => {
            const test = wish.context[key]
            return test === undefined || once(test, () => test(value))
          })
      }
    }
  }
}

/** Whether policy and wish agree about a request that fits these bits. */
const agrees = (bits: Bits, { allows, denies, wishes, bars }: Legend): boolean => {
  const denied = (bits & denies) !== 0n
  const allowed = !denied && (bits & allows) !== 0n
  return allowed === ((bits & wishes) !== 0n) && (denied || (bits & bars) === 0n)
}

/**
 * Walks the product of the dimensions. Where no Allow, wish or bar is left, the rest of the branch is denied and unwanted
 * whatever else the request says, and need not be walked.
 * @returns the cases, one per dimension, of the first request on which they disagree
 */
const search = (dimensions: Case[][], legend: Legend): Case[] | undefined => {
  const live = legend.allows | legend.wishes | legend.bars
  const walk = (depth: number, bits: Bits): Case[] | undefined => {
    if ((bits & live) === 0n) return undefined
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
 * Whether a policy allows exactly what was asked: not one thing more, not one thing less. It looks at the policy and the
 * admitted request only, and knows nothing of how the one was made from the other.
 *
 * `probes` counts the requests that the answer covers: the full product of actions, resources, instants, addresses and
 * the other context keys of probes.ts. They are decided by cases, not one by one, and none is left to chance.
 */
export const prove = (policy: PolicyDocument, spec: AccessSpec): Proof => {
  // A copy of the text: what is proven is what is issued, whatever happens to the original.
  const document = JSON.parse(JSON.stringify(policy)) as PolicyDocument
  const [wrong] = validate(document, { allowGuideAction: spec.layout === 'guide' })
  const reason = wrong ?? misfit(document, spec)
  if (reason !== undefined) return { ok: false, reason, probes: 0 }

  const statements = compile(document)
  const question = questionOf(statements, wishes(spec), bars(spec))
  const values = contextValues(document, spec, question.asks)
  const context = [...values].map(([key, tried]) => cases(tried, question.context(key)))
  const contexts = [...values.values()].reduce((product, { length }) => product * length, 1)
  const resourcesOf = resources(document, spec)

  let probes = 0
  for (const kind of kinds) {
    const dimensions = [cases(actionsOn[kind], name => question.actions(name ?? '')), cases(resourcesOf[kind], arn => question.resources(arn ?? '')), ...context]
    probes += actionsOn[kind].length * resourcesOf[kind].length * contexts
    const found = search(dimensions, question.legend)
    if (found !== undefined) {
      const [action, resource, ...rest] = found.map(({ value }) => value)
      const keys = [...values.keys()].map((key, i): [string, string | undefined] => [key, rest[i]])
      return { ok: false, ...explain(statements, spec, requestOf(action, resource, keys)), probes }
    }
  }
  return { ok: true, proven: freeze(document) as Proven<PolicyDocument>, probes }
}

const requestOf = (action = '', resource = '', context: [string, string | undefined][]): AccessRequest => ({
  action,
  resource,
  context: Object.fromEntries(context.flatMap(([key, value]) => value === undefined ? [] : [[key, value]]))
})

const explain = (statements: CompiledStatement[], spec: AccessSpec, request: AccessRequest) => {
  const got = decide(statements, request)
  const wanted = intends(spec, request)
  const reason = got.allowed === wanted
    ? 'the policy denies only implicitly what it has to deny explicitly'
    : got.allowed ? 'the policy allows what was not asked for' : 'the policy does not allow what was asked for'
  return { reason, counterexample: { request, wanted, got } }
}
