import type { Layout, Window } from '../domain/access-spec.ts'
import type { Finding } from '../problems.ts'
import type { WindowRequest } from '../request.ts'
import type { Limits } from './limits.ts'

type Report = (finding: Finding) => void

/** The instants against which a window is checked. */
export interface WindowClock {
  now: Date
  /** When the grant is issued, or was. Its life counts from then. */
  firstIssuedAt: Date
  /**
   * Where the window replaces another one. `running`: the grant is active and its window has started, so a job may be at work.
   * `kept`: the window stays as it is, so that it is over only after its grace.
   */
  change?: { running: boolean, kept: boolean }
}

/**
 * The window. It starts at notBefore, or, when the request gives none, with the grant: at a later issueAt, or at the current second.
 * It ends at notAfter, or after the duration. The output ends after the grace.
 *
 * @returns undefined when start or end is missing or cannot be read; a window may have findings, too
 */
export const normaliseWindow = (
  request: WindowRequest, policy: { layout: Layout, writes: boolean }, limits: Limits, clock: WindowClock, report: Report
): Window | undefined => {
  const now = clock.now.getTime()
  const grace = (request.outputGraceSeconds ?? 0) * 1000
  if (grace > 0) refuseGrace(policy, report)
  const start = request.notBefore === undefined
    ? wholeSecond(Math.max(now, clock.firstIssuedAt.getTime()))
    : instant(request.notBefore, '/window/notBefore', report)
  const end = endOf(request, start, report)
  const startPointer = request.notBefore === undefined ? '/issueAt' : '/window/notBefore'
  if (start !== undefined) refuseFar(start, startPointer, limits, now, report)
  if (start !== undefined && clock.change?.running) refuseStop(start, now, report)
  if (start === undefined || end === undefined) return undefined
  const endPointer = request.notAfter === undefined ? '/window/durationSeconds' : '/window/notAfter'
  // A window that starts now and ends before its start is over.
  if (end <= start && (request.notBefore !== undefined || (start > now && end > now))) {
    const scheduled = request.notBefore === undefined
    report({
      code: 'window-invalid',
      pointer: scheduled ? startPointer : endPointer,
      detail: scheduled ? 'The key would be made after its window has ended.' : 'The window ends before it starts, or at the same instant.',
      hint: scheduled ? 'Give an issueAt before the end of the window.' : 'End it after notBefore.'
    })
  } else if ((clock.change?.kept ? end + grace : end) <= now) {
    report({
      code: 'window-over',
      pointer: endPointer,
      detail: `The window ends at ${show(end)}, and it is ${toIso(now)}.`,
      hint: 'End it in the future.'
    })
  }
  const outputEnd = end + grace
  refuseLong({ start, outputEnd, grace, endPointer }, limits, clock, report)
  if (outputEnd > lastInstant) return undefined
  return { notBefore: toIso(start), notAfter: toIso(end), outputNotAfter: toIso(outputEnd) }
}

export const isSameWindow = (one: Window, other: Window): boolean =>
  one.notBefore === other.notBefore && one.notAfter === other.notAfter && one.outputNotAfter === other.outputNotAfter

const endOf = (request: WindowRequest, start: number | undefined, report: Report): number | undefined => {
  const { notAfter, durationSeconds } = request
  // Read even when durationSeconds is there, too, so that the answer has every finding.
  const end = notAfter === undefined ? undefined : instant(notAfter, '/window/notAfter', report)
  if ((notAfter === undefined) === (durationSeconds === undefined)) {
    report({
      code: 'window-invalid',
      pointer: '/window',
      detail: notAfter === undefined ? 'The window has no end.' : 'The window has two ends.',
      hint: 'Give either notAfter or durationSeconds.'
    })
    return undefined
  }
  if (durationSeconds === undefined) return end
  return start === undefined ? undefined : start + durationSeconds * 1000
}

const instant = (text: string, pointer: string, report: Report): number | undefined => {
  const read = parseInstant(text)
  if (read.ok) return read.epochMs
  report({ code: 'time-invalid', pointer, detail: `The instant ${read.why}.`, hint: read.hint })
  return undefined
}

const refuseFar = (start: number, pointer: string, limits: Limits, now: number, report: Report): void => {
  if (!isFar(start, limits, now)) return
  report({
    code: 'window-too-far',
    pointer,
    detail: `The window starts more than ${limits.maxStartAheadSeconds} seconds from now.`,
    hint: 'Ask nearer to the job’s start.'
  })
}

const isFar = (start: number, { maxStartAheadSeconds }: Limits, now: number): boolean =>
  maxStartAheadSeconds !== undefined && start - now > maxStartAheadSeconds * 1000

const refuseStop = (start: number, now: number, report: Report): void => {
  if (start <= now) return
  report({
    code: 'window-invalid',
    pointer: '/window/notBefore',
    detail: `The window has started, and the job’s access would stop until ${toIso(start)}.`,
    hint: 'Leave notBefore out.'
  })
}

/**
 * The longest window counts from its start; in a change, from now when the start has passed. The longest life counts from the first
 * issue. Of the two the one that ends first is reported, so that the end which the hint names is within both.
 */
