import { AsyncLocalStorage } from 'node:async_hooks'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Log } from '../lifecycle/deps.ts'

/**
 * Lines that belong together say so: those of a request carry its grant's id, and those that the lifecycle writes while it
 * serves a request carry the request's.
 */
const serving = new AsyncLocalStorage<{ reqId: string }>()

export const useLogContext = (app: FastifyInstance): void => {
  // Only here are path parameters known to be well-formed; and a body that was waited for has left any earlier context.
  app.addHook('preHandler', (request, reply, done) => {
    const { id } = (request.params ?? {}) as { id?: string }
    if (id !== undefined && request.routeOptions.url?.startsWith('/v1/grants/:id')) tell(request, reply, id)
    serving.run({ reqId: request.id }, done)
  })
  app.addHook('onSend', async (request, reply) => {
    const id = reply.getHeader('job-access-grant')
    if (typeof id === 'string' && request.routeOptions.url === '/v1/grants') tell(request, reply, id)
  })
}

const tell = (request: FastifyRequest, reply: FastifyReply, grantId: string): void => {
  request.log = reply.log = request.log.child({ grantId })
}

/** The lifecycle's log. What the sweeper does belongs to no request. */
export const inContext = (log: Log): Log => {
  const told = (level: 'info' | 'warn' | 'error') =>
    (fields: object, message: string) => log[level]({ ...serving.getStore(), ...fields }, message)
  return { info: told('info'), warn: told('warn'), error: told('error') }
}
