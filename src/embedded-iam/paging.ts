import type { Params } from './params.ts'
import { wholeNumber } from './params.ts'
import { Refusal } from './refusal.ts'
import { element } from './xml.ts'

interface Page<V> {
  items: V[]
  /** XML of IsTruncated and, when there is more, Marker. */
  trailer: string
}

/**
 * One page of entries in key order. The marker is the last key of the page: entries that are added or deleted between two
 * pages neither repeat nor hide others.
 * @param from entries whose key is the given one or later
 * @param keep entries to leave out
 * @param past true for the first key that is beyond what is asked for
 */
export function pageOf<V> (
  params: Params,
  from: (key: string) => Iterable<[string, V]>,
  start = '',
  keep: (value: V) => boolean = () => true,
  past: (key: string) => boolean = () => false
): Page<V> {
  const size = wholeNumber(params, 'MaxItems', 1, 1000) ?? 100
  const after = params.Marker === undefined ? null : readMarker(params.Marker)
  const items: V[] = []
  let last = ''
  for (const [key, value] of from(after !== null && after > start ? after : start)) {
    if (key === after) continue
    if (past(key)) break
    if (!keep(value)) continue
    if (items.length === size) {
      return { items, trailer: element('IsTruncated', true) + element('Marker', Buffer.from(last).toString('base64url')) }
    }
    items.push(value)
    last = key
  }
  return { items, trailer: element('IsTruncated', false) }
}

/** A page of a short collection, sorted here. */
export function pageOfFew<V> (params: Params, values: Iterable<V>, keyOf: (value: V) => string): Page<V> {
  const sorted = Array.from(values, (value): [string, V] => [keyOf(value), value])
    .sort(([a], [b]) => a < b ? -1 : 1)
  return pageOf(params, (key) => sorted.filter(([candidate]) => candidate >= key))
}

function readMarker (marker: string): string {
  const key = Buffer.from(marker, 'base64url').toString()
  if (key === '' || Buffer.from(key).toString('base64url') !== marker) {
    throw new Refusal('ValidationError', 'Invalid Marker.')
  }
  return key
}
