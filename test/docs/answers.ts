/**
 * Compares what a page shows with what really came. Ids, keys, times and hashes differ from run to run and count as what they
 * are; `…` stands for anything, as it does for a reader.
 */

const kinds: Array<[RegExp, string]> = [
  [/https?:\/\/(127\.0\.0\.1|localhost):\d+/g, '<address>'],
  [/\bjat_[A-Za-z0-9_-]+/g, '<token>'],
  [/\b[0-9]{8}t[0-9]{6}z-/g, '<end>-'],
  [/\b[0-7][0-9a-hjkmnp-tv-z]{25}\b/g, '<id>'],
  [/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g, '<instant>'],
  [/\b(AKIA|ASIA)[A-Z0-9]{10,}\b/g, '<key id>'],
  [/\b(sha256:)?[0-9a-f]{64}\b/g, '<hash>'],
  [/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, '<request id>'],
  [/\/job-access\/\d{10}\//g, '/job-access/<epoch>/'],
  [/(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])/g, '<secret>']
]

export const normalised = (text: string): string => kinds.reduce((rest, [pattern, kind]) => rest.replace(pattern, kind), text)

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

const matches = (shown: string, real: string): boolean =>
  new RegExp(`^${normalised(shown).split('…').map(escaped).join('[^]*?')}$`).test(normalised(real))

/** A line that is `…` alone stands for any lines. */
export const sameText = (shown: string, real: string): boolean => {
  const lines = shown.trimEnd().split('\n')
  const pattern = lines.map(line => line.trim() === '…' ? '(?:.*\n)*?' : `${normalised(line.trimEnd()).split('…').map(escaped).join('.*?')}\n`).join('')
  return new RegExp(`^${pattern}$`).test(`${normalised(real).trimEnd().split('\n').map(line => line.trimEnd()).join('\n')}\n`)
}

/**
 * Everything that differs, with its JSON pointer. In an object `"…": "…"` stands for further fields, at the end of a list `"…"`
 * for further items; otherwise the two have the same.
 */
export const differences = (shown: unknown, real: unknown, pointer = ''): string[] => {
  if (shown === '…') return []
  if (typeof shown === 'string' && typeof real === 'string') {
    return matches(shown, real) ? [] : [`${pointer}: ${JSON.stringify(real)}, not ${JSON.stringify(shown)}`]
  }
  if (Array.isArray(shown) && Array.isArray(real)) {
    const open = shown.at(-1) === '…'
    const items = open ? shown.slice(0, -1) : shown
    const length = open ? real.length >= items.length : real.length === items.length
    return [
      ...(length ? [] : [`${pointer}: ${real.length} items, not ${items.length}`]),
      ...items.flatMap((item, index) => differences(item, real[index], `${pointer}/${index}`))
    ]
  }
  if (isObject(shown) && isObject(real)) {
    const { '…': open, ...fields } = shown
    return [
      ...Object.entries(fields).flatMap(([name, value]) => name in real ? differences(value, real[name], `${pointer}/${name}`) : [`${pointer}/${name}: is not there`]),
      ...(open === undefined ? Object.keys(real).filter(name => !(name in fields)).map(name => `${pointer}/${name}: is there, but not shown`) : [])
    ]
  }
  return shown === real ? [] : [`${pointer}: ${JSON.stringify(real)}, not ${JSON.stringify(shown)}`]
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)
