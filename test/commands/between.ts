import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'

export interface Answer { status: number, headers: Record<string, string>, body: Buffer }

/** A proxy before the service: `pass` sees every answer, and returns what the client gets; undefined: the connection is dropped. */
export async function between (
  t: Test, target: string, pass: (path: string, answer: Answer) => Promise<Answer | undefined>
): Promise<string> {
  const server = createServer((request, response) => {
    const handle = async () => {
      const body = await buffer(request)
      const { authorization = '', accept = '', 'content-type': type, 'idempotency-key': key } = request.headers
      const answered = await fetch(target + request.url, {
        method: request.method ?? 'GET',
        headers: {
          authorization, accept, ...(type && { 'content-type': type }), ...(typeof key === 'string' && { 'idempotency-key': key })
        },
        ...(body.length > 0 && { body })
      })
      const kept = ['content-type', 'job-access-grant', 'job-access-ready', 'retry-after'].flatMap(name => {
        const value = answered.headers.get(name)
        return value === null ? [] : [[name, value]]
      })
      const given = { status: answered.status, headers: Object.fromEntries(kept), body: Buffer.from(await answered.arrayBuffer()) }
      const answer = await pass(request.url ?? '', given)
      if (answer) response.writeHead(answer.status, answer.headers).end(answer.body)
      else response.destroy()
    }
    handle().catch(() => response.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
}
