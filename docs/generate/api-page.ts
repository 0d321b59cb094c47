/** docs/api.md, from the OpenAPI document alone. */

interface Schema {
  $ref?: string
  title?: string
  description?: string
  type?: string
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  additionalProperties?: boolean | Schema
  propertyNames?: Schema
  default?: unknown
  format?: string
  pattern?: string
  [limit: `m${string}`]: unknown
}

interface Content { schema: Schema, example?: unknown, examples?: Record<string, { summary?: string, value: unknown }> }
interface Parameter { name: string, in: string, required?: boolean, description?: string, schema: Schema }
interface ApiResponse { description: string, content?: Record<string, Content>, headers?: Record<string, { description?: string }> }

interface Operation {
  summary: string
  description?: string
  tags: string[]
  security?: unknown[]
  parameters?: Parameter[]
  requestBody?: { content: Record<string, Content> }
  responses: Record<string, ApiResponse>
}

export interface ApiDocument {
  info: { description: string }
  tags: Array<{ name: string, description: string }>
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}

interface Row { name: string, required: boolean, schema: Schema }

export const apiPage = ({ info, tags, paths, components }: ApiDocument): string => {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) =>
      ({ name: `${method.toUpperCase()} ${path}`, method: method.toUpperCase(), path, operation })))
  const groups = tags
    .map(tag => ({ ...tag, members: operations.filter(({ operation }) => operation.tags.includes(tag.name)) }))
    // The largest group comes first: it describes the fields that the others share.
    .sort((a, b) => b.members.length - a.members.length)
  /** Where a schema was described first. */
  const described = new Map<string, string>()

  const fields = (schema: Schema, prefix: string, where: string): Row[] =>
    Object.entries(schema.properties ?? {}).flatMap(([field, part]) => {
      const name = `${prefix}${field}`
      const row = { name, required: schema.required?.includes(field) ?? false, schema: part }
      const [inner, suffix] = part.type === 'array' ? [part.items ?? {}, '[].'] : [part, '.']
      if (!inner.properties) return [row]
      const key = JSON.stringify(inner)
      const known = described.get(key)
      if (known !== undefined) {
        return [{ ...row, schema: { ...part, description: [part.description, `Fields as ${known}.`].filter(Boolean).join(' ') } }]
      }
      described.set(key, `[\`${name}\`](#${anchorOf(where)})`)
      return [row, ...fields(inner, `${name}${suffix}`, where)]
    })

  const table = (rows: Row[]): string[] => [
    '| field | takes | default | meaning |',
    '| --- | --- | --- | --- |',
    ...rows.map(row => rowOf(row.name, row))
  ]

  const bodyOf = (name: string, { requestBody }: Operation): string[] => {
    const content = requestBody?.content['application/json']
    if (!content) return []
    const { schema } = content
    const examples = content.examples ?? (content.example === undefined ? {} : { example: { value: content.example } })
    const [known, rows] = schema.$ref ? [linkOf(schema), []] : [described.get(JSON.stringify(schema)), fields(schema, '', name)]
    if (!schema.$ref) described.set(JSON.stringify(schema), `[its body](#${anchorOf(name)})`)
    return [
      '',
      known ? `The body: ${known}.` : 'The body; a bold field must be given:',
      ...(rows.length > 0 ? ['', ...table(rows)] : []),
      ...Object.values(examples).flatMap(({ summary, value }) =>
        ['', `${summary ?? 'For example'}:`, '', `\`\`\`json ${name}`, pretty(value), '```'])
    ]
  }

  const answersOf = ({ responses }: Operation): string[] => {
    const good = Object.entries(responses).filter(([, { content }]) => content?.['application/json'])
    const [, first] = good[0] ?? []
    const shown = first?.content?.['application/json']
    return [
      '',
      '| answer | what |',
      '| --- | --- |',
      ...Object.entries(responses).map(([status, { description, content = {}, headers = {} }]) => `| ${status} | ${cell([
        /[.!?]$/.test(description) ? description : `${description}.`,
        ...(content['application/json'] ? [`${formOf(content['application/json'].schema)}.`] : []),
        ...otherForms(content),
        ...Object.entries(headers).map(([header, { description }]) => `Header \`${header}\`: ${description ?? ''}`)
      ].join(' '))} |`),
      ...(shown?.example === undefined
        ? []
        : ['', '<details><summary>An answer</summary>', '',
            `\`\`\`json example ${shown.schema.$ref?.split('/').at(-1) ?? ''}`.trimEnd(), pretty(shown.example), '```', '', '</details>'])
    ]
  }

  const section = ({ name, operation }: (typeof operations)[number]): string[] => [
    '',
    `### ${name}`,
    '',
    `${operation.summary}.${operation.security?.length ? '' : ' Needs no token.'}`,
    ...(operation.description ? ['', operation.description] : []),
    ...(operation.parameters?.length
      ? ['', '| parameter | takes | default | meaning |', '| --- | --- | --- | --- |',
          ...operation.parameters.map(({ name, in: place, required, description, schema }) =>
            rowOf(name, { required: required ?? false, schema: { ...schema, ...(description && { description }) } }, `, ${place}`))]
      : []),
    ...bodyOf(name, operation),
    ...answersOf(operation)
  ]

  const lines = [
    '# API',
    '',
    'Generated by `npm run docs` from the OpenAPI document. A running service serves the document at `/openapi.json`, and a page to try ' +
      'it at `/docs`.',
    '',
    info.description,
    '',
    'Times are UTC. A request with an unknown field is refused; an answer may get new fields. [errors.md](errors.md) has every code of a ' +
      'refusal.',
    ...groups.flatMap(({ name, description, members }) => ['', `## ${capital(name)}`, '', description, ...members.flatMap(section)]),
    '',
    '## Schemas',
    ...Object.entries(components.schemas).flatMap(([name, schema]) =>
      ['', `### ${name}`, ...(schema.description ? ['', schema.description] : []), '', ...table(fields(schema, '', name))])
  ]
  return `${lines.join('\n').replace(/\n{3,}/g, '\n\n')}\n`
}

