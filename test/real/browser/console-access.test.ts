import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Locator, Page } from 'playwright-core'
import t from 'tap'
import { openBrowser } from './chromium.ts'
import { openConsole, serveConsole, signIn } from './console-page.ts'

/** That the console can be used without a mouse, without seeing it, and on a narrow screen. */

const browser = await openBrowser(t)
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

interface Violation { id: string, impact: string, nodes: { html: string, failureSummary: string }[] }

/** What axe-core finds, of all its rules, those that go beyond WCAG AA among them. */
const violations = async (page: Page): Promise<string[]> => {
  await page.evaluate(axe)
  const found = await page.evaluate('axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations)') as Violation[]
  return found.flatMap(({ id, impact, nodes }) => nodes.map(({ html, failureSummary }) => `${id} (${impact}): ${html.slice(0, 200)} ${failureSummary}`))
}

for (const colorScheme of ['light', 'dark'] as const) {
  for (const width of [1280, 390]) {
    t.test(`axe finds nothing, and nothing is wider than the screen: ${colorScheme}, ${width} pixels`, async t => {
      const service = await serveConsole(t)
      const { id } = await service.issue({
        job: { id: `a-long-job-name-${'x'.repeat(100)}`, team: 'nlp', labels: { experiment: 'lr-sweep-7' } },
        output: { bucket: 'acmeco-finetuned-models', prefix: 'runs/42/', level: 'read-write' },
        window: { durationSeconds: 3600, outputGraceSeconds: 600 },
        layout: 'guarded'
      })
      // bypassCSP for axe alone: it is injected as a script. console.test.ts runs under the CSP.
      const page = await openConsole(t, browser, service, {
        colorScheme, viewport: { width, height: 900 }, bypassCSP: true, refusals: [400, 401, 404, 422]
      })
      const look = async (what: string) => {
        t.strictSame(await violations(page), [], what)
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
        t.equal(wide, 0, `${what}: nothing sticks out`)
      }
      const go = (hash: string) => page.goto(`${service.url}/console${hash}`)
      t.equal(await page.evaluate(() => getComputedStyle(document.body).color !== 'rgb(0, 0, 0)'), true, 'styled')
      await look('signing in')
      await page.getByLabel('API token or JWT').fill('wrong')
      await page.getByRole('button', { name: 'Sign in' }).click()
      await page.getByRole('alert').waitFor()
      await look('refused')
      await signIn(page, service.tokens.admin)
      await page.getByRole('table').waitFor()
      await look('the list')
      await everyState(page)
      await look('the list, with every state')
      await page.getByLabel('Job').fill('größe')
      await page.getByLabel('Job').press('Enter')
      await page.getByRole('alert').waitFor()
      await look('the list, with a filter refused')

      await go(`#/grants/${id}`)
      await page.getByRole('heading', { name: 'History' }).waitFor()
      await look('a grant')
      for (const name of ['Extend…', 'Complete…']) {
        await page.getByRole('button', { name }).click()
        await look(name)
        await page.getByRole('button', { name: 'Cancel' }).click()
      }
      await page.getByRole('button', { name: 'Rotate key…' }).click()
      await page.getByLabel('Overlap, seconds').fill('-1')
      await page.getByRole('button', { name: 'Rotate', exact: true }).click()
      await page.getByRole('alert').waitFor()
      await look('a dialog with an error')
      await page.getByLabel('Overlap, seconds').fill('0')
      await page.getByRole('button', { name: 'Rotate', exact: true }).click()
      await page.getByText('Shown this once').waitFor()
      await look('credentials')
      await page.getByRole('button', { name: 'Close' }).click()
      await go(`#/grants/${id.replace(/^../, '00')}`)
      await page.getByRole('alert').waitFor()
      await look('a grant that is not there')

      await go('#/issue')
      await page.getByText('The policy stands here as soon').waitFor()
      await look('an empty form')
      await page.getByRole('button', { name: 'Fill in the guide’s job' }).click()
      await page.getByText(/^Rendered/).waitFor()
      await look('a form with its policy')
      const output = page.getByRole('group', { name: 'Output' }).getByText('Options', { exact: true })
      await output.click()
      await look('a form with its options')
      await output.click()
      await page.getByLabel('Address or CIDR').fill('10.0.0.1')
      await page.getByRole('button', { name: 'Issue the grant' }).click()
      await page.getByText(/^Not yet/).waitFor()
      await look('a form with errors')
    })
  }
}

