import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Held } from './key-keeper.ts'
import { toldExpiration } from './held-key.ts'

/**
 * The container credentials protocol of the AWS SDKs, on loopback (AWS SDKs and Tools Reference Guide, "Container credential
 * provider"): GET with the token as Authorization; the answer is {AccessKeyId, SecretAccessKey, Token, Expiration}, an error
 * {Code, Message}.
 */

export interface CredentialsServer {
  url: string
  /** What a client sends as Authorization. */
  token: string
  close: () => void
}

const path = '/credentials'

/** Port 0: any free one. Rejects when the port is taken. `failed` gets what goes wrong later: it goes on serving. */
export const serveCredentials = async (
  port: number, validForMs: number, held: () => Promise<Held>, failed: (error: Error) => void = () => {}
): Promise<CredentialsServer> => {
  const token = randomBytes(32).toString('base64url')
  const server = createServer((request, response) => {
    answer(request, token, validForMs, held).then(reply => send(response, reply), () => send(response, internal))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
    server.once('listening', () => server.off('error', reject))
  })
  // Such as accept(2) with no free file descriptor. An error without a listener would end the process.
  server.on('error', failed)
  const address = server.address()
  return {
    url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : port}${path}`,
    token,
    close () {
      server.close()
      server.closeAllConnections()
    }
  }
}

interface Reply { status: number, body: object, headers?: Record<string, string> }

const internal: Reply = { status: 500, body: { Code: 'internal', Message: 'The agent failed.' } }

const answer = async (
  { method, url, headers }: IncomingMessage, token: string, validForMs: number, held: () => Promise<Held>
): Promise<Reply> => {
  if (!same(headers.authorization ?? '', token)) {
    const Message = 'The Authorization header is not this agent’s token: AWS_CONTAINER_AUTHORIZATION_TOKEN or its file is missing, ' +
      'or is that of another agent.'
    return { status: 401, body: { Code: 'unauthorized', Message } }
  }
  if (url !== path) return { status: 404, body: { Code: 'not-found', Message: `Only ${path} is here.` } }
  if (method !== 'GET') {
    return { status: 405, body: { Code: 'method-not-allowed', Message: 'Only GET is allowed.' }, headers: { allow: 'GET' } }
  }
  const given = await held()
  if (!('key' in given)) return { status: given.status, body: { Code: given.code, Message: given.message } }
  const { accessKeyId, secretAccessKey, sessionToken = '', end } = given.key
  return {
    status: 200,
    body: {
      AccessKeyId: accessKeyId,
      SecretAccessKey: secretAccessKey,
      // A user's key has none. botocore and the JavaScript SDK refuse an answer without the field; all take '' for none.
      Token: sessionToken,
      Expiration: toldExpiration(end, validForMs, Date.now())
    }
  }
}

/** Digests are compared, so that neither content nor length of the token shows in the time. */
const same = (given: string, token: string): boolean => timingSafeEqual(digest(given), digest(token))
const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

const send = (response: ServerResponse, { status, body, headers = {} }: Reply): void => {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers }).end(JSON.stringify(body))
}
