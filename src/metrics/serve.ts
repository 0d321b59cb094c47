import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Registry } from 'prom-client'

interface MetricsServer {
  url: string
  close: () => Promise<void>
}

/**
 * The metrics on a port of their own, so that a proxy of the public port cannot publish them by mistake. Unauthenticated, as Prometheus
 * expects: keep it on loopback, or to the cluster by a NetworkPolicy. Rejects when it cannot listen on the port.
 */
export const serveMetrics = async (
  registry: Pick<Registry, 'metrics' | 'contentType'>, { host, port }: { host: string, port: number }
): Promise<MetricsServer> => {
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    const answer = (status: number, body: string, headers: Record<string, string> = {}) =>
      response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff', ...headers }).end(body)
    if (request.url?.split('?')[0] !== '/metrics') return answer(404, 'See /metrics.\n')
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(405, '', { allow: 'GET, HEAD' })
    registry.metrics().then(
      text => answer(200, request.method === 'HEAD' ? '' : text, { 'content-type': registry.contentType }),
      () => answer(500, 'The metrics could not be read.\n'))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, resolve)
  })
  // This server alone must not keep the process alive when a later step of the start fails.
  server.unref()
  const { address, family, port: taken } = server.address() as AddressInfo
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${taken}/metrics`,
    close: () => new Promise((resolve, reject) => {
      server.close(error => error ? reject(error) : resolve())
      server.closeAllConnections()
    })
  }
}
