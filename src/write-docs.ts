import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { apiPage } from './api-page.ts'
import { configurationPage, errorsPage } from './docs.ts'
import { openApiText } from './http/document.ts'

/** `npm run docs`: writes the generated pages. */
const docs = join(import.meta.dirname, '..', 'docs')
writeFileSync(join(docs, 'errors.md'), errorsPage())
writeFileSync(join(docs, 'configuration.md'), configurationPage())
writeFileSync(join(docs, 'api.md'), apiPage(JSON.parse(await openApiText())))
