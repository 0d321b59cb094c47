import { randomInt } from 'node:crypto'
import { ulid } from 'ulid'

/**
 * How a grant is named at the provider. Everything a sweep without a ledger needs is in the name and the path:
 * ListUsers returns both, and no tags (API_ListUsers).
 */

const maxUserName = 64

/** The id of a new grant: a ULID, 10 characters of time and 16 at random. */
export const newGrantId = (): string => ulid(undefined, randomDigit)

/** randomInt() draws many random bytes at once and keeps them. By itself, ulid() would draw for each of the 16 characters. */
const randomDigit = (): number => randomInt(32) / 32

/**
 * `<prefix>-<job>-<expiry>-<id>`: the job id is what gets cut, never the id. All lower case, since IAM's names are unique
 * case-insensitively (IAM quotas page). `id` is a lower-case ULID, 26 characters; expiresAt is epoch ms.
 */
export const principalName = (prefix: string, jobId: string, expiresAt: number, id: string): string => {
  const tail = `${compact(expiresAt)}-${id}`
  const room = maxUserName - prefix.length - tail.length - 2
  const job = jobId.toLowerCase().replace(/[^a-z0-9]+/g, '-').slice(0, Math.max(0, room)).replace(/^-+|-+$/g, '')
  return job ? `${prefix}-${job}-${tail}` : `${prefix}-${tail}`
}

/** The same name with another expiry, rounded up to the second. A name that is not ours stays. */
export const withExpiry = (name: string, expiresAt: number): string =>
  name.replace(/-\d{8}t\d{6}z(-[0-9a-z]{26})$/, `-${compact(Math.ceil(expiresAt / 1000) * 1000)}$1`)

/** The grant's id, of a name as principalName() gives it. */
export const grantIdOf = (name: string): string => name.slice(-26)

/** `<base><expiry in epoch seconds>/`, so that one ListUsers page tells which of 1,000 users are over. */
export const principalPath = (base: string, expiresAt: number): string => `${base}${Math.ceil(expiresAt / 1000)}/`

/** Epoch ms; undefined: not one of ours. */
export const expiryOfPath = (base: string, path: string): number | undefined => {
  const rest = path.startsWith(base) ? path.slice(base.length) : ''
  return /^\d{1,12}\/$/.test(rest) ? Number.parseInt(rest, 10) * 1000 : undefined
}

/** For providers without paths. Epoch ms; undefined: not one of ours. */
export const expiryOfName = (prefix: string, name: string): number | undefined => {
  const match = name.startsWith(`${prefix}-`) ? /-(\d{8})t(\d{6})z-[0-9a-z]{26}$/.exec(name) : null
  if (!match?.[1] || !match[2]) return undefined
  const iso = `${match[1].replace(/(....)(..)(..)/, '$1-$2-$3')}T${match[2].replace(/(..)(..)(..)/, '$1:$2:$3')}Z`
  const at = Date.parse(iso)
  return Number.isNaN(at) ? undefined : at
}

const compact = (epochMs: number): string => new Date(epochMs).toISOString().replace(/\.\d+/, '').replace(/[-:]/g, '').toLowerCase()

/**
 * A job id as the value of a tag, which has only letters, digits, spaces and _ . : / = + - @ (IAM API, Tag). An id of these is its own
 * tag. Another one begins with `=`, as no id does, and has `=5B` for `[`, so that different ids stay different.
 */
export const jobTag = (id: string): string => /[^A-Za-z0-9._:/@=+-]/.test(id)
  ? `=${id.replace(/[^A-Za-z0-9._:/@+-]/g, character => `=${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)}`
  : id
