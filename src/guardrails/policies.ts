import type { DetailedError, PolicyJson } from '@cedar-policy/cedar-wasm/nodejs'
import type { Cedar } from './cedar.ts'
import { schemaText } from './schema.ts'

/** One thing wrong with a policy file. */
export interface PolicyFinding extends Place {
  file: string
  message: string
}

/** A policy file that cannot be used. `findings` are in the order of the file and never empty. */
export class GuardrailsError extends Error {
  override name = 'GuardrailsError'
  readonly findings: PolicyFinding[]

  constructor (findings: PolicyFinding[]) {
    super(findings.map(formatFinding).join('\n'))
    this.findings = findings
  }
}

/** `file:line:column: message`, the form that compilers and editors use. */
const formatFinding = ({ file, line, column, message }: PolicyFinding): string => `${file}:${line}:${column}: ${message}`

export interface Policy {
  /** Its `@id`, unique in the file. */
  id: string
  /** Its `@hint`: what a refused caller can do. */
  hint: string | null
  effect: 'permit' | 'forbid'
  /** Where it begins, from 1. */
  line: number
  text: string
  json: PolicyJson
}

/**
 * Reads and validates a policy file: Cedar's syntax, the schema of schema.ts, and that every policy has an id.
 *
 * @throws GuardrailsError with every finding, Cedar's warnings included: a policy that can never apply, or one with letters that
 *   look like others, is not what its author meant.
 */
export const parsePolicies = (cedar: Cedar, text: string, file: string): Policy[] => {
  const answer = cedar.validate({ validationSettings: { mode: 'strict' }, schema: schemaText, policies: { staticPolicies: text } })
  const invalid = (problems: Diagnosis[]) => new GuardrailsError(oncePerActions(problems)
    .sort((a, b) => a.start - b.start || (a.message < b.message ? -1 : 1))
    .map(({ start, message }) => ({ file, ...placeOfByte(text, start), message })))
  if (answer.type === 'failure') throw invalid(answer.errors.flatMap(error => flatten(error)))

  const written = splitStatements(text)
  agreeOnPolicies(cedar, text, written)
  const statements = written.map(({ text: statement, offset }) =>
    ({ text: statement, start: Buffer.byteLength(text.slice(0, offset)), json: jsonOf(cedar, statement) }))
  const ids = statements.map(({ json }) => json.annotations?.id)
  const problems = [
    ...statements.flatMap(({ start, json }, index) => {
      const repeated = ids.indexOf(ids[index]) < index ? `@id("${ids[index]}") is used twice` : undefined
      const message = annotationProblem(json) ?? repeated ?? nestingProblem(json)
      return message === undefined ? [] : [{ start, message }]
    }),
    ...answer.validationErrors.flatMap(({ error }) => flatten(error, ids)),
    // Cedar also warns that a policy with an error can never apply.
    ...answer.validationWarnings
      .filter(({ policyId }) => !answer.validationErrors.some(error => error.policyId === policyId))
      .flatMap(({ error }) => flatten(error, ids)),
    ...answer.otherWarnings.flatMap(warning => flatten(warning, ids))
  ]
  if (problems.length > 0) throw invalid(problems)
  return statements.map(({ text: statement, start, json }) => ({
    id: json.annotations?.id ?? '',
    hint: json.annotations?.hint ?? null,
    effect: json.effect,
    line: placeOfByte(text, start).line,
    text: statement,
    json
  }))
}

// Cedar splits the file, too. Both must find the same policies: one that was lost might be a forbid.
const agreeOnPolicies = (cedar: Cedar, text: string, ours: StatementText[]): void => {
  const theirs = cedar.policySetTextToParts(text)
  const isSame = theirs.type === 'success' && theirs.policy_templates.length === 0 &&
    JSON.stringify(theirs.policies.toSorted()) === JSON.stringify(ours.map(statement => statement.text).sort())
  if (!isSame) throw new Error('Cedar finds other policies in the file than this service does')
}

const jsonOf = (cedar: Cedar, statement: string): PolicyJson => {
  const answer = cedar.policyToJson(statement)
  if (answer.type === 'success') return answer.json
  throw new Error(`Cedar accepts the file but refuses a policy of it: ${answer.errors.map(error => error.message).join('; ')}`)
}

interface Diagnosis {
  /** Byte offset. */
  start: number
  message: string
}

const idShape = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

