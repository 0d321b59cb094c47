import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { configurationPage, errorsPage } from './docs.ts'

/** `npm run docs`: writes the generated pages. */
const docs = join(import.meta.dirname, '..', 'docs')
writeFileSync(join(docs, 'errors.md'), errorsPage())
writeFileSync(join(docs, 'configuration.md'), configurationPage())
