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

/** RFC 4291 section 2.5.2: the absence of an address. A client that has gone has none any more. */
const unspecified = '::'

// node:net decides what is an address, since ipaddr.js reads more spellings. A zone is free text.
const readAddress = (text: string | undefined): string | undefined =>
  text === undefined || isIP(text) === 0 || text.includes('%') ? undefined : ipaddr.process(text).toString()
