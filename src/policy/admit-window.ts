import type { Finding } from '../problems.ts'
import type { WindowRequest } from '../request.ts'
import type { Layout, Window } from '../domain/access-spec.ts'
import type { Limits } from './admit.ts'
import { lastInstant, parseInstant, toIso } from './instants.ts'

type Report = (finding: Finding) => void

/**
 * The window: its start floored to the second where the request gives none, its end from notAfter or the duration, and the end of
 * the output after the grace.
 *
 * @returns undefined when it cannot be told; findings say why, and may also have been reported with a window
 */
export const admitWindow = (
  request: WindowRequest, policy: { layout: Layout, writes: boolean }, limits: Limits, now: Date, report: Report
): Window | undefined => {
  const grace = (request.outputGraceSeconds ?? 0) * 1000
  if (grace > 0) refuseGrace(policy, report)
  const start = request.notBefore === undefined
    ? Math.floor(now.getTime() / 1000) * 1000
    : instant(request.notBefore, '/window/notBefore', report)
  const end = endOf(request, start, report)
  if (start !== undefined) refuseFar(start, limits, now, report)
  if (start === undefined || end === undefined) return undefined
  const endPointer = request.notAfter === undefined ? '/window/durationSeconds' : '/window/notAfter'
  // Without notBefore the start is now, so what ends before it is over.
  if (end <= start && request.notBefore !== undefined) {
    report({
      code: 'window-invalid',
      pointer: endPointer,
      detail: 'The window ends before it starts, or at once.',
      hint: 'End it after notBefore.'
    })
  } else if (end <= now.getTime()) {
    report({
      code: 'window-over',
      pointer: endPointer,
      detail: `The window ends at ${show(end)}, and it is ${toIso(now.getTime())}.`,
      hint: 'End it in the future.'
    })
  }
  const outputEnd = end + grace
  if (outputEnd > lastInstant) {
    report({ code: 'window-too-long', pointer: endPointer, detail: 'The window ends after the year 9999.', hint: 'End it sooner.' })
    return undefined
  }
  const seconds = (outputEnd - start) / 1000
  if (seconds > limits.maxWindowSeconds) {
    report({
      code: 'window-too-long',
      pointer: endPointer,
      detail: `The window has ${seconds} seconds${grace > 0 ? ' with the output’s grace' : ''}; ` +
        `at most ${limits.maxWindowSeconds} are granted.`,
      hint: 'Ask for less now, and extend the window of the grant while the job runs.'
    })
  }
  return { notBefore: toIso(start), notAfter: toIso(end), outputNotAfter: toIso(outputEnd) }
}

const endOf = (request: WindowRequest, start: number | undefined, report: Report): number | undefined => {
  const { notAfter, durationSeconds } = request
  // Read even when it is one too many, so that every finding is told at once.
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

const refuseFar = (start: number, { maxStartAheadSeconds }: Limits, now: Date, report: Report): void => {
  if (maxStartAheadSeconds === undefined || start - now.getTime() <= maxStartAheadSeconds * 1000) return
  report({
    code: 'window-too-far',
    pointer: '/window/notBefore',
    detail: `The window starts more than ${maxStartAheadSeconds} seconds from now.`,
    hint: 'Ask nearer to the job’s start.'
  })
}

const refuseGrace = ({ layout, writes }: { layout: Layout, writes: boolean }, report: Report): void => {
  const pointer = '/window/outputGraceSeconds'
  if (!writes) {
    report({
      code: 'option-without-write', pointer, detail: 'The grace is for what the job writes, and it only reads.', hint: 'Remove it.'
    })
  }
  if (layout === 'guide') {
    report({
      code: 'layout-unfit', pointer, detail: 'The guide’s policy has one end.', hint: 'Use layout `everywhere` or `guarded`.'
    })
  }
}

const show = (epochMs: number): string => epochMs > lastInstant ? 'no four-digit year' : toIso(epochMs)
