import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { tool } from '../examples/example.ts'
import { marked } from './marked.ts'
import { blocksOf } from './markdown.ts'
import { runPage, type Provided } from './page.ts'
import { serviceWithRole } from './with-role.ts'
import { root } from './workplace.ts'

/** Every command and every block of JSON, YAML, … in the README, ARCHITECTURE.md and docs/, run from the first to the last of its page. */

const pages = ['README.md', 'ARCHITECTURE.md', 'docs/stores/README.md', ...readdirSync(join(root, 'docs')).filter(name => name.endsWith('.md')).map(name => `docs/${name}`)]
const aws = tool('lint', 'bin', 'aws')
const provided: Record<string, Provided | null> = {
  role: { service: await serviceWithRole(t) },
  python3: spawnSync('python3', ['--version']).status === 0 ? {} : null,
  'aws-cli': aws.skip ? null : { env: { PATH: dirname(aws.path) } }
}

// Each has a checkout, a shell and ports of its own.
t.jobs = 2

for (const page of pages) {
  t.test(page, { buffered: true }, async t => {
    await runPage(t, page, provided)
  })
}

t.test('what is not run is listed with its reason, and nothing else', async t => {
  const found = pages.flatMap(page => blocksOf(page, readFileSync(join(root, page), 'utf8')))
    .filter(({ needs }) => needs !== null)
    .map(({ page, text }) => `${page}: ${text.split('\n')[0]}`)
  t.strictSame([...new Set(found)].sort(), Object.keys(marked).sort())
  for (const [block, reason] of Object.entries(marked)) t.ok(reason.length > 20, block)
})
