import * as http from 'node:http'
import * as https from 'node:https'
import * as iam from '@aws-sdk/client-iam'
import * as sts from '@aws-sdk/client-sts'
import { SignatureV4 } from '@smithy/signature-v4'
import { timed } from '../iam/retry.ts'

/** A store as the doctor asks it: calls of IAM and STS by their names, and requests to S3. Nothing is tried twice. */
export interface Store {
  /** @param key signs the call; default: the admin's */
  call: (operation: string, input: object, key?: Key) => Promise<Called>
  /** @param key signs the request; default: the admin's */
  s3: (request: S3Request, key?: Key) => Promise<Answered>
  /** Where S3 can be reached from; null: there is no S3. */
  reach: Reach | null
}

export interface Key { accessKeyId: string, secretAccessKey: string, sessionToken?: string }

export type Called = { ok: true, output: any } | { ok: false, code: string, status: number | null }

export interface S3Request {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  bucket?: string
  key?: string
  query?: Record<string, string>
  headers?: Record<string, string>
  body?: string
  /** The address that the request comes from, one of loopback. */
  from?: string
}

/** `passed`: S3 did it, or says that it may and cannot; `odd`: S3 said neither that the key may nor that it may not. */
export interface Answered { outcome: 'passed' | 'denied' | 'unknown-key' | 'odd', code: string, body: string, date: number | null }

/** `here` and `elsewhere` are loopback addresses; without them the store sees an address that we do not know. */
export interface Reach { secure: boolean, family: 4 | 6, here: string | null, elsewhere: string | null, six: boolean }

export interface StoreOptions {
  region: string
  iamEndpoint?: string
  stsEndpoint?: string
  s3Endpoint?: string
  s3Region?: string
  credentials?: Key
  timeoutMs?: number
}

type Client = iam.IAMClient | sts.STSClient

export const openStore = async (options: StoreOptions): Promise<Store & { close: () => void }> => {
  const { region, iamEndpoint, stsEndpoint = iamEndpoint, s3Endpoint, s3Region = region, timeoutMs = 10_000 } = options
  const shared = { region, maxAttempts: 1 }
  const clientsOf = (credentials: Key | undefined) => ({
    iam: new iam.IAMClient({ ...shared, ...(iamEndpoint && { endpoint: iamEndpoint }), ...(credentials && { credentials }) }),
    sts: new sts.STSClient({ ...shared, ...(stsEndpoint && { endpoint: stsEndpoint }), ...(credentials && { credentials }) })
  })
  const own = clientsOf(options.credentials)
  const admin = async (): Promise<Key> => own.iam.config.credentials()
  const agents = new Map<string, http.Agent>()
  const agentFrom = (protocol: string, localAddress: string | undefined): http.Agent => {
    const name = `${protocol} ${localAddress}`
    const agent = agents.get(name) ??
      new (protocol === 'https:' ? https : http).Agent({ keepAlive: true, ...(localAddress !== undefined && { localAddress }) })
    agents.set(name, agent)
    return agent
  }

  const call: Store['call'] = async (operation, input, key) => {
    const clients = key ? clientsOf(key) : own
    const [commands, client] = stsCalls.has(operation) ? [sts, clients.sts] : [iam, clients.iam]
    const Command = (commands as Record<string, any>)[`${operation}Command`]
    try {
      const { send } = client as { send: (...args: any[]) => Promise<any> }
      return { ok: true, output: await timed(timeoutMs, abortSignal => send.call(client, new Command(input), { abortSignal })) }
    } catch (error) {
      return refusalOf(error)
    } finally {
      if (clients !== own) for (const each of Object.values<Client>(clients)) each.destroy()
    }
  }

  /** AWS SDK for S3 is not shipped: one client of three methods needs only its signer, which the SDK for IAM brings along. */
  const sendToS3 = async (
    { method, bucket, key, query = {}, headers = {}, body = '', from }: S3Request, signedBy: Key | undefined, signal: AbortSignal
  ): Promise<Answered> => {
    if (s3Endpoint === undefined) throw new Error('There is no S3 endpoint.')
    const url = new URL(s3Endpoint)
    if (from !== undefined && url.hostname.includes(':') !== from.includes(':')) url.hostname = from.includes(':') ? '[::1]' : '127.0.0.1'
    const parts = [...(bucket === undefined ? [] : [bucket]), ...(key?.split('/') ?? [])].map(encodeURIComponent)
    const path = `${url.pathname.replace(/\/$/, '')}/${parts.join('/')}`
    const { accessKeyId, secretAccessKey, sessionToken } = signedBy ?? await admin()
    const signer = new SignatureV4({
      service: 's3',
      region: s3Region,
      credentials: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) },
      sha256: own.iam.config.sha256,
      uriEscapePath: false
    })
    const signed = await signer.sign({
      method,
      protocol: url.protocol,
      hostname: url.hostname,
      path,
      query,
      headers: { host: url.host, 'user-agent': userAgent, 'content-length': String(Buffer.byteLength(body)), ...headers },
      body
    })
    const asked = Object.entries(query).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join('&')
    const request = (url.protocol === 'https:' ? https : http).request({
      method,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port,
      path: asked === '' ? path : `${path}?${asked}`,
      headers: signed.headers,
      agent: agentFrom(url.protocol, from === '::1' ? undefined : from),
      signal
    })
    return new Promise((resolve, reject) => {
      request.on('error', reject)
      request.on('response', response => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const date = Date.parse(response.headers.date ?? '')
          resolve(answerOf(response.statusCode ?? 0, Buffer.concat(chunks).toString(), Number.isNaN(date) ? null : date))
        })
      })
      request.end(body)
    })
  }

  const s3: Store['s3'] = (request, signedBy) => timed(timeoutMs, signal => sendToS3(request, signedBy, signal))

  const reach = s3Endpoint === undefined ? null : await reachOf(new URL(s3Endpoint), request => s3(request))
  return {
    call,
    s3,
    reach,
    close () {
      for (const client of Object.values<Client>(own)) client.destroy()
      for (const agent of agents.values()) agent.destroy()
    }
  }
}