const rowOf = (name: string, { required, schema }: Omit<Row, 'name'>, place = ''): string =>
  `| ${required ? `**\`${name}\`**` : `\`${name}\``}${place} | ${cell(takes(schema))} | ${fallback(schema)} ` +
    `| ${cell(schema.description ?? '')} |`

const anchorOf = (heading: string): string => heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-')
const capital = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1)
const cell = (text: string): string => text.replaceAll('|', '\\|').replace(/\s*\n\s*/g, ' ')

/** JSON as a person writes it: what is short is on one line. */
const pretty = (value: unknown, indent = ''): string => {
  const line = oneLine(value)
  if (typeof value !== 'object' || value === null || indent.length + line.length <= 110) return line
  const inner = `${indent}  `
  const lines = Array.isArray(value)
    ? value.map(item => `${inner}${pretty(item, inner)}`)
    : Object.entries(value).map(([name, part]) => `${inner}${JSON.stringify(name)}: ${pretty(part, inner)}`)
  const [open, close] = Array.isArray(value) ? ['[', ']'] : ['{', '}']
  return `${open}\n${lines.join(',\n')}\n${indent}${close}`
}

const oneLine = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(oneLine).join(', ')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${oneLine(part)}`)
  return fields.length > 0 ? `{ ${fields.join(', ')} }` : '{}'
}

const linkOf = ({ $ref = '' }: Schema): string => {
  const name = $ref.split('/').at(-1) ?? ''
  return `[${name}](#${anchorOf(name)})`
}

const formOf = (schema: Schema): string => schema.$ref ? linkOf(schema) : takes(schema)

const otherForms = (content: Record<string, Content>): string[] => {
  const others = Object.keys(content).filter(type => !/json$/.test(type) || type.startsWith('application/vnd.'))
  return others.length > 0 ? [`Or ${others.map(type => `\`${type}\``).join(', ')}.`] : []
}

const fallback = ({ default: value }: Schema): string => value === undefined ? '' : `\`${JSON.stringify(value)}\``

/** What a value may be, in a few words. */
const takes = (schema: Schema): string => {
  if (schema.$ref) return linkOf(schema)
  if (schema.anyOf) return schema.anyOf.map(takes).join(' or ')
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``
  if (schema.enum) return schema.enum.map(value => `\`${String(value)}\``).join(', ')
  switch (schema.type) {
    case 'array': return `list${range(schema.minItems, schema.maxItems, '')} of ${takes(schema.items ?? {})}`
    case 'object': return objectOf(schema)
    case 'string': return [
      `${schema.format === 'date-time' ? 'instant' : 'text'}${range(schema.minLength, schema.maxLength, ' characters')}`,
      ...(schema.pattern ? [`\`${schema.pattern}\``] : [])
    ].join(', ')
    case 'integer': return `integer${range(schema.minimum, schema.maximum, '')}`
    case undefined: return 'any JSON'
    default: return schema.type
  }
}

const objectOf = ({ additionalProperties, propertyNames, maxProperties, properties }: Schema): string =>
  typeof additionalProperties === 'object' && !properties
    ? [
        `object${range(undefined, maxProperties, ' fields')}`,
        ...(propertyNames?.pattern ? [`names \`${String(propertyNames.pattern)}\``] : []),
        `values ${takes(additionalProperties)}`
      ].join('; ')
    : 'object'

const range = (least: unknown, most: unknown, unit: string): string => {
  const number = (value: unknown) => Number(value).toLocaleString('en')
  if (least !== undefined && most !== undefined) return `, ${number(least)} to ${number(most)}${unit}`
  if (most !== undefined) return `, at most ${number(most)}${unit}`
  if (least !== undefined) return `, at least ${number(least)}${unit}`
  return ''
}
