import ipaddr from 'ipaddr.js'
import { UnknownElementError, compileArn, compileLiteral, compileWildcards, type Lookup } from './wildcard.ts'

/** The values of the policy, compiled: whether a value of the request's context fits one of them. */
type Comparison = (contextValue: string, lookup: Lookup) => boolean

/** How an operator compares; `compile` throws UnknownElementError when it cannot read a value of the policy. */
interface Operator {
  compile: (policyValues: readonly string[]) => Comparison
  /** Whether the operator says the opposite of its comparison: `…NotEquals`, `…NotLike`, `NotIpAddress`. */
  negated: boolean
}

const positive = (compile: Operator['compile']): Operator => ({ compile, negated: false })
const negative = (compile: Operator['compile']): Operator => ({ compile, negated: true })

/** For operators that compare with one value of the policy after the other. */
const each = (compile: (policyValue: string) => Comparison) => (policyValues: readonly string[]): Comparison => {
  const comparisons = policyValues.map(compile)
  return (contextValue, lookup) => comparisons.some(fits => fits(contextValue, lookup))
}

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
  (holds: (context: number, policy: number) => boolean) => each(policyValue => {
    const policy = read(policyValue)
    return contextValue => holds(readContext(contextValue), policy)
  })

// --- text and ARNs ---

/** Source: IAM User Guide, "IAM JSON policy elements: Condition operators". ArnEquals and ArnLike behave alike there. */
const stringOperators: Record<string, Operator> = {
  StringEquals: positive(each(value => compileLiteral(value))),
  StringNotEquals: negative(each(value => compileLiteral(value))),
  StringEqualsIgnoreCase: positive(each(value => compileLiteral(value, true))),
  StringNotEqualsIgnoreCase: negative(each(value => compileLiteral(value, true))),
  StringLike: positive(compileWildcards),
  StringNotLike: negative(compileWildcards),
  ArnEquals: positive(each(compileArn)),
  ArnLike: positive(each(compileArn)),
  ArnNotEquals: negative(each(compileArn)),
  ArnNotLike: negative(each(compileArn))
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
  Bool: positive(each(policyValue => {
    const policy = readBoolean(policyValue)
    return contextValue => readBoolean(contextValue) === policy
  }))
}

// --- addresses ---

/**
 * An address as hexadecimal digits, 8 of IPv4 and 32 of IPv6. Such texts are in the order of the addresses, and take less time than
 * numbers of 128 bits.
 */
export type Address = string

/** A block of addresses of one family: its lowest and highest address. */
export interface Block { low: Address, high: Address }

const hexadecimal = (parts: readonly number[], digits: number): Address =>
  parts.map(part => part.toString(16).padStart(digits, '0')).join('')

// One spelling alone: ipaddr.js would also read '010.1', '0x7f.1' and zones, which S3 never reports.
const octets = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/

/** Undefined when the text is no address. */
const readAddress = (text: string): Address | undefined => {
  if (!text.includes(':')) return octets.test(text) ? hexadecimal(text.split('.').map(Number), 2) : undefined
  if (text.includes('%')) return undefined
  try {
    return hexadecimal(ipaddr.IPv6.parse(text).parts, 4)
  } catch {
    return undefined
  }
}

/**
 * An address without a mask is a block of that address alone; host bits of a CIDR do not count.
 * An IPv4-mapped IPv6 address counts as IPv6: the two families never match each other.
 * @throws UnknownElementError when it is neither an address nor a CIDR
 */
export const readBlock = (text: string): Block => {
  const [written = '', mask, ...rest] = text.split('/')
  const address = readAddress(written)
  if (address === undefined || rest.length > 0 || (mask !== undefined && !(/^\d{1,3}$/.test(mask) && Number(mask) <= 4 * address.length))) {
    throw new UnknownElementError(`not an address or CIDR: ${JSON.stringify(text)}`)
  }
  const bits = Number(mask ?? 4 * address.length)
  const digits = Math.floor(bits / 4)
  if (digits === address.length) return { low: address, high: address }
  // The mask ends in this digit.
  const digit = parseInt(address.charAt(digits), 16)
  const free = 0xf >> bits % 4
  const [start, more] = [address.slice(0, digits), address.length - digits - 1]
  return { low: start + (digit & ~free).toString(16) + '0'.repeat(more), high: start + (digit | free).toString(16) + 'f'.repeat(more) }
}

/** In canonical text. */
export const writeAddress = (address: Address): string => {
  if (address.length === 8) return [0, 2, 4, 6].map(at => parseInt(address.slice(at, at + 2), 16)).join('.')
  return new ipaddr.IPv6([0, 4, 8, 12, 16, 20, 24, 28].map(at => parseInt(address.slice(at, at + 4), 16))).toString()
}

/** The addresses before and after a block; at an end of the address space there is one of them. */
export const besideBlock = ({ low, high }: Block): Address[] => [
  ...(/^0+$/.test(low) ? [] : [step(low, -1n)]),
  ...(/^f+$/.test(high) ? [] : [step(high, 1n)])
]

const step = (address: Address, by: bigint): Address => (BigInt(`0x${address}`) + by).toString(16).padStart(address.length, '0')

const readBlockOnce = rememberingLast(readBlock)

const within = (policyValues: readonly string[]): Comparison => {
  const blocks = policyValues.map(readBlock)
  return contextValue => {
    const { low, high } = readBlockOnce(contextValue)
    return blocks.some(block => block.low.length === low.length && block.low <= low && high <= block.high)
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

  const fitsOne = operator.compile(policyValues)
  const { negated } = operator
  const fits = (value: string, lookup: Lookup) => fitsOne(value, lookup) !== negated

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