const refuseLong = (
  { start, outputEnd, grace, endPointer }: { start: number, outputEnd: number, grace: number, endPointer: string },
  limits: Limits, { now, firstIssuedAt, change }: WindowClock, report: Report
): void => {
  // A running grant keeps its start: one ahead of now is refused.
  const from = change ? Math.max(change.running ? 0 : start, wholeSecond(now.getTime())) : start
  const windowEnd = from + limits.maxWindowSeconds * 1000
  const issued = wholeSecond(firstIssuedAt.getTime())
  const lifeEnd = issued + limits.maxLifetimeSeconds * 1000
  const latest = Math.min(windowEnd, lifeEnd, lastInstant) - grace
  // With a long grace, or late in the life of a grant, no end is possible.
  const possible = latest > from
  const withGrace = grace > 0 ? ' with the output’s grace' : ''
  const tooLong = (detail: string) => report({
    code: 'window-too-long',
    pointer: endPointer,
    detail,
    hint: !change
      ? 'Ask for less now, and extend the window of the grant while the job runs.'
      : possible ? `End it at or before ${toIso(latest)}; extend again while the job runs.` : 'Ask for a shorter outputGraceSeconds.'
  })
  if (lifeEnd < windowEnd && outputEnd > lifeEnd && !isFar(start, limits, now.getTime())) {
    report({
      code: 'lifetime-too-long',
      pointer: endPointer,
      detail: `The grant would live for ${(outputEnd - issued) / 1000} seconds from its issue${withGrace}; ` +
        `at most ${limits.maxLifetimeSeconds} are granted.`,
      hint: possible
        ? `End it at or before ${toIso(latest)}. A job that runs longer needs a new grant.`
        : change ? 'Let this grant end, and ask for a new one.' : 'Ask nearer to the job’s start.'
    })
  } else if (outputEnd > windowEnd) {
    tooLong(`The window has ${(outputEnd - from) / 1000} seconds${from !== start ? ' from now on' : ''}${withGrace}; ` +
      `at most ${limits.maxWindowSeconds} are granted.`)
  } else if (outputEnd > lastInstant) {
    tooLong('The window ends after the year 9999.')
  }
}

const refuseGrace = ({ layout, writes }: { layout: Layout, writes: boolean }, report: Report): void => {
  const pointer = '/window/outputGraceSeconds'
  if (!writes) {
    report({
      code: 'option-without-write', pointer, detail: 'The grace is for what the job writes, and this job only reads.', hint: 'Remove it.'
    })
  }
  if (layout === 'guide') {
    report({
      code: 'layout-unfit', pointer, detail: 'The guide’s policy has one end.', hint: 'Use layout `everywhere` or `guarded`.'
    })
  }
}

const show = (epochMs: number): string => epochMs > lastInstant ? 'no four-digit year' : toIso(epochMs)

/** When the life of a grant starts: a scheduled grant gives no access before its issueAt. */
export const firstIssueOf = ({ createdAt, issueAt }: { createdAt: number, issueAt: number | null }): Date =>
  new Date(Math.max(createdAt, issueAt ?? createdAt))

// --- instants ---

/*
 * Instants as IAM's date operators take them: ISO 8601, UTC, to the second.
 * Source: RFC 3339 section 5.6; IAM User Guide, "Date condition operators".
 */

type InstantResult =
  | { ok: true, iso: string, epochMs: number }
  | { ok: false, why: string, hint: string }

/** 9999-12-31T23:59:59Z, the last instant with a four-digit year. */
export const lastInstant = Date.UTC(9999, 11, 31, 23, 59, 59)

const shape = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})?$/
const example = 'Write it like 2025-07-16T01:00:00Z or 2025-07-16T03:00:00+02:00.'

/**
 * Reads an RFC 3339 date-time with a zone. A fraction of a second other than zero is refused, not rounded: IAM compares to the
 * second, so rounding would move the instant.
 *
 * @returns the instant in UTC as `YYYY-MM-DDTHH:MM:SSZ` and in epoch milliseconds, or what is wrong and what to write instead
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
    return refuse('has a fraction of a second', 'IAM compares to the second: round it up or down yourself.')
  }
  if (second === 60) return refuse('is a leap second', 'IAM has no leap seconds: use second 59 or the next minute.')
  if (hour > 23 || minute > 59 || second > 59) return refuse('has no such time of day', example)
  // Checked here, because Date turns 30 February into a day of March.
  if (day < 1 || day > daysIn(year, month)) return refuse('is not a day of the calendar', `${text.slice(0, 10)} does not exist.`)
  const offset = offsetMinutes(zone)
  if (offset === undefined) return refuse('has no such offset', 'Offsets run from -23:59 to +23:59; Z is UTC.')
  // Date.UTC reads the years 0 to 99 as 1900 to 1999.
  const epochMs = year < 1900 ? -1 : Date.UTC(year, month - 1, day, hour, minute, second) - offset * 60_000
  if (epochMs < 0 || epochMs > lastInstant) return refuse('lies outside the years 1970 to 9999', example)
  return { ok: true, iso: toIso(epochMs), epochMs }
}

const wholeSecond = (epochMs: number): number => Math.floor(epochMs / 1000) * 1000

/** Epoch milliseconds, floored to the second, as `YYYY-MM-DDTHH:MM:SSZ`. For the years 1970 to 9999. */
export const toIso = (epochMs: number): string => `${new Date(epochMs).toISOString().slice(0, 19)}Z`

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
