import { UnknownElementError } from '../unknown-element.ts'
import type { Lookup } from '../wildcard.ts'
import type { Operator } from './comparison.ts'
import { dateOperators } from './date.ts'
import { ipOperators } from './ip.ts'
import { numberOperators } from './number.ts'
import { stringOperators } from './string.ts'

/** One operator over one context key; `values` are the request's values of that key, undefined when it has none. */
export type Test = (values: readonly string[] | undefined, lookup: Lookup) => boolean

const operators = new Map<string, Operator>(
  Object.entries({ ...stringOperators, ...dateOperators, ...numberOperators, ...ipOperators }))

// Qualifier, operator, IfExists. IAM folds their case; a policy that needs that is taken as a slip and not read.
const operatorName = /^(?:(ForAllValues|ForAnyValue):)?([A-Za-z]+?)(IfExists)?$/

const compileNull = (policyValues: string[]): Test => {
  const wanted = policyValues.map(value => {
    if (value !== 'true' && value !== 'false') throw new UnknownElementError(`Null ${JSON.stringify(value)}`)
    return value === 'true'
  })
  return values => wanted.includes(values === undefined || values.length === 0)
}

/**
 * Source: IAM User Guide, "IAM JSON policy elements: Condition operators" (a missing key fails what is positive, passes
 * what is negated and what is IfExists) and "Set operators for multivalued context keys".
 * @throws UnknownElementError for an operator, or a value of it, that this evaluator does not know
 */
export const compileTest = (name: string, policyValues: string[]): Test => {
  const [, qualifier, base = '', ifExists] = operatorName.exec(name) ?? []
  if (policyValues.length === 0) throw new UnknownElementError(`${name} without a value`)
  if (name === 'Null') return compileNull(policyValues)
  const operator = operators.get(base)
  // Of a missing key, ForAnyValue says no and IfExists says yes; AWS does not say which of them wins.
  if (operator === undefined || (qualifier === 'ForAnyValue' && ifExists)) throw new UnknownElementError(`condition operator ${JSON.stringify(name)}`)

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
