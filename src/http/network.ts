import { isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'

/**
 * Whose an address is, for counting: an IPv6 host has a /64 of them at least (RFC 6177), and must not count as that many callers.
 *
 * @param address as the socket or a trusted proxy states it; an IPv4-mapped IPv6 address is that IPv4 address
 */
export const networkOf = (address: string): string => {
  if (!isIPv6(address)) return address
  const parsed = ipaddr.IPv6.parse(address)
  if (parsed.isIPv4MappedAddress()) return parsed.toIPv4Address().toString()
  return `${ipaddr.IPv6.networkAddressFromCIDR(`${parsed.toNormalizedString().replace(/%.*/, '')}/64`).toString()}/64`
}
