import { Refusal } from './refusal.ts'

/** The form's fields but Action and Version, flat as they came: `Tags.member.1.Key`. No prototype. */
export type Params = Readonly<Record<string, string>>

export interface Tag { key: string, value: string }

// Forms and lengths are those of the IAM API reference (existingUserNameType, pathType, arnType, tagKeyType, ...).
const name = /^[\w+=,.@-]+$/
const path = /^\/(?:[!-\x7f]+\/)?$/
const pathPrefix = /^\/[!-\x7f]*$/
const documentText = /^[\t\n\r\u0020-\u00ff]+$/
const tagKey = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]+$/u
const tagValue = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u
const maxTags = 50

function optionalParam (params: Params, key: string): string | null {
  return params[key] ?? null
}

export function param (params: Params, key: string): string {
  const value = params[key]
  if (value === undefined) throw constraint(key, 'Member must not be null', 'Value null')
  return value
}

export function userName (params: Params, key = 'UserName'): string {
  return named(params, key, 64)
}

export function roleName (params: Params): string {
  return named(params, 'RoleName', 64)
}

export function policyName (params: Params): string {
  return named(params, 'PolicyName', 128)
}

export function sessionName (params: Params, key: string): string {
  const value = named(params, key, 64)
  if (value.length < 2) throw constraint(key, 'Member must have length greater than or equal to 2')
  return value
}

/** User of a call on access keys. AWS would take the caller's own; the admin here is no user. */
export function ownerName (params: Params): string {
  if (params.UserName === undefined) {
    throw new Refusal('ValidationError', 'Must specify userName when calling with non-User credentials')
  }
  return userName(params)
}

export function accessKeyId (params: Params): string {
  const value = within(params, 'AccessKeyId', 16, 128)
  if (!/^\w+$/.test(value)) throw constraint('AccessKeyId', 'Member must satisfy regular expression pattern: [\\w]+')
  return value
}

export function pathOf (params: Params, key = 'Path'): string {
  const value = params[key] ?? '/'
  if (value.length > 512) throw constraint(key, 'Member must have length less than or equal to 512')
  if (!path.test(value)) {
    throw new Refusal('ValidationError', `The specified value for ${camel(key)} is invalid. It must begin and end with / ` +
      'and contain only alphanumeric characters and/or / characters.')
  }
  return value
}

export function pathPrefixOf (params: Params): string {
  const value = params.PathPrefix ?? '/'
  if (value.length > 512) throw constraint('PathPrefix', 'Member must have length less than or equal to 512')
  if (!pathPrefix.test(value)) {
    throw new Refusal('ValidationError', 'The specified value for pathPrefix is invalid. It must begin with / ' +
      'and contain only alphanumeric characters and/or / characters.')
  }
  return value
}

export function arn (params: Params, key: string): string {
  return within(params, key, 20, 2048)
}

/** Text of a policy document, its form not yet checked. */
export function documentOf (params: Params, key: string, longest = 131_072): string {
  const value = within(params, key, 1, longest)
  if (!documentText.test(value)) throw new Refusal('ValidationError', `The specified value for ${camel(key)} is invalid.`)
  return value
}

export function description (params: Params): string | null {
  const value = optionalParam(params, 'Description')
  if (value !== null && value.length > 1000) throw constraint('Description', 'Member must have length less than or equal to 1000')
  return value
}

export function wholeNumber (params: Params, key: string, from: number, to: number): number | null {
  const text = optionalParam(params, key)
  if (text === null) return null
  const value = /^-?\d{1,10}$/.test(text) ? Number(text) : NaN
  if (Number.isNaN(value)) throw new Refusal('ValidationError', `${key} must be an integer.`)
  if (value < from) throw constraint(key, `Member must have value greater than or equal to ${from}`)
  if (value > to) throw constraint(key, `Member must have value less than or equal to ${to}`)
  return value
}