export const userAgent = 'job-access-doctor/1'

const stsCalls = new Set(['AssumeRole', 'GetCallerIdentity'])

const refusalOf = (error: unknown): Called => {
  const { name, $metadata } = error as { name?: string, $metadata?: { httpStatusCode?: number } }
  const status = $metadata?.httpStatusCode ?? null
  // Ceph 16 answers without a name that the SDK could read.
  const named = name !== undefined && !/^(Unknown|UnknownError|Error|TypeError|SyntaxError|TimeoutError|AbortError)$/.test(name)
  return { ok: false, code: named ? name.replace(/Exception$/, '') : status === null ? 'NoAnswer' : String(status), status }
}

const unknownKey = ['InvalidAccessKeyId', 'InvalidClientTokenId', 'ExpiredToken', 'InvalidToken', 'SignatureDoesNotMatch']

const answerOf = (status: number, body: string, date: number | null): Answered => {
  const code = /<Code>([^<]*)<\/Code>/.exec(body)?.[1] ?? String(status)
  const outcome = (status >= 200 && status < 300) || mayButCannot.includes(code)
    ? 'passed'
    : unknownKey.includes(code) ? 'unknown-key' : status === 403 ? 'denied' : 'odd'
  return { outcome, code, body, date }
}

/** S3 asks the policy first: RestoreObject of an object that is not archived, GetBucketPolicy of a bucket without one. */
const mayButCannot = ['InvalidObjectState', 'ObjectAlreadyInActiveTierError']

/** On loopback the address can be chosen: every address of 127.0.0.0/8 is one on Linux. */
const reachOf = async (url: URL, ask: (request: S3Request) => Promise<Answered>): Promise<Reach> => {
  const secure = url.protocol === 'https:'
  const answers = (from?: string) => ask({ method: 'GET', ...(from !== undefined && { from }) }).then(() => true, () => false)
  if (!['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname)) {
    return { secure, family: url.hostname.includes(':') ? 6 : 4, here: null, elsewhere: null, six: false }
  }
  const [four, second, six] = await Promise.all([answers('127.0.0.1'), answers('127.0.0.2'), answers('::1')])
  return { secure, family: four ? 4 : 6, here: four ? '127.0.0.1' : '::1', elsewhere: second ? '127.0.0.2' : null, six }
}
