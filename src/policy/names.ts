/**
 * Names that reach a Resource: buckets by S3's rules, prefixes by an explicit character policy.
 * Neither lets a character through that IAM gives a meaning in a Resource or in StringLike (`*`, `?`, `${`).
 */

export interface Fault { detail: string, hint: string }

interface BucketRule { broken: (name: string) => boolean, detail: string, hint: string }

// Source: Amazon S3 User Guide, "General purpose bucket naming rules".
const reservedPrefixes = ['xn--', 'sthree-', 'amzn-s3-demo-']
const reservedSuffixes = ['-s3alias', '--ol-s3', '.mrap', '--x-s3', '--table-s3']

const bucketRules: readonly BucketRule[] = [
  {
    broken: name => name.length < 3 || name.length > 63,
    detail: 'A bucket name has 3 to 63 characters.',
    hint: 'Give the bucket’s name alone, without s3:// and without a key.'
  },
  {
    broken: name => /[^a-z0-9.-]/.test(name),
    detail: 'A bucket name has only lower-case letters, digits, dots and hyphens.',
    hint: 'Give the bucket’s name alone; wildcards are not names, and a key prefix belongs into `prefix`.'
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
  })),
  ...reservedSuffixes.map(suffix => ({
    broken: (name: string) => name.endsWith(suffix),
    detail: `A bucket name does not end with ${suffix}, which S3 reserves for other resources.`,
    hint: 'Use a general purpose bucket; access points, directory and table buckets have other ARNs.'
  }))
]

/** Every rule of S3 that the name breaks; none: it is a bucket name. */
export const bucketFaults = (name: string): Fault[] =>
  bucketRules.filter(rule => rule.broken(name)).map(({ detail, hint }) => ({ detail, hint }))

/** Longest prefix, with its slash; S3 keys have 1,024 bytes, so that half is left for what the job adds. */
export const maxPrefixLength = 512

const notAllowed = /[^A-Za-z0-9/!_.'()=+@,:-]/gu

export type PrefixResult = { ok: true, prefix: string } | { ok: false, faults: Fault[] }

/**
 * Reads a key prefix and ends it with a slash: without it `runs/42` would also open `runs/420/`.
 *
 * @returns the canonical prefix, or every fault of it
 */
export const readPrefix = (text: string): PrefixResult => {
  const prefix = text.endsWith('/') ? text : `${text}/`
  const faults: Fault[] = []
  const refused = [...new Set(text.match(notAllowed))]
  if (text === '') faults.push({ detail: 'The prefix is empty.', hint: 'Leave `prefix` out for the whole bucket.' })
  if (refused.length > 0) {
    faults.push({
      detail: `The prefix has ${refused.map(show).join(', ')}.`,
      hint: 'Letters, digits and / ! - _ . \' ( ) = + @ , : are allowed; wildcards and variables of IAM are not.'
    })
  }
  if (text.startsWith('/')) {
    faults.push({ detail: 'The prefix begins with a slash.', hint: 'Keys of S3 begin without one.' })
  }
  if (prefix.includes('//')) {
    faults.push({ detail: 'The prefix has an empty segment.', hint: 'Write one slash between segments.' })
  }
  if (prefix.split('/').some(segment => segment === '.' || segment === '..')) {
    faults.push({ detail: 'The prefix has a segment `.` or `..`.', hint: 'S3 does not resolve them, but clients do.' })
  }
  if (prefix.length > maxPrefixLength) {
    faults.push({
      detail: `The prefix has ${prefix.length} characters with its last slash.`, hint: `At most ${maxPrefixLength} are allowed.`
    })
  }
  return faults.length > 0 ? { ok: false, faults } : { ok: true, prefix }
}

// Printable ASCII as it is, everything else by its code point: a finding may end up on a terminal.
const show = (character: string): string => /^[!-~]$/.test(character)
  ? `\`${character}\``
  : `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`

/** Whether a name fits one of the patterns, in which `*` alone is special. No pattern: every name fits. */
export const bucketAllowed = (name: string, patterns: readonly string[]): boolean =>
  patterns.length === 0 || patterns.some(pattern => globMatches(pattern, name))

// Greedy, leftmost piece by piece: linear, where a regular expression made from the pattern could run away.
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
