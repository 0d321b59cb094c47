import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openApiText } from './http/document.ts'

/** `npm run openapi`: writes the committed copy of the OpenAPI document. */
writeFileSync(join(import.meta.dirname, '..', 'openapi', 'openapi.json'), await openApiText())
