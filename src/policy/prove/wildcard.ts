/*
 * The text patterns of IAM: `*` any run of characters, `?` one character, `${*}` `${?}` `${$}` those characters
 * themselves, `${key}` and `${key, 'default'}` a value of the request's context.
 * Source: IAM User Guide, "IAM policy elements: Variables and tags" and "String condition operators".
 */

/**
 * The evaluator does not know or cannot read something in a policy or a request. It never guesses: the prover then calls the
 * policy unproven.
 */
export class UnknownElementError extends Error {
  override name = 'UnknownElementError'
}

/** The value of a context key; undefined when the request has none or several. */
export type Lookup = (key: string) => string | undefined

/** Whether a text matches a compiled pattern; `lookup` gives the values of the pattern's variables. */
export type Matcher = (text: string, lookup: Lookup) => boolean

/** A wildcard matches one character or any run of characters; a bounded one matches no colon. */
interface Wildcard { run: boolean, bounded: boolean }
interface Variable { variable: string, otherwise: string | undefined }
/** Literal text is a plain string. */
type Token = string | Wildcard | Variable

type Fold = (text: string) => string
const exactly: Fold = text => text
const lower: Fold = text => text.toLowerCase()

const everything: Wildcard = { run: true, bounded: false }
const variable = /^\s*([^,\s']+)\s*(?:,\s*'([^']*)'\s*)?$/

/**
 * @param wildcardAt what the `*` or `?` at an index of the pattern is; undefined when it is a literal character
 * @throws UnknownElementError at a `${…}` that is not closed or not a variable
 */
const tokenize = (pattern: string, wildcardAt: (index: number) => Wildcard | undefined): Token[] => {
  const tokens: Token[] = []
  let literal = ''
  const push = (token: Token) => {
    if (literal !== '') tokens.push(literal)
    literal = ''
    tokens.push(token)
  }
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern.charAt(i)
    if (char === '$' && pattern[i + 1] === '{') {
      const end = pattern.indexOf('}', i)
      if (end === -1) throw new UnknownElementError(`policy variable without an end in ${JSON.stringify(pattern)}`)
      const inside = pattern.slice(i + 2, end)
      const parsed = variable.exec(inside)
      if (inside === '*' || inside === '?' || inside === '$') literal += inside
      else if (parsed?.[1] !== undefined) push({ variable: parsed[1], otherwise: parsed[2] })
      else throw new UnknownElementError(`policy variable in ${JSON.stringify(pattern)}`)
      i = end
      continue
    }
    const wildcard = char === '*' || char === '?' ? wildcardAt(i) : undefined
    if (wildcard === undefined) literal += char
    else push(wildcard)
  }
  if (literal !== '') tokens.push(literal)
  return tokens
}

/** Variables become literals. Undefined when a variable has no value: then the pattern matches nothing. */
const resolve = (tokens: Token[], lookup: Lookup): (string | Wildcard)[] | undefined => {
  const resolved: (string | Wildcard)[] = []
  for (const token of tokens) {
    if (typeof token === 'object' && 'variable' in token) {
      const value = lookup(token.variable) ?? token.otherwise
      if (value === undefined) return undefined
      resolved.push(value)
    } else {
      resolved.push(token)
    }
  }
  return resolved
}

/**
 * Follows all ways through the pattern at the same time: reached[i] says that the text so far matches the first i units.
 * At worst this takes the length of the text times that of the pattern; a regular expression could take exponential time.
 */
const matchUnits = (units: (string | Wildcard)[], text: string): boolean => {
  const skipRuns = (reached: boolean[]) => {
    units.forEach((unit, i) => {
      if (reached[i] && typeof unit === 'object' && unit.run) reached[i + 1] = true
    })
    return reached
  }
  let reached = skipRuns([true])
  for (const char of text) {
    const next: boolean[] = []
    let alive = false
    units.forEach((unit, i) => {
      if (!reached[i]) return
      if (typeof unit === 'string') {
        if (unit !== char) return
        next[i + 1] = true
      } else {
        if (unit.bounded && char === ':') return
        next[unit.run ? i : i + 1] = true
      }
      alive = true
    })
    if (!alive) return false
    reached = skipRuns(next)
  }
  return reached[units.length] === true
}

/** A literal, and a literal with a `*` at its end, are compared directly. */
const matcherOf = (tokens: (string | Wildcard)[], fold: Fold): (text: string) => boolean => {
  const [first, second] = tokens
  if (first === undefined) return text => text === ''
  if (tokens.length === 1 && typeof first === 'string') {
    const literal = fold(first)
    return text => fold(text) === literal
  }
  if (tokens.length === 1 && first === everything) return () => true
  if (tokens.length === 2 && typeof first === 'string' && second === everything) {
    const literal = fold(first)
    return text => fold(text).startsWith(literal)
  }
  const units = tokens.flatMap<string | Wildcard>(token => typeof token === 'string' ? [...fold(token)] : [token])
  return text => matchUnits(units, fold(text))
}

const matcher = (tokens: Token[], fold: Fold): Matcher => {
  if (!tokens.some(token => typeof token === 'object' && 'variable' in token)) return matcherOf(tokens as (string | Wildcard)[], fold)
  return (text, lookup) => {
    const resolved = resolve(tokens, lookup)
    return resolved !== undefined && matcherOf(resolved, fold)(text)
  }
}

/** Up to here, trying each beginning takes no longer than looking it up. */
const few = 4

const anyBeginning = (beginnings: readonly string[]): (text: string) => boolean => {
  if (beginnings.length <= few) {
    // A loop, here and in anyOf: the prover asks thousands of times, and some() would need a new function for each answer.
    return text => {
      for (const beginning of beginnings) if (text.startsWith(beginning)) return true
      return false
    }
  }
  const byLength = Map.groupBy(beginnings, ({ length }) => length)
  const sets = [...byLength].map(([length, texts]) => ({ length, texts: new Set(texts) }))
  return text => sets.some(({ length, texts }) => length <= text.length && texts.has(text.slice(0, length)))
}

/** One of several patterns. Literals, and literals with a `*` at their end, are looked up. */
const anyOf = (patterns: readonly Token[][]): Matcher => {
  const whole = new Set<string>()
  const beginnings: string[] = []
  const others: Matcher[] = []
  for (const tokens of patterns) {
    const [first, second, third] = tokens
    if (typeof first === 'string' && second === undefined) whole.add(first)
    else if (typeof first === 'string' && second === everything && third === undefined) beginnings.push(first)
    else others.push(matcher(tokens, exactly))
  }
  const begins = anyBeginning(beginnings)
  return (text, lookup) => {
    if (whole.has(text) || begins(text)) return true
    for (const matches of others) if (matches(text, lookup)) return true
    return false
  }
}

const freeWildcard = (pattern: string) => (index: number): Wildcard =>
  pattern[index] === '*' ? everything : { run: false, bounded: false }

/** One of several texts with `*` and `?`. @throws UnknownElementError when one cannot be read */
export const compileWildcards = (patterns: readonly string[]): Matcher =>
  anyOf(patterns.map(pattern => tokenize(pattern, freeWildcard(pattern))))

/** Text in which `*` and `?` stand for themselves. @throws UnknownElementError when it cannot be read */
export const compileLiteral = (pattern: string, ignoreCase = false): Matcher =>
  matcher(tokenize(pattern, () => undefined), ignoreCase ? lower : exactly)

/**
 * One of several Resources: in the first five parts of the ARN a wildcard matches within its part, but a `*` at the end of a part also
 * matches beyond the colon; in the last part it matches anything. Case counts.
 * Source: IAM User Guide, "IAM JSON policy elements: Resource", "Using wildcards in resource ARNs".
 * @throws UnknownElementError when one cannot be read
 */
export const compileResources = (patterns: readonly string[]): Matcher => anyOf(patterns.map(pattern => {
  const fifthColon = [...pattern.matchAll(/:/g)][4]?.index ?? pattern.length
  return tokenize(pattern, index => {
    if (index > fifthColon) return freeWildcard(pattern)(index)
    const next = pattern[index + 1]
    if (pattern[index] === '*') return next === undefined || next === ':' ? everything : { run: true, bounded: true }
    return { run: false, bounded: true }
  })
}))

/**
 * An ARN in a Condition: each of its six parts is matched on its own.
 * Source: IAM User Guide, "IAM JSON policy elements: Condition operators", "Amazon Resource Name (ARN) condition operators".
 * @throws UnknownElementError when it is not an ARN
 */
export const compileArn = (pattern: string): Matcher => {
  const parts = splitArn(pattern)
  if (parts === undefined) throw new UnknownElementError(`not an ARN: ${JSON.stringify(pattern)}`)
  const matchers = parts.map(part => compileWildcards([part]))
  return (text, lookup) => {
    const texts = splitArn(text)
    return texts !== undefined && matchers.every((matches, i) => matches(texts[i] ?? '', lookup))
  }
}

/** The six parts; the last one may have colons. Undefined when it is not an ARN. */
const splitArn = (arn: string): string[] | undefined => {
  const parts = arn.split(':')
  if (parts.length < 6 || parts[0] !== 'arn') return undefined
  return [...parts.slice(0, 5), parts.slice(5).join(':')]
}
