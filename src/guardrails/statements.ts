/** One policy of a policy text, as written. */
export interface StatementText {
  text: string
  /** Offset of its first character, in UTF-16 code units. */
  offset: number
}

/**
 * Splits a policy text that Cedar has parsed into its policies, in order. Cedar's own splitting answers without places and
 * sorted by id, so that policy10 comes before policy2. In Cedar `;` ends a policy and appears nowhere else outside strings
 * and `//` comments; a string has `\` escapes.
 */
export const splitStatements = (text: string): StatementText[] => {
  const token = /\/\/[^\n\r]*|"(?:\\.|[^"\\])*"|;|[^\s;"/]+|\//gsu
  const statements: StatementText[] = []
  let start: number | undefined
  for (const match of text.matchAll(token)) {
    const isComment = match[0].startsWith('//')
    if (start === undefined && !isComment) start = match.index
    if (match[0] !== ';' || start === undefined) continue
    const end = match.index + 1
    statements.push({ text: text.slice(start, end), offset: start })
    start = undefined
  }
  return statements
}
