import { UnknownElementError } from '../unknown-element.ts'
import { negative, positive, type Comparison, type Operator } from './comparison.ts'

const decimal = /^[+-]?\d+(\.\d+)?$/

const readNumber = (text: string): number => {
  if (!decimal.test(text)) throw new UnknownElementError(`not a number: ${JSON.stringify(text)}`)
  return Number(text)
}

const compare = (holds: (context: number, policy: number) => boolean) => (policyValue: string): Comparison => {
  const policy = readNumber(policyValue)
  return contextValue => holds(readNumber(contextValue), policy)
}

const equal = compare((context, policy) => context === policy)

const readBoolean = (text: string): boolean => {
  const folded = text.toLowerCase()
  if (folded !== 'true' && folded !== 'false') throw new UnknownElementError(`not a boolean: ${JSON.stringify(text)}`)
  return folded === 'true'
}

/** Source: IAM User Guide, "Numeric condition operators" and "Boolean condition operators". */
export const numberOperators: Record<string, Operator> = {
  NumericEquals: positive(equal),
  NumericNotEquals: negative(equal),
  NumericLessThan: positive(compare((context, policy) => context < policy)),
  NumericLessThanEquals: positive(compare((context, policy) => context <= policy)),
  NumericGreaterThan: positive(compare((context, policy) => context > policy)),
  NumericGreaterThanEquals: positive(compare((context, policy) => context >= policy)),
  Bool: positive(policyValue => {
    const policy = readBoolean(policyValue)
    return contextValue => readBoolean(contextValue) === policy
  })
}
