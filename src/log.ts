import type { LoggerOptions } from 'pino'
import { clientAddress } from './client-address.ts'

/** No secret should get into a log line. If one does, it is removed at these paths. */
const redacted = [
  'req.headers.authorization', 'req.headers.cookie', 'headers.authorization', 'authorization', 'token',
  'secretAccessKey', '*.secretAccessKey', '*.*.secretAccessKey', 'sessionToken', '*.sessionToken', '*.*.sessionToken'
]

export const logOptions = (level: string): LoggerOptions => ({
  level,
  redact: { paths: redacted, censor: '[redacted]' },
  serializers: {
    req: (request: { method: string, url: string, ip?: string, ips?: string[], id?: string }) => ({
      method: request.method, path: request.url.split('?')[0], remoteAddress: clientAddress(request)
    }),
    err: serializeError,
    cause: serializeError
  }
})

/** Only name, message, code and stack of an error and of its causes: errors of the SDK contain whole requests. */
function serializeError (error: unknown): unknown {
  if (!(error instanceof Error)) return typeof error === 'object' ? undefined : error
  const { name, message, stack, cause } = error
  const code = (error as { code?: unknown }).code
  return {
    type: name,
    message,
    ...(typeof code === 'string' && { code }),
    stack,
    ...(cause instanceof Error && { cause: serializeError(cause) })
  }
}
