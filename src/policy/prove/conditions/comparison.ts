import type { Lookup } from '../wildcard.ts'

/** One value of the policy, compiled: does one value of the request's context fit it? */
export type Comparison = (contextValue: string, lookup: Lookup) => boolean

/** How an operator reads a value of the policy; throws UnknownElementError when it cannot. */
export interface Operator {
  compile: (policyValue: string) => Comparison
  /** The operator is the opposite of what `compile` compares: `…NotEquals`, `…NotLike`, `NotIpAddress`. */
  negated: boolean
}

export const positive = (compile: Operator['compile']): Operator => ({ compile, negated: false })
export const negative = (compile: Operator['compile']): Operator => ({ compile, negated: true })

/** One value of a request is compared with many of a policy, one after the other: it need be read only once. */
export const rememberingLast = <T>(read: (text: string) => T): (text: string) => T => {
  let last: { text: string, value: T } | undefined
  return text => {
    if (last?.text !== text) last = { text, value: read(text) }
    return last.value
  }
}
