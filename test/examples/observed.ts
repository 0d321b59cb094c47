import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'

/** What the service must be told of it. */
export const behindProxy = { JOB_ACCESS_TRUST_PROXY: '127.0.0.1' }

/**
 * A proxy that the service trusts: it says that each worker joins from an address of its own, as if each were on another node. On this
 * machine all come from loopback. @returns its URL
 */
export const everyWorkerFromItsOwnNode = async (t: Test, target: string): Promise<string> => {
  const addresses = new Map<string, string>()
  const addressOf = (name: string) => {
    const address = addresses.get(name) ?? `203.0.113.${addresses.size + 1}`
    addresses.set(name, address)
    return address
  }
  const server = createServer((request, response) => {
    const pass = async () => {
      const body = await buffer(request)
      const { name = '' } = body.length > 0 ? JSON.parse(body.toString()) as { name?: string } : {}
      const { host: _, connection: __, 'content-length': ___, ...headers } = request.headers
      const answer = await fetch(target + request.url, {
        method: request.method ?? 'GET',
        headers: { ...headers as Record<string, string>, 'x-forwarded-for': name === '' ? '203.0.113.250' : addressOf(name) },
        ...(body.length > 0 && { body })
      })
      const { 'content-length': ____, 'transfer-encoding': _____, connection: ______, ...given } = Object.fromEntries(answer.headers)
      response.writeHead(answer.status, given).end(Buffer.from(await answer.arrayBuffer()))
    }
    pass().catch(() => response.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
}

/** A training process: asks the agent as SDKs do, notes what it got, and ends when there is a file `go`. Arguments: folder, own name. */
export const probe = `
  const [folder, name] = process.argv.slice(2)
  const { AWS_CONTAINER_CREDENTIALS_FULL_URI: uri, AWS_CONTAINER_AUTHORIZATION_TOKEN: authorization } = process.env
  const { mkdirSync, readdirSync, writeFileSync } = require('node:fs')
  fetch(uri, { headers: { authorization } }).then(async answer => {
    mkdirSync(folder, { recursive: true })
    const { AccessKeyId } = await answer.json()
    writeFileSync(folder + '/' + name, JSON.stringify({ AccessKeyId, token: 'JOBACCESS_TOKEN_FILE' in process.env }))
    const wait = () => { if (!readdirSync(folder).includes('go')) setTimeout(wait, 50) }
    wait()
  })
`
