import type { IssuerEntry } from './config.ts'
import { TokenRefusedError } from './identity.ts'

/**
 * Claims are named by JSON pointers (RFC 6901), because a dotted path would be ambiguous: Kubernetes has a claim whose name is
 * `kubernetes.io`.
 */
type Claims = Readonly<Record<string, unknown>>

/** The value at a pointer; undefined when there is none. Follows only own keys of objects, no array indices. */
function claimAt (claims: Claims, pointer: string): unknown {
  let value: unknown = claims
  for (const part of pointer.slice(1).split('/')) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, key)) return undefined
    value = (value as Record<string, unknown>)[key]
  }
  return value
}

type Scalar = string | number | boolean
const isScalar = (value: unknown): value is Scalar => ['string', 'number', 'boolean'].includes(typeof value)

/** Every required claim must equal one of its accepted values. In a claim that is a list, one element must. */
export function requireClaims (claims: Claims, required: NonNullable<IssuerEntry['requiredClaims']>): void {
  for (const [pointer, wanted] of Object.entries(required)) {
    const value = claimAt(claims, pointer)
    if (value === undefined) throw new TokenRefusedError('claim-missing', { claim: pointer })
    const accepted: readonly unknown[] = [wanted].flat()
    const given: readonly unknown[] = Array.isArray(value) ? value : [value]
    if (!given.some(element => accepted.includes(element))) throw new TokenRefusedError('claim-wrong', { claim: pointer })
  }
}

// The pattern of job.team in src/request.ts. It excludes `*`, so a claim alone makes nobody an administrator: only `map` can.
const teamForm = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

/**
 * The teams of a token. The claim is a string or a list of strings. With `map`, only mapped values count. Without it, each
 * value must be a valid team name.
 */
export function teamsOf (claims: Claims, { claim, map }: IssuerEntry['team']): string[] {
  const value = claimAt(claims, claim)
  if (value === undefined) throw new TokenRefusedError('team-missing', { claim })
  const values: readonly unknown[] = Array.isArray(value) ? value : [value]
  const teams = new Set<string>()
  for (const name of values) {
    if (typeof name !== 'string') throw new TokenRefusedError('claim-wrong', { claim })
    if (map === undefined) {
      if (!teamForm.test(name)) throw new TokenRefusedError('claim-wrong', { claim })
      teams.add(name)
    } else if (Object.hasOwn(map, name)) {
      for (const team of map[name] ?? []) teams.add(team)
    }
  }
  if (teams.size === 0) throw new TokenRefusedError('team-missing', { claim })
  return [...teams]
}

const maxAttributeLength = 1024

type AttributesConfig = Pick<IssuerEntry, 'attributes' | 'requiredAttributes'>

/** Attributes for guardrails. A missing claim gives no attribute, unless it is required. A claim that is not a scalar is refused. */
export function attributesOf (claims: Claims, config: AttributesConfig): Record<string, string> {
  const { attributes: pointers = {}, requiredAttributes: required = [] } = config
  const attributes: Record<string, string> = {}
  for (const [name, pointer] of Object.entries(pointers)) {
    const value = claimAt(claims, pointer)
    if (value === undefined || value === null) {
      if (required.includes(name)) throw new TokenRefusedError('claim-missing', { claim: pointer })
      continue
    }
    if (!isScalar(value)) throw new TokenRefusedError('claim-wrong', { claim: pointer })
    const text = String(value)
    if (text.length > maxAttributeLength) throw new TokenRefusedError('claim-wrong', { claim: pointer })
    attributes[name] = text
  }
  return attributes
}
