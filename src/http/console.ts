import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'

/**
 * The console: static files, read at the start and served from memory. They hold nobody's data, so they are public; what the page shows
 * it asks of /v1 with its user's token. A URL is never made into a path: each file is a route of its own.
 */

const types = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml'
}

/** Beside src and dist alike; `npm run build` copies it. A test holds that this list is what the directory has. */
const directory = join(import.meta.dirname, '..', 'console')
export const consoleFiles = [
  'index.html', 'console.css', 'icon.svg', 'api.js', 'blast-radius.js', 'dialogs.js', 'dom.js', 'grant-actions.js', 'grant.js', 'grants.js',
  'issue-form.js', 'issue.js', 'main.js', 'problem-view.js', 'secret.js', 'sign-in.js', 'statements.js', 'states.js', 'timeline.js',
  'times.js'
] as const

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

export const consoleRoutes: FastifyPluginAsync = async app => {
  const options = { config: { authorization: 'public' as const }, schema: { hide: true } }
  for (const file of await Promise.all(consoleFiles.map(load))) {
    const url = file.name === 'index.html' ? '/console' : `/console/${file.name}`
    app.get(url, options, async (request, reply) => send(request, reply, file))
  }
  // The page's own links are relative to /console.
  app.get('/console/', options, async (_request, reply) => reply.headers(headers).redirect('../console', 308))
}

interface Asset { name: string, body: Buffer, type: string, etag: string }

const load = async (name: (typeof consoleFiles)[number]): Promise<Asset> => {
  const body = await readFile(join(directory, name))
  const type = types[name.slice(name.lastIndexOf('.') + 1) as keyof typeof types]
  return { name, body, type, etag: `"${createHash('sha256').update(body).digest('base64url')}"` }
}

const send = (request: FastifyRequest, reply: FastifyReply, { body, type, etag }: Asset) => {
  reply.headers(headers).header('etag', etag)
  const known = (request.headers['if-none-match'] ?? '').split(',').map(tag => tag.trim().replace(/^W\//, ''))
  if (known.includes(etag) || known.includes('*')) return reply.code(304).send()
  return reply.type(type).send(body)
}
