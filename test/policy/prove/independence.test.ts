import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import t from 'tap'

// The check is worth nothing if it shares code with what it checks.
t.test('the prover imports its own files, ipaddr.js and two types of the domain, and nothing else', async t => {
  const root = 'src/policy/prove'
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'))
  t.equal(files.length, 9)
  t.ok(files.includes('prove.ts'))
  for (const file of files) {
    const text = readFileSync(join(root, file), 'utf8')
    const imports = [...text.matchAll(/^(?:import|export)\b[^'"]*?from\s+'([^']+)'|\bimport\(\s*'([^']+)'/gm)].map(match => match[1] ?? match[2] ?? '')
    t.notMatch(text, /^import (?!type )[^'"]*?from\s+'[^']*domain/m, `${file} imports only types of the domain`)
    for (const name of imports) {
      const target = name.startsWith('.') ? relative('src/policy', join(root, dirname(file), name)) : name
      t.ok(/^prove\/|^\.\.\/domain\/(policy-document|access-spec)\.ts$|^ipaddr\.js$/.test(target), `${file} imports ${target}`)
    }
  }
})
