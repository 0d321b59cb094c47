import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from './workplace.ts'

/** The table of layers in ARCHITECTURE.md says what the lint rules say; test/layers.test.ts holds those to the code. */

interface Layer { imports?: string[], types?: string[] }
const { layers }: { layers: Record<string, Layer> } = await import(join(root, 'eslint.config.js'))

/** Folders of src without their inner layers: the page has a row for each. */
const folderOf = (layer: string): string => layer.split('/')[0] ?? ''
const folders = [...new Set(Object.keys(layers).filter(name => !name.endsWith('.ts')).map(folderOf))]

const rows = new Map(readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8').split('\n## Layers\n')[1]?.split('\n## ')[0]?.split('\n')
  .filter(line => line.startsWith('| `'))
  .map(line => line.split('|').map(cell => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)))
  .map(([, folder = [], , allowed = []]) => [folder[0] ?? '', allowed.sort()]))

t.test('a row for every folder, with the folders that it may import', async t => {
  t.strictSame([...rows.keys()].sort(), [...folders].sort())
  for (const folder of folders) {
    const allowed = Object.entries(layers).filter(([name]) => folderOf(name) === folder)
      .flatMap(([, { imports = [], types = [] }]) => [...imports, ...types])
      .filter(name => !name.endsWith('.ts')).map(folderOf).filter(name => name !== folder)
    t.strictSame(rows.get(folder), [...new Set(allowed)].sort(), folder)
  }
})
