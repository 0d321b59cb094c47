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

interface Block { family: 4 | 6, address: bigint, length: number }

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

const bitsOf = { 4: 32, 6: 128 } as const

const parse = (text: string): Block | undefined => {
  const slash = text.indexOf('/')
  const address = slash === -1 ? text : text.slice(0, slash)
  const lengthText = slash === -1 ? undefined : text.slice(slash + 1)
  const family = familyOf(address)
  if (!family) return undefined
  if (lengthText !== undefined && !/^(0|[1-9]\d{0,2})$/.test(lengthText)) return undefined
  const length = lengthText === undefined ? bitsOf[family] : Number(lengthText)
  if (length > bitsOf[family]) return undefined
  return unmap({ family, address: toBits(ipaddr.parse(address).toByteArray()), length })
}

// Both parsers must agree: ipaddr.js alone reads 010.1 and 0x7f.1, and it reads a zone.
const familyOf = (address: string): 4 | 6 | undefined => {
  if (isIPv4(address) && ipaddr.IPv4.isValidFourPartDecimal(address)) return 4
  if (!address.includes('%') && isIPv6(address) && ipaddr.IPv6.isValid(address)) return 6
  return undefined
}

const mapped = 0xffffn << 32n

// ::ffff:203.0.113.42 is that IPv4 address, and IAM compares within one family only.
const unmap = (block: Block): Block =>
  block.family === 6 && block.length >= 96 && block.address >> 32n === mapped >> 32n
    ? { family: 4, address: block.address & 0xffff_ffffn, length: block.length - 96 }
    : block

const check = (block: Block, pointer: string, rules: SourceIpRules): Finding[] => {
  if (block.length === 0) {
    return [{
      code: 'ip-everyone',
      pointer,
      detail: `A CIDR of length 0 is every IPv${block.family} address.`,
      hint: 'Name the addresses that S3 sees the job come from.'
    }]
  }
  const findings: Finding[] = []
  const network = networkOf(block)
  if (network.address !== block.address) {
    findings.push({
      code: 'ip-host-bits', pointer, detail: 'Bits are set behind the CIDR’s length.', hint: `The CIDR is ${show(network)}.`
    })
  }
  const shortest = block.family === 4 ? rules.minPrefixV4 : rules.minPrefixV6
  if (block.length < shortest) {
    findings.push({
      code: 'ip-too-wide',
      pointer,
      detail: `/${block.length} is wider than /${shortest}, the widest IPv${block.family} CIDR that this service grants.`,
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

const networkOf = (block: Block): Block => {
  const free = BigInt(bitsOf[block.family] - block.length)
  return { ...block, address: block.address >> free << free }
}

const contains = (outer: Block, inner: Block): boolean => {
  if (outer.family !== inner.family || outer.length > inner.length) return false
  const free = BigInt(bitsOf[outer.family] - outer.length)
  return outer.address >> free === inner.address >> free
}

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
  if (a.family !== b.family) return a.family - b.family
  if (a.address !== b.address) return a.address < b.address ? -1 : 1
  return a.length - b.length
}

const show = (block: Block): string =>
  `${ipaddr.fromByteArray(toBytes(block.address, bitsOf[block.family] / 8)).toString()}/${block.length}`

const toBits = (bytes: readonly number[]): bigint => bytes.reduce((bits, byte) => bits << 8n | BigInt(byte), 0n)

const toBytes = (bits: bigint, count: number): number[] =>
  Array.from({ length: count }, (_, index) => Number(bits >> BigInt(8 * (count - 1 - index)) & 0xffn))

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
  '100.64.0.0/10', // carrier-grade NAT, RFC 6598
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
  if (candidate.family === 6 && !contains(globalV6, candidate)) return true
  return (candidate.family === 4 ? privateV4 : privateV6)
    .some(reserved => contains(reserved, candidate) || contains(candidate, reserved))
}
