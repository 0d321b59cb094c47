/** Everything is UTC, like the policies: an end that two people read is the same end. */

/** `2025-07-16 01:00:00`. */
export const utc = (instant: string | number): string => new Date(instant).toISOString().replace('T', ' ').slice(0, 19)

/** What a `datetime-local` input takes and gives. */
export const toField = (epochMs: number): string => new Date(epochMs).toISOString().slice(0, 16)
export const fromField = (value: string): string => value === '' ? '' : `${value.length === 16 ? `${value}:00` : value}Z`

const units = [['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]] as const

/** The two largest units: `2 h 59 min`. */
const span = (ms: number): string => {
  let rest = Math.round(Math.abs(ms) / 1000)
  const parts: string[] = []
  for (const [name, seconds] of units) {
    const count = Math.floor(rest / seconds)
    rest -= count * seconds
    if (count > 0) parts.push(`${count} ${name}`)
  }
  return parts.slice(0, 2).join(' ') || '0 s'
}

export const fromNow = (epochMs: number, now: number): string => epochMs >= now ? `in ${span(epochMs - now)}` : `${span(now - epochMs)} ago`
