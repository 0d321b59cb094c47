import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Where a request came from, as far as it is known: `ips` only with trusted proxies, the nearest address first. */
interface Received { ip?: string, ips?: string[] }

/**
 * The address of the client, in one spelling. X-Forwarded-For may hold any text (RFC 7239 section 6 even names `unknown`), and a
 * proxy may pass on what its client wrote. A text that is no address counts as not given: then it is the nearest proxy behind it.
 */
export const clientAddress = ({ ip, ips = [] }: Received): string =>
  [ip, ...ips.toReversed()].map(readAddress).find(address => address !== undefined) ?? unspecified

/** Whether an address is a trusted proxy's. */
export type IsProxy = (address: string) => boolean

/**
 * Why the address of a request is perhaps not its client's own; undefined: it is. A log may name the nearest proxy instead, but a key must
 * not be bound to a proxy's address: it would work for everybody behind that proxy, and not for its worker.
 *
 * @param forwarded X-Forwarded-For; Node joins several of them
 */
export const whyUnobserved = ({ ip = '', ips }: Received, forwarded: string, isProxy: IsProxy): string | undefined => {
  const throughProxy = ips?.[0] !== undefined && isProxy(ips[0])
  if (!throughProxy) return readAddress(ip) === undefined ? 'The address of the connection is not known.' : undefined
  // The list is read from its end, one element for each trusted proxy. Without its own element, a proxy passes on what its client wrote.
  const elements = forwarded.split(',').map(element => element.trim())
  if (elements.join('') === '') return 'The request came through a trusted proxy, which names no client in X-Forwarded-For.'
  if (elements.includes('')) return 'X-Forwarded-For has an empty element.'
  if (readAddress(ip) === undefined) return `X-Forwarded-For names ${JSON.stringify(ip.slice(0, 60))} as the client, which is no address.`
  return isProxy(ip) ? 'Every address of X-Forwarded-For is a trusted proxy’s: none is the client’s.' : undefined
}

/** RFC 4291 section 2.5.2: the absence of an address. A client that has gone has none any more. */
const unspecified = '::'

// node:net decides what is an address, since ipaddr.js reads more spellings. A zone is free text.
const readAddress = (text: string | undefined): string | undefined =>
  text === undefined || isIP(text) === 0 || text.includes('%') ? undefined : ipaddr.process(text).toString()
