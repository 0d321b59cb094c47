import { readFileSync } from 'node:fs'
import { ConfigError } from '../config-file.ts'
import { identityFaults, type IdentityConfig } from './config.ts'
import { identityUnavailable, TokenRefusedError, unauthenticated, type Authenticator, type OnRefusal } from './identity.ts'
import { fetchJson, IssuerUnavailableError, type FetchJsonOptions } from './issuer-keys.ts'
import { oidcTokens } from './oidc.ts'
import { looksLikeStaticToken, staticTokens } from './tokens.ts'

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
  const verifyJwt = oidcTokens(issuers, { now: deps.now, readFile, fetchJson: deps.fetchJson ?? fetchJson })
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
