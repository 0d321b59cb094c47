import type { Finding } from '../problems.ts'
import type { PolicyRequest, VpcRequest } from '../request.ts'
import type { Limits } from './admit.ts'
import type { Source } from '../domain/access-spec.ts'
import { readSourceIps } from './source-ips.ts'

type Report = (finding: Finding) => void

/** @returns where the job's requests come from; undefined when it cannot be told, and findings say why */
export const admitSource = (request: Pick<PolicyRequest, 'sourceIps' | 'vpc'>, limits: Limits, report: Report): Source | undefined => {
  const { sourceIps, vpc } = request
  if (sourceIps !== undefined && vpc !== undefined) {
    report({
      code: 'source-ambiguous',
      pointer: '/vpc',
      detail: 'A request to S3 has a public source address or comes through a VPC endpoint, never both.',
      hint: 'Give sourceIps or vpc; the private addresses in a VPC are `sourceIps` inside `vpc`.'
    })
  }
  // Both are read when both are there, so that every finding is told at once.
  const ip = sourceIps === undefined ? undefined : fromIps(sourceIps, limits, report)
  const endpoint = vpc === undefined ? undefined : fromVpc(vpc, limits, report)
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

const fromIps = (texts: readonly string[], limits: Limits, report: Report): Source | undefined => {
  if (texts.length === 0) {
    report({ code: 'source-missing', pointer: '/sourceIps', detail: 'The list is empty.', hint: 'Name an address, or leave it out.' })
    return undefined
  }
  const read = readSourceIps(texts, '/sourceIps', rulesOf(limits, limits.allowPrivateSourceIps))
  if (read.ok) return { kind: 'ip', cidrs: read.cidrs }
  read.findings.forEach(report)
  return undefined
}

const fromVpc = (vpc: VpcRequest, limits: Limits, report: Report): Source | undefined => {
  const vpcIds = [...new Set(vpc.vpcIds)].sort()
  const vpcEndpointIds = [...new Set(vpc.vpcEndpointIds)].sort()
  let sound = refuseIds(vpc.vpcIds ?? [], 'vpcIds', 'vpc', report)
  sound = refuseIds(vpc.vpcEndpointIds ?? [], 'vpcEndpointIds', 'vpce', report) && sound
  if (vpcIds.length === 0 && vpcEndpointIds.length === 0) {
    sound = false
    report({
      code: 'vpc-incomplete',
      pointer: '/vpc',
      detail: 'Private addresses alone name no network: every VPC may have them.',
      hint: 'Add vpcIds or vpcEndpointIds.'
    })
  }
  const read = readSourceIps(vpc.sourceIps ?? [], '/vpc/sourceIps', rulesOf(limits, true))
  if (!read.ok) read.findings.forEach(report)
  return sound && read.ok ? { kind: 'vpc', vpcIds, vpcEndpointIds, cidrs: read.cidrs } : undefined
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
