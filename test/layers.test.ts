import { Linter } from 'eslint'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import tseslint from 'typescript-eslint'

/** The imports between the files of src, and the table of them in eslint.config.js. */

const root = join(import.meta.dirname, '..')
interface Layer { imports?: string[], types?: string[] }
const config: { layers: Record<string, Layer>, layerRules: Linter.Config[] } = await import(join(root, 'eslint.config.js'))
const { layers, layerRules } = config

interface Import { from: string, to: string, typeOnly: boolean }

/** Those of relative paths, `import()` and types in place included. */
const importsOf = (from: string, text: string): Import[] => {
  const found: Import[] = []
  const add = (specifier: ts.Node | undefined, typeOnly: boolean) => {
    if (!specifier || !ts.isStringLiteral(specifier) || !specifier.text.startsWith('.')) return
    found.push({ from, to: posix.join(dirname(from), specifier.text), typeOnly })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword)
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly)
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0], false)
    else if (ts.isImportTypeNode(node)) add(ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined, true)
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(from, text, ts.ScriptTarget.ESNext))
  return found
}

const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'))
const imports = files.flatMap(file => importsOf(file, readFileSync(join(root, 'src', file), 'utf8')))

/** A way along imports that comes back to where it started, or null. */
const circle = (edges: Array<{ from: string, to: string }>): string[] | null => {
  const targets = Map.groupBy(edges, ({ from }) => from)
  const done = new Set<string>()
  const search = (node: string, way: string[]): string[] | null => {
    if (way.includes(node)) return [...way.slice(way.indexOf(node)), node]
    if (done.has(node)) return null
    for (const { to } of targets.get(node) ?? []) {
      const found = search(to, [...way, node])
      if (found) return found
    }
    done.add(node)
    return null
  }
  for (const node of targets.keys()) {
    const found = search(node, [])
    if (found) return found
  }
  return null
}

/** The innermost layer that has the file. */
const layerOf = (file: string): string | undefined =>
  Object.keys(layers).filter(name => file === name || file.startsWith(`${name}/`)).sort((a, b) => b.length - a.length)[0]

t.test('the imports between files of src make no circle, those of types included', async t => {
  t.ok(imports.length > 400, `${imports.length} imports`)
  t.same(imports.filter(({ to }) => !files.includes(to)), [], 'each is of a file of src')
  t.equal(circle(imports), null)
})

t.test('the check finds made-up circles', async t => {
  const circleOf = (texts: Record<string, string>) => circle(Object.entries(texts).flatMap(([file, text]) => importsOf(file, text)))
  t.same(circleOf({
    'a/one.ts': "import { two } from '../b/two.ts'",
    'b/two.ts': "import type { Three } from './three.ts'\nimport 'node:fs'",
    'b/three.ts': "export type Three = import('../a/one.ts').One"
  }), ['a/one.ts', 'b/two.ts', 'b/three.ts', 'a/one.ts'])
  t.same(circleOf({ 'a.ts': "export { b } from './b.ts'", 'b.ts': "const a = await import('./a.ts')" }), ['a.ts', 'b.ts', 'a.ts'])
  t.equal(circleOf({ 'a.ts': "import './b.ts'\nimport './c.ts'", 'b.ts': "import './c.ts'" }), null)
})

t.test('the table in eslint.config.js says what each layer imports of the others, and no more', async t => {
  t.same(files.filter(file => layerOf(file) === undefined), [], 'each file is of a layer')
  const real: Record<string, Layer> = {}
  for (const name of Object.keys(layers)) {
    const others = imports.filter(({ from, to }) => layerOf(from) === name && layerOf(to) !== name)
    const targets = (edges: Import[]) => [...new Set(edges.map(({ to }) => layerOf(to)))].filter(to => to !== undefined).sort()
    const values = targets(others.filter(({ typeOnly }) => !typeOnly))
    real[name] = { imports: values, types: targets(others).filter(to => !values.includes(to)) }
  }
  for (const [name, { imports = [], types = [] }] of Object.entries(layers)) {
    t.same(real[name], { imports: imports.toSorted(), types: types.toSorted() }, name)
  }
  t.equal(circle(Object.entries(layers).flatMap(([from, { imports = [] }]) => imports.map(to => ({ from, to })))), null, 'no circle of values')
})

t.test('ESLint refuses what the table does not have', async t => {
  const plugins = { '@typescript-eslint': tseslint.plugin as unknown as NonNullable<Linter.Config['plugins']>[string] }
  const rules: Linter.Config[] = [{ plugins, languageOptions: { parser: tseslint.parser }, files: ['**/*.ts'] }, ...layerRules]
  const linter = new Linter({ cwd: root })
  /** @param from the path in src of a file that need not exist */
  const messages = (from: string, to: string, keyword: string) => {
    const path = posix.relative(dirname(from), to)
    const text = `${keyword} { made } from '${path.startsWith('.') ? path : `./${path}`}'`
    return linter.verify(text, rules, { filename: join(root, 'src', from) }).map(({ message }) => message)
  }
  const madeUp = (name: string) => name.endsWith('.ts') ? name : `${name}/made-up.ts`
  for (const [name, { imports = [], types = [] }] of Object.entries(layers)) {
    for (const other of Object.keys(layers)) {
      const [asValue, asType] = ['import', 'import type'].map(keyword => messages(madeUp(name), madeUp(other), keyword).length)
      const free = name === other || imports.includes(other)
      t.equal(asValue, free ? 0 : 1, `${name} imports ${other}`)
      t.equal(asType, free || types.includes(other) ? 0 : 1, `${name} imports types of ${other}`)
    }
    t.match(messages(madeUp(name), '../test/made-up.ts', 'import type'), [/outside of src/], `${name} imports from test`)
  }
  t.same(messages('iam/dialects/made-up.ts', 'iam/client.ts', 'import'), [])
  t.match(messages('iam/dialects/made-up.ts', 'http/app.ts', 'import'), [/IAM calls/])
})
