import { readFileSync } from 'node:fs'
import t from 'tap'
import { readConfig } from '../src/config.ts'
import { apiPage } from '../docs/generate/api-page.ts'
import { clientsPage } from '../docs/generate/clients-page.ts'
import { readStores, storePage, storesTable, withStores } from '../docs/generate/stores-page.ts'
import { configurationPage, errorsPage } from '../docs/generate/tables.ts'

const committed = (name: string) => readFileSync(new URL(`../docs/${name}`, import.meta.url), 'utf8')
const document = JSON.parse(readFileSync(new URL('../openapi/openapi.json', import.meta.url), 'utf8'))

t.test('the generated pages are those of the code', async t => {
  t.equal(committed('errors.md'), errorsPage(), 'run `npm run docs`')
  t.equal(committed('configuration.md'), configurationPage(), 'run `npm run docs`')
  t.equal(committed('api.md'), apiPage(document), 'run `npm run docs`')
  const compat = (name: string) => readFileSync(new URL(`real/compat/${name}`, import.meta.url), 'utf8')
  t.equal(committed('clients.md'), clientsPage(JSON.parse(compat('measured.json')), compat('requirements.txt')), 'run `npm run docs`')
  const stores = readStores(new URL('../docs/stores', import.meta.url).pathname)
  for (const [name, file] of stores) t.equal(committed(`stores/${name}.md`), storePage(name, file), 'run `npm run docs`')
  t.equal(committed('dialects.md'), withStores(committed('dialects.md'), storesTable(stores)), 'run `npm run docs`')
})

t.test('each diagnosis of a store is a dialect that the service takes, but for what the store does not enforce', async t => {
  for (const [name, { enforces }] of readStores(new URL('../docs/stores', import.meta.url).pathname)) {
    const JOB_ACCESS_ALLOW = Object.entries(enforces).filter(([, is]) => !is).map(([what]) => `unenforced-${what}`).join()
    const env = {
      JOB_ACCESS_PROVIDER: 'custom',
      JOB_ACCESS_DIALECT_FILE: new URL(`../docs/stores/${name}.json`, import.meta.url).pathname,
      AWS_ENDPOINT_URL_IAM: 'http://127.0.0.1:1'
    }
    t.equal(readConfig({ ...env, JOB_ACCESS_ALLOW }).dialect.name, 'custom', name)
    if (JOB_ACCESS_ALLOW !== '') t.throws(() => readConfig(env), /was not shown to enforce/, name)
  }
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
