import { buildApp } from './app.ts'
import type { Service } from './service.ts'

/** The OpenAPI document as text, from the routes. Nothing is started: it needs no service behind it. */
export const openApiText = async (): Promise<string> => {
  const app = await buildApp({ deps: {}, authenticator: {}, audit: {}, trustProxy: false, ratePerMinute: 1, refusalsPerMinute: 1 } as unknown as Service,
    { logger: false, newRequestId: () => '' })
  await app.ready()
  const text = `${JSON.stringify(app.swagger(), null, 2)}\n`
  await app.close()
  return text
}
