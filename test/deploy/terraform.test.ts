import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { templates } from '../../deploy/terraform/templates.ts'

t.test('the templates of the policies are those of the code', async t => {
  for (const [name, text] of Object.entries(templates())) {
    const committed = readFileSync(join(import.meta.dirname, '../../deploy/terraform/policies', name), 'utf8')
    t.equal(committed, text, `${name}: run \`node deploy/terraform/generate.ts\``)
  }
})