export function oneOf<T extends string> (params: Params, key: string, values: readonly T[]): T | null {
  const text = optionalParam(params, key)
  if (text === null) return null
  const value = values.find((candidate) => candidate === text)
  if (value === undefined) throw constraint(key, `Member must satisfy enum value set: [${values.join(', ')}]`)
  return value
}

export function flag (params: Params, key: string): boolean {
  return oneOf(params, key, ['true', 'false']) === 'true'
}

/** `prefix.member.1`, `prefix.member.2`, ... in order. */
export function members (params: Params, prefix: string, suffix = ''): string[] {
  const found: string[] = []
  for (let i = 1; ; i++) {
    const value = params[`${prefix}.member.${i}${suffix}`]
    if (value === undefined) return found
    found.push(value)
  }
}

export function tags (params: Params): Tag[] {
  const found: Tag[] = []
  const seen = new Set<string>()
  for (let i = 1; ; i++) {
    const key = params[`Tags.member.${i}.Key`]
    const value = params[`Tags.member.${i}.Value`]
    if (key === undefined && value === undefined) break
    if (key === undefined) throw constraint(`Tags.${i}.member.key`, 'Member must not be null', 'Value null')
    if (value === undefined) throw constraint(`Tags.${i}.member.value`, 'Member must not be null', 'Value null')
    checkTag(`Tags.${i}.member`, key, value)
    if (seen.has(key.toLowerCase())) {
      throw new Refusal('InvalidInput', 'Duplicate tag keys found. Please note that Tag keys are case insensitive.')
    }
    seen.add(key.toLowerCase())
    found.push({ key, value })
  }
  if (found.length > maxTags) throw constraint('Tags', `Member must have length less than or equal to ${maxTags}`)
  return found
}

/** Adds to `held` (by lower-case key), all or nothing. */
export function mergeTags (held: Map<string, Tag>, added: readonly Tag[]): void {
  const fresh = added.filter(({ key }) => !held.has(key.toLowerCase())).length
  if (held.size + fresh > maxTags) {
    throw new Refusal('LimitExceeded', 'The number of tags has reached the maximum limit.')
  }
  for (const tag of added) held.set(tag.key.toLowerCase(), tag)
}

export function constraint (key: string, rule: string, subject = 'Value'): Refusal {
  return new Refusal('ValidationError', `1 validation error detected: ${subject} at '${camel(key)}' failed to satisfy constraint: ${rule}`)
}

function checkTag (at: string, key: string, value: string): void {
  if (key.length < 1) throw constraint(`${at}.key`, 'Member must have length greater than or equal to 1')
  if (key.length > 128) throw constraint(`${at}.key`, 'Member must have length less than or equal to 128')
  if (value.length > 256) throw constraint(`${at}.value`, 'Member must have length less than or equal to 256')
  if (!tagKey.test(key)) throw constraint(`${at}.key`, `Member must satisfy regular expression pattern: ${tagKey.source}`)
  if (!tagValue.test(value)) throw constraint(`${at}.value`, `Member must satisfy regular expression pattern: ${tagValue.source}`)
  if (/^aws:/i.test(key)) {
    throw new Refusal('InvalidInput', 'Tag keys beginning with aws: are reserved for system use.')
  }
}

function named (params: Params, key: string, longest: number): string {
  const value = within(params, key, 1, longest)
  if (!name.test(value)) {
    throw new Refusal('ValidationError', `The specified value for ${camel(key)} is invalid. ` +
      'It must contain only alphanumeric characters and/or the following: +=,.@_-')
  }
  return value
}

function within (params: Params, key: string, shortest: number, longest: number): string {
  const value = param(params, key)
  if (value.length < shortest) throw constraint(key, `Member must have length greater than or equal to ${shortest}`)
  if (value.length > longest) throw constraint(key, `Member must have length less than or equal to ${longest}`)
  return value
}

function camel (key: string): string {
  return key.charAt(0).toLowerCase() + key.slice(1)
}
