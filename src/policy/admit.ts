import type { Finding } from '../problems.ts'
import type { PolicyRequest, VpcRequest, WindowRequest } from '../request.ts'
import { admitEntries } from './admit-entries.ts'
import { admitLabels } from './admit-labels.ts'
import { admitSource } from './admit-source.ts'
import { admitWindow } from './admit-window.ts'
import type { AccessSpec, Entry, Partition } from '../domain/access-spec.ts'
import { warningsOf, type Warning } from './warnings.ts'

/** The guardrails of a deployment: ceilings that no request exceeds. */
export interface Limits {
  partition: Partition
  /** Longest window in seconds, the grace of the output included. */
  maxWindowSeconds: number
  /** How far ahead a window may start, in seconds. Absent: any. */
  maxStartAheadSeconds?: number
  /** Shortest prefix length of a source CIDR. */
  minPrefixV4: number
  minPrefixV6: number
  /** Patterns of bucket names, `*` alone is special. Empty: any bucket. */
  allowedBuckets: string[]
  /** Whether a request may leave out its source. */
  allowAnySource: boolean
  /** For providers that jobs reach over a private network, such as Ceph: private addresses in sourceIps. */
  allowPrivateSourceIps: boolean
  /** The provider has no s3:GetBucketLocation: no entry gets it, and a warning says so. */
  noBucketLocation?: boolean
}

export const defaultLimits: Limits = {
  partition: 'aws',
  maxWindowSeconds: 7 * 86_400,
  maxStartAheadSeconds: 30 * 86_400,
  minPrefixV4: 16,
  minPrefixV6: 48,
  allowedBuckets: [],
  allowAnySource: false,
  allowPrivateSourceIps: false
}

export type Admission =
  | { ok: true, spec: AccessSpec, warnings: Warning[] }
  | { ok: false, findings: Finding[] }

/**
 * Holds a request that fits its schema against the guardrails.
 *
 * @param now the instant against which the window is judged, and its start where the request gives none
 * @returns the canonical request and what is worth knowing about it, or everything that is wrong with it
 */
export const admit = (request: PolicyRequest, limits: Limits, now: Date): Admission => {
  const findings: Finding[] = []
  const report = (finding: Finding): void => { findings.push(finding) }
  const layout = request.layout ?? 'everywhere'
  const entries = admitEntries(request, layout, limits, report)
  const labels = admitLabels(request.job.labels ?? {}, report)
  const window = admitWindow(request.window, { layout, writes: entries.writes }, limits, now, report)
  const source = admitSource(request, limits, report)
  if (findings.length > 0 || !window || !source) return { ok: false, findings }
  const spec: AccessSpec = {
    partition: limits.partition,
    job: { id: request.job.id, team: request.job.team, labels },
    entries: entries.entries,
    window,
    source,
    layout,
    attach: request.attach ?? 'auto',
    ...(limits.noBucketLocation && { noBucketLocation: true as const })
  }
  return { ok: true, spec, warnings: warningsOf(spec, request.window.notBefore === undefined) }
}

/** What PATCH changes of a grant. Pointers of findings are those of this body. */
export interface Change {
  window?: WindowRequest
  sourceIps?: string[]
  vpc?: VpcRequest
}

/**
 * Holds a changed window or source of an admitted request against the guardrails of today, all of them: an extension is a new
 * promise. A window without notBefore keeps its start, one without outputGraceSeconds its grace.
 *
 * @returns as admit()
 */
export const readmit = (spec: AccessSpec, change: Change, limits: Limits, now: Date): Admission => {
  const asked = restate(spec)
  const { sourceIps, vpc, ...rest } = asked
  const source = change.sourceIps === undefined && change.vpc === undefined
    ? { ...(sourceIps && { sourceIps }), ...(vpc && { vpc }) }
    : { ...(change.sourceIps && { sourceIps: change.sourceIps }), ...(change.vpc && { vpc: change.vpc }) }
  const { notBefore, outputGraceSeconds } = asked.window
  const window: WindowRequest = change.window
    ? { ...(notBefore !== undefined && { notBefore }), ...(outputGraceSeconds !== undefined && { outputGraceSeconds }), ...change.window }
    : asked.window
  const admission = admit({ ...rest, ...source, window }, limits, now)
  if (!admission.ok) {
    // What was not in the change has no place in its body.
    const findings = admission.findings.map(finding => /^\/(window|sourceIps|vpc)(\/|$)/.test(finding.pointer)
      ? finding
      : { ...finding, pointer: '' })
    return { ok: false, findings }
  }
  const entries: Entry[] = admission.spec.entries.map((entry, index) => ({
    ...entry, pointer: spec.entries[index]?.pointer ?? entry.pointer
  }))
  return { ...admission, spec: { ...admission.spec, entries } }
}

/** The request that asks for exactly what was admitted. admit() of it gives the same again, but for the entries' pointers. */
export const restate = (spec: AccessSpec): PolicyRequest => {
  const { job, entries, window, source, layout, attach } = spec
  const graceSeconds = (Date.parse(window.outputNotAfter) - Date.parse(window.notAfter)) / 1000
  return {
    job: { id: job.id, team: job.team, ...(Object.keys(job.labels).length > 0 && { labels: job.labels }) },
    access: entries.map(({ bucket, prefix, level, sid, list, acl, delete: del, kmsKeyArns }) => ({
      bucket,
      ...(prefix !== '' && { prefix }),
      level,
      sid,
      list,
      acl,
      delete: del,
      ...(kmsKeyArns.length > 0 && { kmsKeyArns })
    })),
    window: {
      notBefore: window.notBefore,
      notAfter: window.notAfter,
      ...(graceSeconds > 0 && { outputGraceSeconds: graceSeconds })
    },
    ...(source.kind === 'ip' && { sourceIps: source.cidrs }),
    ...(source.kind === 'vpc' && {
      vpc: {
        ...(source.vpcIds.length > 0 && { vpcIds: source.vpcIds }),
        ...(source.vpcEndpointIds.length > 0 && { vpcEndpointIds: source.vpcEndpointIds }),
        ...(source.cidrs.length > 0 && { sourceIps: source.cidrs })
      }
    }),
    layout,
    attach
  }
}
