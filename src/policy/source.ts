import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'
import type { IpSource, Partition, Source, VpcSource } from '../domain/access-spec.ts'
import type { Finding } from '../problems.ts'
import type { PolicyRequest, VpcRequest } from '../request.ts'
import { isRegionOf } from './entries.ts'
import type { Limits } from './limits.ts'

type Report = (finding: Finding) => void

/** @returns where the job's requests come from; undefined when the request does not say it, and then a finding says why */
export const normaliseSource = (
  request: Pick<PolicyRequest, 'sourceIps' | 'vpc' | 'layout'>, limits: Limits, report: Report
): Source | undefined => {
  const { sourceIps, vpc, layout } = request
  // Both are read even when one has a finding, so that the answer has every finding.
  const ip = sourceIps === undefined ? undefined : fromIps(sourceIps, limits, report)
  const endpoint = vpc === undefined ? undefined : fromVpc(vpc, limits, report)
  if (sourceIps !== undefined && vpc !== undefined) {
    if (layout === 'guide') {
      report({
        code: 'layout-unfit',
        pointer: '/vpc',
        detail: 'The guide’s one statement per bucket has one source, and this request has two.',
        hint: 'Give sourceIps or vpc, or use layout `everywhere` or `guarded`.'
      })
    }
    return ip && endpoint && { kind: 'either', ip, vpc: endpoint }
  }
  if (ip ?? endpoint) return ip ?? endpoint
  if (sourceIps === undefined && vpc === undefined) {
    if (limits.allowAnySource) return { kind: 'any' }
    report({
      code: 'source-missing',
      pointer: '',
      detail: 'The request names no source address.',
      hint: 'Give sourceIps: the public addresses of the job’s nodes or of their NAT; or vpc.'
    })
  }
  return undefined
}

const rulesOf = (limits: Limits, allowPrivate: boolean) =>
  ({ minPrefixV4: limits.minPrefixV4, minPrefixV6: limits.minPrefixV6, allowPrivate })

const fromIps = (texts: readonly string[], limits: Limits, report: Report): IpSource | undefined => {
  if (texts.length === 0) {
    report({ code: 'source-missing', pointer: '/sourceIps', detail: 'The list is empty.', hint: 'Name an address, or leave it out.' })
    return undefined
  }
  const read = readSourceIps(texts, '/sourceIps', rulesOf(limits, limits.allowPrivateSourceIps))
  if (read.ok) return { kind: 'ip', cidrs: read.cidrs }
  read.findings.forEach(report)
  return undefined
}

const fromVpc = (vpc: VpcRequest, limits: Limits, report: Report): VpcSource | undefined => {
  const vpcIds = [...new Set(vpc.vpcIds)].sort()
  const vpcArns = [...new Set(vpc.vpcArns)].sort()
  const vpcEndpointIds = [...new Set(vpc.vpcEndpointIds)].sort()
  let sound = refuseIds(vpc.vpcIds ?? [], 'vpcIds', 'vpc', report)
  sound = refuseArns(vpc.vpcArns ?? [], limits.partition, report) && sound
  sound = refuseIds(vpc.vpcEndpointIds ?? [], 'vpcEndpointIds', 'vpce', report) && sound
  if (vpcIds.length === 0 && vpcArns.length === 0 && vpcEndpointIds.length === 0) {
    sound = false
    report({
      code: 'vpc-incomplete',
      pointer: '/vpc',
      detail: 'Private addresses alone do not say which network is meant: every VPC may have them.',
      hint: 'Add vpcArns, vpcIds or vpcEndpointIds.'
    })
  }
  const read = readSourceIps(vpc.sourceIps ?? [], '/vpc/sourceIps', rulesOf(limits, true))
  if (!read.ok) read.findings.forEach(report)
  if (!sound || !read.ok) return undefined
  return { kind: 'vpc', vpcIds, ...(vpcArns.length > 0 && { vpcArns }), vpcEndpointIds, cidrs: read.cidrs }
}

const refuseIds = (ids: readonly string[], field: string, kind: string, report: Report): boolean => {
  const shape = new RegExp(`^${kind}-[0-9a-f]{8,17}$`)
  let sound = true
  for (const [index, id] of ids.entries()) {
    if (shape.test(id)) continue
    sound = false
    report({
      code: 'request-invalid', pointer: `/vpc/${field}/${index}`, detail: `This is not a ${kind}- id.`, hint: 'Write it as AWS shows it.'
    })
  }
  return sound
}

