import { AsyncLocalStorage } from 'node:async_hooks'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Log } from '../lifecycle/deps.ts'

/**
 * Log lines that belong together have the same id: the lines of a request have the id of its grant, and the lines that the
 * lifecycle writes during a request have the id of the request.
 */
const serving = new AsyncLocalStorage<{ reqId: string }>()

export const useLogContext = (app: FastifyInstance): void => {
  // Earlier hooks are too early: the path parameters are not validated yet, and reading the body leaves the context.
  app.addHook('preHandler', (request, reply, done) => {
    const { id } = (request.params ?? {}) as { id?: string }
    if (id !== undefined && request.routeOptions.url?.startsWith('/v1/grants/:id')) tell(request, reply, id)
    serving.run({ reqId: request.id }, done)
  })
  // One line for each request: it says all that two would. Probes come every second from each kubelet and load balancer.
  app.addHook('onResponse', (request, reply, done) => {
    done()
    if (['/healthz', '/readyz'].includes(request.routeOptions.url ?? '')) return
    const { problem: code, pointer } = request
    request.log.info({
      req: request,
      statusCode: reply.statusCode,
      ms: Math.round(reply.elapsedTime),
      ...(code && { code }),
      ...(pointer !== undefined && { pointer })
    }, 'request completed')
  })
  app.addHook('onSend', (request, reply, body, done) => {
    const id = reply.getHeader('job-access-grant')
    if (typeof id === 'string' && request.routeOptions.url === '/v1/grants') tell(request, reply, id)
    done(null, body)
  })
}

const tell = (request: FastifyRequest, reply: FastifyReply, grantId: string): void => {
  request.log = reply.log = request.log.child({ grantId })
}

/** The log of the lifecycle. Work of the sweeper belongs to no request. */
export const inContext = (log: Log): Log => {
  const told = (level: 'info' | 'warn' | 'error') =>
    (fields: object, message: string) => log[level]({ ...serving.getStore(), ...fields }, message)
  return { info: told('info'), warn: told('warn'), error: told('error') }
}
