import { readFileSync } from 'node:fs'
import t from 'tap'
import { apiPage } from '../docs/generate/api-page.ts'
import { clientsPage } from '../docs/generate/clients-page.ts'
import { configurationPage, errorsPage } from '../docs/generate/tables.ts'

const committed = (name: string) => readFileSync(new URL(`../docs/${name}`, import.meta.url), 'utf8')
const document = JSON.parse(readFileSync(new URL('../openapi/openapi.json', import.meta.url), 'utf8'))

t.test('the generated pages are those of the code', async t => {
  t.equal(committed('errors.md'), errorsPage(), 'run `npm run docs`')
  t.equal(committed('configuration.md'), configurationPage(), 'run `npm run docs`')
  t.equal(committed('api.md'), apiPage(document), 'run `npm run docs`')
  const compat = (name: string) => readFileSync(new URL(`real/compat/${name}`, import.meta.url), 'utf8')
  t.equal(committed('clients.md'), clientsPage(JSON.parse(compat('measured.json')), compat('requirements.txt')), 'run `npm run docs`')
})

t.test('the API page has every operation, every parameter, every field of every body and answer', async t => {
  const page = committed('api.md')
  for (const [path, methods] of Object.entries<Record<string, any>>(document.paths)) {
    for (const [method, { parameters = [], responses }] of Object.entries(methods)) {
      const section = page.split(`\n### ${method.toUpperCase()} ${path}\n`)[1]?.split(/\n##+ /)[0] ?? ''
      t.ok(section, `${method} ${path}`)
      for (const { name } of parameters) t.ok(section.includes(`\`${name}\``), `${method} ${path}: ${name}`)
      for (const status of Object.keys(responses)) t.ok(section.includes(`| ${status} |`), `${method} ${path}: ${status}`)
    }
  }
  const fields = (schema: any, prefix = ''): string[] => Object.entries<any>(schema?.properties ?? {}).flatMap(([name, part]) =>
    [`${prefix}${name}`, ...fields(part, `${prefix}${name}.`), ...fields(part.items, `${prefix}${name}[].`)])
  const bodies = Object.values<any>(document.paths).flatMap(methods => Object.values<any>(methods)).map(({ requestBody }) => requestBody?.content['application/json'].schema)
  for (const schema of [...bodies, ...Object.values(document.components.schemas)]) {
    // What repeats is described once, under the name that it has there.
    for (const field of fields(schema)) t.match(page, new RegExp(`\`([\\w[\\].]+\\.)?${field.split('.').at(-1)}\``), field)
  }
})
