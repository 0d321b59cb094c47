import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { checks, maxQuestions } from '../../src/guardrails/guardrails.ts'
import { actions } from '../../src/guardrails/schema.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const docs = await readFile(join(root, 'docs/guardrails.md'), 'utf8')

t.test('the policy in the docs is that of the example', async t => {
  const [, policy = ''] = /^```cedar\n(.*?)^```$/ms.exec(docs) ?? []
  t.ok(policy)
  t.ok((await readFile(join(root, 'guardrails/example.cedar'), 'utf8')).includes(policy))
})

t.test('every action and every check is explained', async t => {
  for (const action of actions) t.match(docs, new RegExp(`^\\| .*\`${action}\`.*\\|`, 'm'), action)
  for (const check of Object.values(checks)) t.ok(docs.includes(`\`${check}\``), check)
  t.ok(docs.includes(`more than ${maxQuestions.toLocaleString('en')} `), 'and the number of questions')
})
