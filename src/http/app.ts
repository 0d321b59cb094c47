import { IncomingMessage, type ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { compile } from '@fastify/proxy-addr'
import rateLimit, { normalizeIP } from '@fastify/rate-limit'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, { LogController, type FastifyBaseLogger, type FastifyInstance, type RouteOptions } from 'fastify'
import helmet from 'helmet'
import { clientAddress } from '../client-address.ts'
import { useAuthorization } from './authorization.ts'
import { consoleRoutes } from './console.ts'
import { answerUnparsed, unroutable, useProblems } from './errors.ts'
import { grantRoutes } from './grants.ts'
import { healthRoutes } from './health.ts'
import { useLogContext } from './log-context.ts'
import { useOpenApi } from './openapi.ts'
import { policyRoutes } from './policies.ts'
import { shared } from './schemas.ts'
import type { Service } from './service.ts'
import { refuseUnread, useJson, useSchemas } from './strict-input.ts'
import { workerRoutes } from './workers.ts'
import type { HttpMetrics } from '../metrics/http.ts'
import { ProblemError } from '../problems.ts'

interface AppOptions {
  logger: FastifyBaseLogger | false
  newRequestId: () => string
  metrics?: HttpMetrics
  /** Called for every route: for a test that checks all of them, and for the generator of the OpenAPI document. */
  onRoute?: (route: RouteOptions) => void
}

/** Builds the HTTP application: the table of contents of the API. It reads no environment, does not listen and has no clock. */
export const buildApp = async (service: Service, { logger, newRequestId, metrics, onRoute }: AppOptions): Promise<FastifyInstance> => {
  const everyAnswer = defaultHeaders()
  const isProxy = service.trustProxy === false ? null : compile(service.trustProxy.split(',').map(address => address.trim()))
  const app = fastify({
    ...(logger ? { loggerInstance: logger } : { logger: false }),
    genReqId: newRequestId,
    requestIdHeader: false,
    // http/log-context.ts writes the one line of each request.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: 64 * 1024,
    requestTimeout: 30_000,
    // Longer than the longest IAM deadline of the configuration, twice: an answer with a secret must not be cut off.
    connectionTimeout: 150_000,
    keepAliveTimeout: 65_000,
    trustProxy: isProxy ?? false,
    return503OnClosing: false,
    frameworkErrors: unroutable(everyAnswer),
    clientErrorHandler: ({ code }, socket) => answerUnparsed(socket, everyAnswer, code),
    routerOptions: { maxParamLength: 253 }
  }).withTypeProvider<TypeBoxTypeProvider>()
  // Before every other hook, so that a refusal has them, too. An answer may have a value of its own.
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(everyAnswer)
    done()
  })
  // Without a listener Node answers itself.
  app.server.on('checkExpectation', (_request, response) => response.writeHead(417, { ...everyAnswer, connection: 'close' }).end())
  app.decorate('isProxy', address => isProxy?.(address, 0) ?? false)
  useSchemas(app)
  useProblems(app, service.audit)
  useLogContext(app)
  metrics?.observe(app)
  useJson(app)
  refuseUnread(app)
  refuseWhenClosing(app, service)
  for (const schema of shared) app.addSchema(schema)
  await app.register(rateLimit, {
    global: true,
    hook: 'preValidation',
    max: service.ratePerMinute,
    timeWindow: 60_000,
    cache: 20_000,
    keyGenerator: request => request.identity?.id ?? normalizeIP(clientAddress(request)),
    errorResponseBuilder: (_request, context) => new ProblemError('rate-limited', { retryAfterSeconds: Math.ceil(context.ttl / 1000) })
  })
  if (onRoute) app.addHook('onRoute', onRoute)
  useAuthorization(app, service)
  await useOpenApi(app)
  await app.register(healthRoutes, { service, ...(metrics && { checked: metrics.checked }) })
  await app.register(policyRoutes, { service })
  await app.register(grantRoutes, { service })
  await app.register(workerRoutes, { service })
  await app.register(consoleRoutes)
  app.get('/openapi.json', { config: { authorization: 'public' } }, async () => app.swagger())
  return app
}

/** What Helmet sets is the same for all, so it is asked once: a call for each request takes a tenth of the time of a small one. */
const defaultHeaders = (): Record<string, string> => {
  // Answers have secrets, or say who has access to what: no cache may keep them.
  const headers: Record<string, string> = { 'cache-control': 'no-store' }
  const response = { setHeader: (name: string, value: string) => { headers[name.toLowerCase()] = value }, removeHeader () {} }
  helmet({ contentSecurityPolicy: false })(new IncomingMessage(new Socket()), response as unknown as ServerResponse, error => {
    if (error !== undefined) throw error as Error
  })
  return headers
}

/**
 * At shutdown the requests under way are finished. Further ones on open connections get 503, so that they go to another replica. Before
 * that, while load balancers notice that this replica is not ready, every answer closes its connection.
 */
const refuseWhenClosing = (app: FastifyInstance, { readiness }: Service): void => {
  let closing = false
  app.addHook('preClose', async () => { closing = true })
  app.addHook('onRequest', (_request, reply, done) => {
    if (readiness.stopping) reply.header('connection', 'close')
    done(closing ? new ProblemError('shutting-down', { retryAfterSeconds: 1 }) : undefined)
  })
}
