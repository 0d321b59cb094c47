import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import { consoleFiles } from '../../src/http/console.ts'

const root = join(import.meta.dirname, '..', '..')
const source = (name: string) => readFileSync(join(root, 'src', 'console', name), 'utf8')
const urlOf = (name: string) => name === 'index.html' ? '/console' : `/console/${name}`

t.test('what `npm run build` makes serves the console, byte for byte', async t => {
  // Beside node_modules, as in the image; nothing is written into the checkout.
  const home = mkdtempSync(join(tmpdir(), 'job-access-build-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  for (const name of ['src', 'package.json', 'tsconfig.json', 'tsconfig.build.json']) cpSync(join(root, name), join(home, name), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'))
  await promisify(execFile)('npm', ['run', '-s', 'build'], { cwd: home })
  const built = await import(pathToFileURL(join(home, 'dist', 'http', 'console.js')).href) as { consoleRoutes: (app: FastifyInstance) => Promise<void> }
  rmSync(join(home, 'src'), { recursive: true })
  const app = fastify()
  t.teardown(() => app.close())
  await app.register(built.consoleRoutes)
  for (const name of consoleFiles) {
    const answer = await app.inject({ method: 'GET', url: urlOf(name) })
    t.equal(answer.statusCode, 200, name)
    t.equal(answer.body, source(name), name)
  }
  // The image makes dist by its own command, which has to copy the same.
  t.match(readFileSync(join(root, 'Dockerfile'), 'utf8'), /tsc -p tsconfig\.build\.json \\\n && cp -r src\/console dist\/ /)
})