/** Seven grants that differ in their state, where it takes a provider's failures to have them. */
const everyState = async (page: Page) => {
  await page.route('**/v1/grants?*', async route => {
    const answer = await route.fetch()
    const body = await answer.json()
    const [grant] = body.grants ?? []
    if (grant) {
      body.grants = [...['pending', 'active', 'revoking', 'revoked', 'expired', 'failed'].map(state => ({ ...grant, state })),
        { ...grant, state: 'revoked', endReason: 'completed' }]
    }
    await route.fulfill({ response: answer, json: body })
  })
  await page.getByRole('button', { name: 'Refresh' }).click()
  await page.getByText('7 grants: 1 pending, 1 active, 1 revoking, 1 revoked, 1 expired, 1 failed, 1 completed').waitFor()
  await page.unroute('**/v1/grants?*')
}

t.test('each state has a word and a shape of its own, not only a colour', async t => {
  const service = await serveConsole(t)
  await service.issue({})
  const page = await openConsole(t, browser, service, { token: service.tokens.admin })
  await page.getByRole('table').waitFor()
  await everyState(page)
  const badges = page.locator('tbody .state')
  t.strictSame(await badges.allInnerTexts(), ['pending', 'active', 'revoking', 'revoked', 'expired', 'failed', 'completed'])
  const looks = await badges.evaluateAll(elements => elements.map(element => {
    const path = element.querySelector('path')
    return `${path?.getAttribute('d')} ${path && getComputedStyle(path).fill === 'none' ? 'hollow' : 'filled'}`
  }))
  t.equal(new Set(looks).size, 7, 'seven shapes')
})

/** Tab, and no more, until that has the focus. */
const tabTo = async (page: Page, target: Locator, key = 'Tab') => {
  for (let presses = 0; presses < 80; presses++) {
    if (await target.evaluateAll(elements => elements.includes(document.activeElement as HTMLElement))) return
    await page.keyboard.press(key)
  }
  throw new Error(`80 times ${key} do not lead to ${String(target)}`)
}

const focused = (target: Locator) => target.evaluate(element => element === document.activeElement)

t.test('issued and completed with the keyboard alone', async t => {
  const service = await serveConsole(t)
  const page = await openConsole(t, browser, service, { refusals: [400, 422] })
  page.mouse.click = async () => { throw new Error('no mouse here') }
  const { keyboard } = page
  await page.getByLabel('API token or JWT').waitFor()
  await keyboard.type(service.tokens.nlp)
  await keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Grants' }).waitFor()

  await tabTo(page, page.getByRole('link', { name: 'New grant' }).first())
  t.not(await page.getByRole('link', { name: 'New grant' }).first().evaluate(link => getComputedStyle(link).outlineStyle), 'none', 'the focus is seen')
  await keyboard.press('Enter')
  t.ok(await focused(page.getByRole('heading', { name: 'New grant' })), 'the new page begins at its heading')
  const fields: Array<[Locator, string]> = [
    [page.getByLabel('Job id'), 'by-keyboard'],
    [page.getByLabel('Team'), 'nlp'],
    [page.getByRole('group', { name: 'Datasets, read only' }).getByLabel('Bucket'), 'acmeco-wikipedia'],
    [page.getByLabel('Address or CIDR'), '203.0.113.42']
  ]
  for (const [field, text] of fields) {
    await tabTo(page, field)
    await keyboard.type(text)
  }
  await page.getByText(/^Rendered/).waitFor()
  await tabTo(page, page.getByRole('radio', { name: /everywhere/ }))
  await keyboard.press('ArrowDown')
  t.ok(await page.getByRole('radio', { name: /guarded/ }).isChecked())
  await tabTo(page, page.getByRole('button', { name: 'Issue the grant' }))
  await keyboard.press('Enter')
  await page.getByRole('dialog', { name: 'Credentials of by-keyboard' }).waitFor()
  t.equal(service.iam.state.keyCount, 1)
  t.ok(await page.evaluate(() => document.querySelector('dialog')?.contains(document.activeElement)), 'the focus is in the dialog')
  await tabTo(page, page.getByRole('button', { name: 'Close' }))
  await keyboard.press('Enter')
  await page.getByRole('button', { name: 'Complete…' }).waitFor()
  t.ok(await focused(page.getByRole('heading', { level: 1 })))

  await tabTo(page, page.getByRole('button', { name: 'Complete…' }))
  await keyboard.press('Enter')
  t.ok(await focused(page.getByRole('dialog').getByRole('button', { name: 'Cancel' })), 'Enter once too often does no harm')
  await keyboard.press('Escape')
  t.ok(await focused(page.getByRole('button', { name: 'Complete…' })), 'the focus is back where it was')
  await keyboard.press('Enter')
  await tabTo(page, page.getByRole('dialog').getByRole('button', { name: 'Complete', exact: true }))
  await keyboard.press('Enter')
  await page.getByRole('status').getByText('Completed: its key is deleted.').waitFor()
  t.ok(await focused(page.getByRole('heading', { level: 1 })), 'the button is gone, the focus is not lost')
  t.equal(service.iam.state.keyCount, 0)
})

