/**
 * Whether an object of a JSON text names a member twice. JSON.parse keeps the last of the two and drops the other in silence, and
 * another reader of the same body may keep the first (RFC 8259 section 4).
 *
 * @param value what the text parses to
 */
export const namesTwice = (text: string, value: unknown): boolean => namesIn(text) !== membersOf(value)

// In a valid text a string before a colon is a name, and no other colon follows a string.
const namesIn = (text: string): number => {
  let names = 0
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"\s*:?/g)) if (token.endsWith(':')) names++
  return names
}

// Not by recursion: a body may be as deep as it is long.
const membersOf = (value: unknown): number => {
  let members = 0
  const rest = [value]
  while (rest.length > 0) {
    const next = rest.pop()
    if (typeof next !== 'object' || next === null) continue
    const inner: unknown[] = Object.values(next)
    if (!Array.isArray(next)) members += inner.length
    for (const item of inner) rest.push(item)
  }
  return members
}
