import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Account, AccountOptions } from './account.ts'
import { createAccount } from './account.ts'
import { maxBody, receive, serve } from './dispatch.ts'
import type { Received, Reply } from './dispatch.ts'
import * as identifiers from './identifiers.ts'
import { addAwsPolicies } from './policies.ts'

export interface AdminKeys { accessKeyId: string, secretAccessKey: string }

export interface EmbeddedIamOptions extends AccountOptions {
  host?: '127.0.0.1'
  /** Default 0: any free port. */
  port?: number
  /** The only keys that may call IAM; default: fresh ones. */
  adminKeys?: AdminKeys
  /** The answer to a call on a missing user. AWS answers AccessDenied to a caller whose rights are bound to a path. */
  missingUser?: 'NoSuchEntity' | 'AccessDenied'
  /** The account that is served; default: a new one with `adminKeys`. */
  account?: () => Account
  /** The clock of signatures and of the Date header. Default: the machine's, since clients sign with that, whatever `now` says. */
  wire?: () => Date
  /** Handles every request in place of the server; `serve` does what the server would. Null: no answer. */
  intercept?: (received: Received, serve: () => Reply) => Promise<Reply | null>
}

export interface EmbeddedIam {
  url: string
  admin: AdminKeys
  accountId: string
  /** Closes every connection, answered or not. */
  stop: () => Promise<void>
}

/**
 * A small IAM and STS in memory, on loopback, which the AWS SDK can use like the real ones. Its credentials give no access to
 * anything at AWS: it is for development and tests.
 */
export async function startEmbeddedIam (options: EmbeddedIamOptions = {}): Promise<EmbeddedIam> {
  const host = options.host ?? '127.0.0.1'
  if (host !== '127.0.0.1') throw new TypeError('The embedded IAM listens on 127.0.0.1 only.')
  const admin = options.adminKeys ?? freshAdmin()
  const fresh = openAccount(options, admin)
  const wire = options.wire ?? (() => new Date())
  const account = options.account ?? (() => fresh)

  const server = createServer((req, res) => {
    handle(req, res).catch((error: unknown) => {
      // The client may have gone away. Any other error is ours, and must not look like an answer.
      if (!res.headersSent) res.destroy(error instanceof Error ? error : undefined)
    })
  })
  // Longer than a client keeps an idle connection, so that no client uses one that is closed here.
  server.keepAliveTimeout = 75_000

  async function handle (req: IncomingMessage, res: ServerResponse): Promise<void> {
    const body = await read(req)
    const received = receive(req, body)
    const serveIt = () => serve(account(), received, { pathBound: options.missingUser === 'AccessDenied', clock: wire() })
    const reply = options.intercept ? await options.intercept(received, serveIt) : serveIt()
    if (!reply) return
    res.writeHead(reply.status, {
      'content-type': reply.type,
      date: wire().toUTCString(),
      'content-length': Buffer.byteLength(reply.body),
      'x-amzn-requestid': reply.requestId
    })
    res.end(reply.body)
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, host, resolve)
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${host}:${port}`,
    admin,
    accountId: account().id,
    stop: () => new Promise<void>((resolve) => {
      server.close(() => { resolve() })
      server.closeAllConnections()
    })
  }
}

export function freshAdmin (): AdminKeys {
  return { accessKeyId: identifiers.accessKeyId('AKIA', () => false), secretAccessKey: identifiers.secretAccessKey() }
}

export function openAccount (options: EmbeddedIamOptions, admin: AdminKeys): Account {
  const account = createAccount(options)
  addAwsPolicies(account)
  account.keys.set(admin.accessKeyId, {
    id: admin.accessKeyId,
    secret: admin.secretAccessKey,
    active: true,
    createdAt: account.now(),
    knownFrom: -Infinity,
    lastUsed: null,
    owner: { kind: 'admin', arn: `arn:aws:iam::${account.id}:user/embedded-admin`, id: 'AIDAEMBEDDEDADMINAAAA' },
    signing: new Map()
  })
  return account
}

/** The body, or its first part when it is longer than `maxBody`. */
async function read (req: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of req as AsyncIterable<Buffer>) {
    if (size > maxBody) continue
    chunks.push(chunk)
    size += chunk.length
  }
  return Buffer.concat(chunks)
}
