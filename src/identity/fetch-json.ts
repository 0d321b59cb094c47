import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'

export interface FetchJsonOptions {
  /** PEM certificates that replace the system's, e.g. the cluster's own authority. */
  ca?: string
  /** Sent as Bearer. */
  bearer?: string
  /** Milliseconds for the whole exchange. */
  timeoutMs: number
}

// Well above any real key set (the largest public ones are some 30 KB), well below what hurts.
const largestBody = 1024 * 1024

/**
 * GETs a JSON document of an issuer. No redirects (they would lead a token or the trust to another host), a bounded body,
 * a deadline. Not fetch(): that takes no authority of its own without another dependency.
 */
export async function fetchJson (url: URL, { ca, bearer, timeoutMs }: FetchJsonOptions): Promise<unknown> {
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest
  const body = await new Promise<Buffer>((resolve, reject) => {
    const request = send(url, {
      // Keys are fetched minutes apart: a kept connection would be a dead one.
      agent: false,
      headers: { accept: 'application/json, application/jwk-set+json', ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }) },
      signal: AbortSignal.timeout(timeoutMs),
      ...(ca === undefined ? {} : { ca })
    }, response => {
      if (response.statusCode !== 200) {
        response.destroy()
        reject(new Error(`answered with status ${response.statusCode}`))
        return
      }
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > largestBody) response.destroy(new Error(`answered with more than ${largestBody} bytes`))
        else chunks.push(chunk)
      })
      response.on('end', () => resolve(Buffer.concat(chunks)))
      response.on('error', reject)
    })
    request.on('error', reject)
    request.end()
  })
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
}
