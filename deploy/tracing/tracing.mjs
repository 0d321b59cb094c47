/**
 * Traces of the service, for `node --import`. OpenTelemetry's own SDK and instrumentations; all settings are the SDK's own
 * variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, …). The service itself knows nothing of it.
 */
import { subscribe } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import { context } from '@opentelemetry/api'
import { getRPCMetadata } from '@opentelemetry/core'
import { AwsInstrumentation } from '@opentelemetry/instrumentation-aws-sdk'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { NodeSDK } from '@opentelemetry/sdk-node'

process.env.OTEL_SERVICE_NAME ??= 'job-access'
// Metrics are Prometheus's, logs are pino's.
process.env.OTEL_METRICS_EXPORTER ??= 'none'
process.env.OTEL_LOGS_EXPORTER ??= 'none'
// The command line and the machine's names are nobody's business; OTEL_NODE_RESOURCE_DETECTORS says otherwise.
process.env.OTEL_NODE_RESOURCE_DETECTORS ??= 'env'

const probes = new Set(['/healthz', '/readyz'])

const sdk = new NodeSDK({
  instrumentations: [
    new HttpInstrumentation({
      ignoreIncomingRequestHook: ({ url }) => probes.has(url ?? ''),
      // Like the log: whatever somebody sends there by mistake goes no further.
      requestHook: span => { if ('url.query' in span.attributes) span.setAttribute('url.query', 'removed') }
    }),
    // The SDK's call is the span; the HTTP request below it says nothing more.
    new AwsInstrumentation({ suppressInternalInstrumentation: true })
  ]
})
sdk.start()

// The HTTP server's span begins before the route is known. Fastify tells of each application that is made.
subscribe('fastify.initialization', ({ fastify }) => {
  fastify.addHook('onRequest', (request, _reply, done) => {
    const metadata = getRPCMetadata(context.active())
    if (metadata) metadata.route = request.routeOptions.url ?? 'unmatched'
    done()
  })
  // What was in flight has ended by now. A collector that does not answer must not hold up the end.
  fastify.addHook('onClose', () => Promise.race([sdk.shutdown().catch(() => {}), sleep(3_000, undefined, { ref: false })]))
})
