import type { Entry, Layout, Level, Option, Partition } from '../domain/access-spec.ts'
import type { Finding } from '../problems.ts'
import type { AccessRequest, ClientName, PolicyRequest, ReadRequest } from '../request.ts'
import { reads, writes } from './actions.ts'
import { needsOf, readsFirst, type Need } from './clients.ts'
import type { Limits } from './limits.ts'
import { denySids, groupsOf, rightsOf, sidsOf, withSharedSids } from './render.ts'

/** One entry as it was requested, whichever field it came from. */
interface Requested {
  pointer: string
  sid: string
  level: Level
  request: ReadRequest & Pick<AccessRequest, 'acl' | 'delete' | 'uploads'>
}

type Report = (finding: Finding) => void

/**
 * The entries in the order datasets, base models, output, access. Entries with a finding are left out; the result is used only
 * when there is no finding.
 *
 * @returns the canonical entries, and whether any requested entry writes
 */
export const normaliseEntries = (
  request: PolicyRequest, layout: Layout, limits: Limits, report: Report
): { entries: Entry[], writes: boolean } => {
  const requested = collect(request).flatMap(one => widen(one, request.clients, report))
  if (requested.length === 0) {
    report({
      code: 'access-missing',
      pointer: '',
      detail: 'The request names no dataset, base model, output or access.',
      hint: 'Add at least one entry with a bucket.'
    })
  }
  const entries = requested.flatMap(one => normaliseEntry(one, layout, limits, report) ?? [])
  refuseDuplicates(entries, report)
  const named = new Set(requested.filter(one => one.request.sid !== undefined).map(one => one.pointer))
  const shared = shareSids(entries, named)
  const alternatives = layout === 'everywhere' && request.sourceIps !== undefined && request.vpc !== undefined
  refuseSids(shared, named, layout, alternatives, report)
  return { entries: shared, writes: requested.some(writes) }
}

/**
 * Entries of one bucket with equal rights share statements, which makes the policy much shorter: they get the sid of the first of
 * them. An entry to which the caller gave a sid keeps it, and shares with those alone that the caller gave the same sid.
 */
const shareSids = (entries: readonly Entry[], named: ReadonlySet<string>): Entry[] =>
  withSharedSids(entries, entry => named.has(entry.pointer) ? undefined : `${entry.bucket} ${rightsOf(entry)}`)

const collect = (request: PolicyRequest): Requested[] => [
  ...(request.datasets ?? []).map((entry, index) => requested(`/datasets/${index}`, `Dataset${index + 1}`, 'read', entry)),
  ...(request.baseModels ?? []).map((entry, index) => requested(`/baseModels/${index}`, `BaseModel${index + 1}`, 'read', entry)),
  ...(request.output ? [requested('/output', 'Output', request.output.level ?? 'write', request.output)] : []),
  ...(request.access ?? []).map((entry, index) => requested(`/access/${index}`, `Access${index + 1}`, entry.level, entry))
]

const requested = (pointer: string, sid: string, level: Level, request: Requested['request']): Requested =>
  ({ pointer, sid: request.sid ?? sid, level, request })

// --- clients ---

/** What the clients of an entry need of it, and which of them need it. Of a key they need nothing more, in the guide they have it. */
const needsIn = ({ level, request }: Requested, clients: readonly ClientName[] = []): Map<Need, ClientName[]> => {
  const found = new Map<Need, ClientName[]>()
  if (request.key !== undefined) return found
  for (const client of new Set(request.clients ?? clients)) {
    for (const need of needsOf(client, level)) {
      if (need === 'directory-name' && request.prefix === undefined) continue
      found.set(need, [...found.get(need) ?? [], client])
    }
  }
  return found
}

const nameOfDirectory = (prefix: string): string => prefix.endsWith('/') ? prefix.slice(0, -1) : prefix

/**
 * The entry, widened by what its clients need. The name of its directory is an entry of its own, for the one key that is the name: so the
 * guardrails are asked about it, and it is rendered and proven like any other entry.
 */
