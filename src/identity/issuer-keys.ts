import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey, type RemoteJWKSet } from 'jose'
import { urlFault, isLoopback } from '../secure-url.ts'
import type { FetchJsonOptions } from './fetch-json.ts'

export interface KeySource {
  /** As configured, for errors. */
  name: string
  issuer: string
  /** Without it: OpenID Connect discovery at the issuer. */
  jwksUri?: string
  caFile?: string
  bearerFile?: string
  /** How long keys are used without asking again; also the longest an outage of the issuer goes unnoticed. */
  cacheSeconds: number
  /** After a fetch, how long unknown key ids cause no other one. */
  cooldownSeconds: number
  timeoutSeconds: number
}

export interface KeySourceDeps {
  now: () => Date
  readFile: (path: string) => string
  fetchJson: (url: URL, options: FetchJsonOptions) => Promise<unknown>
}

/** The issuer could not be asked, or answered nonsense. */
export class IssuerUnavailableError extends Error {
  override name = 'IssuerUnavailableError'
  /** Its configured name. */
  readonly issuer: string
  readonly retryAfterSeconds: number

  constructor (issuer: string, message: string, retryAfterSeconds: number, cause?: unknown) {
    super(message, { cause })
    this.issuer = issuer
    this.retryAfterSeconds = retryAfterSeconds
  }
}

// jose counts its cooldown from the last success, so with the issuer down each token would cause a request: this is for those.
const retrySeconds = 5
const discoveryTtlSeconds = 3600

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** OpenID Connect Discovery 1.0 section 4: the path is appended to the issuer, less its final slash. */
export const discoveryUrl = (issuer: string) => new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`)

/**
 * The keys of one issuer: found by discovery or given, cached, rotated. At most one request per cooldown whatever the
 * tokens ask for, at most one per retrySeconds while the issuer is down. Rejects with IssuerUnavailableError.
 */
export function issuerKeys (source: KeySource, deps: KeySourceDeps): JWTVerifyGetKey {
  // By address: an outage of discovery alone must not keep known keys from being renewed.
  const lastFailure = new Map<string, { at: number, message: string }>()
  let keys: { url: string, set: RemoteJWKSet, foundAt: number } | undefined
  let finding: Promise<RemoteJWKSet> | undefined

  async function ask (url: URL, bearerAllowed: boolean): Promise<unknown> {
    const failure = lastFailure.get(url.href)
    if (failure) {
      const wait = failure.at + retrySeconds * 1000 - deps.now().getTime()
      // A clock set back must not keep the issuer locked out.
      if (wait > 0 && wait <= retrySeconds * 1000) throw new IssuerUnavailableError(source.name, failure.message, Math.ceil(wait / 1000))
    }
    try {
      const options: FetchJsonOptions = { timeoutMs: source.timeoutSeconds * 1000 }
      // Read each time: Kubernetes replaces both files while we run.
      if (source.caFile !== undefined) options.ca = deps.readFile(source.caFile)
      if (source.bearerFile !== undefined) {
        if (!bearerAllowed) throw new Error('the discovered jwks_uri is on another origin, which must not get the bearer: configure jwksUri')
        options.bearer = deps.readFile(source.bearerFile).trim()
      }
      const answer = await deps.fetchJson(url, options)
      lastFailure.delete(url.href)
      return answer
    } catch (cause) {
      throw failed(url, cause instanceof Error ? cause.message : 'failed', cause)
    }
  }

  function failed (url: URL, reason: string, cause?: unknown): IssuerUnavailableError {
    const message = `${url.origin}${url.pathname}: ${reason}`
    lastFailure.set(url.href, { at: deps.now().getTime(), message })
    return new IssuerUnavailableError(source.name, message, retrySeconds, cause)
  }

  async function discover (): Promise<string> {
    const url = discoveryUrl(source.issuer)
    const document = await ask(url, true)
    if (!isObject(document)) throw failed(url, 'is no object')
    // OpenID Connect Discovery 1.0 section 4.3: else one tenant of a host could speak for another.
    if (document.issuer !== source.issuer) throw failed(url, 'is of another issuer')
    const { jwks_uri: jwksUri } = document
    if (typeof jwksUri !== 'string') throw failed(url, 'has no jwks_uri')
    const fault = urlFault(jwksUri)
    if (fault !== undefined) throw failed(url, `jwks_uri ${fault}`)
    // A remote issuer has no business with what listens on this machine.
    if (isLoopback(new URL(jwksUri)) && !isLoopback(url)) throw failed(url, 'jwks_uri is on loopback')
    return jwksUri
  }

  async function find (): Promise<RemoteJWKSet> {
    const url = source.jwksUri ?? await discover()
    const foundAt = deps.now().getTime()
    // The same address: keep the cached keys.
    keys = keys?.url === url ? { ...keys, foundAt } : { url, set: remoteSet(new URL(url)), foundAt }
    return keys.set
  }

  function remoteSet (url: URL): RemoteJWKSet {
    const bearerAllowed = source.jwksUri !== undefined || url.origin === new URL(source.issuer).origin
    return createRemoteJWKSet(url, {
      cooldownDuration: source.cooldownSeconds * 1000,
      cacheMaxAge: source.cacheSeconds * 1000,
      [customFetch]: async () => {
        const set = await ask(url, bearerAllowed)
        if (!isObject(set) || !Array.isArray(set.keys) || !set.keys.every(isObject)) throw failed(url, 'is no JWK set')
        return Response.json(set)
      }
    })
  }

  async function current (): Promise<RemoteJWKSet> {
    const age = keys ? deps.now().getTime() - keys.foundAt : Infinity
    if (keys && (source.jwksUri !== undefined || (age >= 0 && age < discoveryTtlSeconds * 1000))) return keys.set
    finding ??= find().finally(() => { finding = undefined })
    try {
      return await finding
    } catch (error) {
      // The address found earlier serves on; whether its keys are fresh enough is the set's own matter.
      if (keys) return keys.set
      throw error
    }
  }

  return async (header, token) => (await current())(header, token)
}
