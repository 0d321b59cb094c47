import type { AccessSpec, Entry, Source } from '../domain/access-spec.ts'
import { pointerTo, type Finding } from '../problems.ts'
import type { PolicyRequest, VpcRequest, WindowRequest } from '../request.ts'
import { writes } from './actions.ts'
import { misleadingPrefixes, normaliseEntries, options, placeOf, quoted, showCharacter, widenings } from './entries.ts'
import type { Limits } from './limits.ts'
import { normaliseSource } from './source.ts'
import { normaliseWindow, type WindowClock } from './window.ts'

type Normalisation =
  | { ok: true, spec: AccessSpec, warnings: Warning[] }
  | { ok: false, findings: Finding[] }

/**
 * Checks a request that fits its schema against the deployment's ceilings, and makes the access spec of it: every default filled
 * in, every value in its one canonical form. The guardrails are asked later, about the spec.
 *
 * @param now the instant against which the window is checked; also its start when neither the request nor the clock gives one
 * @param clock when the grant is issued, unless now, and what a change replaces
 * @returns the spec with its warnings, or every finding
 */
export const normalise = (
  request: PolicyRequest, limits: Limits, now: Date, clock: Partial<Omit<WindowClock, 'now'>> = {}
): Normalisation => {
  const findings: Finding[] = []
  const report = (finding: Finding): void => { findings.push(finding) }
  const layout = request.layout ?? 'everywhere'
  const entries = normaliseEntries(request, layout, limits, report)
  checkJobId(request.job.id, report)
  const labels = normaliseLabels(request.job.labels ?? {}, report)
  const window = normaliseWindow(request.window, { layout, writes: entries.writes }, limits, { now, firstIssuedAt: now, ...clock }, report)
  const source = normaliseSource(request, limits, report)
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
  const startsNow = request.window.notBefore === undefined && (clock.firstIssuedAt ?? now).getTime() <= now.getTime()
  const warnings = [...misleading(request), ...forClients(request), ...warningsOf(spec, startsNow)]
  return { ok: true, spec, warnings }
}

/** What PATCH changes of a grant: the body of that request. */
export interface Change {
  window?: WindowRequest
  sourceIps?: string[]
  vpc?: VpcRequest
}

/** What a change needs to know of its grant. */
export interface ChangedGrant {
  spec: AccessSpec
  firstIssuedAt: Date
  /** Whether its principal exists at the provider, so that a job may be at work with it. */
  active: boolean
}

/**
 * Changes the window or the source of a grant's spec. The whole request is checked against the ceilings of today, not against those of
 * the day when the grant was issued. A window without notBefore keeps its start; one without outputGraceSeconds keeps its grace.
 * A change that gives sourceIps or vpc replaces the whole source: an alternative that it leaves out is closed. So a caller who says
 * "from here" never leaves another way in open. A window that has started cannot be moved ahead while the grant is active.
 *
 * @returns as normalise(); the pointers of findings are those of the change
 */
export const normaliseChange = (
  { spec, firstIssuedAt, active }: ChangedGrant, change: Change, limits: Limits, now: Date
): Normalisation => {
  const original = restate(spec)
  const { sourceIps, vpc, ...rest } = original
  const source = change.sourceIps === undefined && change.vpc === undefined
    ? { ...(sourceIps && { sourceIps }), ...(vpc && { vpc }) }
    : { ...(change.sourceIps && { sourceIps: change.sourceIps }), ...(change.vpc && { vpc: change.vpc }) }
  const { notBefore, outputGraceSeconds } = original.window
  const window: WindowRequest = change.window
    ? { ...(notBefore !== undefined && { notBefore }), ...(outputGraceSeconds !== undefined && { outputGraceSeconds }), ...change.window }
    : original.window
  const running = active && Date.parse(spec.window.notBefore) <= now.getTime()
  const clock = { firstIssuedAt, change: { running, kept: change.window === undefined } }
  const changed = normalise({ ...rest, ...source, window }, limits, now, clock)
  if (!changed.ok) {
    // A finding about anything else points at the whole body, which does not have that field.
    const findings = changed.findings.map(finding => /^\/(window|sourceIps|vpc)(\/|$)/.test(finding.pointer)
      ? finding
      : { ...finding, pointer: '' })
    return { ok: false, findings }
  }
  const entries: Entry[] = changed.spec.entries.map((entry, index) => ({
    ...entry, pointer: spec.entries[index]?.pointer ?? entry.pointer
  }))
  return { ...changed, spec: { ...changed.spec, entries, ...(spec.shared && { shared: spec.shared }) } }
}

