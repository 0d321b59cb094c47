import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { CompactSign, exportJWK, generateKeyPair, type CryptoKey, type JWK } from 'jose'
import { freePort } from '../servers/daemon.ts'

/** A real OpenID issuer on loopback: discovery, keys, rotation, outages. */
export interface SigningKey {
  kid: string
  alg: string
  privateKey: CryptoKey
  publicKey: CryptoKey
  jwk: JWK
}

export async function signingKey (kid: string, alg = 'RS256'): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, alg, privateKey, publicKey, jwk: { ...await exportJWK(publicKey), kid, alg, use: 'sig' } }
}

export type Payload = Record<string, unknown>

/** A compact JWS over any payload, also an invalid one. */
export function sign (key: SigningKey, payload: Payload | string, header: Record<string, unknown> = {}): Promise<string> {
  const bytes = new TextEncoder().encode(typeof payload === 'string' ? payload : JSON.stringify(payload))
  return new CompactSign(bytes).setProtectedHeader({ alg: key.alg, kid: key.kid, ...header }).sign(key.privateKey)
}

export const base64url = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

export interface Issuer {
  url: string
  keys: JWK[]
  /** The number of requests so far, by path. */
  hits: Record<string, number>
  authorization: (string | undefined)[]
  /** Replaces an answer. Undefined: the normal answer. */
  answer: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined
  /** Stops listening; up() listens on the same port again. */
  down(): Promise<void>
  up(): Promise<void>
}

export async function startIssuer (t: { teardown: (fn: () => unknown) => void }, keys: JWK[]): Promise<Issuer> {
  // Nobody else takes it while the issuer is down.
  const port = await freePort('127.0.0.1')
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    issuer.hits[path] = (issuer.hits[path] ?? 0) + 1
    issuer.authorization.push(request.headers.authorization)
    if (issuer.answer?.(request, response)) return
    response.setHeader('content-type', 'application/json')
    if (path === '/.well-known/openid-configuration') response.end(JSON.stringify({ issuer: issuer.url, jwks_uri: `${issuer.url}/keys` }))
    else if (path === '/keys') response.end(JSON.stringify({ keys: issuer.keys }))
    else response.writeHead(404).end('{}')
  })
  const issuer: Issuer = {
    url: `http://127.0.0.1:${port}`,
    keys,
    hits: {},
    authorization: [],
    answer: undefined,
    async down () {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
    async up () {
      await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
    }
  }
  await issuer.up()
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return issuer
}
