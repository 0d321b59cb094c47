import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import t from 'tap'
import { root } from './workplace.ts'

/** The layers of ARCHITECTURE.md are those of the code. */

const src = join(root, 'src')
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'))
const folders = readdirSync(src, { withFileTypes: true }).filter(entry => entry.isDirectory()).map(({ name }) => name)

/** The files of src that a file imports, as paths below src. */
const importsOf = (file: string): string[] =>
  [...readFileSync(join(src, file), 'utf8').matchAll(/(?:\bfrom|\bimport\(|^import)\s*'(\.[^']+)'/gm)]
    .map(([, target = '']) => relative(src, join(src, dirname(file), target)))

/** '': a file of src itself. */
const folderOf = (path: string): string => path.includes('/') ? path.split('/')[0] ?? '' : ''

/** A row: `folder`, what it is, the folders that it may import. */
const layers = new Map(readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8').split('\n## Layers\n')[1]?.split('\n## ')[0]?.split('\n')
  .filter(line => line.startsWith('| `'))
  .map(line => line.split('|').map(cell => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)))
  .map(([, folder = [], , allowed = []]) => [folder[0] ?? '', allowed]))

t.test('the table has every folder of src, and no other', async t => {
  t.strictSame([...layers.keys()].sort(), folders.sort())
})

for (const folder of folders) {
  t.test(folder, async t => {
    const allowed = new Set(['', folder, ...layers.get(folder) ?? []])
    const found = files.filter(file => folderOf(file) === folder).flatMap(file => importsOf(file).map(target => ({ file, target })))
    t.strictSame(found.filter(({ target }) => !allowed.has(folderOf(target))), [], 'imports only folders of its row')
    const unused = [...layers.get(folder) ?? []].filter(name => !found.some(({ target }) => folderOf(target) === name))
    t.strictSame(unused, [], 'its row has only folders that it imports')
    if (folder !== 'commands') {
      t.strictSame(found.filter(({ target }) => /^(compose|config|server)\.ts$/.test(target)), [], 'is given its configuration and its parts')
    }
  })
}

t.test('the files that every folder may import import no folder', async t => {
  const shared = new Set(files.filter(file => folderOf(file) !== '').flatMap(importsOf)
    .filter(target => folderOf(target) === '' && !/^(compose|config)\.ts$/.test(target)))
  t.ok(shared.size > 0)
  for (const file of shared) t.strictSame(importsOf(file).filter(target => folderOf(target) !== ''), [], file)
})

t.test('no layer imports, by any way, one that imports it', async t => {
  const reached = (folder: string, seen = new Set<string>()): Set<string> => {
    for (const next of layers.get(folder) ?? []) {
      if (!seen.has(next)) reached(next, seen.add(next))
    }
    return seen
  }
  for (const folder of layers.keys()) t.notOk(reached(folder).has(folder), folder)
})