// Callers get id and hint unchanged.
const annotationProblem = ({ annotations = {} }: PolicyJson): string | undefined => {
  const { id, hint }: Record<string, string | null> = annotations
  // Cedar gives null for an annotation without a value, though its types do not say so.
  if (id === undefined || id === null) return 'a policy needs an @id("…"), so that a denial can name it'
  if (!idShape.test(id)) return '@id takes 1 to 64 letters, digits, ".", "_" and "-", the first a letter or digit'
  if (hint !== undefined && (!hint || hint.length > 500 || /\p{Cc}/u.test(hint))) {
    return '@hint takes 1 to 500 characters, none of them control characters'
  }
  return undefined
}

/** Cedar parses a chain of a thousand `||`, but evaluating one of 400 overflows its stack, and then nothing would be allowed. */
const maxNesting = 200

const nestingProblem = ({ conditions }: PolicyJson): string | undefined => {
  const depth = Math.max(0, ...conditions.map(({ body }) => nestingOf(body)))
  if (depth <= maxNesting) return undefined
  return `a condition is nested ${depth} deep, and ${maxNesting} is the most; ` +
    'write `a == "x" || a == "y" || …` as `["x", "y", …].contains(a)`'
}

/** An expression is `{ operator: operands }` and operands are objects, too: only every other object counts as a level. */
const nestingOf = (node: unknown, objects = 0): number => {
  if (node === null || typeof node !== 'object') return Math.ceil(objects / 2)
  const deeper = objects + (Array.isArray(node) ? 0 : 1)
  return Object.values(node).reduce<number>((most, child) => Math.max(most, nestingOf(child, deeper)), Math.ceil(deeper / 2))
}

/** Cedar repeats a finding for every action of the scope. They become one finding that lists the actions. */
const oncePerActions = (problems: Diagnosis[]): Diagnosis[] => {
  const merged = new Map<string, Diagnosis & { actions: string[] }>()
  for (const { start, message } of problems) {
    const action = /JobAccess::Action::"(\w+)"/.exec(message)
    const key = `${start} ${action ? message.replace(action[0], '') : message}`
    const known = merged.get(key) ?? { start, message, actions: [] }
    if (action?.[1] !== undefined) known.actions.push(action[1])
    merged.set(key, known)
  }
  return [...merged.values()].map(({ start, message, actions }) =>
    ({ start, message: actions.length > 1 ? message.replace(/JobAccess::Action::"\w+"/, actions.sort().join(', ')) : message }))
}

/** An error of Cedar and its related errors, each with its place. */
const flatten = (error: DetailedError, ids: Array<string | undefined> = []): Diagnosis[] => {
  const at = error.sourceLocations?.[0]
  const parts = [error.message, at?.label, error.help].filter(part => part !== null && part !== undefined)
  const message = parts.map(part => naming(part, ids)).join('; ')
  return [{ start: at?.start ?? 0, message }, ...(error.related ?? []).flatMap(related => flatten(related, ids))]
}

/** Cedar numbers the policies: `policy3` is the fourth. The author knows it by its @id. */
const naming = (message: string, ids: Array<string | undefined>): string => message
  .replace(/^failed to parse policies from string: /, '')
  .replace(/^for policy `policy(\d+)`, /, (_, index) => {
    const id = ids[Number(index)]
    return id === undefined ? '' : `policy "${id}": `
  })

// --- the text of a file ---

/** One policy of a policy text, as written. */
interface StatementText {
  text: string
  /** Offset of its first character, in UTF-16 code units. */
  offset: number
}

/**
 * Splits a policy text that Cedar has parsed into its policies, in order. Cedar can split a text, too, but without places and sorted
 * by id, so that policy10 comes before policy2. In Cedar `;` ends a policy; elsewhere it occurs only in strings, which have `\`
 * escapes, and in `//` comments.
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

interface Place {
  /** From 1. */
  line: number
  /** From 1, in code points. */
  column: number
}

/** Where a byte of the UTF-8 form of `text` is: Cedar counts bytes, an editor counts characters. After the end: the end. */
const placeOfByte = (text: string, byte: number): Place => {
  let line = 1
  let column = 1
  let passed = 0
  for (const character of text) {
    if (passed >= byte) break
    passed += Buffer.byteLength(character)
    if (character === '\n') {
      line += 1
      column = 1
    } else {
      column += 1
    }
  }
  return { line, column }
}
