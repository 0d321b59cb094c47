import { many, type PolicyDocument, type Statement } from '../../domain/policy-document.ts'
import { readBlock, writeAddress } from './conditions/ip.ts'
import { compile } from './evaluate.ts'
import { guideOnlyAction, kindOfAction } from './known-actions.ts'
import { UnknownElementError } from './unknown-element.ts'

// IAM and STS quotas, "IAM and STS character limits": tab, line feed, carriage return and U+0020 to U+00FF.
const outsideIamText = /[^\t\n\r\u0020-\u00ff]/
const sidText = /^[A-Za-z0-9]+$/

// IAM compares to the second; every instant that is rendered is written so.
const utcSecond = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/

/** A CIDR that IAM would read, but not as it is written: host bits, a missing mask, a spelling that is not canonical. */
const isCanonical = (cidr: string): boolean => {
  const { family, low } = readBlock(cidr)
  return cidr === `${writeAddress(family, low)}/${cidr.split('/')[1]}`
}

function * wrongIn (statement: Statement, allowGuideAction: boolean): Generator<string> {
  if (statement.Sid !== undefined && !sidText.test(statement.Sid)) yield `Sid ${JSON.stringify(statement.Sid)} is not letters and digits`
  for (const action of many(statement.Action)) {
    const wildcard = /[*?]/.test(action)
    const excused = allowGuideAction && action === guideOnlyAction
    // A wildcard in an Allow is refused by the proof, whatever it stands for.
    if (!wildcard && kindOfAction(action) === undefined && !excused) yield `${JSON.stringify(action)} is not an action`
  }
  for (const [operator, keys] of Object.entries(statement.Condition ?? {})) {
    const names = Object.keys(keys).map(key => key.toLowerCase())
    if (new Set(names).size !== names.length) yield `a key twice under ${operator}`
    for (const [key, value] of Object.entries(keys)) {
      const values = many(value)
      if (new Set(values).size !== values.length) yield `a value of ${key} twice`
      for (const text of values) {
        if (operator.includes('IpAddress') && !isCanonical(text)) yield `${JSON.stringify(text)} is not a canonical CIDR`
        if (operator.startsWith('Date') && !utcSecond.test(text)) yield `${JSON.stringify(text)} is not an instant to the second in UTC`
      }
    }
  }
}

/**
 * What is wrong with a policy as such, whoever asked for it: actions that no service knows, dates and CIDRs that are none,
 * operators and elements that the evaluator does not know, Sids used twice. Empty when nothing is.
 * @param allowGuideAction whether the guide's `s3:CompleteMultipartUpload` may stand, which is no action
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
