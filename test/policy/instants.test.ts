import fc from 'fast-check'
import t from 'tap'
import { lastInstant, parseInstant, toIso } from '../../src/policy/window.ts'

const accepted: Record<string, string> = {
  '2025-07-16T01:00:00Z': '2025-07-16T01:00:00Z',
  '2025-07-16t01:00:00z': '2025-07-16T01:00:00Z',
  '2025-07-16T01:00:00.000Z': '2025-07-16T01:00:00Z',
  '2025-07-16T01:00:00.000000000Z': '2025-07-16T01:00:00Z',
  '2025-07-16T03:00:00+02:00': '2025-07-16T01:00:00Z',
  '2025-07-15T23:30:00-05:30': '2025-07-16T05:00:00Z',
  '2025-07-16T01:00:00-00:00': '2025-07-16T01:00:00Z',
  '2024-02-29T00:00:00Z': '2024-02-29T00:00:00Z',
  '2000-02-29T00:00:00Z': '2000-02-29T00:00:00Z',
  '2025-01-01T00:59:59+01:00': '2024-12-31T23:59:59Z',
  '2025-12-31T23:59:59-00:01': '2026-01-01T00:00:59Z',
  '1970-01-01T00:00:00Z': '1970-01-01T00:00:00Z',
  '9999-12-31T23:59:59Z': '9999-12-31T23:59:59Z'
}

const refused: Record<string, string> = {
  '': 'is not a date and time to the second',
  tomorrow: 'is not a date and time to the second',
  1752627600: 'is not a date and time to the second',
  '2025-07-16': 'is not a date and time to the second',
  '2025-07-16T01:00Z': 'is not a date and time to the second',
  '2025-07-16 01:00:00Z': 'is not a date and time to the second',
  ' 2025-07-16T01:00:00Z': 'is not a date and time to the second',
  '2025-07-16T01:00:00Z\n': 'is not a date and time to the second',
  '20250716T010000Z': 'is not a date and time to the second',
  '+002025-07-16T01:00:00Z': 'is not a date and time to the second',
  '2025-07-16T01:00:00+0200': 'is not a date and time to the second',
  '2025-07-16T01:00:00 CEST': 'is not a date and time to the second',
  '２０２５-07-16T01:00:00Z': 'is not a date and time to the second',
  '2025-07-16T01:00:00.Z': 'is not a date and time to the second',
  '2025-07-16T01:00:00': 'has no time zone',
  '2025-07-16T01:00:00.000': 'has no time zone',
  '2025-07-16T01:00:00.5Z': 'has a fraction of a second',
  '2025-07-16T01:00:00.000001Z': 'has a fraction of a second',
  '2016-12-31T23:59:60Z': 'is a leap second',
  '2025-07-16T24:00:00Z': 'has no such time of day',
  '2025-07-16T01:60:00Z': 'has no such time of day',
  '2025-07-16T01:00:61Z': 'has no such time of day',
  '2025-02-29T00:00:00Z': 'is not a day of the calendar',
  '2025-02-30T00:00:00Z': 'is not a day of the calendar',
  '2100-02-29T00:00:00Z': 'is not a day of the calendar',
  '2025-04-31T00:00:00Z': 'is not a day of the calendar',
  '2025-13-01T00:00:00Z': 'is not a day of the calendar',
  '2025-00-01T00:00:00Z': 'is not a day of the calendar',
  '2025-01-00T00:00:00Z': 'is not a day of the calendar',
  '2025-07-16T01:00:00+24:00': 'has no such offset',
  '2025-07-16T01:00:00+02:60': 'has no such offset',
  '1969-12-31T23:59:59Z': 'lies outside the years 1970 to 9999',
  '1970-01-01T00:00:00+00:01': 'lies outside the years 1970 to 9999',
  '0099-01-01T00:00:00Z': 'lies outside the years 1970 to 9999',
  '9999-12-31T23:59:59-00:01': 'lies outside the years 1970 to 9999'
}

t.test('instants that are read', async t => {
  for (const [text, iso] of Object.entries(accepted)) {
    t.strictSame(parseInstant(text), { ok: true, iso, epochMs: Date.parse(iso) }, JSON.stringify(text))
  }
})

t.test('instants that are refused, and why', async t => {
  for (const [text, why] of Object.entries(refused)) {
    t.match(parseInstant(text), { ok: false, why, hint: /\w+/ }, JSON.stringify(text))
  }
})

t.test('every second from 1970 to 9999 reads back as itself, at every offset', async t => {
  const pad = (number: number): string => String(number).padStart(2, '0')
  fc.assert(fc.property(fc.integer({ min: 0, max: lastInstant / 1000 }), fc.integer({ min: -1439, max: 1439 }), (seconds, offset) => {
    const iso = toIso(seconds * 1000)
    const local = seconds * 1000 + offset * 60_000
    if (local < 0 || local > lastInstant) return
    const shifted = `${new Date(local).toISOString().slice(0, 19)}${offset < 0 ? '-' : '+'}` +
      `${pad(Math.trunc(Math.abs(offset) / 60))}:${pad(Math.abs(offset) % 60)}`
    for (const text of [iso, shifted]) {
      const read = parseInstant(text)
      if (!read.ok || read.iso !== iso || read.epochMs !== seconds * 1000) throw new Error(text)
    }
  }))
})

t.test('Date reads every accepted instant alike', async t => {
  const number = (max: number, width: number) => fc.integer({ min: 0, max }).map(value => String(value).padStart(width, '0'))
  const text = fc.tuple(number(9999, 4), number(13, 2), number(32, 2), number(24, 2), number(60, 2), number(60, 2))
    .map(([year, month, day, hour, minute, second]) => `${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
  fc.assert(fc.property(text, text => {
    const read = parseInstant(text)
    const date = new Date(text)
    const exists = !Number.isNaN(date.getTime()) && date.toISOString().slice(0, 19) === text.slice(0, 19) && date.getTime() >= 0
    if (read.ok !== exists || (read.ok && read.epochMs !== date.getTime())) throw new Error(text)
  }), { numRuns: 500 })
})
