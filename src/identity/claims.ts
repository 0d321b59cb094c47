import type { IssuerEntry } from './config.ts'
import { TokenRefusedError } from './identity.ts'

/**
 * Claims are named by JSON pointers (RFC 6901): Kubernetes has a claim that is literally called `kubernetes.io`,
 * so a dotted path could not tell the key from the way to it.
 */
export type Claims = Readonly<Record<string, unknown>>

export const pointerForm = '^(/([^~/]|~[01])+)+$'

/** The value a pointer leads to, undefined when there is none. Own keys of objects only, no array indices. */
export function claimAt (claims: Claims, pointer: string): unknown {
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

/** Every required claim must equal one of the values given for it; of a claim that is a list, one element must. */
export function requireClaims (claims: Claims, required: NonNullable<IssuerEntry['requiredClaims']>): void {
  for (const [pointer, wanted] of Object.entries(required)) {
    const value = claimAt(claims, pointer)
    if (value === undefined) throw new TokenRefusedError('claim-missing', { claim: pointer })
    const accepted: readonly unknown[] = Array.isArray(wanted) ? wanted : [wanted]
    const given: readonly unknown[] = Array.isArray(value) ? value : [value]
    if (!given.some(one => accepted.includes(one))) throw new TokenRefusedError('claim-wrong', { claim: pointer })
  }
}

// The form of job.team in src/request.ts. It has no `*`, so a claim can make nobody an administrator: only `map` can.
const teamForm = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

/**
 * The teams a token speaks for. The claim is a string or a list of strings. With `map` only mapped values count;
 * without, each value is a team name and must look like one.
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

const longestAttribute = 1024

/** Attributes for guardrails. A claim that is not there leaves no attribute; one that is no scalar is refused. */
export function attributesOf (claims: Claims, pointers: Record<string, string>): Record<string, string> {
  const attributes: Record<string, string> = {}
  for (const [name, pointer] of Object.entries(pointers)) {
    const value = claimAt(claims, pointer)
    if (value === undefined || value === null) continue
    if (!isScalar(value)) throw new TokenRefusedError('claim-wrong', { claim: pointer })
    const text = String(value)
    if (text.length > longestAttribute) throw new TokenRefusedError('claim-wrong', { claim: pointer })
    attributes[name] = text
  }
  return attributes
}