const widen = (one: Requested, clients: readonly ClientName[] | undefined, report: Report): Requested[] => {
  const needs = needsIn(one, clients)
  const { request, pointer, sid } = one
  const names = [...needs.values()].flat()
  if (names.length > 0 && request.list === false) {
    report({
      code: 'client-unfit',
      pointer: `${pointer}/list`,
      detail: `${names.join(', ')} must list here, and the entry says that the job may not.`,
      hint: 'Leave `list` out, or give the entry "clients": [].'
    })
    return [one]
  }
  const widened = needs.has('list') ? { ...one, request: { ...request, list: true } } : one
  if (!needs.has('directory-name') || request.prefix === undefined) return [widened]
  const name = { bucket: request.bucket, key: nameOfDirectory(request.prefix), list: true }
  return [widened, { pointer: request.clients ? `${pointer}/clients` : '/clients', sid: `${sid}Name`, level: 'read', request: name }]
}

/** What is added for clients, and the clients that will not work, for the warnings. */
export const widenings = (request: PolicyRequest): { pointer: string, need: Need | 'read', clients: string[], why: string }[] =>
  collect(request).flatMap(one => {
    const { pointer, level } = one
    const place = quoted(`${one.request.bucket}/${nameOfDirectory(one.request.prefix ?? '')}`)
    const added = [...needsIn(one, request.clients)]
      .filter(([need]) => need !== 'list' || one.request.list !== true)
      .map(([need, clients]) => ({
        pointer,
        need,
        clients,
        why: need === 'list'
          ? 'the job may also list here, and so sees the names of what is there.'
          : `the job may also read the key ${place} and list by it, and so sees the names of the bucket that begin with it.`
      }))
    const unable = level === 'write' ? [...new Set(one.request.clients ?? request.clients)] : []
    return [...added, ...unable.flatMap(client => {
      const why = readsFirst(client)
      return why === undefined ? [] : [{ pointer, need: 'read' as const, clients: [client], why: `${why}. Ask for level \`read-write\`.` }]
    })]
  })

const normaliseEntry = (
  { pointer, sid, level, request }: Requested, layout: Layout, limits: Limits, report: Report
): Entry | undefined => {
  let sound = true
  const refuse: Report = finding => {
    sound = false
    report(finding)
  }
  for (const fault of bucketFaults(request.bucket)) refuse({ code: 'bucket-invalid', pointer: `${pointer}/bucket`, ...fault })
  if (sound && !nameAllowed(request.bucket, limits.allowedBuckets)) {
    refuse({
      code: 'bucket-refused',
      pointer: `${pointer}/bucket`,
      detail: 'The bucket is none of those that this service grants access to.',
      hint: 'Ask the operator of this service to allow it.'
    })
  }
  const [place, ...others] = placesOf(request)
  for (const other of others) {
    refuse({
      code: 'place-ambiguous',
      pointer: `${pointer}/${other.field}`,
      detail: `The entry has a \`${place?.field}\` already.`,
      hint: 'Give `prefix` for a directory, `key` for one object, or `keyPrefix` for the beginning of names; several need several entries.'
    })
  }
  const prefix = place === undefined ? { ok: true, prefix: '' } as const : readPlace(place.field, place.text)
  if (!prefix.ok && place) {
    for (const fault of prefix.faults) refuse({ code: 'prefix-invalid', pointer: `${pointer}/${place.field}`, ...fault })
  }
  if (!/^[A-Za-z0-9]+$/.test(sid)) {
    refuse({ code: 'request-invalid', pointer: `${pointer}/sid`, detail: 'A Sid has letters and digits only.', hint: 'Rename it.' })
  }
  for (const option of ['acl', 'delete', 'uploads'] as const) {
    if (request[option] !== undefined && request[option] !== false && !writes({ level })) {
      refuse({
        code: 'option-without-write',
        pointer: `${pointer}/${option}`,
        detail: `\`${option}\` changes objects, and this entry only reads.`,
        hint: 'Remove the option, or ask for level `write` or `read-write`.'
      })
    }
  }
  for (const option of ['versions', 'attributes', 'restore'] as const) {
    if (request[option] === true && !reads({ level })) {
      refuse({
        code: 'option-without-read',
        pointer: `${pointer}/${option}`,
        detail: `\`${option}\` is for what is read, and this entry only writes.`,
        hint: 'Remove the option, or ask for level `read-write`.'
      })
    }
  }
  if (request.listNames === true && request.list === false) {
    refuse({
      code: 'option-unfit',
      pointer: `${pointer}/listNames`,
      detail: '`listNames` lists the whole bucket, and `list` is false.',
      hint: 'Remove one of them.'
    })
  }
  if (request.bareName === true && (place?.field !== 'prefix')) {
    refuse({
      code: 'option-unfit',
      pointer: `${pointer}/bareName`,
      detail: '`bareName` is for the name of a directory, and the entry has no `prefix`.',
      hint: 'Remove it, or ask for a directory with `prefix`.'
    })
  }
  for (const [index, arn] of (request.kmsKeyArns ?? []).entries()) {
    const fault = kmsKeyFault(arn, limits.partition)
    if (fault) refuse({ code: 'kms-key-invalid', pointer: `${pointer}/kmsKeyArns/${index}`, ...fault })
    else if (!nameAllowed(arn, limits.allowedKmsKeys)) {
      refuse({
        code: 'kms-key-refused',
        pointer: `${pointer}/kmsKeyArns/${index}`,
        detail: 'The key is none of those whose use this service grants.',
        hint: 'Ask the operator of this service to allow it.'
      })
    }
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
    ...(place?.field === 'key' && { exact: true as const }),
    level,
    // HEAD and GET of one key need no listing, and listing shows the names of others that begin with the key.
    list: request.list ?? (guide || request.listNames === true || (reads({ level }) && place?.field !== 'key')),
    // The guide's write statement always has s3:PutObjectAcl; the spec says what the policy will give.
    acl: request.acl === true || (guide && writes({ level })),
    ...(typeof request.acl === 'string' && { cannedAcl: request.acl }),
    delete: request.delete ?? false,
    kmsKeyArns: [...new Set(request.kmsKeyArns)].sort(),
    ...Object.fromEntries(options.filter(option => request[option] === true && (option !== 'listNames' || prefix.prefix !== ''))
      .map(option => [option, true] as const))
  }
}

