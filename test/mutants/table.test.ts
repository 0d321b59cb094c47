import { existsSync, readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import { mutants, type Mutant } from './table.ts'

const root = join(import.meta.dirname, '..', '..')

t.test('each mutant changes one place of the code of today, and names tests that exist', async t => {
  const name = ({ file, what }: Mutant) => `${file}: ${what}`
  t.same(mutants.filter(({ file, from }) => readFileSync(join(root, file), 'utf8').split(from).length !== 2).map(name), [], 'the text is there once')
  t.same(mutants.filter(({ from, to }) => from === to).map(name), [], 'it is replaced by another one')
  t.same(mutants.filter(({ tests }) => tests.length === 0 || !tests.every(test => existsSync(join(root, test)))).map(name), [], 'with tests')
  const source = ({ file, from, to }: Mutant) => readFileSync(join(root, file), 'utf8').replace(from, () => to)
  for (const mutant of mutants) t.ok(stripTypeScriptTypes(source(mutant)), `${name(mutant)}: is code`)
  t.equal(new Set(mutants.map(name)).size, mutants.length, 'each has its own name')
})
