import { isIP } from 'node:net'

/** Whether a URL's host is this machine: only there is plain http no gift to whoever listens. */
export function isLoopback (url: URL): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (host === 'localhost') return true
  return isIP(host) === 4 ? host.startsWith('127.') : host === '::1'
}

/** Why this URL may not carry keys, tokens or audit records; undefined when it may. */
export function urlFault (text: string, { fragmentless = true } = {}): string | undefined {
  if (!URL.canParse(text)) return 'is not a URL'
  const url = new URL(text)
  if (url.username !== '' || url.password !== '') return 'has credentials in it'
  if (fragmentless && url.hash !== '') return 'has a fragment'
  if (url.protocol === 'https:') return undefined
  if (url.protocol !== 'http:') return 'is not an https URL'
  return isLoopback(url) ? undefined : 'must be https (plain http is for loopback only)'
}
