// @ts-check

/** Everything is UTC, like the policies: an end that two people read is the same end. */

/** `2025-07-16 01:00:00`. @param {string | number} instant */
export const utc = instant => new Date(instant).toISOString().replace('T', ' ').slice(0, 19)

/** What a `datetime-local` input takes and gives. @param {number} epochMs */
export const toField = epochMs => new Date(epochMs).toISOString().slice(0, 16)
/** @param {string} value */
export const fromField = value => value === '' ? '' : `${value.length === 16 ? `${value}:00` : value}Z`

const units = /** @type {const} */ ([['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]])

/** The two largest units: `2 h 59 min`. @param {number} ms */
export const span = ms => {
  let rest = Math.round(Math.abs(ms) / 1000)
  const parts = []
  for (const [name, seconds] of units) {
    const count = Math.floor(rest / seconds)
    rest -= count * seconds
    if (count > 0) parts.push(`${count} ${name}`)
  }
  return parts.slice(0, 2).join(' ') || '0 s'
}

/** @param {number} epochMs @param {number} now */
export const fromNow = (epochMs, now) => epochMs >= now ? `in ${span(epochMs - now)}` : `${span(now - epochMs)} ago`
