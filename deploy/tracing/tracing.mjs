/**
 * Traces of the service, for `node --import`. This uses OpenTelemetry's own SDK and instrumentations. All settings are the SDK's own
 * variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, …). The service only tells the name of each
 * call to IAM.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe } from 'node:diagnostics_channel'
import { ClientRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { context } from '@opentelemetry/api'
import { getRPCMetadata } from '@opentelemetry/core'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { NodeSDK } from '@opentelemetry/sdk-node'

process.env.OTEL_SERVICE_NAME ??= 'job-access'
// The service has metrics for Prometheus and logs from pino, so the SDK exports neither.
process.env.OTEL_METRICS_EXPORTER ??= 'none'
process.env.OTEL_LOGS_EXPORTER ??= 'none'
// By default the SDK would export the command line and the machine's names. Set OTEL_NODE_RESOURCE_DETECTORS to export them.
process.env.OTEL_NODE_RESOURCE_DETECTORS ??= 'env'

const probes = new Set(['/healthz', '/readyz'])

// The service says which call of IAM or STS the next request of this asynchronous context is.
const call = new AsyncLocalStorage()
subscribe('job-access:iam', name => { call.enterWith(name) })

const sdk = new NodeSDK({
  instrumentations: [
    new HttpInstrumentation({
      ignoreIncomingRequestHook: ({ url }) => probes.has(url ?? ''),
      // As in the log: a caller can put a secret into the query by mistake, so it is not exported.
      requestHook: (span, request) => {
        if ('url.query' in span.attributes) span.setAttribute('url.query', 'removed')
        const name = call.getStore()
        if (name && request instanceof ClientRequest) span.updateName(name)
      }
    })
  ]
})
sdk.start()

// The span of the HTTP server starts before the route is known, so a hook adds the route. Fastify publishes each new application on
// this channel.
subscribe('fastify.initialization', ({ fastify }) => {
  fastify.addHook('onRequest', (request, _reply, done) => {
    const metadata = getRPCMetadata(context.active())
    if (metadata) metadata.route = request.routeOptions.url ?? 'unmatched'
    done()
  })
  // All requests have ended by now. A collector that does not answer must not delay the exit.
  fastify.addHook('onClose', () => Promise.race([sdk.shutdown().catch(() => {}), sleep(3_000, undefined, { ref: false })]))
})
