import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'
import type { Finding } from '../problems.ts'

/**
 * Source addresses as IAM's IpAddress operator takes them: canonical CIDRs, sorted, the contained ones merged.
 * Source: IAM User Guide, "IP address condition operators" and "aws:SourceIp"; RFC 4632, RFC 5952.
 */

export interface SourceIpRules {
  /** Shortest IPv4 prefix length that is granted. */
  minPrefixV4: number
  /** Shortest IPv6 prefix length that is granted. */
  minPrefixV6: number
  /** Whether an address that the public internet does not route may be named. */
  allowPrivate: boolean
}

export type SourceIpsResult = { ok: true, cidrs: string[] } | { ok: false, findings: Finding[] }

/** An address with a prefix length in bits; 4 or 16 bytes, most significant first. */
interface Block { bytes: readonly number[], length: number }

/**
 * Reads addresses and CIDRs, IPv4 and IPv6.
 *
 * @param pointer of the list in the request; findings point at its elements
 * @returns canonical CIDRs, IPv4 first, then by address; or every finding
 */
export const readSourceIps = (texts: readonly string[], pointer: string, rules: SourceIpRules): SourceIpsResult => {
  const findings: Finding[] = []
  const blocks: Block[] = []
  for (const [index, text] of texts.entries()) {
    const at = `${pointer}/${index}`
    const block = parse(text)
    if (!block) {
      findings.push({
        code: 'ip-invalid',
        pointer: at,
        detail: 'This is not an IPv4 or IPv6 address or CIDR.',
        hint: 'Write 203.0.113.42, 203.0.113.0/24, 2001:db8::1 or 2001:db8::/48: no host names, ports, zones or leading zeros.'
      })
      continue
    }
    findings.push(...check(block, at, rules))
    blocks.push(block)
  }
  if (findings.length > 0) return { ok: false, findings }
  return { ok: true, cidrs: merge(blocks).map(show) }
}

const familyOf = ({ bytes }: Block): 4 | 6 => bytes.length === 4 ? 4 : 6

const parse = (text: string): Block | undefined => {
  const slash = text.indexOf('/')
  const bytes = bytesOf(slash === -1 ? text : text.slice(0, slash))
  if (!bytes) return undefined
  const most = bytes.length * 8
  if (slash === -1) return unmap({ bytes, length: most })
  const length = text.slice(slash + 1)
  if (!/^(0|[1-9]\d{0,2})$/.test(length) || Number(length) > most) return undefined
  return unmap({ bytes, length: Number(length) })
}

// node:net is the gate, as it takes one spelling alone: ipaddr.js would also read 010.1, 0x7f.1 and a zone.
const bytesOf = (address: string): number[] | undefined => {
  if (isIPv4(address)) return ipaddr.IPv4.parse(address).toByteArray()
  if (isIPv6(address) && !address.includes('%')) return ipaddr.IPv6.parse(address).toByteArray()
  return undefined
}

// ::ffff:203.0.113.42 is that IPv4 address, and IAM compares within one family only.
const unmap = (block: Block): Block => block.bytes.length === 16 && block.length >= 96 && samePrefix(block.bytes, mapped, 96)
  ? { bytes: block.bytes.slice(12), length: block.length - 96 }
  : block

const mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]

const check = (block: Block, pointer: string, rules: SourceIpRules): Finding[] => {
  if (block.length === 0) {
    return [{
      code: 'ip-everyone',
      pointer,
      detail: `A CIDR of length 0 is every IPv${familyOf(block)} address.`,
      hint: 'Name the addresses that S3 sees the job come from.'
    }]
  }
  const findings: Finding[] = []
  const network = networkOf(block)
  if (!samePrefix(network.bytes, block.bytes, 8 * block.bytes.length)) {
    findings.push({
      code: 'ip-host-bits', pointer, detail: 'Bits are set behind the CIDR’s length.', hint: `The CIDR is ${show(network)}.`
    })
  }
  const shortest = familyOf(block) === 4 ? rules.minPrefixV4 : rules.minPrefixV6
  if (block.length < shortest) {
    findings.push({
      code: 'ip-too-wide',
      pointer,
      detail: `/${block.length} is wider than /${shortest}, the widest IPv${familyOf(block)} CIDR that this service grants.`,
      hint: 'Name the addresses of the job’s nodes or of their NAT.'
    })
  }
  if (!rules.allowPrivate && touchesPrivate(network)) {
    findings.push({
      code: 'ip-private',
      pointer,
      detail: `${show(network)} has addresses that the public internet does not route; aws:SourceIp never is one of them.`,
      hint: 'Give the public address, such as the NAT’s. A job that reaches S3 through a VPC endpoint uses `vpc` with `sourceIps` in it.'
    })
  }
  return findings
}

