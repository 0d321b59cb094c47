import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { ConfigError } from '../config-file.ts'
import { identityFaults, type IdentityConfig, type TokenEntry } from './config.ts'
import {
  identityUnavailable, IssuerUnavailableError, TokenRefusedError, unauthenticated, type Authenticator, type Identity, type OnRefusal
} from './identity.ts'
import type { FetchJsonOptions } from './issuer-keys.ts'

interface IdentityDeps {
  now: () => Date
  /** The file of the config, for errors. */
  file?: string
  /** Gets the reason of each refusal, unless the call has its own `onRefusal`. Nothing in it is secret. */
  onRefusal?: OnRefusal
  readFile?: (path: string) => string
  fetchJson?: (url: URL, options: FetchJsonOptions) => Promise<unknown>
}

/** The authenticator for a config. Throws ConfigError with the faults of the config, or when a file that it names cannot be read. */
export function loadIdentity (config: unknown, deps: IdentityDeps): Authenticator {
  const { file = 'identity', readFile = path => readFileSync(path, 'utf8') } = deps
  const faults = identityFaults(config)
  if (faults.length > 0) throw new ConfigError(faults, file)
  const { tokens, issuers } = config as IdentityConfig
  const unreadable = issuers.flatMap((issuer, index) => (['caFile', 'bearerFile'] as const).flatMap(key => {
    const path = issuer[key]
    const pointer = `/issuers/${index}/${key}`
    try {
      return path !== undefined && readFile(path).trim() === '' ? [{ pointer, message: 'is empty' }] : []
    } catch {
      return [{ pointer, message: 'cannot be read' }]
    }
  }))
  if (unreadable.length > 0) throw new ConfigError(unreadable, file)

  const verifyStaticToken = staticTokens(tokens, deps.now)
  // Without an issuer its library is not loaded before somebody sends a JWT.
  const loadJwts = async () => {
    const [{ oidcTokens }, { fetchJson }] = await Promise.all([import('./oidc.ts'), import('./issuer-keys.ts')])
    return oidcTokens(issuers, { now: deps.now, readFile, fetchJson: deps.fetchJson ?? fetchJson })
  }
  let jwts = issuers.length > 0 ? loadJwts() : undefined
  // Whoever sends a JWT gets the error.
  jwts?.catch(() => {})
  const verifyJwt = async (token: string) => {
    jwts ??= loadJwts()
    return (await jwts)(token)
  }
  return {
    async authenticate (header, onRefusal = deps.onRefusal) {
      try {
        const token = bearerToken(header)
        return looksLikeStaticToken(token) ? verifyStaticToken(token) : await verifyJwt(token)
      } catch (error) {
        if (error instanceof IssuerUnavailableError) {
          onRefusal?.('issuer-down', { issuer: error.issuer, error: error.message })
          throw identityUnavailable(error.retryAfterSeconds)
        }
        if (!(error instanceof TokenRefusedError)) throw error
        onRefusal?.(error.reason, error.details)
        throw unauthenticated()
      }
    }
  }
}

// RFC 6750 section 2.1: b64token.
const bearer = /^bearer +([A-Za-z0-9\-._~+/]+=*)$/i

/** The token of a Bearer header (RFC 9110 section 11.4: the case of the scheme does not matter, and one or more spaces follow it). */
export function bearerToken (header: string | undefined): string {
  if (header === undefined || header === '') throw new TokenRefusedError('header-missing')
  const token = bearer.exec(header)?.[1]
  if (token === undefined) throw new TokenRefusedError('header-malformed')
  return token
}

// --- static tokens ---

/** Secret scanners find a leaked token by its fixed prefix. */
const tokenPrefix = 'jat_'
const tokenForm = /^jat_[a-z0-9][a-z0-9-]{0,62}_[A-Za-z0-9_-]{43}$/

const sha256 = (text: string) => hash('sha256', text, 'buffer')

/** A new token, `jat_<id>_<32 random bytes as base64url>`, and its hash for the config. */
export function mintToken (id: string, random: (bytes: number) => Buffer = randomBytes): { token: string, sha256: string } {
  const token = `${tokenPrefix}${id}_${random(32).toString('base64url')}`
  if (!tokenForm.test(token)) {
    throw new RangeError('A token id has 1 to 63 characters of a-z, 0-9 and -, and starts with a letter or digit.')
  }
  return { token, sha256: sha256(token).toString('hex') }
}

const looksLikeStaticToken = (token: string) => token.startsWith(tokenPrefix)

/**
 * Verifies static tokens. Only tokens in the form of mintToken() are accepted: an unsalted, fast hash is safe only for a secret of
 * 256 random bits. All entries are always compared, so that the time reveals neither which one matched nor how nearly.
 */
export function staticTokens (entries: readonly TokenEntry[], now: () => Date): (token: string) => Identity {
  const known = entries.map(entry => ({
    digest: Buffer.from(entry.sha256, 'hex'),
    expiresAt: entry.expiresAt === undefined ? null : Date.parse(entry.expiresAt),
    entry
  }))

  return token => {
    const digest = sha256(token)
    let found: (typeof known)[number] | undefined
    for (const candidate of known) {
      if (timingSafeEqual(candidate.digest, digest)) found = candidate
    }
    if (!tokenForm.test(token) || !found) throw new TokenRefusedError('token-unknown')
    const { entry, expiresAt } = found
    // Written so that NaN means expired, although the check of the config already refuses such an expiresAt.
    if (expiresAt !== null && !(now().getTime() < expiresAt)) throw new TokenRefusedError('token-expired', { token: entry.id })
    return {
      id: `token:${entry.id}`,
      kind: 'token',
      teams: [...entry.teams],
      attributes: { ...entry.attributes },
      expiresAt
    }
  }
}