/** The request that asks for exactly this spec: normalise() of it gives the spec again, except for the entries' pointers. */
export const restate = (spec: AccessSpec): PolicyRequest => {
  const { job, entries, window, source, layout, attach } = spec
  const graceSeconds = (Date.parse(window.outputNotAfter) - Date.parse(window.notAfter)) / 1000
  return {
    job: { id: job.id, team: job.team, ...(Object.keys(job.labels).length > 0 && { labels: job.labels }) },
    access: entries.map(({ bucket, prefix, exact, level, sid, list, acl, cannedAcl, delete: del, kmsKeyArns, ...rest }) => ({
      bucket,
      ...(exact ? { key: prefix } : prefix !== '' && { [prefix.endsWith('/') ? 'prefix' : 'keyPrefix']: prefix }),
      level,
      sid,
      list,
      acl: cannedAcl ?? acl,
      delete: del,
      ...Object.fromEntries(options.filter(option => rest[option] === true).map(option => [option, true] as const)),
      ...(kmsKeyArns.length > 0 && { kmsKeyArns })
    })),
    window: {
      notBefore: window.notBefore,
      notAfter: window.notAfter,
      ...(graceSeconds > 0 && { outputGraceSeconds: graceSeconds })
    },
    ...restateSource(source),
    layout,
    attach
  }
}

const restateSource = (source: Source): Pick<PolicyRequest, 'sourceIps' | 'vpc'> => {
  if (source.kind === 'any') return {}
  if (source.kind === 'ip') return { sourceIps: source.cidrs }
  if (source.kind === 'either') return { ...restateSource(source.ip), ...restateSource(source.vpc) }
  return {
    vpc: {
      ...(source.vpcIds.length > 0 && { vpcIds: source.vpcIds }),
      ...(source.vpcArns && { vpcArns: source.vpcArns }),
      ...(source.vpcEndpointIds.length > 0 && { vpcEndpointIds: source.vpcEndpointIds }),
      ...(source.cidrs.length > 0 && { sourceIps: source.cidrs })
    }
  }
}

// --- job id ---

/** Of the characters that a tag lacks, each takes three there (jobTag), and a value has 256: 1 + 128 + 2 * 63 fit. */
const maxEncoded = 63

/** The id goes into tags, names and comments of files, which printable ASCII cannot break; no policy has it. */
const checkJobId = (id: string, report: (finding: Finding) => void): void => {
  const refuse = (detail: string, hint: string) => report({ code: 'request-invalid', pointer: '/job/id', detail, hint })
  const characters = [...id]
  const unfit = characters.findIndex(character => !/^[ -~]$/.test(character))
  if (unfit >= 0) {
    refuse(`The job id has ${showCharacter(characters[unfit] ?? '')} at character ${unfit + 1}, which is not printable ASCII.`,
      'Write `-` or `_` instead, here and wherever the job is named again.')
  }
  if (/^[^A-Za-z0-9]/.test(id)) {
    refuse('The job id does not begin with a letter or a digit.', 'Put a word before it: `job-` and the id.')
  }
  if (id.endsWith(' ')) refuse('The job id ends with a space.', 'Remove it.')
  if (id.replace(/[A-Za-z0-9._:/@+-]/g, '').length > maxEncoded) {
    refuse(`The job id has more than ${maxEncoded} characters that tags of IAM lack.`, 'Shorten it, or write `-` instead of some of them.')
  }
}

// --- labels ---

/** How the names begin of the tags that the service itself puts on an IAM user. A label that looks like one would only mislead. */
const ownTagPrefix = 'job-access:'

/**
 * Labels become tags of the IAM user. Source: IAM User Guide, "Tags for IAM resources": keys that begin with aws: are reserved in
 * upper and lower case alike, and two keys that differ only in case are one key.
 *
 * @returns the labels sorted by name
 */
const normaliseLabels = (labels: Record<string, string>, report: (finding: Finding) => void): Record<string, string> => {
  const seen = new Map<string, string>()
  const names = Object.keys(labels).sort()
  for (const name of names) {
    const pointer = pointerTo('/job/labels', name)
    const folded = name.toLowerCase()
    const reserved = ['aws:', ownTagPrefix].find(prefix => folded.startsWith(prefix))
    if (reserved !== undefined) {
      report({ code: 'label-invalid', pointer, detail: `Tags that begin with ${reserved} are reserved.`, hint: 'Rename the label.' })
    }
    const other = seen.get(folded)
    if (other !== undefined) {
      report({
        code: 'label-invalid', pointer, detail: `To IAM this is the same tag as ${other}: case does not count.`, hint: 'Keep one of them.'
      })
    }
    seen.set(folded, name)
  }
  return Object.fromEntries(names.map(name => [name, labels[name] ?? '']))
}

// --- warnings ---

/** Something that is granted as requested, and that the requester should know. */
export interface Warning { code: WarningCode, detail: string }

export type WarningCode =
  | 'prefix-like-key'
  | 'key-lists-siblings'
  | 'acl-canned'
  | 'versions-granted'
  | 'tags-granted'
  | 'restore-granted'
  | 'names-listed'
  | 'siblings-listed'
  | 'uploads-listed'
  | 'client-widens'
  | 'client-reads-first'
  | 'guide-reads-unbound'
  | 'guide-grants-acl'
  | 'guide-unknown-action'
  | 'acl-granted'
  | 'delete-granted'
  | 'source-any'
  | 'write-whole-bucket'
  | 'no-bucket-location'
  | 'window-starts-now'
  | 'window-long'