// Source: IAM User Guide, "AWS global condition context keys", aws:SourceVpcArn: arn:aws:ec2:us-east-1:123456789012:vpc/vpc-….
const vpcArn = /^arn:(aws|aws-cn|aws-us-gov):ec2:([a-z]{2}(?:-[a-z]+){1,3}-\d{1,2}):\d{12}:vpc\/vpc-[0-9a-f]{8,17}$/

const refuseArns = (arns: readonly string[], partition: Partition, report: Report): boolean => {
  let sound = true
  for (const [index, arn] of arns.entries()) {
    const [, itsPartition, region = ''] = vpcArn.exec(arn) ?? []
    if (itsPartition === partition && isRegionOf[partition](region)) continue
    sound = false
    report({
      code: 'vpc-arn-invalid',
      pointer: `/vpc/vpcArns/${index}`,
      detail: itsPartition === undefined ? 'This is not the ARN of a VPC.' : `The VPC is not in the partition ${partition}.`,
      hint: `Write arn:${partition}:ec2:<region>:<account>:vpc/vpc-<id>, in lower case and without wildcards.`
    })
  }
  return sound
}

// --- addresses ---

/*
 * Source addresses as IAM's IpAddress operator takes them: canonical CIDRs, sorted, without those inside another.
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

type SourceIpsResult = { ok: true, cidrs: string[] } | { ok: false, findings: Finding[] }

/** A CIDR: 4 or 16 bytes of address, most significant first, and the prefix length in bits. */
interface Block { bytes: readonly number[], length: number }

/**
 * Reads addresses and CIDRs, IPv4 and IPv6.
 *
 * @param pointer where the list is in the request; findings point at its elements
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

// node:net decides what is an address, as it takes one spelling alone: ipaddr.js would also read 010.1, 0x7f.1 and a zone.
const bytesOf = (address: string): number[] | undefined => {
  if (isIPv4(address)) return ipaddr.IPv4.parse(address).toByteArray()
  if (isIPv6(address) && !address.includes('%')) return ipaddr.IPv6.parse(address).toByteArray()
  return undefined
}

// ::ffff:203.0.113.42 means the IPv4 address, and IAM compares addresses of one family only.
const unmap = (block: Block): Block => block.bytes.length === 16 && block.length >= 96 && samePrefix(block.bytes, mapped, 96)
  ? { bytes: block.bytes.slice(12), length: block.length - 96 }
  : block

const mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]

const check = (block: Block, pointer: string, rules: SourceIpRules): Finding[] => {
  if (block.length === 0) {
    return [{
      code: 'ip-everyone',
      pointer,
      detail: `A CIDR of length 0 has every IPv${familyOf(block)} address.`,
      hint: 'Name the addresses that S3 sees the job come from.'
    }]
  }
  const findings: Finding[] = []
  const network = networkOf(block)
  if (!samePrefix(network.bytes, block.bytes, 8 * block.bytes.length)) {
    findings.push({
      code: 'ip-host-bits',
      pointer,
      detail: 'The address has bits set after the CIDR’s prefix length.',
      hint: `The CIDR is ${show(network)}.`
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
      detail: `${show(network)} has addresses that the public internet does not route; aws:SourceIp is never one of them.`,
      hint: 'Give the public address, such as the NAT’s. A job that reaches S3 through a VPC endpoint uses `vpc` with `sourceIps` in it.'
    })
  }
  return findings
}

/** Which bits of a byte a prefix of `length` bits covers; the byte begins at bit `start` of the address. */
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
  // Sorted by address, then widest first: a block that contains another comes before it, and is the last one kept.
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
// The documentation networks (RFC 5737, RFC 3849, RFC 9637) are left out: examples use them, and no host has such an address.
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

// Source: RFC 4291 section 2.4 and the IANA IPv6 registries: global unicast is 2000::/3 alone; the rest of the space is not routed:
// unique local (fc00::/7), link-local (fe80::/10), multicast (ff00::/8), loopback, unspecified and what is reserved.
const globalV6 = cidr('2000::/3')
const privateV6 = ['2001:2::/48'].map(cidr) // benchmarking

const touchesPrivate = (candidate: Block): boolean => {
  const v6 = familyOf(candidate) === 6
  if (v6 && !contains(globalV6, candidate)) return true
  return (v6 ? privateV6 : privateV4).some(reserved => contains(reserved, candidate) || contains(candidate, reserved))
}
