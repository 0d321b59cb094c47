import { Refusal } from './refusal.ts'

/** Each kind of policy may have other elements. */
export type DocumentKind = 'identity' | 'trust'

const topKeys = new Set(['Version', 'Id', 'Statement'])
const statementKeys = new Set(['Sid', 'Effect', 'Principal', 'NotPrincipal', 'Action', 'NotAction', 'Resource', 'NotResource', 'Condition'])
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
const operators = new Set([
  'StringEquals', 'StringNotEquals', 'StringEqualsIgnoreCase', 'StringNotEqualsIgnoreCase', 'StringLike', 'StringNotLike',
  'NumericEquals', 'NumericNotEquals', 'NumericLessThan', 'NumericLessThanEquals', 'NumericGreaterThan', 'NumericGreaterThanEquals',
  'DateEquals', 'DateNotEquals', 'DateLessThan', 'DateLessThanEquals', 'DateGreaterThan', 'DateGreaterThanEquals',
  'Bool', 'BinaryEquals', 'IpAddress', 'NotIpAddress', 'ArnEquals', 'ArnLike', 'ArnNotEquals', 'ArnNotLike', 'Null'
])

type Json = Record<string, unknown>

/** Characters that count against IAM's quotas: all but white space. */
export function countedSize (text: string): number {
  return text.replace(/[\t\n\r ]+/g, '').length
}

/** IAM returns documents URL-encoded by RFC 3986, which is stricter than encodeURIComponent. */
export function uriEncode (text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

/**
 * Refuses what IAM refuses when a policy is stored; like IAM it does not look at what actions and condition keys mean.
 * @returns the document's statements
 */
export function checkDocument (text: string, kind: DocumentKind): Json[] {
  const document = parse(text)
  if (!isObject(document)) throw malformed('Syntax errors in policy.')
  if (Object.keys(document).some((key) => !topKeys.has(key))) throw malformed('Syntax errors in policy.')
  if (document.Version !== undefined && document.Version !== '2012-10-17' && document.Version !== '2008-10-17') {
    throw malformed('The policy must contain a valid version string')
  }
  const statements = Array.isArray(document.Statement) ? document.Statement : [document.Statement]
  if (document.Statement === undefined || statements.length === 0) throw malformed('Syntax errors in policy.')
  const sids = new Set<string>()
  for (const statement of statements) {
    if (!isObject(statement)) throw malformed('Syntax errors in policy.')
    checkStatement(statement, kind)
    if (typeof statement.Sid !== 'string' || statement.Sid === '') continue
    if (sids.has(statement.Sid)) throw malformed('Statement IDs (SID) in a single policy must be unique.')
    sids.add(statement.Sid)
  }
  return statements as Json[]
}

function checkStatement (statement: Json, kind: DocumentKind): void {
  if (Object.keys(statement).some((key) => !statementKeys.has(key))) throw malformed('Syntax errors in policy.')
  if (statement.Effect !== 'Allow' && statement.Effect !== 'Deny') throw malformed('Syntax errors in policy.')
  if (statement.Sid !== undefined && !(typeof statement.Sid === 'string' && /^[A-Za-z0-9]*$/.test(statement.Sid))) {
    throw malformed('Statement IDs (SID) should be alpha-numeric.')
  }
  checkActions(exactlyOne(statement, 'Action', 'NotAction', 'Policy statement must contain actions.'))
  if (kind === 'identity') {
    if (statement.Principal !== undefined || statement.NotPrincipal !== undefined) {
      throw malformed('Policy document should not specify a principal.')
    }
    checkResources(exactlyOne(statement, 'Resource', 'NotResource', 'Policy statement must contain resources.'))
  } else {
    if (statement.Resource !== undefined || statement.NotResource !== undefined) {
      throw malformed('Has prohibited field Resource')
    }
    if (statement.Principal === undefined) throw malformed('Missing required field Principal')
    if (statement.Principal !== '*' && !isObject(statement.Principal)) throw malformed('Syntax errors in policy.')
  }
  checkConditions(statement.Condition)
}

function exactlyOne (statement: Json, one: string, other: string, missing: string): string[] {
  const [value, second] = [statement[one], statement[other]]
  if (value === undefined && second === undefined) throw malformed(missing)
  if (value !== undefined && second !== undefined) throw malformed('Syntax errors in policy.')
  const values = strings(value ?? second)
  if (values.length === 0) throw malformed(missing)
  return values
}

function checkActions (actions: string[]): void {
  for (const action of actions) {
    if (action !== '*' && !/^[\w-]+:[\w*?]+$/.test(action)) {
      throw malformed('Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.')
    }
  }
}

function checkResources (resources: string[]): void {
  for (const resource of resources) {
    if (resource !== '*' && !/^arn:[^:]+:[^:]+:[^:]*:[^:]*:.+$/s.test(resource)) {
      throw malformed(`Resource ${resource} must be in ARN format or "*".`)
    }
  }
}

function checkConditions (conditions: unknown): void {
  if (conditions === undefined) return
  if (!isObject(conditions)) throw malformed('Syntax errors in policy.')
  for (const [operator, keys] of Object.entries(conditions)) {
    const base = operator.replace(/^(?:ForAllValues|ForAnyValue):/, '').replace(/IfExists$/, '')
    if (!operators.has(base)) throw malformed(`Invalid Condition type : ${operator}`)
    if (!isObject(keys)) throw malformed('Syntax errors in policy.')
    for (const values of Object.values(keys)) {
      const each = Array.isArray(values) ? values : [values]
      if (each.some((value) => !['string', 'number', 'boolean'].includes(typeof value))) throw malformed('Syntax errors in policy.')
    }
  }
}

function strings (value: unknown): string[] {
  const values = Array.isArray(value) ? value : [value]
  if (values.some((each) => typeof each !== 'string')) throw malformed('Syntax errors in policy.')
  return values as string[]
}

function parse (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw malformed('This policy contains invalid Json')
  }
}

function isObject (value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function malformed (message: string): Refusal {
  return new Refusal('MalformedPolicyDocument', message)
}
