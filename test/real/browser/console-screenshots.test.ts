import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { bearer } from '../../harness.ts'
import { sweep } from '../../../src/lifecycle/sweep.ts'
import { openBrowser } from './chromium.ts'
import { openConsole, serveConsole, type Served } from './console-page.ts'

/** The pictures of docs/console.md: `SCREENSHOTS=docs/screenshots npm run test:browser` makes them anew; without it they go nowhere. */

const root = join(import.meta.dirname, '..', '..', '..')
const directory = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'job-access-screenshots-'))
mkdirSync(directory, { recursive: true })
if (process.env.SCREENSHOTS === undefined) t.teardown(() => rmSync(directory, { recursive: true, force: true }))

const minute = 60_000

/** A morning's work: every state that a grant can be in, each reached as it would be. */
const populate = async (t: Test, service: Served): Promise<void> => {
  const { deps, iam, skew } = service
  const output = (run: number) => ({ bucket: 'acmeco-finetuned-models', prefix: `runs/${run}/`, level: 'read-write' as const })
  const issueAgo = (minutes: number, job: string, hours: number, change: object = {}) => {
    skew.ms = -minutes * minute
    return service.issue({
      job: { id: job, team: 'nlp' }, output: output(minutes), window: { durationSeconds: hours * 3600, outputGraceSeconds: 900 }, layout: 'guarded', ...change
    })
  }
  const send = async (path: string, method = 'POST') => {
    const answer = await fetch(`${service.url}/v1/grants/${path}`, { method, headers: bearer(service.tokens.admin) })
    t.ok(answer.ok, path)
  }
  await issueAgo(260, 'tokenizer-rebuild', 1)
  await issueAgo(230, 'eval-mmlu-nightly', 1.5)
  skew.ms = -60 * minute
  await sweep(deps, { concurrency: 4, perSecond: 1000 }, new AbortController().signal)
  const early = await issueAgo(170, 'distill-8b', 4)
  skew.ms = -70 * minute
  await send(`${early.id}/complete`)
  skew.ms = -165 * minute
  const leaked = await issueAgo(165, 'notebook-export', 2)
  skew.ms = -130 * minute
  await send(leaked.id, 'DELETE')
  await issueAgo(150, 'llama-sft-lr3e-5-seed7', 5)
  iam.faults.on({ action: 'CreateAccessKey' }, { kind: 'error', code: 'LimitExceeded' })
  await t.rejects(issueAgo(120, 'rlhf-round-3', 3))
  iam.faults.clear()
  await issueAgo(95, 'long-context-probe', 2.5, { layout: 'everywhere' })
  const stuck = await issueAgo(80, 'ckpt-merge', 3)
  await issueAgo(40, 'vision-pretrain-small', 4, { job: { id: 'vision-pretrain-small', team: 'vision' } })
  skew.ms = 0
  iam.faults.on({ action: 'DeleteUserPolicy' }, { kind: 'error', code: 'ServiceUnavailable' })
  await send(`${stuck.id}/complete`)
  iam.faults.clear()
  const later = (minutes: number) => new Date(Date.now() + minutes * minute).toISOString().replace(/\.\d+/, '')
  await issueAgo(0, 'safety-eval', 2, { issueAt: later(60), window: { notBefore: later(60), durationSeconds: 7200 } })
}

const take = async (t: Test, page: Page, name: string) => {
  await page.mouse.move(0, 0)
  const png = await page.screenshot({ path: join(directory, `${name}.png`) })
  t.ok(png.length < 150_000, `${name}: ${png.length} bytes`)
}

t.test('the screenshots', async t => {
  const browser = await openBrowser(t)
  const service = await serveConsole(t)
  await populate(t, service)
  const { id } = await service.issue({
    job: { id: 'wiki-finetune-42', team: 'nlp', labels: { experiment: 'lr-sweep-7' } },
    baseModels: [{ bucket: 'acmeco-base-models', prefix: 'llama/' }],
    output: { bucket: 'acmeco-finetuned-models', prefix: 'runs/42/', level: 'read-write' },
    window: { durationSeconds: 10800, outputGraceSeconds: 900 },
    layout: 'guarded'
  })
  const open = (colorScheme: 'light' | 'dark', height: number) => openConsole(t, browser, service, {
    token: service.tokens.admin, colorScheme, viewport: { width: 1060, height }, refusals: [400]
  })
  const light = await open('light', 680)
  await light.getByRole('table').waitFor()
  t.strictSame(new Set(await light.locator('tbody .state').allInnerTexts()),
    new Set(['active', 'scheduled', 'revoking', 'completed', 'revoked', 'expired', 'failed']), 'every state')
  await take(t, light, 'grants-light')

  const dark = await open('dark', 960)
  await dark.goto(`${service.url}/console#/grants/${id}`)
  await dark.getByRole('heading', { name: 'History' }).waitFor()
  await take(t, dark, 'grant-dark')

  await light.goto(`${service.url}/console#/issue`)
  await light.setViewportSize({ width: 1060, height: 800 })
  await light.getByRole('button', { name: 'Fill in the guide’s job' }).click()
  await light.getByText(/^Rendered/).waitFor()
  const cut = await light.locator('fieldset input').evaluateAll((fields: HTMLInputElement[]) =>
    fields.filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth).map(({ value, type }) => value || type))
  t.strictSame(cut, [], 'every field shows its whole value')
  await take(t, light, 'form-light')
})

t.test('the page of the docs shows those that the test makes', async t => {
  const named = [...readFileSync(join(root, 'docs', 'console.md'), 'utf8').matchAll(/!\[[^\]]{20,}\]\(screenshots\/([\w-]+\.png)\)/g)].map(match => match[1])
  t.strictSame(named.sort(), readdirSync(directory).sort())
  t.strictSame(named, readdirSync(join(root, 'docs', 'screenshots')).sort())
})