/** `listNames` of a whole bucket is `list`. */
export const options = ['versions', 'tags', 'uploads', 'attributes', 'restore', 'listNames', 'bareName'] as const satisfies Option[]

/** A name within a sentence. No name has these quotes, which are beyond U+00FF, so a name cannot end the sentence and go on. */
export const quoted = (name: string): string => /^[A-Za-z0-9/!_.'()=+@,:*-]*$/.test(name) ? name : `“${name}”`

/** The place of an entry for people: `bucket/runs/42/`, `bucket/shards/train-*`, `bucket/model.safetensors`. */
export const placeOf = ({ bucket, prefix, exact }: Pick<Entry, 'bucket' | 'prefix' | 'exact'>): string =>
  quoted(`${bucket}/${prefix}${exact || prefix === '' || prefix.endsWith('/') ? '' : '*'}`)

type Field = 'prefix' | 'key' | 'keyPrefix'

/** What the entry says of its place in the bucket: nothing for the whole bucket, else one of the three. */
const placesOf = (request: Requested['request']): { field: Field, text: string }[] =>
  (['prefix', 'key', 'keyPrefix'] as const).flatMap(field => request[field] === undefined ? [] : [{ field, text: request[field] }])

/**
 * Prefixes that look like a key or like the beginning of names: `prefix` always means a directory, so they open less than was
 * probably meant.
 */
export const misleadingPrefixes = (request: PolicyRequest): { pointer: string, prefix: string, instead: 'key' | 'keyPrefix' }[] =>
  collect(request).flatMap(({ pointer, request: { prefix = '' } }) => {
    const name = prefix.slice(prefix.lastIndexOf('/') + 1)
    // An extension has a letter, and a name before it: v1.2 and .cache have none.
    const instead = /[-_.]$/.test(name) ? 'keyPrefix' : /[^.]\.(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{1,12}$/.test(name) ? 'key' : undefined
    return instead ? [{ pointer: `${pointer}/prefix`, prefix, instead }] : []
  })

const guideUnfits = (request: Requested['request']): { pointer: string, detail: string, hint: string }[] => {
  const hint = 'Use layout `everywhere` or `guarded`.'
  const [place] = placesOf(request)
  return [
    ...(place === undefined
      ? []
      : [{ pointer: `/${place.field}`, detail: 'The guide’s one statement per bucket cannot bind listing to a prefix.', hint }]),
    ...(request.kmsKeyArns === undefined
      ? []
      : [{ pointer: '/kmsKeyArns', detail: 'The guide’s policy has no statement for KMS keys.', hint }]),
    ...options.filter(option => request[option] === true)
      .map(option => ({ pointer: `/${option}`, detail: 'The guide’s statements have no such action.', hint })),
    ...(typeof request.acl === 'string'
      ? [{ pointer: '/acl', detail: 'The guide grants s3:PutObjectAcl without a condition.', hint }]
      : []),
    ...(request.list === false
      ? [{ pointer: '/list', detail: 'Every statement of the guide’s policy lists its bucket.', hint }]
      : [])
  ]
}

const refuseDuplicates = (entries: readonly Entry[], report: Report): void => {
  const seen = new Map<string, string>()
  for (const { bucket, prefix, exact, pointer } of entries) {
    const place = `${exact ? 'key' : 'prefix'} ${bucket}/${prefix}`
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

/**
 * Entries with one sid share their statements, so they must have equal rights; no other Sid may occur twice.
 * @param alternatives whether each entry has its statements twice, once per alternative of the source
 */
const refuseSids = (
  entries: readonly Entry[], named: ReadonlySet<string>, layout: Layout, alternatives: boolean, report: Report
): void => {
  const taken = new Map<string, string>(Object.values(denySids).map(sid => [sid, 'a statement of the `guarded` layout']))
  for (const group of groupsOf(entries)) {
    const [first, ...others] = group
    for (const other of others) {
      const why = layout === 'guide' ? 'the guide has one statement for each bucket' : 'its rights are not the same'
      if (layout !== 'guide' && rightsOf(other) === rightsOf(first)) continue
      report({
        code: 'sid-duplicate',
        pointer: pointerOfSid(other, named),
        detail: `The Sid ${other.sid} is that of ${first.pointer}, and ${why}.`,
        hint: 'Give another `sid`. Entries share a `sid`, and so their statements, when level, list and options are equal and ' +
          'all or none of them have a prefix.'
      })
    }
    for (const sid of sidsOf(group, alternatives)) {
      const holder = taken.get(sid)
      if (holder === undefined) {
        taken.set(sid, first.pointer)
        continue
      }
      report({
        code: 'sid-duplicate',
        pointer: pointerOfSid(first, named),
        detail: `The Sid ${sid} is that of ${holder}.`,
        hint: 'Give another `sid`; `List`, `Names`, `Acl`, `Keys` and `Vpc` are appended for its further statements.'
      })
    }
  }
}

const pointerOfSid = ({ pointer }: Entry, named: ReadonlySet<string>): string => named.has(pointer) ? `${pointer}/sid` : pointer

// --- buckets and prefixes ---

/*
 * Names that become part of a Resource: buckets follow S3's rules, keys and prefixes have the characters that IAM policies can carry.
 * Neither may have a character that means something to IAM in a Resource or in StringLike (`*`, `?`, `${`).
 */

interface Fault { detail: string, hint: string }

interface BucketRule { broken: (name: string) => boolean, detail: string, hint: string }

// Source: Amazon S3 User Guide, "General purpose bucket naming rules".
const reservedPrefixes = ['xn--', 'sthree-', 'amzn-s3-demo-']

const bucketRules: readonly BucketRule[] = [
  {
    broken: name => name.length < 3 || name.length > 63,
    detail: 'A bucket name has 3 to 63 characters.',
    hint: 'Give the bucket’s name alone, without s3:// and without a key.'
  },
  {
    broken: name => /[^a-z0-9.-]/.test(name),
    detail: 'A bucket name has only lower-case letters, digits, dots and hyphens.',
    hint: 'Give the bucket’s name alone; wildcards are not names, and a key prefix belongs in `prefix`.'
  },
  {
    broken: name => /^[.-]|[.-]$/.test(name),
    detail: 'A bucket name begins and ends with a letter or a digit.',
    hint: 'Remove the dot or hyphen at the end.'
  },
  {
    broken: name => name.includes('..'),
    detail: 'A bucket name has no two dots in a row.',
    hint: 'Remove one of the dots.'
  },
  {
    broken: name => /^\d+(\.\d+){3}$/.test(name),
    detail: 'A bucket name is not shaped like an IP address.',
    hint: 'Give the bucket’s name, not the address of its server.'
  },
  ...reservedPrefixes.map(prefix => ({
    broken: (name: string) => name.startsWith(prefix),
    detail: `A bucket name does not begin with ${prefix}, which S3 reserves.`,
    hint: 'Use a general purpose bucket.'
  }))
]

const behind = 'Give the name of the bucket behind it, and let the job’s client name that bucket: IAM checks a request through an access ' +
  'point against the access point’s ARN, and this service writes policies about buckets.'
const rest = 'Give the bucket’s name alone, and what follows it as `prefix` or `key`.'
const directory = 'Use a general purpose bucket: a directory bucket is opened as a whole, by s3express:CreateSession.'
const table = 'Use a general purpose bucket: tables have actions of their own, s3tables:*, which this service does not grant.'
const outposts = 'Use a general purpose bucket: S3 on Outposts has actions of its own, s3-outposts:*, which this service does not grant.'
const transformed = 'Give the bucket behind it if the job may read objects as they are: what a function makes of them is opened by ' +
  's3-object-lambda:GetObject, which this service does not grant.'

/**
 * What people give instead of a bucket's name, by its form.
 * Sources: Service Authorization Reference, "Amazon S3", resource types; S3 User Guide, "General purpose bucket naming rules" (reserved
 * suffixes) and "Access point aliases".
 */
const otherThings: ReadonlyArray<[form: RegExp, what: string, hint: string]> = [
  [/^s3[an]?:\/\//i, 'a URL', rest],
  [/^https?:\/\//i, 'an address of the web', 'Give the bucket’s name alone, not the address of its server.'],
  [/^arn:[^:]*:s3:::[^/:]+$/, 'the ARN of a bucket', 'Give its name alone: what follows `:::`.'],
  [/^arn:[^:]*:s3:::/, 'the ARN of objects', `${rest} The name stands between \`:::\` and the first slash.`],
  [/^arn:[^:]*:s3::\d*:accesspoint[/:]|\.mrap$/, 'a Multi-Region Access Point', behind],
  [/^arn:[^:]*:s3:[^:]*:[^:]*:accesspoint[/:]/, 'the ARN of an access point', behind],
  [/-s3alias$/, 'the alias of an access point', behind],
  [/^arn:[^:]*:s3-object-lambda:|--ol-s3$/, 'an S3 Object Lambda Access Point', transformed],
  [/^arn:[^:]*:s3-outposts:|--op-s3$/, 'a bucket or an access point on S3 on Outposts', outposts],
  [/^arn:[^:]*:s3express:.*:accesspoint\/|--xa-s3$/, 'an access point of a directory bucket', directory],
  [/^arn:[^:]*:s3express:|--x-s3$/, 'a directory bucket', directory],
  [/^arn:[^:]*:s3tables:|--table-s3$/, 'a table bucket', table],
  [/^arn:/, 'an ARN, and not one of a bucket', 'Give the name of a general purpose bucket.']
]

/** What a text is that is given as the name of a bucket and has the form of something else. */
export const otherThing = (name: string): Fault | undefined => {
  const [, what, hint] = otherThings.find(([form]) => form.test(name)) ?? []
  if (what === undefined || hint === undefined) return undefined
  return { detail: `This is ${what}, not the name of a general purpose bucket.`, hint }
}

/** Every rule of S3 that the name breaks, or what the name is instead. Empty: it is a bucket name. */
export const bucketFaults = (name: string): Fault[] => {
  const other = otherThing(name)
  return other ? [other] : bucketRules.filter(rule => rule.broken(name)).map(({ detail, hint }) => ({ detail, hint }))
}

/** Longest prefix in bytes, with its last slash. An S3 key has up to 1,024 bytes, so half of them are left for what the job adds. */
export const maxPrefixLength = 512

/** A key of S3 has up to 1,024 bytes of UTF-8 (S3 User Guide, "Naming Amazon S3 objects"). */
const maxKeyLength = 1024

/**
 * What a name may not have, though S3 takes most of it. IAM's `${*}` would carry a wildcard as it is, but other providers read it as a
 * wildcard between braces. The first that fits counts.
 */
const unfitCharacters: ReadonlyArray<[characters: RegExp, why: string]> = [
  [/[*?]/, 'a wildcard to IAM'],
  [/\$/, 'the start of a variable to IAM'],
  // SeaweedFS 4.48 takes it for the start of an escape, in a Resource.
  [/\\/, 'an escape to some providers'],
  [/\p{Cc}/u, 'a control character'],
  [/[\u00a0\u00ad]/, 'cannot be seen'],
  [/[\ud800-\udfff]/u, 'half a character, which has no UTF-8'],
  // IAM and STS quotas, "IAM and STS character limits": a policy has U+0020 to U+00FF.
  [/[\u{100}-\u{10ffff}]/u, 'beyond U+00FF, where the characters of IAM policies end']
]

type PrefixResult = { ok: true, prefix: string } | { ok: false, faults: Fault[] }

/**
 * Reads a key prefix and ends it with a slash: without the slash, `runs/42` would also open `runs/420/`. Nothing else is changed: to S3
 * an accented letter and its decomposed form (Unicode NFC and NFD) are different keys.
 *
 * @returns the canonical prefix, or every fault
 */
export const readPrefix = (text: string): PrefixResult => readPlace('prefix', text)

const nounOf: Record<Field, string> = { prefix: 'prefix', key: 'key', keyPrefix: 'beginning of the keys' }

const readPlace = (field: Field, text: string): PrefixResult => {
  const prefix = field !== 'prefix' || text.endsWith('/') ? text : `${text}/`
  const noun = nounOf[field]
  const longest = field === 'key' ? maxKeyLength : maxPrefixLength
  const faults: Fault[] = []
  const unfit = unfitIn(text)
  if (text === '') faults.push({ detail: `The ${noun} is empty.`, hint: `Leave \`${field}\` out for the whole bucket.` })
  if (unfit.length > 0) faults.push({ detail: `The ${noun} has ${unfit.join(', ')}.`, hint: wayAround(text) })
  if (text.startsWith(' ') || text.endsWith(' ')) {
    faults.push({
      detail: `The ${noun} begins or ends with a space.`,
      hint: 'Remove it. If the keys are named so, ask for the directory above: forms and shells lose such spaces.'
    })
  }
  if (text.startsWith('/')) {
    faults.push({ detail: `The ${noun} begins with a slash.`, hint: 'Keys of S3 begin without one.' })
  }
  if (prefix.includes('//')) {
    faults.push({ detail: `The ${noun} has an empty segment.`, hint: 'Write one slash between segments.' })
  }
  if (prefix.split('/').some(segment => segment === '.' || segment === '..')) {
    faults.push({
      detail: `The ${noun} has a segment \`.\` or \`..\`.`, hint: 'Leave it out: S3 takes it literally, but clients resolve it.'
    })
  }
  const bytes = Buffer.byteLength(prefix)
  if (bytes > longest) {
    const counted = field === 'prefix' ? ' with its last slash' : ''
    faults.push({ detail: `The ${noun} has ${bytes} bytes${counted}.`, hint: `At most ${longest} are allowed.` })
  }
  return faults.length > 0 ? { ok: false, faults } : { ok: true, prefix }
}

const whyUnfit = (character: string): string | undefined => unfitCharacters.find(([characters]) => characters.test(character))?.[1]

/** Each unfit character once, with its first position and the reason; no more than eight of them. */
const unfitIn = (text: string): string[] => {
  const found = new Map<string, string>()
  for (const [index, character] of [...text].entries()) {
    const why = found.has(character) ? undefined : whyUnfit(character)
    if (why !== undefined) found.set(character, `${showCharacter(character)} at character ${index + 1} (${why})`)
  }
  const all = [...found.values()]
  return all.length > 8 ? [...all.slice(0, 8), `${all.length - 8} more`] : all
}

/** What to ask for instead, without the text of the request: a finding may end up where that does not belong. */
const wayAround = (text: string): string => {
  const characters = [...text]
  const first = characters.findIndex(character => whyUnfit(character) !== undefined)
  const before = characters.slice(0, first)
  const folder = before.lastIndexOf('/') + 1
  const star = characters[first] === '*' && /^\*+\/?$/.test(characters.slice(first).join(''))
  // S3 keeps the forms apart, so the other one is not used in silence.
  const composed = text.normalize('NFC')
  const note = composed !== text && unfitIn(composed).length === 0
    ? ' Its composed form (Unicode NFC) could be granted, but is another key to S3: give that form only if the objects have it.'
    : ''
  if (folder > 0 && (!star || folder === first)) {
    return `Give the first ${folder} characters as \`prefix\`: the directory, with all that is in it.${star ? '' : orRename}${note}`
  }
  if (first > 0) return `Give the first ${first} characters as \`keyPrefix\`: all keys that begin so.${star ? '' : orRename}${note}`
  return `Give the objects a name without it.${note}`
}

const orRename = ' Or give the objects a name without it.'

// Printable ASCII as it is, everything else by its code point: a finding may end up on a terminal.
export const showCharacter = (character: string): string => /^[!-~]$/.test(character)
  ? `\`${character}\``
  : `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`

/** Whether a name fits one of the patterns, in which `*` alone is special. Without patterns every name fits. */
export const nameAllowed = (name: string, patterns: readonly string[]): boolean =>
  patterns.length === 0 || patterns.some(pattern => globMatches(pattern, name))

// Finds the pieces between the stars one after the other, each as far left as possible. This takes linear time; a regular
// expression made from the pattern could take exponential time.
const globMatches = (pattern: string, text: string): boolean => {
  const pieces = pattern.split('*')
  const first = pieces[0] ?? ''
  if (pieces.length === 1) return text === first
  const last = pieces.at(-1) ?? ''
  if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false
  const end = text.length - last.length
  let at = first.length
  for (const piece of pieces.slice(1, -1)) {
    const found = text.indexOf(piece, at)
    if (found === -1 || found + piece.length > end) return false
    at = found + piece.length
  }
  return true
}

// --- KMS keys ---

// Source: AWS KMS Developer Guide, "Key identifiers": key ARN; the ids of multi-Region keys begin with mrk-.
const keyArn = /^arn:(aws|aws-cn|aws-us-gov):kms:([a-z]{2}(?:-[a-z]+){1,3}-\d{1,2}):\d{12}:key\/([0-9a-z-]+)$/
const keyId = /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/

/** Whether a region is one of the partition, by its name. */
export const isRegionOf: Record<Partition, (region: string) => boolean> = {
  aws: region => !/^(cn|us-gov|us-iso|us-isob|eu-isoe)-/.test(region),
  'aws-cn': region => region.startsWith('cn-'),
  'aws-us-gov': region => region.startsWith('us-gov-')
}

/** Why a text is not the ARN of a KMS key in the partition; undefined when it is one. */
const kmsKeyFault = (arn: string, partition: Partition): Fault | undefined => {
  if (arn.includes(':alias/')) {
    return { detail: 'An alias can be pointed at another key.', hint: 'Give the key’s own ARN, with key/ and its id.' }
  }
  const parts = keyArn.exec(arn)
  if (!parts || !keyId.test(parts[3] ?? '')) {
    return {
      detail: 'This is not the ARN of a KMS key.',
      hint: `Write arn:${partition}:kms:<region>:<account>:key/<id>, in lower case and without wildcards.`
    }
  }
  const [, itsPartition, region] = parts
  if (itsPartition !== partition || !isRegionOf[partition](region ?? '')) {
    return { detail: `The key is not in the partition ${partition}.`, hint: `This service grants access in ${partition} only.` }
  }
  return undefined
}
