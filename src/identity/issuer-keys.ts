import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey, type RemoteJWKSet } from 'jose'
import { isLoopback, urlFault } from '../secure-url.ts'
import { IssuerUnavailableError } from './identity.ts'

export interface FetchJsonOptions {
  /** PEM certificates of the trusted authorities, instead of the system's. */
  ca?: string
  /** Bearer token to send. */
  bearer?: string
  /** For the request and its whole answer. */
  timeoutMs: number
}

interface KeySource {
  /** The configured name, for errors. */
  name: string
  issuer: string
  /** Undefined: found by OpenID Connect discovery. */
  jwksUri?: string
  caFile?: string
  bearerFile?: string
  /** How long keys are used before they are fetched again. For as long, an outage of the issuer has no effect. */
  cacheSeconds: number
  /** How long after a fetch an unknown key id causes no new fetch. */
  cooldownSeconds: number
  timeoutSeconds: number
}

export interface KeySourceDeps {
  now: () => Date
  readFile: (path: string) => string
  fetchJson: (url: URL, options: FetchJsonOptions) => Promise<unknown>
}

// jose's cooldown starts at the last successful fetch. Without this one, each token would cause a request while the issuer is down.
const retrySeconds = 5
const discoveryTtlSeconds = 3600

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** OpenID Connect Discovery 1.0 section 4: the path is appended to the issuer without its final slash. */
const discoveryUrl = (issuer: string) => new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`)

/**
 * The keys of one issuer, cached and renewed; their URL is configured or discovered. Unknown key ids cause at most one request per
 * cooldown. While the issuer is down, there is at most one request per retrySeconds. Rejects with IssuerUnavailableError.
 */
export function issuerKeys (source: KeySource, deps: KeySourceDeps): JWTVerifyGetKey {
  // By URL: when only discovery is down, keys with a known URL must still be renewed.
  const lastFailure = new Map<string, { at: number, message: string }>()
  let keys: { url: string, set: RemoteJWKSet, foundAt: number } | undefined
  let finding: Promise<RemoteJWKSet> | undefined

  async function ask (url: URL, bearerAllowed: boolean): Promise<unknown> {
    const failure = lastFailure.get(url.href)
    if (failure) {
      const wait = failure.at + retrySeconds * 1000 - deps.now().getTime()
      // After the clock is set back, the wait must not get longer than retrySeconds.
      if (wait > 0 && wait <= retrySeconds * 1000) throw new IssuerUnavailableError(source.name, failure.message, Math.ceil(wait / 1000))
    }
    try {
      const options: FetchJsonOptions = { timeoutMs: source.timeoutSeconds * 1000 }
      // Read at every request: Kubernetes replaces both files while the service runs.
      if (source.caFile !== undefined) options.ca = deps.readFile(source.caFile)
      if (source.bearerFile !== undefined) {
        if (!bearerAllowed) {
          throw new Error('the discovered jwks_uri has another origin, which must not get the bearer token: configure jwksUri')
        }
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
    if (!isObject(document)) throw failed(url, 'is not an object')
    // OpenID Connect Discovery 1.0 section 4.3. Otherwise one tenant of a host could act as another.
    if (document.issuer !== source.issuer) throw failed(url, 'has another issuer')
    const { jwks_uri: jwksUri } = document
    if (typeof jwksUri !== 'string') throw failed(url, 'has no jwks_uri')
    const fault = urlFault(jwksUri)
    if (fault !== undefined) throw failed(url, `jwks_uri ${fault}`)
    // A remote issuer must not make the service send requests to this machine.
    if (isLoopback(new URL(jwksUri)) && !isLoopback(url)) throw failed(url, 'jwks_uri is a loopback address')
    return jwksUri
  }

  async function find (): Promise<RemoteJWKSet> {
    const url = source.jwksUri ?? await discover()
    const foundAt = deps.now().getTime()
    // With the same URL, the cached keys stay.
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
        if (!isObject(set) || !Array.isArray(set.keys) || !set.keys.every(isObject)) throw failed(url, 'is not a JWK set')
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
      // The URL found earlier is used further. The key set itself checks how old its keys are.
      if (keys) return keys.set
      throw error
    }
  }

  return async (header, token) => (await current())(header, token)
}

// The largest public key sets have about 30 KB.
const maxBodyBytes = 1024 * 1024

/**
 * GETs a JSON document of an issuer, with a time limit and a size limit. Follows no redirects: they would send the bearer token,
 * or move the trust, to another host. Not fetch(), which needs another dependency for its own certificate authority.
 */
export async function fetchJson (url: URL, { ca, bearer, timeoutMs }: FetchJsonOptions): Promise<unknown> {
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest
  // Not AbortSignal.timeout(), whose timer stays after the answer.
  const limit = new AbortController()
  const timer = setTimeout(() => limit.abort(new DOMException('Time is up.', 'TimeoutError')), timeoutMs)
  const body = await new Promise<Buffer>((resolve, reject) => {
    const request = send(url, {
      // There are minutes between two fetches: a connection kept open would be closed by then.
      agent: false,
      headers: {
        accept: 'application/json, application/jwk-set+json', ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` })
      },
      signal: limit.signal,
      ...(ca === undefined ? {} : { ca })
    }, response => {
      if (response.statusCode !== 200) {
        response.destroy()
        reject(new Error(`answered with status ${response.statusCode}`))
        return
      }
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > maxBodyBytes) response.destroy(new Error(`answered with more than ${maxBodyBytes} bytes`))
        else chunks.push(chunk)
      })
      response.on('end', () => resolve(Buffer.concat(chunks)))
      response.on('error', reject)
    })
    request.on('error', reject)
    request.end()
  }).finally(() => clearTimeout(timer))
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
}
