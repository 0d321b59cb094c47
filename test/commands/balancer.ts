import { once } from 'node:events'
import { createServer, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * A load balancer: asks each replica often whether it is ready, and sends to those that were, in turn. It never tries again.
 * @param replicas may be replaced by others
 */
export const balancer = async <Replica extends { url: string }>(replicas: Replica[]): Promise<{
  url: string, isInUse: (index: number) => boolean, close: () => void
}> => {
  let ready = [...replicas]
  let turn = 0
  const look = async () => {
    const looked = await Promise.all(replicas.map(async replica => ({ replica, ok: await isReady(replica.url) })))
    ready = looked.filter(({ ok }) => ok).map(({ replica }) => replica)
  }
  const timer = setInterval(() => { void look() }, 250)
  const server = createServer((request, response) => {
    const target = ready[turn++ % ready.length]
    if (!target) {
      response.writeHead(503).end()
      return
    }
    const onward = send(`${target.url}${request.url}`, { method: request.method ?? 'GET', headers: request.headers }, answer => {
      response.writeHead(answer.statusCode ?? 502)
      answer.pipe(response)
    })
    onward.on('error', () => response.writeHead(502).end())
    request.pipe(onward)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    isInUse: index => ready.some(replica => replica === replicas[index]),
    close () {
      clearInterval(timer)
      server.close()
    }
  }
}

export const isReady = (url: string): Promise<boolean> => fetch(`${url}/readyz`).then(({ ok }) => ok, () => false)
