import type { AccessSpec } from '../../domain/access-spec.ts'
import { many, type PolicyDocument, type Statement } from '../../domain/policy-document.ts'
import { guideOnlyAction, kindOfAction, kindOfResource } from './known-actions.ts'

/**
 * The shapes of policy that the prover's values are complete for. In these every test is "equals", "starts with", "lies
 * in a block" or "lies before or after an instant", so that the values next to each boundary stand for all others.
 * What has another shape may be right, but is not proven.
 */

/** The context keys a policy may use, and the operators that it may ask each with. */
export const provableKeys = new Map<string, RegExp>([
  ['aws:currenttime', /^Date(Not)?(Equals|LessThan|LessThanEquals|GreaterThan|GreaterThanEquals)$/],
  ['aws:sourceip', /^(Not)?IpAddress(IfExists)?$/],
  ['aws:vpcsourceip', /^(Not)?IpAddress(IfExists)?$/],
  ['aws:sourcevpc', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['aws:sourcevpce', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['s3:prefix', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['kms:viaservice', /^String(Not)?(Equals|Like)(IfExists)?$/]
])

/** A literal, or one that a single `*` ends. */
const plain = (pattern: string): boolean => !/[*?]|\$\{/.test(pattern.replace(/\*$/, ''))

/** @returns what does not fit, undefined when all does */
const misfitOfAllow = (statement: Statement, spec: AccessSpec): string | undefined => {
  const buckets = new Set(spec.entries.map(entry => `arn:${spec.partition}:s3:::${entry.bucket}`))
  const keys = new Set(spec.entries.flatMap(entry => entry.kmsKeyArns))
  const guide = spec.layout === 'guide'

  // What can do nothing today has no business in a policy: a resource added tomorrow would give it something to do.
  const kinds = new Set(many(statement.Resource).map(kindOfResource))
  const actions = many(statement.Action).filter(name => !(guide && name === guideOnlyAction))
  const idle = actions.find(name => !kinds.has(kindOfAction(name) ?? 'other'))
  if (idle !== undefined) return `allows ${JSON.stringify(idle)}, which none of its resources can take`
  if (actions.some(name => kindOfAction(name) === 'other')) return 'allows an action outside buckets, objects and keys'
  if (statement.NotResource !== undefined) return 'allows with NotResource'
  // A bucket's name ends before the first slash, so a pattern that reaches into the name cannot pass.
  const resource = many(statement.Resource).find(arn => !buckets.has(arn.replace(/\/.*$/s, '')) && !keys.has(arn))
  if (resource !== undefined) return `allows on ${JSON.stringify(resource)}`
  const operators = Object.entries(statement.Condition ?? {}).filter(([, asked]) => Object.keys(asked).some(key => /^aws:currenttime$/i.test(key)))
  if (spec.layout === 'everywhere' && operators.length < 2) return 'allows outside any window'
  return undefined
}

const misfitOf = (statement: Statement, spec: AccessSpec): string | undefined => {
  if (statement.Action === undefined) return 'has no Action'
  const odd = [...many(statement.Resource), ...many(statement.NotResource)].find(arn => !plain(arn))
  if (odd !== undefined) return `has a wildcard or variable inside ${JSON.stringify(odd)}`
  for (const [operator, asked] of Object.entries(statement.Condition ?? {})) {
    for (const [key, value] of Object.entries(asked)) {
      if (!provableKeys.get(key.toLowerCase())?.test(operator)) return `asks ${operator} of ${key}`
      if (operator.includes('Like') && !many(value).every(plain)) return `has a wildcard or variable inside a value of ${key}`
      if (operator.includes('String') && many(value).some(text => text.includes('${'))) return `has a variable in ${key}`
    }
  }
  return statement.Effect === 'Allow' ? misfitOfAllow(statement, spec) : undefined
}

/** Why the policy is outside what can be proven for this request; undefined when it is not. */
export const misfit = (policy: PolicyDocument, spec: AccessSpec): string | undefined => {
  for (const [index, statement] of policy.Statement.entries()) {
    const wrong = misfitOf(statement, spec)
    if (wrong !== undefined) return `statement ${statement.Sid ?? index} ${wrong}`
  }
  return undefined
}
