import { UnknownElementError } from '../unknown-element.ts'
import { negative, positive, rememberingLast, type Comparison, type Operator } from './comparison.ts'

// W3C's profile of ISO 8601, as far as a zone is given, and the bare day; https://www.w3.org/TR/NOTE-datetime
const iso = /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/
const epochSeconds = /^\d{1,12}(\.\d{1,3})?$/

/**
 * Epoch milliseconds of an ISO 8601 instant with a zone, a day (its first instant in UTC), or epoch seconds.
 * @throws UnknownElementError for anything else, the 30th of February included
 */
export const readInstant = (text: string): number => {
  if (epochSeconds.test(text)) return Math.round(Number(text) * 1000)
  const parsed = iso.exec(text)
  const at = parsed === null ? NaN : Date.parse(text)
  if (Number.isNaN(at) || !isDay(text.slice(0, 10))) throw new UnknownElementError(`not an instant: ${JSON.stringify(text)}`)
  return at
}

/** Date.parse rolls 02-30 over to 03-02: a late day has to survive the way there and back. */
const isDay = (day: string): boolean => day.slice(8) <= '28' || new Date(day).toISOString().startsWith(day)

const readOnce = rememberingLast(readInstant)

const compare = (holds: (context: number, policy: number) => boolean) => (policyValue: string): Comparison => {
  const policy = readInstant(policyValue)
  return contextValue => holds(readOnce(contextValue), policy)
}

const equal = compare((context, policy) => context === policy)

/** Source: IAM User Guide, "Date condition operators". Policy variables are not allowed there, so `${…}` is not an instant. */
export const dateOperators: Record<string, Operator> = {
  DateEquals: positive(equal),
  DateNotEquals: negative(equal),
  DateLessThan: positive(compare((context, policy) => context < policy)),
  DateLessThanEquals: positive(compare((context, policy) => context <= policy)),
  DateGreaterThan: positive(compare((context, policy) => context > policy)),
  DateGreaterThanEquals: positive(compare((context, policy) => context >= policy))
}
