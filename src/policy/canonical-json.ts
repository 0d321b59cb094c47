import canonicalize from 'canonicalize'

/**
 * JSON with sorted keys and no white space (RFC 8785), so that equal values have equal text and equal hashes.
 *
 * @throws TypeError when the value has no JSON form
 */
export const canonicalJson = (value: unknown): string => {
  const text = canonicalize(value)
  if (text === undefined) throw new TypeError('The value has no JSON form.')
  return text
}
