import ipaddr from 'ipaddr.js'
import { UnknownElementError, compileArn, compileLiteral, compileWildcards, type Lookup } from './wildcard.ts'

/** One value of the policy, compiled: whether a value of the request's context fits it. */
type Comparison = (contextValue: string, lookup: Lookup) => boolean

/** How an operator compares; `compile` throws UnknownElementError when it cannot read the value of the policy. */
interface Operator {
  compile: (policyValue: string) => Comparison
  /** Whether the operator says the opposite of its comparison: `…NotEquals`, `…NotLike`, `NotIpAddress`. */
  negated: boolean
}

const positive = (compile: Operator['compile']): Operator => ({ compile, negated: false })
const negative = (compile: Operator['compile']): Operator => ({ compile, negated: true })

/** One value of a request is compared with many values of a policy, one after the other: it is read once. */
const rememberingLast = <T>(read: (text: string) => T): (text: string) => T => {
  let last: { text: string, value: T } | undefined
  return text => {
    if (last?.text !== text) last = { text, value: read(text) }
    return last.value
  }
}

/** Comparisons of values that are read as numbers. The value of the policy is read once, when it is compiled. */
const comparing = (read: (text: string) => number, readContext = read) =>
  (holds: (context: number, policy: number) => boolean) => (policyValue: string): Comparison => {
    const policy = read(policyValue)
    return contextValue => holds(readContext(contextValue), policy)
  }

// --- text and ARNs ---

/** Source: IAM User Guide, "IAM JSON policy elements: Condition operators". ArnEquals and ArnLike behave alike there. */
const stringOperators: Record<string, Operator> = {
  StringEquals: positive(value => compileLiteral(value)),
  StringNotEquals: negative(value => compileLiteral(value)),
  StringEqualsIgnoreCase: positive(value => compileLiteral(value, true)),
  StringNotEqualsIgnoreCase: negative(value => compileLiteral(value, true)),
  StringLike: positive(value => compileWildcards(value)),
  StringNotLike: negative(value => compileWildcards(value)),
  ArnEquals: positive(compileArn),
  ArnLike: positive(compileArn),
  ArnNotEquals: negative(compileArn),
  ArnNotLike: negative(compileArn)
}

// --- dates ---

// W3C's profile of ISO 8601 where it has a zone, or a day alone; https://www.w3.org/TR/NOTE-datetime
const isoInstant = /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/
const epochSeconds = /^\d{1,12}(\.\d{1,3})?$/

/**
 * Epoch milliseconds of an ISO 8601 instant with a zone, a day (its first instant in UTC), or epoch seconds.
 * @throws UnknownElementError for anything else, the 30th of February included
 */
export const readInstant = (text: string): number => {
  if (epochSeconds.test(text)) return Math.round(Number(text) * 1000)
  const parsed = isoInstant.exec(text)
  const at = parsed === null ? NaN : Date.parse(text)
  if (Number.isNaN(at) || !isDay(text.slice(0, 10))) throw new UnknownElementError(`not an instant: ${JSON.stringify(text)}`)
  return at
}

/** Date.parse reads 02-30 as 03-02: a day from the 29th on has to stay the same when it is written again. */
const isDay = (day: string): boolean => day.slice(8) <= '28' || new Date(day).toISOString().startsWith(day)

const compareInstants = comparing(readInstant, rememberingLast(readInstant))
const sameInstant = compareInstants((context, policy) => context === policy)

/** Source: IAM User Guide, "Date condition operators". A policy variable is not allowed there, so `${…}` is not an instant. */
const dateOperators: Record<string, Operator> = {
  DateEquals: positive(sameInstant),
  DateNotEquals: negative(sameInstant),
  DateLessThan: positive(compareInstants((context, policy) => context < policy)),
  DateLessThanEquals: positive(compareInstants((context, policy) => context <= policy)),
  DateGreaterThan: positive(compareInstants((context, policy) => context > policy)),
  DateGreaterThanEquals: positive(compareInstants((context, policy) => context >= policy))
}

// --- numbers and booleans ---

const decimal = /^[+-]?\d+(\.\d+)?$/

const readNumber = (text: string): number => {
  if (!decimal.test(text)) throw new UnknownElementError(`not a number: ${JSON.stringify(text)}`)
  return Number(text)
}

const compareNumbers = comparing(readNumber)
const sameNumber = compareNumbers((context, policy) => context === policy)

const readBoolean = (text: string): boolean => {
  const folded = text.toLowerCase()
  if (folded !== 'true' && folded !== 'false') throw new UnknownElementError(`not a boolean: ${JSON.stringify(text)}`)
  return folded === 'true'
}

/** Source: IAM User Guide, "Numeric condition operators" and "Boolean condition operators". */
const numberOperators: Record<string, Operator> = {
  NumericEquals: positive(sameNumber),
  NumericNotEquals: negative(sameNumber),
  NumericLessThan: positive(compareNumbers((context, policy) => context < policy)),
  NumericLessThanEquals: positive(compareNumbers((context, policy) => context <= policy)),
  NumericGreaterThan: positive(compareNumbers((context, policy) => context > policy)),
  NumericGreaterThanEquals: positive(compareNumbers((context, policy) => context >= policy)),
  Bool: positive(policyValue => {
    const policy = readBoolean(policyValue)
    return contextValue => readBoolean(contextValue) === policy
  })
}

