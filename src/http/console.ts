import fastifyStatic from '@fastify/static'
import { readFile, readdir } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import type { FastifyPluginAsync } from 'fastify'

/**
 * The console: static files, each with a route of its own, so that a URL is never made into a path. They hold nobody's data, so they are
 * public; what the page shows it asks of /v1 with its user's token.
 */

/** Beside src and dist alike. `npm run build` compiles the modules and copies the rest. */
const directory = join(import.meta.dirname, '..', 'console')

/** Nothing but this origin, no markup from strings, in nobody's frame; a form is sent by a script or not at all. */
const headers = {
  'content-security-policy': [
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'", "base-uri 'none'",
    "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"
  ].join('; '),
  'x-frame-options': 'DENY',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
  // Kept, but asked for each time: a new version is seen at once.
  'cache-control': 'no-cache'
}

const javascript = 'text/javascript; charset=utf-8'

export const consoleRoutes: FastifyPluginAsync = async app => {
  app.addHook('onRoute', route => { route.config = { ...route.config, authorization: 'public' } })
  await app.register(fastifyStatic, {
    root: directory,
    prefix: '/console/',
    wildcard: false,
    index: false,
    // The page has its own URL, below; sources, source maps and settings have none.
    globIgnore: ['!(*.css|*.js|*.svg)'],
    acceptRanges: false,
    cacheControl: false,
    lastModified: false,
    setHeaders: reply => {
      reply.headers(headers)
      // The plugin says application/javascript, which RFC 9239 made obsolete.
      if (String(reply.getHeader('content-type')).startsWith('application/javascript')) reply.type(javascript)
    }
  })
  const hidden = { schema: { hide: true } }
  app.get('/', hidden, async (_request, reply) => reply.headers(headers).redirect('console', 302))
  app.get('/console', hidden, async (_request, reply) => reply.sendFile('index.html'))
  // The page's own links are relative to /console.
  app.get('/console/', hidden, async (_request, reply) => reply.headers(headers).redirect('../console', 308))
  for (const file of await readdir(directory)) {
    if (!file.endsWith('.ts')) continue
    app.get(`/console/${file.replace(/ts$/, 'js')}`, hidden, async (_request, reply) =>
      reply.headers(headers).type(javascript).send(await withoutTypes(file)))
  }
}

/** From source, without a build, a browser gets what Node itself runs: the same text without its types. */
const withoutTypes = async (file: string): Promise<string> =>
  stripTypeScriptTypes(await readFile(join(directory, file), 'utf8')).replace(/(?<= from '\.\/[\w-]+)\.ts(?='$)/gm, '.js')
