import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@hey-api/openapi-ts'

/** `npm run client`: writes src/client/schema.ts, or the file that is given: the types of the wire, from the committed OpenAPI document. */

const root = join(import.meta.dirname, '..', '..')
const [schemaFile = join(root, 'src', 'client', 'schema.ts')] = process.argv.slice(2)
const path = mkdtempSync(join(tmpdir(), 'job-access-client-'))
try {
  await createClient({
    input: join(root, 'openapi', 'openapi.json'),
    output: { path },
    plugins: ['@hey-api/typescript'],
    logs: { level: 'silent' }
  })
  writeFileSync(
    schemaFile, `/* eslint-disable */\n// Made by \`npm run client\`; a test compares.\n${readFileSync(join(path, 'types.gen.ts'), 'utf8')}`
  )
} finally {
  rmSync(path, { recursive: true, force: true })
}
