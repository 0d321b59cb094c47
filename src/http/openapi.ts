import { readFileSync } from 'node:fs'
import swagger, { type StaticDocumentSpec } from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'

/**
 * The committed OpenAPI document, at /openapi.json and as a page at /docs. `npm run openapi` makes it from the routes; a test compares.
 * The path is the same from src/ and from dist/.
 */
const document = JSON.parse(
  readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8')
) as Required<StaticDocumentSpec>['document']
/** The version of the package and of the document. The version of the wire format is in its paths. */
export const { version } = document.info

export const useOpenApi = async (app: FastifyInstance): Promise<void> => {
  await app.register(swagger, { mode: 'static', specification: { document } })
  await app.register(async docs => {
    docs.addHook('onRoute', route => { route.config = { ...route.config, authorization: 'public' } })
    await docs.register(swaggerUi, {
      routePrefix: '/docs',
      theme: {
        title: 'job-access API',
        js: [{ filename: 'scheme.js', content: followScheme }],
        css: [{ filename: 'refusals.css', content: lowRefusals }]
      },
      // Without the bar on top, which loads documents from other servers and needs an inline style.
      uiConfig: {
        layout: 'BaseLayout', persistAuthorization: false, tryItOutEnabled: true, displayRequestDuration: true, defaultModelsExpandDepth: 0
      },
      // The plugin's own policy upgrades plain HTTP to HTTPS, and allows styles and fonts from every server.
      staticCSP: {
        'default-src': "'none'",
        'script-src': "'self'",
        'style-src': "'self'",
        'img-src': "'self' data:",
        'connect-src': "'self'",
        'base-uri': "'none'",
        'form-action': "'none'",
        'frame-ancestors': "'none'"
      }
    })
  })
}

/** An operation has a dozen statuses of refusals: each in few lines, without a choice of one. Their examples can be scrolled. */
const lowRefusals = `tr.response:is([data-code^="4"], [data-code^="5"]) {
  .response-controls > :has(option:only-child) { display: none }
  .response-controls { padding: 0 }
  .model-example { margin-top: 0 }
  .tab { margin: 4px 0 }
  .highlight-code pre { margin: 0; max-height: 5.5em; overflow-y: auto !important }
}
`

/** Swagger UI is dark when its page has this class. */
const followScheme = `const dark = matchMedia('(prefers-color-scheme: dark)')
const follow = () => document.documentElement.classList.toggle('dark-mode', dark.matches)
dark.addEventListener('change', follow)
follow()
`
