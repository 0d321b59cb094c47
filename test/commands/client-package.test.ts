import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '..', '..')

/** Packs a copy, so that nothing is written into the checkout. */
const packed = (home: string) => {
  // What only the generators in it need stays away: it is large.
  const filter = (path: string) => !path.endsWith('node_modules')
  for (const name of ['client', 'src', 'package.json', 'tsconfig.json']) cpSync(join(root, name), join(home, name), { recursive: true, filter })
  rmSync(join(home, 'client', 'dist'), { recursive: true, force: true })
  symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'))
  const said = execFileSync('npm', ['pack', '--json', '--loglevel=error'], { cwd: join(home, 'client'), encoding: 'utf8' })
  return (JSON.parse(said.slice(said.indexOf('[\n'))) as { filename: string, files: { path: string }[] }[])[0]
}

t.test('the package has what it says, and works where it is installed, as its README says', async t => {
  const home = mkdtempSync(join(tmpdir(), 'job-access-pack-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const tarball = packed(home)
  const paths = tarball?.files.map(({ path }) => path) ?? []
  for (const path of ['README.md', 'LICENSE', 'package.json', 'client/index.js', 'client/index.d.ts', 'client/schema.d.ts', 'cli/main.js']) {
    t.ok(paths.includes(path) || paths.includes(`dist/${path}`), path)
  }
  const known = /^(README\.md|LICENSE|package\.json|dist\/(client|cli)\/[\w-]+\.(js|d\.ts)|dist\/secure-url\.(js|d\.ts))$/
  t.strictSame(paths.filter(path => !known.test(path)), [], 'nothing else')
  t.equal(readFileSync(join(root, 'client', 'LICENSE'), 'utf8'), readFileSync(join(root, 'LICENSE'), 'utf8'), 'the licence is that of the repository')

  const consumer = mkdtempSync(join(tmpdir(), 'job-access-consumer-'))
  t.teardown(() => rmSync(consumer, { recursive: true, force: true }))
  cpSync(join(home, 'client', tarball?.filename ?? ''), join(consumer, 'client.tgz'))
  writeFileSync(join(consumer, 'package.json'), '{"type":"module","private":true}')
  execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', '--loglevel=error', './client.tgz'], { cwd: consumer })
  const use = `import { createClient, ProblemError, type GrantRequest } from '@job-access/client'
const request: GrantRequest = { job: { id: 'a', team: 'b' }, window: { durationSeconds: 60 } }
const client = createClient({ url: 'http://127.0.0.1:1', token: 'x', deadlineMs: 1 })
// @ts-expect-error The request's types are the service's.
const wrong: GrantRequest = { ...request, layout: 'wide' }
try { await client.issue(request) } catch (error) { console.log(error instanceof ProblemError, (error as Error).name, wrong.layout) }
`
  writeFileSync(join(consumer, 'use.ts'), use)
  const [, example = ''] = /```ts\n(.*?)```/s.exec(readFileSync(join(root, 'client', 'README.md'), 'utf8')) ?? []
  writeFileSync(join(consumer, 'readme.ts'), `import type { Credentials } from '@job-access/client'
declare const readFile: (path: string, encoding: string) => Promise<string>
declare const train: (credentials: Credentials | null) => Promise<void>
${example}`)
  const strictly = { strict: true, exactOptionalPropertyTypes: true }
  const compilerOptions = { ...strictly, noEmit: true, module: 'nodenext', target: 'es2024', lib: ['es2024', 'dom'] }
  writeFileSync(join(consumer, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['use.ts', 'readme.ts'] }))
  execFileSync(join(root, 'node_modules', '.bin', 'tsc'), { cwd: consumer, stdio: 'inherit' })
  const said = execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', 'use.ts'], { cwd: consumer, encoding: 'utf8' })
  t.equal(said, 'false NoAnswerError wide\n')
  t.match(execFileSync(join(consumer, 'node_modules', '.bin', 'job-access'), ['help'], { encoding: 'utf8' }), /credential-process/)
})
