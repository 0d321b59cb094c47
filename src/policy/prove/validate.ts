import type { AccessSpec } from '../../domain/access-spec.ts'
import type { PolicyDocument, Statement } from '../../domain/policy-document.ts'
import { readBlock, writeAddress } from './conditions.ts'
import { compile } from './evaluate.ts'
import { guideOnlyAction, kindOfAction, kindOfResource } from './known-actions.ts'
import { UnknownElementError } from './wildcard.ts'

// IAM and STS quotas, "IAM and STS character limits": tab, line feed, carriage return and U+0020 to U+00FF.
const outsideIamText = /[^\t\n\r\u0020-\u00ff]/
const sidText = /^[A-Za-z0-9]+$/

// IAM compares to the second, and the renderer writes every instant so.
const utcSecond = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/

/** Whether a CIDR is written in its one canonical form: with a mask, without host bits. IAM would read other forms, too. */
const isCanonical = (cidr: string): boolean => {
  const { family, low } = readBlock(cidr)
  return cidr === `${writeAddress(family, low)}/${cidr.split('/')[1]}`
}

function * wrongIn (statement: Statement, allowGuideAction: boolean): Generator<string> {
  if (statement.Sid !== undefined && !sidText.test(statement.Sid)) yield `Sid ${JSON.stringify(statement.Sid)} is not letters and digits`
  for (const action of [statement.Action ?? []].flat()) {
    const wildcard = /[*?]/.test(action)
    const excused = allowGuideAction && action === guideOnlyAction
    // The proof refuses every wildcard in an Allow.
    if (!wildcard && kindOfAction(action) === undefined && !excused) yield `${JSON.stringify(action)} is not an action`
  }
  for (const [operator, keys] of Object.entries(statement.Condition ?? {})) {
    const names = Object.keys(keys).map(key => key.toLowerCase())
    if (new Set(names).size !== names.length) yield `a key twice under ${operator}`
    for (const [key, value] of Object.entries(keys)) {
      const values = [value].flat()
      if (new Set(values).size !== values.length) yield `a value of ${key} twice`
      for (const text of values) {
        if (operator.includes('IpAddress') && !isCanonical(text)) yield `${JSON.stringify(text)} is not a canonical CIDR`
        if (operator.startsWith('Date') && !utcSecond.test(text)) yield `${JSON.stringify(text)} is not an instant to the second in UTC`
      }
    }
  }
}

/**
 * What is wrong with a policy, whatever was requested: unknown actions, dates and CIDRs that cannot be read, operators and
 * elements that the evaluator does not know, Sids used twice. Empty: nothing is wrong.
 * @param allowGuideAction whether the policy may have the guide's `s3:CompleteMultipartUpload`, which is not an IAM action
 */
export const validate = (policy: PolicyDocument, { allowGuideAction = false } = {}): string[] => {
  try {
    compile(policy)
  } catch (error) {
    if (error instanceof UnknownElementError) return [error.message]
    throw error
  }
  const wrong = policy.Statement.flatMap(statement => [...wrongIn(statement, allowGuideAction)])
  const sids = policy.Statement.map(statement => statement.Sid).filter(sid => sid !== undefined)
  if (policy.Statement.length === 0) wrong.push('no statement')
  if (new Set(sids).size !== sids.length) wrong.push('a Sid twice')
  if (outsideIamText.test(JSON.stringify(policy))) wrong.push('a character that IAM does not take')
  return wrong
}

/*
 * What the prover can prove. Its values are complete for policies in which every test is "equals", "starts with", "is inside a
 * block" or "is before or after an instant": there the values next to each boundary stand for all others. A policy with other
 * tests may be right, but is not proven.
 */

/** The context keys that a policy may test, each with the operators that it may use. */
const provableKeys = new Map<string, RegExp>([
  ['aws:currenttime', /^Date(Not)?(Equals|LessThan|LessThanEquals|GreaterThan|GreaterThanEquals)$/],
  ['aws:sourceip', /^(Not)?IpAddress(IfExists)?$/],
  ['aws:vpcsourceip', /^(Not)?IpAddress(IfExists)?$/],
  ['aws:sourcevpc', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['aws:sourcevpce', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['s3:prefix', /^String(Not)?(Equals|Like)(IfExists)?$/],
  ['kms:viaservice', /^String(Not)?(Equals|Like)(IfExists)?$/]
])

/** Whether a pattern is literal, except for one `*` at its end. */
const plain = (pattern: string): boolean => !/[*?]|\$\{/.test(pattern.replace(/\*$/, ''))

/** @returns what cannot be proven, undefined when all can */
const unprovableInAllow = (statement: Statement, spec: AccessSpec): string | undefined => {
  const buckets = new Set(spec.entries.map(entry => `arn:${spec.partition}:s3:::${entry.bucket}`))
  const keys = new Set(spec.entries.flatMap(entry => entry.kmsKeyArns))
  const guide = spec.layout === 'guide'

  // An action without a resource that it applies to allows nothing today, but it would if a resource were added later.
  const resources = [statement.Resource ?? []].flat()
  const kinds = new Set(resources.map(kindOfResource))
  const actions = [statement.Action].flat().filter(name => !(guide && name === guideOnlyAction))
  const idle = actions.find(name => !kinds.has(kindOfAction(name) ?? 'other'))
  if (idle !== undefined) return `allows ${JSON.stringify(idle)}, which none of its resources can take`
  if (actions.some(name => kindOfAction(name) === 'other')) return 'allows an action outside buckets, objects and keys'
  if (statement.NotResource !== undefined) return 'allows with NotResource'
  // A bucket's name ends before the first slash, so a pattern for several buckets is never among the bucket ARNs.
  const resource = resources.find(arn => !buckets.has(arn.replace(/\/.*$/s, '')) && !keys.has(arn))
  if (resource !== undefined) return `allows on ${JSON.stringify(resource)}`
  const operators = Object.entries(statement.Condition ?? {}).filter(([, asked]) => Object.keys(asked).some(key => /^aws:currenttime$/i.test(key)))
  if (spec.layout === 'everywhere' && operators.length < 2) return 'allows outside any window'
  return undefined
}

const unprovableIn = (statement: Statement, spec: AccessSpec): string | undefined => {
  if (statement.Action === undefined) return 'has no Action'
  const odd = [statement.Resource ?? [], statement.NotResource ?? []].flat(2).find(arn => !plain(arn))
  if (odd !== undefined) return `has a wildcard or variable inside ${JSON.stringify(odd)}`
  for (const [operator, asked] of Object.entries(statement.Condition ?? {})) {
    for (const [key, value] of Object.entries(asked)) {
      if (!provableKeys.get(key.toLowerCase())?.test(operator)) return `asks ${operator} of ${key}`
      if (operator.includes('Like') && ![value].flat().every(plain)) return `has a wildcard or variable inside a value of ${key}`
      if (operator.includes('String') && [value].flat().some(text => text.includes('${'))) return `has a variable in ${key}`
    }
  }
  return statement.Effect === 'Allow' ? unprovableInAllow(statement, spec) : undefined
}

/** Why the policy cannot be proven to be what the spec says; undefined when it can. */
export const unprovable = (policy: PolicyDocument, spec: AccessSpec): string | undefined => {
  for (const [index, statement] of policy.Statement.entries()) {
    const wrong = unprovableIn(statement, spec)
    if (wrong !== undefined) return `statement ${statement.Sid ?? index} ${wrong}`
  }
  return undefined
}
