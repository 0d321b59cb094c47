import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { request, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import ts from 'typescript'
import * as source from '../../src/http/app.ts'
import { bench } from '../harness.ts'

const root = join(import.meta.dirname, '..', '..')

/** What `npm run build` makes, beside node_modules, as in the image; nothing is written into the checkout, and no source is left. */
const home = mkdtempSync(join(tmpdir(), 'job-access-build-'))
t.teardown(() => rmSync(home, { recursive: true, force: true }))
for (const name of ['src', 'openapi/openapi.json', 'package.json', 'tsconfig.json', 'tsconfig.build.json']) cpSync(join(root, name), join(home, name), { recursive: true })
symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'))
await promisify(execFile)('npm', ['run', '-s', 'build'], { cwd: home })
rmSync(join(home, 'src'), { recursive: true })
const built = await import(pathToFileURL(join(home, 'dist', 'http', 'app.js')).href) as typeof source

type Way = 'from source' | 'as built'
const ways: Way[] = ['from source', 'as built']

const serve = async (t: Test, way: Way) => {
  const { service } = await bench(t)
  const urls = new Set<string>()
  const app = await (way === 'as built' ? built : source).buildApp(service, {
    logger: false, newRequestId: () => 'req', onRoute: ({ url }) => { if (url.startsWith('/console')) urls.add(url) }
  })
  t.teardown(() => app.close())
  await app.ready()
  return { app, urls }
}

const sources = readdirSync(join(root, 'src', 'console')).filter(name => name !== 'tsconfig.json')
const files = sources.map(name => name.replace(/\.ts$/, '.js'))
const sourceOf = (name: string) => readFileSync(join(root, 'src', 'console', name), 'utf8')
const builtOf = (name: string) => readFileSync(join(home, 'dist', 'console', name), 'utf8')
const urlOf = (name: string) => name === 'index.html' ? '/console' : `/console/${name}`
const types = { html: 'text/html; charset=utf-8', css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8', svg: 'image/svg+xml' }

/** The code without what does not matter in it: white space, comments, where a line ends, the mark of a module of types only. */
const codeOf = (text: string) => ts.createPrinter({ removeComments: true })
  .printFile(ts.createSourceFile('a.js', text.replace(/, +}/g, ' }').replace(/^\/\/# sourceMappingURL=.*/m, ''), ts.ScriptTarget.Latest))
  .replace(/\s+/g, ' ').replace(/^export \{\}; $/, '')

for (const way of ways) {
  t.test(`every file of the directory is served, to everybody, with its type and the headers that guard a page: ${way}`, async t => {
    const { app, urls } = await serve(t, way)
    t.strictSame([...urls].sort(), ['/console/', ...files.map(urlOf)].sort(), 'each has its URL, and nothing else has one')
    for (const name of files) {
      const answer = await app.inject({ method: 'GET', url: urlOf(name) })
      t.equal(answer.statusCode, 200, name)
      t.equal(answer.headers['content-type'], types[name.split('.')[1] as keyof typeof types])
      t.equal(answer.headers['cache-control'], 'no-cache')
      t.equal(answer.headers['x-content-type-options'], 'nosniff')
      t.equal(answer.headers['x-frame-options'], 'DENY')
      t.equal(answer.headers['referrer-policy'], 'no-referrer')
      if (!name.endsWith('.js')) {
        t.equal(answer.body, sourceOf(name))
        continue
      }
      if (way === 'as built') t.equal(answer.body, builtOf(name))
      t.equal(codeOf(answer.body), codeOf(builtOf(name)), `${name} is what the compiler makes of it`)
      for (const [, imported] of answer.body.matchAll(/ from '([^']+)'/g)) {
        t.ok(files.some(file => imported === `./${file}`), `${name} imports ${imported}`)
      }
    }
  })

  t.test(`HEAD, and a copy that the browser has: ${way}`, async t => {
    const { app } = await serve(t, way)
    for (const name of files) {
      const url = urlOf(name)
      const body = (await app.inject({ method: 'GET', url })).rawPayload
      const head = await app.inject({ method: 'HEAD', url })
      t.equal(head.statusCode, 200, name)
      t.equal(head.body, '')
      t.equal(Number(head.headers['content-length']), body.length)
      const { etag } = head.headers
      if (way === 'from source' && name.endsWith('.js')) {
        // Made at each request, so that an edit is seen: there is nothing to compare a copy with.
        t.equal(etag, undefined)
        continue
      }
      t.match(etag, /^W\/"[\w-]+"$/)
      for (const known of [etag, String(etag).slice(2), `"other", ${etag}`, '*']) {
        const again = await app.inject({ method: 'GET', url, headers: { 'if-none-match': known } })
        t.equal(again.statusCode, 304, `${name}: ${known}`)
        t.equal(again.body, '')
        t.equal(again.headers.etag, etag)
        t.equal(again.headers['cache-control'], 'no-cache')
      }
      t.equal((await app.inject({ method: 'GET', url, headers: { 'if-none-match': '"other"' } })).statusCode, 200)
    }
  })

  t.test(`the policy lets the page load its own files and ask its own service, and nothing else: ${way}`, async t => {
    const { app } = await serve(t, way)
    const { headers } = await app.inject({ method: 'GET', url: '/console' })
    const directives = Object.fromEntries(String(headers['content-security-policy']).split('; ').map(each => {
      const [name = '', ...values] = each.split(' ')
      return [name, values.join(' ')]
    }))
    t.strictSame(directives, {
      'default-src': "'none'",
      'script-src': "'self'",
      'style-src': "'self'",
      'connect-src': "'self'",
      'img-src': "'self'",
      'base-uri': "'none'",
      'form-action': "'none'",
      'frame-ancestors': "'none'",
      'require-trusted-types-for': "'script'",
      'trusted-types': "'none'"
    })
  })

  t.test(`its links are relative to the page without a slash; with one it is sent there: ${way}`, async t => {
    const { app } = await serve(t, way)
    const slash = await app.inject({ method: 'GET', url: '/console/' })
    t.equal(slash.statusCode, 308)
    t.equal(new URL(String(slash.headers.location), 'http://host/prefix/console/').pathname, '/prefix/console')
    const { body } = await app.inject({ method: 'GET', url: '/console' })
    const links = [...body.matchAll(/(?:src|href)="([^"#]+)"/g)].map(match => match[1] ?? '')
    t.ok(links.length > 2)
    for (const link of links) {
      t.notMatch(link, /^\//, link)
      t.ok([200, 302].includes((await app.inject({ method: 'GET', url: new URL(link, 'http://host/console').pathname })).statusCode), link)
    }
  })

  t.test(`nothing beside the files is served, however it is asked for: ${way}`, async t => {
    const { app } = await serve(t, way)
    const { port } = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
    // As it is written: a URL parser, inject()'s among them, would resolve the dots.
    const get = async (path: string) => {
      const [response] = await once(request({ host: '127.0.0.1', port, path }).end(), 'response') as [IncomingMessage]
      return { status: response.statusCode ?? 0, body: await text(response) }
    }
    t.match(await get('/console/main.js'), { status: 200, body: /import / })
    const tricks = [
      '/console/index.html', '/console/../package.json', '/console/..%2f..%2fpackage.json', '/console/%2e%2e/app.ts', '/console/..%5c..%5cpackage.json',
      '/console/./main.js', '/console/../console/main.js', '/console//main.js', '/console/main.js/', '/console/main.js%00', '/console/main.js%2f',
      '/console/MAIN.JS', '/CONSOLE', '/console/.env', '/console/main.ts', '/console/main.js.map', '/console/tsconfig.json', '/console/toString',
      '/console/__proto__', '/console/http/console.ts', '/console/%', '/console\\main.js'
    ]
    for (const path of tricks) {
      const { status, body } = await get(path)
      t.ok([400, 404].includes(status), `${path}: ${status}`)
      t.equal(JSON.parse(body).status ?? JSON.parse(body).statusCode, status, path)
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH'] as const) {
      t.equal((await app.inject({ method, url: '/console' })).statusCode, 405, method)
    }
  })
}

t.test('no file has markup from a string, a script or a style within the page, or a place that outlives the page', async t => {
  const page = sourceOf('index.html')
  t.notMatch(page, /\son\w+=|style=|<style|<script(?! type="module" src=)|javascript:|https?:/)
  for (const name of sources.filter(file => file.endsWith('.ts'))) {
    const code = sourceOf(name).replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
    t.notMatch(code, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|createContextualFragment|DOMParser/, name)
    t.notMatch(code, /localStorage|sessionStorage|indexedDB|document\.cookie|console\./, name)
  }
})

t.test('it is no part of the API’s document', async t => {
  const { app } = await serve(t, 'from source')
  t.notMatch(Object.keys(app.swagger().paths ?? {}).join(' '), /console/)
})

t.test('the image makes dist by a command of its own, which has to copy the same', async t => {
  const copy = / && (cp src\/console\/.*? dist\/console\/)/
  const command = copy.exec(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts.build)?.[1]
  t.type(command, 'string')
  t.equal(copy.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))?.[1], command)
})