/** The bits of a byte that a prefix of `length` bits covers, where the byte begins at bit `start`. */
const maskAt = (length: number, start: number): number => 0xff << Math.max(0, 8 - Math.max(0, length - start)) & 0xff

const samePrefix = (a: readonly number[], b: readonly number[], length: number): boolean => {
  for (let index = 0; index * 8 < length; index++) {
    if ((((a[index] ?? 0) ^ (b[index] ?? 0)) & maskAt(length, index * 8)) !== 0) return false
  }
  return true
}

const networkOf = ({ bytes, length }: Block): Block => ({ bytes: bytes.map((byte, index) => byte & maskAt(length, index * 8)), length })

const contains = (outer: Block, inner: Block): boolean =>
  outer.bytes.length === inner.bytes.length && outer.length <= inner.length && samePrefix(outer.bytes, inner.bytes, outer.length)

const merge = (blocks: readonly Block[]): Block[] => {
  const sorted = [...blocks].sort(byAddress)
  const kept: Block[] = []
  // Sorted by address, then widest first: what contains a block comes before it, and is the last kept one.
  for (const block of sorted) {
    const last = kept.at(-1)
    if (!last || !contains(last, block)) kept.push(block)
  }
  return kept
}

const byAddress = (a: Block, b: Block): number => {
  if (a.bytes.length !== b.bytes.length) return a.bytes.length - b.bytes.length
  for (const [index, byte] of a.bytes.entries()) {
    const other = b.bytes[index] ?? 0
    if (byte !== other) return byte - other
  }
  return a.length - b.length
}

const show = ({ bytes, length }: Block): string => `${ipaddr.fromByteArray([...bytes]).toString()}/${length}`

const cidr = (text: string): Block => {
  const parsed = parse(text)
  if (!parsed) throw new TypeError(`Not a CIDR: ${text}`)
  return parsed
}

// Source: IANA IPv4 Special-Purpose Address Registry (RFC 6890) and multicast and reserved space (RFC 5771, RFC 1112).
// The documentation networks (RFC 5737, RFC 3849, RFC 9637) are not here: examples name them, and nobody sits there.
const privateV4 = [
  '0.0.0.0/8', // this network
  '10.0.0.0/8', // private, RFC 1918
  '100.64.0.0/10', // attachment-grade NAT, RFC 6598
  '127.0.0.0/8', // loopback
  '169.254.0.0/16', // link-local
  '172.16.0.0/12', // private, RFC 1918
  '192.0.0.0/24', // IETF protocol assignments
  '192.168.0.0/16', // private, RFC 1918
  '198.18.0.0/15', // benchmarking
  '224.0.0.0/4', // multicast
  '240.0.0.0/4' // reserved, and broadcast
].map(cidr)

// Source: RFC 4291 section 2.4 and the IANA IPv6 registries: global unicast is 2000::/3 alone; the rest of the space, unique local
// (fc00::/7), link-local (fe80::/10), multicast (ff00::/8), loopback and unspecified included, is not routed.
const globalV6 = cidr('2000::/3')
const privateV6 = ['2001:2::/48'].map(cidr) // benchmarking

const touchesPrivate = (candidate: Block): boolean => {
  const v6 = familyOf(candidate) === 6
  if (v6 && !contains(globalV6, candidate)) return true
  return (v6 ? privateV6 : privateV4).some(reserved => contains(reserved, candidate) || contains(candidate, reserved))
}
