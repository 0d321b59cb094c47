import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { EnvSchema } from '../../src/config.ts'

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/operating.md'), 'utf8')

t.test('what docs/operating.md names is there', async t => {
  for (const [, target = ''] of page.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) t.ok(existsSync(join(root, 'docs', target)), target)
  const variables = [...page.matchAll(/\bJOB_ACCESS_[A-Z_]+\b/g)].map(match => match[0])
  for (const name of new Set(variables)) t.ok(name in EnvSchema.properties, name)
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  for (const [, name = ''] of page.matchAll(/npm run (?:-s )?([\w:-]+)/g)) t.ok(scripts[name], `npm run ${name}`)
})

t.test('the lines of the log that it tells to look for are written', async t => {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts')).map(name => readFileSync(join(root, 'src', name), 'utf8')).join('\n')
  const lines = [
    'sweep failed', 'sweep of a grant failed', 'not ready', 'guardrails could not be evaluated', 'request failed', 'reconciliation failed',
    'a stray principal could not be removed', 'a lost grant could not be closed', 'attempt-failed', 'policy-unproven'
  ]
  for (const line of lines) {
    t.ok(page.includes(line), `the page says: ${line}`)
    t.ok(sources.includes(line), `the code says: ${line}`)
  }
})
