import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import type { Test } from 'tap'
import { appOf, bearer, bench, guideJob, type Bench, type BenchOptions } from '../../harness.ts'
import type { GrantView } from '../../../src/http/schemas.ts'
import type { GrantRequest } from '../../../src/request.ts'
import { complaintsOf } from './chromium.ts'

/** The console in a browser, of a whole service on a real port with the embedded IAM. */

export interface Served extends Bench {
  url: string
  /** Moves the service's clock against the machine's, ms. */
  skew: { ms: number }
  issue: (request: Partial<GrantRequest>) => Promise<GrantView>
}

export const serveConsole = async (t: Test, options: BenchOptions = {}): Promise<Served> => {
  const skew = { ms: 0 }
  const b = await bench(t, { now: () => Date.now() + skew.ms, ...options })
  const app = await appOf(t, b)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const issue = async (request: Partial<GrantRequest>) => {
    const answer = await app.inject({ method: 'POST', url: '/v1/grants', headers: bearer(b.tokens.admin), payload: guideJob(request) })
    if (answer.statusCode !== 201) throw new Error(answer.body)
    return answer.json().grant as GrantView
  }
  return { ...b, url, skew, issue }
}

export interface OpenOptions extends BrowserContextOptions {
  token?: string
  /** Statuses that the test brings about, 0 for no answer: Chromium writes each to the console, as a resource that failed to load. */
  refusals?: number[]
  hash?: string
}

/**
 * A page of its own, signed in where there is a token. When the test ends it must have complained of nothing: no error of a script,
 * nothing that the CSP stopped.
 */
export const openConsole = async (t: Test, browser: Browser, { url }: Pick<Served, 'url'>, options: OpenOptions = {}): Promise<Page> => {
  const { token, refusals = [], hash = '', ...context } = options
  const opened = await browser.newContext({ locale: 'en-GB', reducedMotion: 'reduce', ...context })
  const page = await opened.newPage()
  const complaints = complaintsOf(page)
  t.teardown(async () => {
    await opened.close()
    const unexpected = complaints.filter(text => !refusals.includes(/net::ERR_FAILED/.test(text) ? 0 : Number(/status of (\d+)/.exec(text)?.[1])))
    // An assertion of a test that has ended would count for nothing.
    if (unexpected.length > 0) throw new Error(`The page complained: ${unexpected.join('\n')}`)
  })
  await page.goto(`${url}/console${hash}`)
  if (token !== undefined) await signIn(page, token)
  return page
}

export const signIn = async (page: Page, token: string): Promise<void> => {
  await page.getByLabel('API token or JWT').fill(token)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Sign out' }).waitFor()
}

/** Everything of the page that could hold a text: elements and their attributes, what is typed, storages, the address. */
export const everythingIn = (page: Page): Promise<string> => page.evaluate(() => [
  document.documentElement.outerHTML,
  ...Array.from(document.querySelectorAll('input, textarea, select'), field => (field as HTMLInputElement).value),
  JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }), document.cookie, location.href, document.title,
  JSON.stringify(history.state)
].join('\n'))

export const grantIdOf = (page: Page): string => /#\/grants\/([0-9a-z]{26})$/.exec(page.url())?.[1] ?? ''
