import { RetryLater, TooLarge, type Sink } from './delivery.ts'

export interface HttpSinkOptions {
  name: string
  url: string
  /** The bearer token to send, read anew each time; undefined: none. */
  bearer?: () => string
  maxLines?: number
  timeoutMs?: number
}

/**
 * POSTs lines as JSON lines. Any 2xx means that the receiver has them. Idempotency-Key is `<instance>:<first seq>-<last seq>`;
 * the lines' own instance and seq are what a receiver should tell repeated ones by, since a retry may be cut differently.
 */
export function httpSink ({ name, url, bearer, maxLines = 200, timeoutMs = 10_000 }: HttpSinkOptions): Sink {
  return {
    name,
    maxLines,
    async deliver (lines, signal) {
      const first = lines[0]
      if (!first) return
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-ndjson',
          'idempotency-key': `${first.instance}:${first.seq}-${lines.at(-1)?.seq}`,
          ...(bearer ? { authorization: `Bearer ${bearer().trim()}` } : {})
        },
        body: lines.map(({ text }) => `${text}\n`).join(''),
        // A redirect would take the bearer and the records to a host that nobody configured.
        redirect: 'error',
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
      })
      await response.body?.cancel()
      if (response.ok) return
      const message = `answered with status ${response.status}`
      if (response.status === 413) throw new TooLarge(message)
      const after = Number(response.headers.get('retry-after') ?? Number.NaN)
      throw Number.isFinite(after) && after > 0 ? new RetryLater(message, Math.min(after, 3600)) : new Error(message)
    }
  }
}
