import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { templates } from './templates.ts'

/** `node deploy/terraform/generate.ts` writes the templates of the policies. A test checks that they are those of the code. */
for (const [name, text] of Object.entries(templates())) writeFileSync(join(import.meta.dirname, 'policies', name), text)
