import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@hey-api/openapi-ts'

const root = join(import.meta.dirname, '..')
export const schemaFile = join(root, 'src', 'client', 'schema.ts')

/** The types of the wire, from the committed OpenAPI document. */
export const generate = async (): Promise<string> => {
  const path = mkdtempSync(join(tmpdir(), 'job-access-client-'))
  try {
    await createClient({
      input: join(root, 'openapi', 'openapi.json'),
      output: { path },
      plugins: ['@hey-api/typescript'],
      logs: { level: 'silent' }
    })
    return `/* eslint-disable */\n// Made by \`npm run client\`; a test compares.\n${readFileSync(join(path, 'types.gen.ts'), 'utf8')}`
  } finally {
    rmSync(path, { recursive: true, force: true })
  }
}

/** `npm run client`: writes src/client/schema.ts. */
if (import.meta.main) writeFileSync(schemaFile, await generate())
