import type { Finding } from '../problems.ts'
import type { AccessRequest, PolicyRequest, ReadRequest } from '../request.ts'
import { reads, writes } from './actions.ts'
import type { Entry, Layout, Level } from '../domain/access-spec.ts'
import { kmsKeyFault } from './kms-keys.ts'
import { bucketAllowed, bucketFaults, readPrefix } from './names.ts'
import { denySids, sidsOf } from './render.ts'
import type { Limits } from './admit.ts'

/** One entry as it was asked for, whichever field it came from. */
interface Asked {
  pointer: string
  sid: string
  level: Level
  request: ReadRequest & Pick<AccessRequest, 'acl' | 'delete'>
}

type Report = (finding: Finding) => void

/**
 * The entries in the order datasets, base models, output, access. Those with a finding are left out of the result, which is used
 * only when there is none.
 *
 * @returns the canonical entries, and whether anything that was asked for writes
 */
export const admitEntries = (
  request: PolicyRequest, layout: Layout, limits: Limits, report: Report
): { entries: Entry[], writes: boolean } => {
  const asked = collect(request)
  if (asked.length === 0) {
    report({
      code: 'access-missing',
      pointer: '',
      detail: 'The request names no dataset, base model, output or access.',
      hint: 'Add at least one entry with a bucket.'
    })
  }
  const entries = asked.flatMap(one => admitEntry(one, layout, limits, report) ?? [])
  refuseDuplicates(entries, report)
  refuseSids(asked, entries, report)
  return { entries, writes: asked.some(writes) }
}

const collect = (request: PolicyRequest): Asked[] => [
  ...(request.datasets ?? []).map((entry, index) => asked(`/datasets/${index}`, `Dataset${index + 1}`, 'read', entry)),
  ...(request.baseModels ?? []).map((entry, index) => asked(`/baseModels/${index}`, `BaseModel${index + 1}`, 'read', entry)),
  ...(request.output ? [asked('/output', 'Output', request.output.level ?? 'write', request.output)] : []),
  ...(request.access ?? []).map((entry, index) => asked(`/access/${index}`, `Access${index + 1}`, entry.level, entry))
]

const asked = (pointer: string, sid: string, level: Level, request: Asked['request']): Asked =>
  ({ pointer, sid: request.sid ?? sid, level, request })

const admitEntry = ({ pointer, sid, level, request }: Asked, layout: Layout, limits: Limits, report: Report): Entry | undefined => {
  let sound = true
  const refuse: Report = finding => {
    sound = false
    report(finding)
  }
  for (const fault of bucketFaults(request.bucket)) refuse({ code: 'bucket-invalid', pointer: `${pointer}/bucket`, ...fault })
  if (sound && !bucketAllowed(request.bucket, limits.allowedBuckets)) {
    refuse({
      code: 'bucket-refused',
      pointer: `${pointer}/bucket`,
      detail: 'The bucket is none of those that this service grants access to.',
      hint: 'Ask whoever runs the service to allow it.'
    })
  }
  const prefix = request.prefix === undefined ? { ok: true, prefix: '' } as const : readPrefix(request.prefix)
  if (!prefix.ok) for (const fault of prefix.faults) refuse({ code: 'prefix-invalid', pointer: `${pointer}/prefix`, ...fault })
  if (!/^[A-Za-z0-9]+$/.test(sid)) {
    refuse({ code: 'request-invalid', pointer: `${pointer}/sid`, detail: 'A Sid has letters and digits only.', hint: 'Rename it.' })
  }
  for (const option of ['acl', 'delete'] as const) {
    if (request[option] === true && !writes({ level })) {
      refuse({
        code: 'option-without-write',
        pointer: `${pointer}/${option}`,
        detail: `\`${option}\` changes objects, and this entry only reads.`,
        hint: 'Remove the option, or ask for level `write` or `read-write`.'
      })
    }
  }
  for (const [index, arn] of (request.kmsKeyArns ?? []).entries()) {
    const fault = kmsKeyFault(arn, limits.partition)
    if (fault) refuse({ code: 'kms-key-invalid', pointer: `${pointer}/kmsKeyArns/${index}`, ...fault })
  }
  if (layout === 'guide') {
    for (const unfit of guideUnfits(request)) refuse({ code: 'layout-unfit', ...unfit, pointer: pointer + unfit.pointer })
  }
  if (!sound || !prefix.ok) return undefined
  const guide = layout === 'guide'
  return {
    pointer,
    sid,
    bucket: request.bucket,
    prefix: prefix.prefix,
    level,
    list: request.list ?? (guide || reads({ level })),
    // The guide's write statement sets ACLs; what is admitted says what the policy gives.
    acl: (request.acl ?? false) || (guide && writes({ level })),
    delete: request.delete ?? false,
    kmsKeyArns: [...new Set(request.kmsKeyArns)].sort()
  }
}

const guideUnfits = (request: Asked['request']): { pointer: string, detail: string, hint: string }[] => {
  const hint = 'Use layout `everywhere` or `guarded`.'
  return [
    ...(request.prefix === undefined
      ? []
      : [{ pointer: '/prefix', detail: 'The guide’s one statement per bucket cannot bind listing to a prefix.', hint }]),
    ...(request.kmsKeyArns === undefined
      ? []
      : [{ pointer: '/kmsKeyArns', detail: 'The guide’s policy has no statement for KMS keys.', hint }]),
    ...(request.list === false
      ? [{ pointer: '/list', detail: 'Every statement of the guide’s policy lists its bucket.', hint }]
      : [])
  ]
}

const refuseDuplicates = (entries: readonly Entry[], report: Report): void => {
  const seen = new Map<string, string>()
  for (const { bucket, prefix, pointer } of entries) {
    const place = `${bucket}/${prefix}`
    const first = seen.get(place)
    if (first === undefined) {
      seen.set(place, pointer)
      continue
    }
    report({
      code: 'access-duplicate',
      pointer,
      detail: `${first} asks for the same bucket and prefix.`,
      hint: 'Name them once, with the level that covers both.'
    })
  }
}

const refuseSids = (asked: readonly Asked[], entries: readonly Entry[], report: Report): void => {
  const taken = new Map<string, string>(Object.values(denySids).map(sid => [sid, 'a statement of the `guarded` layout']))
  const spec = new Map(entries.map(entry => [entry.pointer, entry]))
  for (const one of asked) {
    const entry = spec.get(one.pointer)
    for (const sid of entry ? sidsOf(entry) : [one.sid]) {
      const holder = taken.get(sid)
      if (holder === undefined) {
        taken.set(sid, one.pointer)
        continue
      }
      report({
        code: 'sid-duplicate',
        pointer: one.request.sid === undefined ? one.pointer : `${one.pointer}/sid`,
        detail: `The Sid ${sid} is that of ${holder}.`,
        hint: 'Give another `sid`; `List` and `Keys` are appended for the statements of prefixes and KMS keys.'
      })
    }
  }
}