// --- addresses ---

/** A block of addresses of one family: its lowest and highest address, as numbers. */
export interface Block { family: 4 | 6, low: bigint, high: bigint }

const bitsOf = { 4: 32, 6: 128 }

const join = (parts: number[], bits: bigint): bigint => parts.reduce((number, part) => number << bits | BigInt(part), 0n)

// One spelling alone: ipaddr.js would also read '010.1', '0x7f.1' and zones, which S3 never reports.
const octets = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/

/** The address as a number; undefined when it is none. */
const readAddress = (text: string, family: 4 | 6): bigint | undefined => {
  if (family === 4) return octets.test(text) ? join(text.split('.').map(Number), 8n) : undefined
  return !text.includes('%') && ipaddr.IPv6.isValid(text) ? join(ipaddr.IPv6.parse(text).parts, 16n) : undefined
}

/**
 * An address without a mask is a block of that address alone; host bits of a CIDR do not count.
 * An IPv4-mapped IPv6 address counts as IPv6: the two families never match each other.
 * @throws UnknownElementError when it is neither an address nor a CIDR
 */
export const readBlock = (text: string): Block => {
  const [address = '', mask, ...rest] = text.split('/')
  const family = address.includes(':') ? 6 : 4
  const bits = bitsOf[family]
  const number = readAddress(address, family)
  if (number === undefined || rest.length > 0 || (mask !== undefined && !(/^\d{1,3}$/.test(mask) && Number(mask) <= bits))) {
    throw new UnknownElementError(`not an address or CIDR: ${JSON.stringify(text)}`)
  }
  const free = BigInt(bits - Number(mask ?? bits))
  const low = (number >> free) << free
  return { family, low, high: low | ((1n << free) - 1n) }
}

/** The address that is a number, in canonical text. */
export const writeAddress = (family: 4 | 6, number: bigint): string => {
  const bytes = Array.from({ length: bitsOf[family] / 8 }, (_, i) => Number(number >> BigInt(bitsOf[family] - 8 * (i + 1)) & 255n))
  return ipaddr.fromByteArray(bytes).toString()
}

/** The highest address of a family. */
export const lastOf = (family: 4 | 6): bigint => (1n << BigInt(bitsOf[family])) - 1n

const readBlockOnce = rememberingLast(readBlock)

const within = (policyValue: string): Comparison => {
  const block = readBlock(policyValue)
  return contextValue => {
    const address = readBlockOnce(contextValue)
    return address.family === block.family && address.low >= block.low && address.high <= block.high
  }
}

/** Source: IAM User Guide, "IP address condition operators". */
const ipOperators: Record<string, Operator> = {
  IpAddress: positive(within),
  NotIpAddress: negative(within)
}

// --- one test of a statement ---

/** An operator on one context key; `values` are the request's values of that key, undefined when it has none. */
export type Test = (values: readonly string[] | undefined, lookup: Lookup) => boolean

const operators = new Map<string, Operator>(
  Object.entries({ ...stringOperators, ...dateOperators, ...numberOperators, ...ipOperators }))

// Qualifier, operator, IfExists. IAM ignores their case; here another case counts as a mistake and is not read.
const operatorName = /^(?:(ForAllValues|ForAnyValue):)?([A-Za-z]+?)(IfExists)?$/

const compileNull = (policyValues: string[]): Test => {
  const wanted = policyValues.map(value => {
    if (value !== 'true' && value !== 'false') throw new UnknownElementError(`Null ${JSON.stringify(value)}`)
    return value === 'true'
  })
  return values => wanted.includes(values === undefined || values.length === 0)
}

/**
 * Source: IAM User Guide, "IAM JSON policy elements: Condition operators" (without the key
 * an operator fails, a negated one and IfExists pass) and "Set operators for multivalued context keys".
 * @throws UnknownElementError for an operator, or a value of it, that this evaluator does not know
 */
export const compileTest = (name: string, policyValues: string[]): Test => {
  const [, qualifier, base = '', ifExists] = operatorName.exec(name) ?? []
  if (policyValues.length === 0) throw new UnknownElementError(`${name} without a value`)
  if (name === 'Null') return compileNull(policyValues)
  const operator = operators.get(base)
  // Without the key, ForAnyValue fails and IfExists passes; AWS does not say which of them counts.
  if (operator === undefined || (qualifier === 'ForAnyValue' && ifExists)) {
    throw new UnknownElementError(`condition operator ${JSON.stringify(name)}`)
  }

  const comparisons = policyValues.map(operator.compile)
  const { negated } = operator
  const fits = (value: string, lookup: Lookup) => comparisons.some(compare => compare(value, lookup)) !== negated

  if (qualifier === 'ForAllValues') {
    return (values = [], lookup) => values.every(value => fits(value, lookup))
  }
  if (qualifier === 'ForAnyValue') {
    return (values = [], lookup) => values.some(value => fits(value, lookup))
  }
  return (values = [], lookup) => {
    const [value, another] = values
    if (another !== undefined) throw new UnknownElementError(`several values under ${name}, which has no ForAllValues or ForAnyValue`)
    return value === undefined ? negated || ifExists !== undefined : fits(value, lookup)
  }
}
