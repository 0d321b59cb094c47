import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { request, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { consoleFiles } from '../../src/http/console.ts'
import { appOf, bench } from '../harness.ts'

const root = join(import.meta.dirname, '..', '..')
const source = (name: string) => readFileSync(join(root, 'src', 'console', name), 'utf8')
const urlOf = (name: string) => name === 'index.html' ? '/console' : `/console/${name}`
const types = { html: 'text/html; charset=utf-8', css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8', svg: 'image/svg+xml' }

t.test('every file of the directory is served, to everybody, with its type and the headers that guard a page', async t => {
  const app = await appOf(t, await bench(t))
  t.strictSame([...consoleFiles].sort(), readdirSync(join(root, 'src', 'console')).sort(), 'the list is the directory')
  for (const name of consoleFiles) {
    const answer = await app.inject({ method: 'GET', url: urlOf(name) })
    t.equal(answer.statusCode, 200, name)
    t.equal(answer.body, source(name))
    t.equal(answer.headers['content-type'], types[name.split('.')[1] as keyof typeof types])
    t.equal(answer.headers['cache-control'], 'no-cache')
    t.equal(answer.headers['x-content-type-options'], 'nosniff')
    t.equal(answer.headers['x-frame-options'], 'DENY')
    t.equal(answer.headers['referrer-policy'], 'no-referrer')
  }
})

t.test('the policy lets the page load its own files and ask its own service, and nothing else', async t => {
  const app = await appOf(t, await bench(t))
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

t.test('HEAD, and a copy that the browser has', async t => {
  const app = await appOf(t, await bench(t))
  for (const name of consoleFiles) {
    const head = await app.inject({ method: 'HEAD', url: urlOf(name) })
    t.equal(head.statusCode, 200, name)
    t.equal(head.body, '')
    t.equal(Number(head.headers['content-length']), Buffer.byteLength(source(name)))
    const { etag } = head.headers
    t.match(etag, /^"[\w-]{43}"$/)
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await app.inject({ method: 'GET', url: urlOf(name), headers: { 'if-none-match': known } })
      t.equal(again.statusCode, 304, `${name}: ${known}`)
      t.equal(again.body, '')
      t.equal(again.headers.etag, etag)
    }
    t.equal((await app.inject({ method: 'GET', url: urlOf(name), headers: { 'if-none-match': '"other"' } })).statusCode, 200)
  }
})

t.test('its links are relative to the page without a slash; with one it is sent there', async t => {
  const app = await appOf(t, await bench(t))
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

t.test('nothing beside the files is served, however it is asked for', async t => {
  const app = await appOf(t, await bench(t))
  const { port } = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
  // As it is written: a URL parser, inject()'s among them, would resolve the dots.
  const get = async (path: string) => {
    const [response] = await once(request({ host: '127.0.0.1', port, path }).end(), 'response') as [IncomingMessage]
    return { status: response.statusCode ?? 0, body: await text(response) }
  }
  t.match(await get('/console/main.js'), { status: 200, body: source('main.js') })
  const tricks = [
    '/console/index.html', '/console/../package.json', '/console/..%2f..%2fpackage.json', '/console/%2e%2e/app.ts', '/console/..%5c..%5cpackage.json',
    '/console/./main.js', '/console/../console/main.js', '/console//main.js', '/console/main.js/', '/console/main.js%00', '/console/main.js%2f',
    '/console/MAIN.JS', '/CONSOLE', '/console/.env', '/console/toString', '/console/__proto__', '/console/http/console.ts', '/console/%', '/console\\main.js'
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

t.test('no file has markup from a string, a script or a style within the page, or a place that outlives the page', async t => {
  const page = source('index.html')
  t.notMatch(page, /\son\w+=|style=|<style|<script(?! type="module" src=)|javascript:|https?:/)
  for (const name of consoleFiles.filter(file => file.endsWith('.js'))) {
    const code = source(name).replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
    t.notMatch(code, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|createContextualFragment|DOMParser/, name)
    t.notMatch(code, /localStorage|sessionStorage|indexedDB|document\.cookie|console\./, name)
  }
})

t.test('it is no part of the API’s document', async t => {
  const app = await appOf(t, await bench(t))
  t.notMatch(Object.keys(app.swagger().paths ?? {}).join(' '), /console/)
})
