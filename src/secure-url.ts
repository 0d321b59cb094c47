import { isIP } from 'node:net'

/** Whether the host of a URL is this machine. Plain http is safe only there, because nobody else can read it. */
export function isLoopback (url: URL): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (host === 'localhost') return true
  return isIP(host) === 4 ? host.startsWith('127.') : host === '::1'
}

/** Why this URL is not secure enough for keys, tokens or audit records; undefined when it is. */
export function urlFault (text: string, { fragmentless = true } = {}): string | undefined {
  if (!URL.canParse(text)) return 'is not a URL'
  const url = new URL(text)
  if (url.username !== '' || url.password !== '') return 'contains credentials'
  if (fragmentless && url.hash !== '') return 'has a fragment'
  if (url.protocol === 'https:') return undefined
  if (url.protocol !== 'http:') return 'is not an https URL'
  return isLoopback(url) ? undefined : 'must be https (plain http is for loopback only)'
}
