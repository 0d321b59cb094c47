/**
 * Instants as IAM's date operators take them: ISO 8601, UTC, to the second.
 * Source: RFC 3339 section 5.6; IAM User Guide, "Date condition operators".
 */

export type InstantResult =
  | { ok: true, iso: string, epochMs: number }
  | { ok: false, why: string, hint: string }

/** 9999-12-31T23:59:59Z, the last instant with a four-digit year. */
export const lastInstant = Date.UTC(9999, 11, 31, 23, 59, 59)

const shape = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})?$/
const example = 'Write it like 2025-07-16T01:00:00Z or 2025-07-16T03:00:00+02:00.'

/**
 * Reads an RFC 3339 date-time with a zone. Nothing is rounded: a fraction of a second other than zero is refused, since IAM
 * compares to the second and cutting it off would move the instant.
 *
 * @returns the instant in UTC as `YYYY-MM-DDTHH:MM:SSZ` and in epoch milliseconds, or why not and what to write instead
 */
export const parseInstant = (text: string): InstantResult => {
  const parts = shape.exec(text)
  if (!parts) return refuse('is not a date and time to the second', example)
  const [year, month, day, hour, minute, second] =
    [Number(parts[1]), Number(parts[2]), Number(parts[3]), Number(parts[4]), Number(parts[5]), Number(parts[6])] as const
  const fraction = parts[7]
  const zone = parts[8]
  if (zone === undefined) return refuse('has no time zone', 'Add Z for UTC, or an offset such as +02:00.')
  if (fraction !== undefined && /[1-9]/.test(fraction)) {
    return refuse('has a fraction of a second', 'IAM compares to the second: round it the way you mean it.')
  }
  if (second === 60) return refuse('is a leap second', 'IAM knows none: use second 59 or the next minute.')
  if (hour > 23 || minute > 59 || second > 59) return refuse('has no such time of day', example)
  // Checked here, as Date rolls 30 February over into March.
  if (day < 1 || day > daysIn(year, month)) return refuse('is no day of the calendar', `${text.slice(0, 10)} does not exist.`)
  const offset = offsetMinutes(zone)
  if (offset === undefined) return refuse('has no such offset', 'Offsets run from -23:59 to +23:59; Z is UTC.')
  // Date.UTC takes the years 0 to 99 for 1900 to 1999.
  const epochMs = year < 1900 ? -1 : Date.UTC(year, month - 1, day, hour, minute, second) - offset * 60_000
  if (epochMs < 0 || epochMs > lastInstant) return refuse('lies outside the years 1970 to 9999', example)
  return { ok: true, iso: toIso(epochMs), epochMs }
}

/** Epoch milliseconds, floored to the second, as `YYYY-MM-DDTHH:MM:SSZ`. For the years 1970 to 9999. */
export const toIso = (epochMs: number): string => `${new Date(epochMs).toISOString().slice(0, 19)}Z`

/** Epoch milliseconds of an instant that parseInstant() has made. */
export const epochOf = (iso: string): number => Date.parse(iso)

/** Days of a month of the Gregorian calendar; 0 when there is no such month. */
const daysIn = (year: number, month: number): number => {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  if (month < 1 || month > 12) return 0
  return [4, 6, 9, 11].includes(month) ? 30 : 31
}

const offsetMinutes = (zone: string): number | undefined => {
  if (zone === 'Z' || zone === 'z') return 0
  const hours = Number(zone.slice(1, 3))
  const minutes = Number(zone.slice(4, 6))
  if (hours > 23 || minutes > 59) return undefined
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes)
}

const refuse = (why: string, hint: string): InstantResult => ({ ok: false, why, hint })
