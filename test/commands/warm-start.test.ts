import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, readdirSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

const source = join(import.meta.dirname, '..', '..', 'src', 'warm-start.js')

/** A checkout with nothing but warm-start.js; `start` tells which cache Node uses. */
const checkout = (t: Test) => {
  const root = t.testdir()
  mkdirSync(join(root, 'src'))
  cpSync(source, join(root, 'src', 'warm-start.js'))
  writeFileSync(join(root, 'package.json'), '{"type":"module"}')
  writeFileSync(join(root, 'cache.cjs'), 'process.stdout.write(String(require("node:module").getCompileCacheDir()))')
  const start = (env: Record<string, string> = {}) => execFileSync('/bin/sh', [
    '-c', 'umask 0 && exec "$@"', 'sh', process.execPath, `--import=${root}/src/warm-start.js`, join(root, 'cache.cjs')
  ], { env: { PATH: process.env.PATH ?? '', ...env }, encoding: 'utf8' })
  return { root, folder: join(root, 'node_modules', '.cache', 'job-access'), start }
}

t.test('compiled code is kept in a folder of this user alone', async t => {
  const { folder, start } = checkout(t)
  t.match(start(), folder)
  t.equal(statSync(folder).mode & 0o777, 0o700, 'whatever the umask')
  const [version = ''] = readdirSync(folder)
  t.ok(readdirSync(join(folder, version)).length > 0, 'it is filled')
})

t.test('a folder that others can write to is not used', async t => {
  const { root, folder, start } = checkout(t)
  start()
  for (const mode of [0o777, 0o720, 0o702]) {
    chmodSync(folder, mode)
    t.equal(start(), 'undefined', mode.toString(8))
  }
  chmodSync(folder, 0o755)
  t.match(start(), folder, 'others may read')
  renameSync(folder, join(root, 'elsewhere'))
  symlinkSync(join(root, 'elsewhere'), folder)
  t.equal(start(), 'undefined', 'a link')
})

t.test('the operator’s own choice comes first', async t => {
  const { root, start } = checkout(t)
  t.match(start({ NODE_COMPILE_CACHE: join(root, 'own') }), join(root, 'own'))
  t.equal(start({ NODE_DISABLE_COMPILE_CACHE: '1' }), 'undefined')
})
