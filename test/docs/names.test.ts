import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { grantEventActions } from '../../src/domain/events.ts'
import { variables } from '../../src/cli/settings.ts'
import { missingPaths, unknownScripts, unknownVariables } from './spelled.ts'
import { root } from './workplace.ts'

/** What pages name, in their prose too, is there; and what a reader must know of is named. */

const docs = readdirSync(join(root, 'docs')).filter(name => name.endsWith('.md'))
const decisions = readdirSync(join(root, 'docs/adr')).map(name => `docs/adr/${name}`)
const rootPages = readdirSync(root).filter(name => name.endsWith('.md'))
const pages = [...rootPages, 'client/README.md', ...docs.map(name => `docs/${name}`), ...decisions]
const read = (page: string) => readFileSync(join(root, page), 'utf8')

/** As GitHub makes them. */
const anchors = (markdown: string): string[] => [...markdown.replace(/^```.*?^```$/gms, '').matchAll(/^#+ (.+)$/gm)]
  .map(([, heading = '']) => heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-'))

for (const page of pages) {
  t.test(page, async t => {
    const markdown = read(page)
    t.strictSame(unknownScripts(markdown), [], 'npm scripts and their options')
    t.strictSame(unknownVariables(markdown), [], 'variables')
    t.strictSame(missingPaths(markdown.replace(/https?:\S+/g, '')), [], 'files')
    for (const [link, target = '', anchor] of markdown.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)) {
      const path = target === '' ? page : join(dirname(page), target)
      t.ok(existsSync(join(root, path)), link)
      if (anchor !== undefined) t.ok(anchors(read(path)).includes(anchor), link)
    }
  })
}

t.test('every page is in the README’s list, every variable of the client in its table', async t => {
  const listed = read('README.md')
  for (const path of [...docs.map(name => `docs/${name}`), ...decisions, ...rootPages, 'LICENSE']) {
    t.ok(path === 'README.md' || listed.includes(`](${path})`), path)
  }
  for (const name of Object.keys(variables)) t.ok(read('docs/orchestrators.md').includes(`| \`${name}\` |`), name)
})

t.test('every decision has its parts, and a number of its own', async t => {
  for (const [index, path] of decisions.entries()) {
    t.match(path, new RegExp(`/${String(index + 1).padStart(4, '0')}-`))
    t.strictSame(anchors(read(path)).slice(1), ['context', 'decision', 'consequences'], path)
  }
})

t.test('the changelog has the version of the package, below what is not released', async t => {
  const { version } = JSON.parse(read('package.json')) as { version: string }
  t.strictSame(anchors(read('CHANGELOG.md')).filter(anchor => /^(unreleased|\d+)$/.test(anchor)).slice(0, 2), ['unreleased', version.replaceAll('.', '')])
})

t.test('every event of a grant’s history is explained, and no other', async t => {
  const table = read('docs/lifecycle.md').split('## The history')[1]?.split('\n').filter(line => line.startsWith('| `')) ?? []
  const explained = table.flatMap(line => [...(line.split('|')[1] ?? '').matchAll(/`([a-z-]+)`/g)].map(([, name]) => name ?? ''))
  t.strictSame(explained.sort(), [...grantEventActions].sort())
})