const longSeconds = 12 * 3600

const misleading = (request: PolicyRequest): Warning[] => misleadingPrefixes(request).map(({ pointer, prefix, instead }) => ({
  code: 'prefix-like-key',
  detail: `${pointer}: the prefix ${quoted(prefix)} opens the keys below ${quoted(`${prefix}/`)} alone. ${instead === 'key'
    ? `For the object ${quoted(prefix)} itself, send it as \`key\`.`
    : `For keys that begin with ${quoted(prefix)}, send it as \`keyPrefix\`.`} For the directory, end it with a slash.`
}))

const forClients = (request: PolicyRequest): Warning[] => widenings(request).map(({ pointer, need, clients, why }) => need === 'read'
  ? { code: 'client-reads-first', detail: `${pointer}: ${clients.join(', ')} cannot write here: ${why}` }
  : { code: 'client-widens', detail: `${pointer}: for ${clients.join(', ')} ${why}` })

/** @param startDefaulted whether the request left notBefore out */
const warningsOf = (spec: AccessSpec, startDefaulted: boolean): Warning[] => {
  const { entries, window, source, layout } = spec
  const writing = entries.filter(writes)
  const guide = layout === 'guide'
  const warnings: Warning[] = []
  const warn = (when: boolean, code: WarningCode, detail: string): void => { if (when) warnings.push({ code, detail }) }
  const seconds = (Date.parse(window.outputNotAfter) - Date.parse(window.notBefore)) / 1000

  warn(guide && writing.length < entries.length, 'guide-reads-unbound',
    'The guide\'s layout puts neither window nor source on what is only read: those reads work until the key is deleted.')
  warn(guide && writing.length > 0, 'guide-grants-acl',
    'The guide\'s layout grants s3:PutObjectAcl, which can publish objects of a bucket with ACLs enabled.')
  warn(guide && writing.length > 0, 'guide-unknown-action',
    'The guide names s3:CompleteMultipartUpload, which is no IAM action: AWS ignores it, other providers refuse the policy.')
  for (const entry of entries) {
    const place = placeOf(entry)
    const { sid, bucket } = entry
    warn(entry.cannedAcl !== undefined, 'acl-canned',
      `${sid}: the job may set the ACL of every object of ${place} to ${entry.cannedAcl}, so that others may lose their access.`)
    warn(entry.versions === true, 'versions-granted', `${sid}: the job may read earlier versions in ${place}, also of deleted objects.`)
    warn(entry.tags === true && writes(entry), 'tags-granted',
      `${sid}: the job may change tags in ${place}; lifecycle rules and policies may go by them.`)
    warn(entry.restore === true, 'restore-granted', `${sid}: the job may restore archived objects of ${place}, which costs.`)
    warn(entry.listNames === true, 'names-listed', `${sid}: the job may list every name of ${bucket}, not only those of ${place}.`)
    warn(entry.bareName === true && entry.list && !entry.listNames, 'siblings-listed',
      `${sid}: the job may list names of ${bucket} beside ${place} that begin with ${quoted(entry.prefix.slice(0, -1))}.`)
    warn(entry.uploads === true && entry.prefix !== '', 'uploads-listed',
      `${sid}: the job may list the names of all uploads in progress in ${bucket}: IAM cannot bind that to ${place}.`)
    warn(entry.exact === true && entry.list && !entry.listNames, 'key-lists-siblings',
      `${entry.sid}: listing with the prefix ${quoted(entry.prefix)} shows every name of ${entry.bucket} that begins with it.`)
    warn(entry.acl && !guide, 'acl-granted', `${entry.sid}: s3:PutObjectAcl on ${place} can publish objects of a bucket with ACLs enabled.`)
    warn(entry.delete, 'delete-granted', `${entry.sid}: the job may delete objects in ${place}.`)
    warn(writes(entry) && entry.prefix === '', 'write-whole-bucket',
      `${entry.sid}: the job may overwrite every object of ${entry.bucket}; a prefix of its own would protect the objects of others.`)
  }
  warn(spec.noBucketLocation === true && !guide, 'no-bucket-location',
    'The provider has no s3:GetBucketLocation, so it is not granted: give the job\'s S3 client its region.')
  warn(source.kind === 'any', 'source-any', 'The access works from every address: whoever has the key has the access.')
  warn(startDefaulted, 'window-starts-now', `The window starts at ${window.notBefore}, by this service's clock.`)
  warn(seconds > longSeconds, 'window-long',
    `The window has ${seconds} seconds. With a shorter one, extended while the job runs, a leaked key does less harm.`)
  return warnings
}
