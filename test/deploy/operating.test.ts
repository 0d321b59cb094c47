import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/operating.md'), 'utf8')

t.test('the lines of the log that it tells to look for are written', async t => {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts')).map(name => readFileSync(join(root, 'src', name), 'utf8')).join('\n')
  const lines = [
    'sweep failed', 'sweep of a grant failed', 'not ready', 'guardrails could not be evaluated', 'request failed', 'reconciliation failed',
    'a stray principal could not be removed', 'a lost grant could not be closed',
    'the keys of a grant could not be compared', 'attempt-failed', 'policy-unproven'
  ]
  for (const line of lines) {
    t.ok(page.includes(line), `the page says: ${line}`)
    t.ok(sources.includes(line), `the code says: ${line}`)
  }
})
