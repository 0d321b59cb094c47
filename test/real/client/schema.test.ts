import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../../..')

t.test('the types are those of the OpenAPI document', async t => {
  const made = join(t.testdir(), 'schema.ts')
  execFileSync(process.execPath, [join(root, 'client/generate/generate.ts'), made])
  t.equal(readFileSync(made, 'utf8'), readFileSync(join(root, 'src/client/schema.ts'), 'utf8'), 'run `npm run client` and commit the result')
})
