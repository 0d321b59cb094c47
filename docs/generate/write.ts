import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { apiPage, type ApiDocument } from './api-page.ts'
import { configurationPage, errorsPage } from './tables.ts'

/** `npm run docs`: writes the generated pages. `npm run openapi` comes first where a route has changed. */
const docs = join(import.meta.dirname, '..')
const document = JSON.parse(readFileSync(join(docs, '..', 'openapi', 'openapi.json'), 'utf8')) as ApiDocument
writeFileSync(join(docs, 'errors.md'), errorsPage())
writeFileSync(join(docs, 'configuration.md'), configurationPage())
writeFileSync(join(docs, 'api.md'), apiPage(document))
