import { execFileSync } from 'node:child_process'
import t from 'tap'

interface Component { name: string, version: string, licenses?: Array<{ license?: { id?: string }, expression?: string }> }

const root = new URL('../..', import.meta.url)
// Every licence that what ships has today. Another one is a decision, not an accident.
const accepted = new Set(['MIT', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', '0BSD', 'BlueOak-1.0.0'])

t.test('the bill of materials: everything that ships has a version and a licence that we accept', async t => {
  const text = execFileSync('npm', ['run', '-s', 'sbom'], { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, stdio: ['ignore', 'pipe', 'ignore'] })
  const { bomFormat, components } = JSON.parse(text) as { bomFormat: string, components: Component[] }
  t.equal(bomFormat, 'CycloneDX')
  t.ok(components.length > 50)
  t.ok(components.some(({ name }) => name === 'fastify'))
  t.notOk(components.some(({ name }) => name === 'tap' || name === 'iam-simulate'), 'no development dependency')
  for (const { name, version, licenses } of components) {
    const ids = (licenses ?? []).map(({ license, expression }) => license?.id ?? expression ?? '')
    t.ok(version && ids.length > 0 && ids.every(id => accepted.has(id)), `${name} ${version}: ${ids.join(', ')}`)
  }
})
