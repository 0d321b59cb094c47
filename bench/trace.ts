import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

/**
 * The way of one warm POST /v1/grants through src: which functions of which files are entered, in order.
 *   node bench/trace.ts          the totals: functions, files, changes of folder
 *   node bench/trace.ts --way    the way itself, a line per stay in a folder
 *   node bench/trace.ts --files  how often functions of each file were entered
 * Every function in src reports that it was entered: a load hook writes the report into its first line. The embedded IAM
 * stands for the provider, so it is left out. A change of folder is an entry whose folder is not that of the entry before. Entries of
 * the files that write the audit do not count.
 */

const root = new URL('../src/', import.meta.url).href
const provider = new URL('../src/embedded-iam/', import.meta.url).href

interface Entry { file: string, name: string }
let entered: Entry[] | undefined
Object.assign(globalThis, { traceEntry: (file: string, name: string) => entered?.push({ file, name }) })

registerHooks({
  load (url, context, next) {
    const loaded = next(url, context)
    if (!url.startsWith(root) || url.startsWith(provider) || !url.endsWith('.ts') || loaded.source == null) return loaded
    return { ...loaded, source: reporting(String(loaded.source), relative(fileURLToPath(root), fileURLToPath(url))) }
  }
})

/** The source, each function of which reports its entry first. Types stay: Node strips them afterwards. */
const reporting = (source: string, file: string): string => {
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.ESNext, true)
  const inserts: Array<{ at: number, text: string }> = []
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body) {
      const body = node.body as ts.Node
      const call = `traceEntry(${JSON.stringify(file)}, ${JSON.stringify(nameOf(node))})`
      if (ts.isBlock(body)) inserts.push({ at: body.getStart() + 1, text: `${call};` })
      else inserts.push({ at: body.getStart(), text: `(${call}, ` }, { at: body.getEnd(), text: ')' })
    }
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return inserts.sort((a, b) => b.at - a.at).reduce((text, { at, text: insert }) => text.slice(0, at) + insert + text.slice(at), source)
}

const nameOf = (node: ts.Node): string => {
  const { name } = node as { name?: ts.Node }
  const named = name ?? (ts.isVariableDeclaration(node.parent) || ts.isPropertyAssignment(node.parent) ? node.parent.name : undefined)
  return named?.getText() ?? 'callback'
}

/** The first folder below src: what lies deeper is its inside. */
const folderOf = (file: string): string => file.includes('/') ? file.slice(0, file.indexOf('/')) : '.'

const dir = mkdtempSync(join(tmpdir(), 'trace-'))
const auditFile = join(dir, 'audit.json')
writeFileSync(auditFile, JSON.stringify({ path: join(dir, 'audit') }))
const { readConfig } = await import('../src/config.ts')
const { compose } = await import('../src/compose.ts')
const { buildApp } = await import('../src/http/app.ts')
const { guideRequest } = await import('../src/request.ts')
const config = readConfig({ JOB_ACCESS_LEDGER: join(dir, 'ledger.sqlite'), JOB_ACCESS_AUDIT: auditFile })
const composed = await compose(config, { log: { info () {}, warn () {}, error () {} } })
const app = await buildApp(composed.service, { logger: false, newRequestId: randomUUID })
const post = async (id: string) => {
  const { statusCode, body } = await app.inject({
    method: 'POST',
    url: '/v1/grants',
    headers: { authorization: `Bearer ${composed.generatedToken}` },
    payload: { ...guideRequest, job: { id, team: 'nlp' }, window: { durationSeconds: 3600 } }
  })
  if (statusCode !== 201) throw new Error(`${statusCode} ${body}`)
}
for (const id of ['warm-1', 'warm-2']) await post(id)
entered = []
await post('traced')
const way = entered
entered = undefined
await app.close()
await composed.close()
rmSync(dir, { recursive: true })

/** The audit is written beside the request: where its turns fall differs from run to run. */
const isBeside = ({ file }: Entry) => ['audit/log.ts', 'audit/chain.ts', 'audit/files.ts'].includes(file)
const stays = way.filter(entry => !isBeside(entry)).reduce<Array<{ folder: string, entries: Entry[] }>>((list, entry) => {
  const folder = folderOf(entry.file)
  const last = list.at(-1)
  if (last?.folder === folder) last.entries.push(entry)
  else list.push({ folder, entries: [entry] })
  return list
}, [])

if (process.argv.includes('--way')) {
  for (const { folder, entries } of stays) {
    const names = [...new Set(entries.map(({ file, name }) => `${file.slice(file.lastIndexOf('/') + 1)}:${name}`))]
    const more = names.length > 12 ? ` and ${names.length - 12} more` : ''
    console.log(`${folder.padEnd(24)} ${entries.length} ${names.slice(0, 12).join(' ')}${more}`)
  }
}
const proofs = way.filter(({ file, name }) => file === 'policy/prove/prove.ts' && name === 'prove').length
console.log(JSON.stringify({
  functions: new Set(way.map(({ file, name }) => `${file}:${name}`)).size,
  files: new Set(way.map(({ file }) => file)).size,
  folderChanges: stays.length - 1,
  calls: way.length,
  proofs
}))
if (process.argv.includes('--files')) {
  const lines = new Map<string, number>()
  for (const { file } of way) lines.set(file, (lines.get(file) ?? 0) + 1)
  for (const [file, count] of lines) console.log(`${String(count).padStart(6)} ${file}`)
}