t.test('no page holds the keyboard: Tab leads through it and out, and back', async t => {
  const service = await serveConsole(t)
  const { id } = await service.issue({})
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [400] })
  for (const hash of ['#/grants', `#/grants/${id}`, '#/issue']) {
    await page.goto(`${service.url}/console${hash}`)
    await page.waitForLoadState('networkidle')
    for (const key of ['Tab', 'Shift+Tab']) {
      await page.evaluate(() => { (document.activeElement as HTMLElement | null)?.blur() })
      const seen = new Set<string>()
      let out = false
      for (let presses = 0; presses < 120 && !out; presses++) {
        await page.keyboard.press(key)
        const here = await page.evaluate(() => {
          const active = document.activeElement
          return active === null || active === document.body ? '' : `${[...document.querySelectorAll('*')].indexOf(active)}`
        })
        // Backwards the way ends at the first stop; what follows it is the browser's, which may be the last stop again.
        const first = await page.evaluate(() => document.activeElement?.matches('.skip') ?? false)
        out = seen.size > 3 && (here === '' || (key === 'Shift+Tab' && first))
        seen.add(here)
      }
      t.ok(out, `${hash}, ${key}: ${seen.size} stops`)
    }
  }
})

t.test('the first stop skips to the content; landmarks, headings and what changes are named', async t => {
  const service = await serveConsole(t)
  const { id } = await service.issue({})
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, hash: `#/grants/${id}` })
  await page.getByRole('heading', { name: 'History' }).waitFor()
  const skip = page.getByRole('link', { name: 'Skip to the content' })
  await skip.focus()
  t.ok(((await skip.boundingBox())?.y ?? -1) >= 0, 'seen while it has the focus')
  await page.keyboard.press('Enter')
  t.ok(await focused(page.getByRole('main')))
  t.match(page.url(), /#\/grants\//, 'and the page stays')
  for (const landmark of ['banner', 'main', 'navigation'] as const) t.equal(await page.getByRole(landmark).count(), 1, landmark)
  t.equal(await page.getByRole('heading', { level: 1 }).count(), 1)
  for (const name of ['Window', 'Blast radius', 'Policy', 'History']) t.equal(await page.getByRole('region', { name, exact: true }).count(), 1, name)
  t.equal(await page.getByRole('status').count(), 3, 'of the page, of what was copied, of a check')
  t.equal(await page.locator('html').getAttribute('lang'), 'en')
})

t.test('nothing moves for whoever asked for no motion', async t => {
  const service = await serveConsole(t)
  for (const reducedMotion of ['reduce', 'no-preference'] as const) {
    const page = await openConsole(t, browser, service, { reducedMotion })
    const moving = await page.evaluate(() => Array.from(document.querySelectorAll('*'), element => getComputedStyle(element))
      .filter(style => style.transitionDuration !== '0s' || style.animationName !== 'none').length)
    t.equal(moving > 0, reducedMotion === 'no-preference', reducedMotion)
  }
})
