import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { apiPage, type ApiDocument } from './api-page.ts'
import { clientsPage, type Measured } from './clients-page.ts'
import { readStores, storePage, storesTable, withStores } from './stores-page.ts'
import { configurationPage, errorsPage } from './tables.ts'

/** `npm run docs`: writes the generated pages. `npm run openapi` comes first where a route has changed. */
const docs = join(import.meta.dirname, '..')
const document = JSON.parse(readFileSync(join(docs, '..', 'openapi', 'openapi.json'), 'utf8')) as ApiDocument
writeFileSync(join(docs, 'errors.md'), errorsPage())
writeFileSync(join(docs, 'configuration.md'), configurationPage())
writeFileSync(join(docs, 'api.md'), apiPage(document))
const compat = (name: string) => readFileSync(join(docs, '..', 'test', 'real', 'compat', name), 'utf8')
writeFileSync(join(docs, 'clients.md'), clientsPage(JSON.parse(compat('measured.json')) as Measured, compat('requirements.txt')))

const stores = readStores(join(docs, 'stores'))
for (const [name, file] of stores) writeFileSync(join(docs, 'stores', `${name}.md`), storePage(name, file))
writeFileSync(join(docs, 'dialects.md'), withStores(readFileSync(join(docs, 'dialects.md'), 'utf8'), storesTable(stores)))
