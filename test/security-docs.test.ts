import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'

const root = new URL('..', import.meta.url)

t.test('every line of the threat model names a test, and every one that it names is there', async t => {
  const rows = readFileSync(new URL('docs/security.md', root), 'utf8').split('\n').filter(line => line.startsWith('| ') && !/^\| (---|threat)/.test(line))
  t.ok(rows.length > 15)
  for (const row of rows) {
    const tests = [...row.matchAll(/test\/[A-Za-z/.-]+/g)].map(match => match[0])
    t.ok(tests.length > 0, row.slice(0, 60))
    for (const path of tests) t.ok(existsSync(new URL(path, root)), path)
  }
})
