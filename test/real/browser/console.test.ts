import type { Locator, Page } from 'playwright-core'
import t from 'tap'
import type { GrantView } from '../../../src/http/schemas.ts'
import type { Ledger } from '../../../src/ledger/ledger.ts'
import { complaintsOf, openBrowser } from './chromium.ts'
import { everythingIn, grantIdOf, openConsole, serveConsole, signIn } from './console-page.ts'

const browser = await openBrowser(t)

/** What is said at a field: the text that it names as its description. */
const saidAt = (field: Locator): Promise<string> => field.evaluate(control => (control.getAttribute('aria-describedby') ?? '').split(' ')
  .map(id => document.getElementById(id)?.textContent ?? '').join(' ').trim())

const secretOf = async (page: Page) => {
  const dialog = page.getByRole('dialog')
  await dialog.getByText('Shown this once').waitFor()
  return {
    accessKeyId: await dialog.getByLabel('Access key ID', { exact: true }).inputValue(),
    secretAccessKey: await dialog.getByLabel('Secret access key', { exact: true }).inputValue()
  }
}

const fillForm = async (page: Page, job: string) => {
  await page.getByLabel('Job id').fill(job)
  await page.getByLabel('Team').fill('nlp')
  const datasets = page.getByRole('group', { name: 'Datasets, read only' })
  await datasets.getByLabel('Bucket').fill('acmeco-wikipedia')
  const output = page.getByRole('group', { name: 'Output' })
  await output.getByLabel('Bucket').fill('acmeco-models')
  await output.getByLabel('Prefix').fill('runs/7/')
  await page.getByLabel('Address or CIDR').fill('203.0.113.42')
}

t.test('a grant through the console: issued, looked at, rotated, extended, completed', async t => {
  const service = await serveConsole(t)
  const { client, deps, iam } = service
  const page = await openConsole(t, browser, service, {
    token: service.tokens.nlp, refusals: [400, 422], permissions: ['clipboard-read', 'clipboard-write']
  })
  const secrets: string[] = []

  await t.test('the form renders as it is filled in, and complains at the field', async t => {
    await page.getByRole('link', { name: 'New grant' }).first().click()
    await page.getByRole('heading', { name: 'New grant' }).waitFor()
    t.equal(await page.title(), 'New grant · job-access')
    const preview = page.getByRole('region', { name: 'Its policy' })
    await preview.getByText('The policy stands here as soon as the form says enough.').waitFor()
    t.equal(await preview.getByRole('listitem').count(), 0, 'an untouched form says nothing')
    await page.getByLabel('Team').focus()
    await page.getByLabel('Team').fill('n')
    await page.getByLabel('Team').fill('')
    await page.getByLabel('Team').blur()
    await preview.getByRole('button', { name: 'Job: Team' }).waitFor()
    t.equal(await preview.getByRole('listitem').count(), 1, 'and then of what was touched')
    t.equal(await page.getByLabel('Job id').getAttribute('aria-invalid'), null, 'what was not touched does not complain')
    await fillForm(page, 'console-7')
    await preview.getByText(/^Rendered: \d+ characters, attached inline, 0 warnings\.$/).waitFor()
    t.match(await preview.innerText(), /inline \(used\): (1,)?\d+ of 2,048/)
    t.match(await preview.innerText(), /The job may write objects.* in the bucket acmeco-models under runs\/7\//s)
    t.notMatch(await preview.innerText(), /arn:aws/, 'the JSON is behind a fold')
    await preview.getByText('JSON of Output').click()
    t.match(await preview.innerText(), /arn:aws:s3:::acmeco-models\/runs\/7\/\*/)
    t.equal(iam.state.userCount, 0, 'nothing is issued')

    const address = page.getByLabel('Address or CIDR')
    await address.fill('10.1.2.3')
    await address.blur()
    await preview.getByText('Not yet: 1 thing to correct.').waitFor()
    t.equal(await address.getAttribute('aria-invalid'), 'true')
    t.match(await saidAt(address), /public internet/)
    await preview.getByText('The policy of the last request that could be rendered').waitFor()
    await page.getByRole('heading', { name: 'New grant' }).focus()
    await preview.getByRole('button', { name: 'Source addresses, address 1: Address or CIDR' }).click()
    t.ok(await address.evaluate(field => field === document.activeElement), 'its label leads there')
    await address.fill('203.0.113.42')
    await preview.getByText(/^Rendered/).waitFor()
    t.equal(await address.getAttribute('aria-invalid'), null)
    t.equal(await saidAt(address), '')

    await page.getByLabel('Layout').or(page.getByRole('radio', { name: /guarded/ })).last().check()
    await preview.getByText(/may not do anything in S3/).first().waitFor()
    t.ok(await preview.getByRole('group', { name: 'Statement Output as JSON' }).isVisible(), 'what was unfolded stays so')
    await page.getByRole('button', { name: 'Ask the guardrails' }).click()
    await preview.getByText(/The guardrails allow it, and the policy is proven: [\d,]+ requests/).waitFor()
  })

  await t.test('a row may be left empty, and goes when it is removed; an error names the row', async t => {
    const datasets = page.getByRole('group', { name: 'Datasets, read only' })
    await datasets.getByRole('button', { name: 'Add a dataset' }).click()
    await datasets.getByRole('button', { name: 'Add a dataset' }).click()
    const third = datasets.getByRole('group', { name: 'dataset 3' }).getByLabel('Bucket')
    t.ok(await datasets.getByRole('group', { name: 'dataset 3' }).getByLabel('Bucket').evaluate(field => field === document.activeElement))
    await third.fill('NOT_A_BUCKET')
    await third.blur()
    await page.getByText('Not yet: 1 thing to correct.').waitFor()
    t.equal(await third.getAttribute('aria-invalid'), 'true', 'the second that is asked for stands in the third row')
    await datasets.getByRole('button', { name: 'Remove dataset 3' }).click()
    await page.getByText(/^Rendered/).waitFor()
    t.equal(await datasets.getByRole('group', { name: /^dataset/ }).count(), 2)
  })

  await t.test('it is issued, and its secret is shown once', async t => {
    await page.getByRole('button', { name: 'Issue the grant' }).click()
    const credentials = await secretOf(page)
    secrets.push(credentials.secretAccessKey)
    t.match(await client.callerIdentity(credentials, Date.now() + 15_000), /user\/job-access\//, 'the key works')
    const dialog = page.getByRole('dialog')
    await dialog.getByRole('button', { name: 'Copy secret access key' }).click()
    await dialog.getByText('Secret access key copied.').waitFor()
    t.equal(await page.evaluate(() => navigator.clipboard.readText()), credentials.secretAccessKey)
    await dialog.getByRole('button', { name: 'Copy as environment' }).click()
    await dialog.getByText('All of them copied.').waitFor()
    t.equal(await page.evaluate(() => navigator.clipboard.readText()),
      `AWS_ACCESS_KEY_ID=${credentials.accessKeyId}\nAWS_SECRET_ACCESS_KEY=${credentials.secretAccessKey}`)
    t.match(await everythingIn(page), secrets[0] ?? '-', 'while it is shown it can be found')
    await dialog.getByRole('button', { name: 'Close' }).click()
    await page.getByRole('heading', { name: 'console-7' }).waitFor()
    t.notOk((await everythingIn(page)).includes(secrets[0] ?? ''), 'and then no more')
  })

  const id = grantIdOf(page)
  await t.test('its page: policy beside words, blast radius, history', async t => {
    await page.getByRole('heading', { name: 'Blast radius' }).waitFor()
    t.match(await page.getByRole('heading', { level: 1 }).innerText(), /console-7\s+active/)
    const { policy }: GrantView = JSON.parse(await (await fetch(`${service.url}/v1/grants/${id}`, { headers: { authorization: `Bearer ${service.tokens.nlp}` } })).text())
    const section = page.getByRole('region', { name: 'Policy' })
    const statements = section.getByRole('listitem')
    t.equal(await statements.count(), policy.Statement.length)
    for (const [index, statement] of (policy.Statement as Array<{ Sid: string, Effect: string }>).entries()) {
      const item = statements.nth(index)
      t.strictSame(JSON.parse(await item.locator('pre').textContent() ?? ''), statement, statement.Sid)
      t.notOk(await item.locator('pre').isVisible(), 'its JSON is behind a fold')
      t.match(await item.locator('.words').innerText(), new RegExp(`${statement.Effect}\\s+${statement.Sid}\\s+(The job may|Whatever else)`))
    }
    await section.getByText('The whole document').click()
    t.strictSame(JSON.parse(await section.getByRole('group', { name: 'The whole policy as JSON' }).innerText()), policy)
    await section.getByRole('button', { name: 'Copy the policy' }).click()
    await section.getByText('Policy copied.').waitFor()
    t.strictSame(JSON.parse(await page.evaluate(() => navigator.clipboard.readText())), policy)
    t.match(await page.getByRole('region', { name: 'Window' }).innerText(), /Source address\s+203\.0\.113\.42\/32/)

    const picture = page.getByRole('figure')
    const areas = picture.locator('.radius-area')
    t.equal(await areas.count(), 2)
    t.match(await areas.nth(0).innerText(), /^acmeco-wikipedia\/\s[\s\S]*read\s*: yes, now, until [\s\S]*write\s*: no/)
    t.match(await areas.nth(1).innerText(), /^acmeco-models\/runs\/7\/\s[\s\S]*read\s*: no[\s\S]*write\s*: yes, now, until /)
    t.match(await picture.innerText(), /This key\s+from 203\.0\.113\.42\s/)
    t.match(await picture.innerText(), /From anywhere else\s+nothing/)
    const beside = picture.getByRole('list', { name: 'Neighbours of acmeco-models/runs/7/' }).getByRole('listitem')
    t.strictSame((await beside.allInnerTexts()).map(text => text.replace(/\s+/g, ' ').trim()).sort(),
      ['acmeco-model/ denied', 'acmeco-models-backup/ denied', 'acmeco-models/ denied', 'acmeco-models/runs/7-other/ denied'])
    t.match(await page.getByRole('region', { name: 'Blast radius' }).innerText(), /From outside 203\.0\.113\.42\/32: nothing\./)
    t.match(await page.getByRole('region', { name: 'History' }).innerText(), /pending by token:nlp[\s\S]*active by token:nlp/)
  })

  await t.test('rotated: a fresh key, the old one dead', async t => {
    await page.getByRole('button', { name: 'Rotate key…' }).click()
    const overlap = page.getByLabel('Overlap, seconds')
    t.equal(await overlap.inputValue(), '900', 'a running job keeps its key for a while')
    await overlap.fill('-1')
    await page.getByRole('button', { name: 'Rotate', exact: true }).click()
    await page.getByRole('dialog').getByRole('alert').waitFor()
    t.equal(await overlap.getAttribute('aria-invalid'), 'true')
    t.match(await saidAt(overlap), /from 0 to 86400/)
    await overlap.fill('0')
    await page.getByRole('button', { name: 'Rotate', exact: true }).click()
    const credentials = await secretOf(page)
    secrets.push(credentials.secretAccessKey)
    t.not(secrets[1], secrets[0])
    t.match(await client.callerIdentity(credentials, Date.now() + 15_000), /user/)
    t.equal(iam.state.keyCount, 1)
    for (let presses = 0; presses < 3; presses++) await page.keyboard.press('Escape')
    await page.getByRole('dialog').getByText('Escape does not close this').waitFor()
    t.ok((await everythingIn(page)).includes(secrets[1] ?? '-'), 'Escape does not discard it')
    const asked = page.waitForEvent('dialog')
    const left = page.evaluate(() => { setTimeout(() => window.location.reload()) })
    const leaving = await asked
    t.equal(leaving.type(), 'beforeunload', 'nor does a reload without a question')
    await leaving.dismiss()
    await left
    await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click()
    await page.getByRole('status').getByText('Rotated.').waitFor()
    t.notOk((await everythingIn(page)).includes(secrets[1] ?? ''), 'Close drops it')
    t.match(await page.getByRole('region', { name: 'History' }).innerText(), /previous-key-deleted by token:nlp/)
  })

  await t.test('extended: to a new end, refused at the field where that is over', async t => {
    await page.getByRole('button', { name: 'Extend…' }).click()
    const end = page.getByLabel('New end, UTC')
    await end.fill('2020-01-01T00:00')
    await page.getByRole('button', { name: 'Extend', exact: true }).click()
    await page.getByRole('dialog').getByRole('alert').waitFor()
    t.match(await page.getByRole('dialog').getByRole('alert').innerText(), /The window is not valid\.[\s\S]*What to do:[\s\S]*window-invalid · at \/window/)
    t.match(await saidAt(end), /before it starts/)
    t.equal(await end.getAttribute('aria-invalid'), 'true')
    const later = new Date(Date.now() + 6 * 3_600_000).toISOString().slice(0, 16)
    await end.fill(later)
    await page.getByRole('button', { name: 'Extend', exact: true }).click()
    await page.getByRole('status').getByText(`It now ends at ${later.replace('T', ' ')}:00 UTC.`).waitFor()
    t.match(await page.getByRole('region', { name: 'Window' }).innerText(), new RegExp(`Reading ends\\s+${later.replace('T', ' ')}:00 UTC`))
    t.equal((await deps.ledger.get(id))?.spec.window.notAfter, `${later}:00Z`)
  })

  await t.test('completed, once that is confirmed', async t => {
    await page.getByRole('button', { name: 'Complete…' }).click()
    await page.getByRole('dialog', { name: 'Complete console-7?' }).getByRole('button', { name: 'Cancel' }).click()
    t.equal((await deps.ledger.get(id))?.state, 'active')
    await page.getByRole('button', { name: 'Complete…' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Complete', exact: true }).click()
    await page.getByRole('status').getByText('Completed: its key is deleted.').waitFor()
    t.equal(iam.state.userCount, 0)
    t.equal(await page.getByRole('button', { name: /Complete|Rotate|Extend|Change/ }).count(), 0, 'nothing is left to be done')
    t.match(await page.getByRole('heading', { level: 1 }).innerText(), /console-7\s+completed/)
    const green = (color: string) => { const [r = 0, g = 0, b = 0] = (color.match(/\d+/g) ?? []).map(Number); return g > r + 20 && g > b + 20 }
    for (const area of await page.getByRole('figure').locator('.radius-area, .rights .yes').all()) {
      t.notOk(green(await area.evaluate(element => getComputedStyle(element).borderTopColor)), 'its border is not green')
      t.notOk(green(await area.evaluate(element => getComputedStyle(element).color)), 'nor its rights')
    }
    t.match(await page.getByRole('figure').innerText(), /This key is gone/)
    t.match(await page.getByRole('region', { name: 'History' }).innerText(), /revoked by token:nlp/)
    t.match(await page.getByRole('region', { name: 'Blast radius' }).innerText(), /The grant is completed/)
    t.notMatch(await page.locator('main').innerText(), /grant is revoked/)
  })

  await t.test('no secret and no token is left anywhere in the page', async t => {
    const everything = await everythingIn(page)
    t.equal(secrets.length, 2)
    for (const secret of [...secrets, service.tokens.nlp]) t.notOk(everything.includes(secret))
    const context = page.context()
    t.strictSame(await context.storageState(), { cookies: [], origins: [] })
    await page.reload()
    await page.getByLabel('API token or JWT').waitFor()
    t.pass('a reload asks for the token')
    await signIn(page, service.tokens.nlp)
    await page.getByRole('heading', { name: 'console-7' }).waitFor()
    t.equal(grantIdOf(page), id, 'and shows the page that was asked for')
  })
})

t.test('another team sees it neither in the list nor by its address', async t => {
  const service = await serveConsole(t)
  const { id } = await service.issue({ job: { id: 'of-nlp', team: 'nlp' } })
  const own = await service.issue({ job: { id: 'of-vision', team: 'vision' } })
  const page = await openConsole(t, browser, service, { token: service.tokens.vision, refusals: [400, 403, 404] })
  await page.getByRole('link', { name: 'of-vision' }).waitFor()
  t.equal(await page.getByRole('row').count(), 2, 'the header and its own')
  t.equal(await page.getByText('of-nlp').count(), 0)
  await page.goto(`${service.url}/console#/grants/${id}`)
  await page.getByRole('alert').getByText('There is no such grant.').first().waitFor()
  t.equal(await page.getByRole('button', { name: /Complete|Rotate|Extend/ }).count(), 0)
  t.notMatch(await everythingIn(page), /of-nlp|acmeco/)
  await page.goto(`${service.url}/console#/grants/${own.id}`)
  await page.getByRole('heading', { name: 'of-vision' }).waitFor()

  await page.goto(`${service.url}/console#/issue`)
  await fillForm(page, 'theirs')
  await page.getByText(/^Rendered/).waitFor()
  await page.getByRole('button', { name: 'Issue the grant' }).click()
  await page.getByRole('region', { name: 'Its policy' }).getByRole('button', { name: 'Job: Team' }).waitFor()
  t.equal(await page.getByLabel('Team').getAttribute('aria-invalid'), 'true')
  t.match(await saidAt(page.getByLabel('Team')), /team/)
  t.equal(service.iam.state.userCount, 2, 'nothing was issued for a team that is not its own')
})

t.test('signing in', async t => {
  const service = await serveConsole(t, { refusalsPerMinute: 3 })
  const page = await openConsole(t, browser, service, { refusals: [401, 429] })
  const field = page.getByLabel('API token or JWT')
  const button = page.getByRole('button', { name: 'Sign in' })
  t.equal(await page.title(), 'Sign in · job-access')
  t.ok(await field.evaluate(control => control === document.activeElement), 'one can type at once')
  t.equal(await field.getAttribute('type'), 'password')

  await button.click()
  t.match(await saidAt(field), /Paste a token\./)
  await field.fill('two words')
  await button.click()
  t.match(await saidAt(field), /no spaces/)

  await field.fill('jat_wrong_token')
  await button.click()
  const alert = page.getByRole('alert')
  await alert.getByText('401 unauthenticated').waitFor()
  t.match(await alert.innerText(), /The service does not know this token\.[\s\S]*What to do: Paste a valid token/)
  t.equal(await page.getByRole('button', { name: 'Sign out' }).count(), 0)
  for (let i = 0; i < 2; i++) {
    await page.getByRole('button', { name: 'Sign in', disabled: false }).click()
    await alert.getByText('401 unauthenticated').waitFor()
  }
  await page.getByRole('button', { name: 'Sign in', disabled: false }).click()
  await alert.getByText('429 rate-limited').waitFor()
  t.match(await alert.innerText(), /Too many requests[\s\S]*Try again in \d+ s\./)

  await signIn(page, ` Bearer ${service.tokens.nlp}\n`)
  await page.getByRole('heading', { name: 'Grants' }).waitFor()
  t.ok(await page.getByRole('heading', { name: 'Grants' }).evaluate(heading => heading === document.activeElement), 'the page begins at its heading')
  await page.getByRole('button', { name: 'Sign out' }).click()
  await field.waitFor()
  t.equal(await field.inputValue(), '')
  t.equal(await page.getByRole('navigation').count(), 0)
})

t.test('a token that the guardrails let list nothing is told so', async t => {
  const service = await serveConsole(t, { guardrails: '@id("none") forbid (principal, action, resource);' })
  const page = await openConsole(t, browser, service, { refusals: [403] })
  await page.getByLabel('API token or JWT').fill(service.tokens.nlp)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('alert').getByText('403 forbidden').waitFor()
  t.match(await page.getByRole('alert').innerText(), /do not let you list grants[\s\S]*What to do: Ask who owns the guardrails/)
})

t.test('a secret goes with its page: with the Back button, with the tab, and with signing out while it is waited for', async t => {
  const service = await serveConsole(t)
  const { id } = await service.issue({})
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [400] })
  const secretInSight = async () => {
    await page.goto(`${service.url}/console#/grants/${id}`)
    await page.getByRole('button', { name: 'Rotate key…' }).click()
    await page.getByRole('button', { name: 'Rotate', exact: true }).click()
    return (await secretOf(page)).secretAccessKey
  }
  await page.getByRole('table').waitFor()
  const first = await secretInSight()
  await page.goBack()
  await page.getByRole('heading', { name: 'Grants' }).waitFor()
  t.equal(await page.getByRole('dialog').count(), 0)
  t.notOk((await everythingIn(page)).includes(first))

  const second = await secretInSight()
  // What the browser says before it keeps a page for its Back button.
  await page.evaluate(() => { window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })) })
  t.equal(await page.getByRole('dialog').count(), 0)
  t.notOk((await everythingIn(page)).includes(second))

  await page.goto(`${service.url}/console#/issue`)
  await fillForm(page, 'late')
  await page.getByText(/^Rendered/).waitFor()
  let letGo = () => {}
  const held = new Promise<void>(resolve => { letGo = resolve })
  let late = ''
  await page.route('**/v1/grants', async route => {
    const answer = await route.fetch()
    late = (await answer.json()).credentials.secretAccessKey
    await held
    await route.fulfill({ response: answer })
  })
  await page.getByRole('button', { name: 'Issue the grant' }).click()
  await page.getByRole('button', { name: 'Sign out' }).click()
  const answered = page.waitForResponse('**/v1/grants')
  letGo()
  await (await answered).finished()
  await page.getByLabel('API token or JWT').waitFor()
  t.match(late, /.{20}/)
  t.equal(await page.getByRole('dialog').count(), 0)
  t.notOk((await everythingIn(page)).includes(late))
})

t.test('an answer that was lost is asked for again, and is the same grant', async t => {
  const service = await serveConsole(t)
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [0, 400], hash: '#/issue' })
  await fillForm(page, 'lost')
  await page.getByText(/^Rendered/).waitFor()
  await page.route('**/v1/grants', async route => {
    await route.fetch()
    await route.abort('failed')
  }, { times: 1 })
  await page.getByRole('button', { name: 'Issue the grant' }).click()
  await page.getByRole('alert').getByText('The service did not answer.').waitFor()
  t.equal(service.iam.state.userCount, 1, 'yet it had issued')
  await page.getByRole('button', { name: 'Issue the grant' }).click()
  const credentials = await secretOf(page)
  t.equal(service.iam.state.userCount, 1, 'no second user')
  t.equal(service.iam.state.keyCount, 1, 'nor a second key')
  t.match(await service.client.callerIdentity(credentials, Date.now() + 15_000), /user/)
})

t.test('the policy shown is of what was typed last, whichever answer comes last', async t => {
  const service = await serveConsole(t)
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [400], hash: '#/issue' })
  await fillForm(page, 'order')
  const shown = page.getByRole('region', { name: 'Its policy' })
  await shown.getByText(/^Rendered/).waitFor()
  const bucket = page.getByRole('group', { name: 'Output' }).getByLabel('Bucket')
  const asked: string[] = []
  let letGo = () => {}
  const held = new Promise<void>(resolve => { letGo = resolve })
  await page.route('**/v1/policies', async route => {
    asked.push(JSON.parse(route.request().postData() ?? '{}').output.bucket)
    if (asked.length === 1) await held
    await route.continue().catch(() => {})
  })
  const former = page.waitForRequest('**/v1/policies')
  await bucket.fill('acmeco-former')
  await former
  await bucket.fill('acmeco-latter')
  await shown.locator('.words').getByText('acmeco-latter').first().waitFor()
  letGo()
  t.strictSame(asked, ['acmeco-former', 'acmeco-latter'])
  await page.waitForLoadState('networkidle')
  t.notMatch(await shown.innerText(), /acmeco-former/)
})

t.test('a token that expires in the middle is asked for again, and why is said; a dialog does not stay', async t => {
  const service = await serveConsole(t)
  const { id } = await service.issue({})
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [401], hash: `#/grants/${id}` })
  await page.getByRole('button', { name: 'Complete…' }).click()
  // As if it had expired: the service itself refuses what comes without a valid one.
  await page.route('**/v1/**', route => route.continue({ headers: { ...route.request().headers(), authorization: 'Bearer expired' } }))
  await page.getByRole('dialog').getByRole('button', { name: 'Complete', exact: true }).click()
  await page.getByLabel('API token or JWT').waitFor()
  t.match(await page.getByRole('alert').innerText(), /The service takes this token no more/)
  t.equal(await page.getByRole('dialog').count(), 0)
  t.equal((await service.ledger.get(id))?.state, 'active')
  await page.unroute('**/v1/**')
  await signIn(page, service.tokens.nlp)
  await page.getByRole('button', { name: 'Complete…' }).waitFor()
})

t.test('what is no answer of the service is told apart', async t => {
  const service = await serveConsole(t)
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [502] })
  await page.getByRole('table').or(page.getByText('No grants.')).waitFor()
  await page.route('**/v1/**', route => route.fulfill({ status: 502, body: '<html>bad gateway</html>' }))
  await page.getByRole('button', { name: 'Refresh' }).click()
  await page.getByText('Something between here and the service answered.').waitFor()
  t.match(await page.getByRole('alert').innerText(), /Status 502/)
})

t.test('the list: filters, which are in its address, pages, and where now is', async t => {
  const service = await serveConsole(t)
  for (let i = 0; i < 53; i++) await service.issue({ job: { id: `job-${i}`, team: i < 2 ? 'vision' : 'nlp' } })
  const page = await openConsole(t, browser, service, { token: service.tokens.admin, refusals: [400] })
  const rows = page.locator('tbody').getByRole('row')
  await page.getByRole('status').getByText('50 grants: 50 active; there are older ones').waitFor()
  t.equal(await rows.count(), 50)
  await page.getByRole('button', { name: 'Load older grants' }).click()
  await page.getByRole('status').getByText('53 grants: 53 active').waitFor()
  t.equal(await rows.count(), 53)
  t.equal(new Set(await rows.getByRole('link').allInnerTexts()).size, 53, 'each once')
  t.notOk(await page.getByRole('button', { name: 'Load older grants' }).isVisible())

  await page.getByLabel('Team').fill('vision')
  await page.getByLabel('Team').press('Enter')
  await page.getByRole('status').getByText('2 grants: 2 active').waitFor()
  await page.getByLabel('Job').fill('job-1')
  await page.getByLabel('Job').press('Enter')
  await page.getByRole('status').getByText('1 grant: 1 active').waitFor()
  t.match(page.url(), /#\/grants\?team=vision&job=job-1$/)
  await page.reload()
  await signIn(page, service.tokens.admin)
  await page.getByRole('status').getByText('1 grant: 1 active').waitFor()
  await page.getByLabel('State').selectOption('revoked')
  await page.getByText('No grants.').waitFor()
  await page.getByLabel('Team').fill('?')
  await page.getByLabel('Team').press('Enter')
  await page.getByRole('alert').waitFor()
  t.match(await saidAt(page.getByLabel('Team')), /^The value has .* at character \d.*Allowed: /)
  await page.getByLabel('Job').fill('größe')
  await page.getByLabel('Job').press('Enter')
  await page.locator('#job[aria-invalid]').waitFor()
  for (const name of ['Team', 'Job']) t.match(await saidAt(page.getByLabel(name)), /^The value has .* at character \d.*Allowed: /, 'each says what is wrong with it')
  await page.getByRole('button', { name: 'Clear' }).click()
  await page.getByRole('status').getByText(/^50 grants/).waitFor()
  t.match(page.url(), /#\/grants$/)

  // What was issued elsewhere comes with a refresh.
  await service.issue({ job: { id: 'newest', team: 'nlp' } })
  await page.getByRole('button', { name: 'Refresh' }).click()
  await page.getByRole('link', { name: 'newest' }).waitFor()
})

t.test('the list of a pool is filtered by account; without a pool nobody is asked for one', async t => {
  const accountOf = (jobId: string) => jobId.startsWith('eu') ? 'eu-1' : 'us-1'
  const inPool = (ledger: Ledger): Ledger => ({
    ...ledger,
    async list ({ account, ...filter }, page) {
      const grants = (await ledger.list(filter, page))
        .map(grant => ({ ...grant, principal: { ...grant.principal, account: accountOf(grant.jobId) } }))
      return grants.filter(({ principal }) => account === undefined || principal.account === account)
    }
  })
  const alone = await serveConsole(t)
  await alone.issue({ job: { id: 'eu-job', team: 'nlp' } })
  const one = await openConsole(t, browser, alone, { token: alone.tokens.nlp })
  await one.getByRole('link', { name: 'eu-job' }).waitFor()
  t.notOk(await one.getByLabel('Account').isVisible())

  const service = await serveConsole(t, { ledger: inPool })
  for (const id of ['eu-job', 'us-job']) await service.issue({ job: { id, team: 'nlp' } })
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp })
  await page.getByRole('status').getByText('2 grants: 2 active').waitFor()
  await page.getByLabel('Account').fill('eu-1')
  await page.getByLabel('Account').press('Enter')
  await page.getByRole('status').getByText('1 grant: 1 active').waitFor()
  t.equal(await page.getByRole('link', { name: 'us-job' }).count(), 0)
  t.match(page.url(), /#\/grants\?account=eu-1$/)
  await page.getByLabel('Account').fill('none')
  await page.getByLabel('Account').press('Enter')
  await page.getByText('No grants.').waitFor()
  t.ok(await page.getByLabel('Account').isVisible(), 'it stays')
})

t.test('the bars lie where the times are', async t => {
  const service = await serveConsole(t)
  const at = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString().replace(/\.\d+/, '')
  const window = (from: number, to: number) => ({ notBefore: at(from), notAfter: at(to) })
  service.skew.ms = -120 * 60_000
  await service.issue({ job: { id: 'running', team: 'nlp' }, window: { ...window(-60, 60), outputGraceSeconds: 1800 } })
  service.skew.ms = 0
  await service.issue({ job: { id: 'to-come', team: 'nlp' }, window: window(120, 240) })
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, viewport: { width: 1280, height: 800 } })
  const lane = (job: string) => page.getByRole('row').filter({ hasText: job })
  await page.getByRole('link', { name: 'running' }).waitFor()
  t.equal(await page.getByLabel('Time shown').inputValue(), 'hours', 'the hours around now, unless asked otherwise')
  t.match(await page.locator('.axis').innerText(), /\d\d-\d\d/, 'with a date')
  await page.getByLabel('Time shown').selectOption('fit')
  const geometry = async (job: string) => lane(job).locator('.lane').evaluate(element => {
    const of = (selector: string) => element.querySelector(selector)?.getBoundingClientRect()
    const [whole, bar, now, grace] = [element.getBoundingClientRect(), of('.bar'), of('.now'), of('.grace')]
    const share = (x: number | undefined) => x === undefined ? -1 : (x - whole.left) / whole.width
    return { start: share(bar?.left), end: share(bar?.right), now: share(now?.left), grace: share(grace?.left) }
  })
  // All that is listed: from an hour ago to four hours from now, with 3 % to each side.
  const where = (minutes: number) => (minutes + 60 + 9) / (300 + 18)
  const close = (found: number, wanted: number, what: string) => t.ok(Math.abs(found - wanted) < 0.02, `${what}: ${found} for ${wanted}`)
  const running = await geometry('running')
  close(running.start, where(-60), 'its start')
  close(running.grace, where(60), 'its grace')
  close(running.end, where(90), 'its end')
  close(running.now, where(0), 'now')
  const toCome = await geometry('to-come')
  close(toCome.start, where(120), 'its start')
  close(toCome.end, where(240), 'its end')
  t.equal(toCome.now, running.now, 'now is one line')
  t.match(await lane('running').innerText(), /active/)
  t.match(await lane('to-come').innerText(), /scheduled/, 'issued, but not open yet')
  t.match(await lane('running').getByRole('cell').last().innerText(), /open, ends in 1 h (29|30) min/, 'and is said')
  t.match(await lane('to-come').getByRole('cell').last().innerText(), /opens in (2 h|1 h 59 min)/)

  await page.getByLabel('Time shown').selectOption('hours')
  close((await geometry('running')).now, 0.5, 'now, in the middle of 12 hours')
  close((await geometry('to-come')).start, (360 + 120) / 720, 'its start')
})

t.test('what is hostile stands there as text', async t => {
  const service = await serveConsole(t)
  const { id } = await service.issue({ job: { id: 'plain', team: 'nlp', labels: { name: 'value' } } })
  const hostile = '<img src=x onerror="document.title=1"><script>alert(1)</script>"\'><a href="javascript:alert(1)">x</a>'
  const page = await openConsole(t, browser, service, { refusals: [400, 422] })
  page.on('dialog', () => t.fail('a script ran'))
  // The service refuses such names; an answer that has them all the same, in every place, must be harmless.
  await page.route('**/v1/**', async route => {
    const answer = await route.fetch()
    const put = (value: unknown, name = ''): unknown => Array.isArray(value)
      ? value.map(each => put(each, name))
      : typeof value === 'object' && value !== null
        ? Object.fromEntries(Object.entries(value).map(([key, each]) => [name === 'labels' || name === 'detail' ? hostile : key, put(each, key)]))
        : typeof value === 'string' && !/^\d{4}-|^(active|Allow|Deny)$|^[0-9a-z]{26}$/.test(value) ? hostile : value
    await route.fulfill({ response: answer, json: put(await answer.json()) })
  })
  await signIn(page, service.tokens.nlp)
  const asText = async (what: string) => {
    t.ok((await page.locator('main').innerText()).includes(hostile), `${what}: as text`)
    t.equal(await page.locator('main img, main script, main a[href^="javascript"]').count(), 0, `${what}: as nothing else`)
    t.match(await page.title(), /job-access$/)
  }
  await page.getByRole('row').nth(1).waitFor()
  await asText('the list')
  await page.goto(`${service.url}/console#/grants/${id}`)
  await page.getByRole('heading', { name: 'History' }).waitFor()
  await asText('a grant')
  t.equal(await page.getByRole('region', { name: 'Window' }).getByText(hostile).count() > 3, true)
  t.equal(await page.getByRole('figure').getByText(hostile).count() > 2, true)
  await page.getByRole('button', { name: 'Complete…' }).click()
  t.ok((await page.getByRole('dialog').innerText()).includes(hostile))
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByRole('button', { name: 'Rotate key…' }).click()
  await page.getByRole('button', { name: 'Rotate', exact: true }).click()
  await page.getByText('Shown this once').waitFor()
  await page.getByRole('button', { name: 'Close' }).click()
  await page.goto(`${service.url}/console#/issue`)
  await fillForm(page, 'a')
  await page.getByText(/^Rendered/).waitFor()
  await asText('the form')
})

t.test('the page’s CSP stops markup from strings and other origins, and this suite would hear of it', async t => {
  const service = await serveConsole(t)
  const context = await browser.newContext()
  t.teardown(() => context.close())
  const page = await context.newPage()
  const complaints = complaintsOf(page)
  await page.goto(`${service.url}/console`)
  t.equal(await page.evaluate(() => {
    try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>') } catch (error) { return (error as Error).name }
    return 'done'
  }), 'TypeError')
  t.equal(await page.evaluate(() => fetch('http://127.0.0.1:9/').then(() => 'sent', error => (error as Error).name)), 'TypeError')
  t.ok(complaints.some(text => text.includes('TrustedHTML')), 'markup')
  t.ok(complaints.some(text => /127\.0\.0\.1:9.*connect-src 'self'/.test(text)), 'another origin')
})

t.test('everything that the API takes of an entry, behind a fold', async t => {
  const service = await serveConsole(t)
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [400, 422] })
  await page.getByRole('link', { name: 'New grant' }).first().click()
  await fillForm(page, 'options')
  const [dataset, output] = ['Datasets, read only', 'Output'].map(name => page.getByRole('group', { name })) as [Locator, Locator]
  t.notOk(await dataset.getByLabel('Read earlier versions').isVisible(), 'shut until it is wanted')
  for (const part of [dataset, output]) await part.getByText('Options', { exact: true }).click()
  for (const name of ['Read earlier versions', 'Use tags', 'Checksums and parts', 'Restore archived objects', 'List all keys, not only these']) await dataset.getByLabel(name).check()
  t.equal(await dataset.getByLabel('Delete').count(), 0, 'what is only read is not deleted')
  await dataset.getByLabel('Prefix').fill('wiki/')
  await dataset.getByLabel('Clients here').fill('s3fs, boto3')
  for (const name of ['Delete', 'Use tags', 'List uploads in progress', 'Also without the last slash']) await output.getByLabel(name).check()
  await output.getByLabel('Set the ACL').selectOption('private')
  await output.getByLabel('List keys').selectOption('yes')
  const others = page.getByRole('group', { name: 'Other buckets' })
  await others.getByRole('button', { name: 'Add a bucket' }).click()
  await others.getByLabel('Access').selectOption('read-write')
  await others.getByLabel('Prefix').fill('metrics-')
  await others.getByLabel('Is', { exact: true }).selectOption('keyPrefix')
  const asked = page.waitForRequest(request => request.url().endsWith('/v1/policies') && (request.postData() ?? '').includes('acmeco-metrics'))
  await others.getByRole('textbox', { name: 'Bucket' }).fill('acmeco-metrics')
  t.match((await asked).postDataJSON(), {
    datasets: [{ bucket: 'acmeco-wikipedia', prefix: 'wiki/', versions: true, tags: true, attributes: true, restore: true, listNames: true, clients: ['s3fs', 'boto3'] }],
    output: { bucket: 'acmeco-models', prefix: 'runs/7/', level: 'write', delete: true, tags: true, uploads: true, bareName: true, acl: 'private', list: true },
    access: [{ bucket: 'acmeco-metrics', keyPrefix: 'metrics-', level: 'read-write' }]
  })
  await page.getByText(/^Rendered/).waitFor()

  await output.getByLabel('Read earlier versions').check()
  await output.getByText('Options', { exact: true }).click()
  await page.getByRole('button', { name: 'Issue the grant' }).click()
  await page.getByText('Not yet: 1 thing to correct.').waitFor()
  t.ok(await output.getByLabel('Read earlier versions').isVisible(), 'what is wrong behind the fold opens it')
  t.equal(await output.getByLabel('Read earlier versions').getAttribute('aria-invalid'), 'true')
})

t.test('a grant by a VPC, its key made later, by a role session: what the form asks for', async t => {
  const service = await serveConsole(t)
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [400, 422], hash: '#/issue' })
  await fillForm(page, 'later')
  const at = new Date(Date.now() + 2 * 3_600_000).toISOString().slice(0, 16)
  await page.getByLabel('Key made at').fill(at)
  const sources = page.getByRole('group', { name: 'Source addresses' })
  await sources.getByText('Through a VPC endpoint').click()
  await sources.getByLabel('VPC ids').fill('vpc-0123456789abcdef0')
  await sources.getByLabel('Private addresses or CIDRs').fill('10.0.12.0/24 10.0.13.0/24')
  t.notOk(await page.getByLabel('Role profile').isVisible())
  await page.getByLabel('Its policy is attached').selectOption('managed')
  await page.getByText(/^Rendered: .* attached managed/).waitFor()
  const asked = page.waitForRequest(request => request.method() === 'POST' && request.url().endsWith('/v1/grants'))
  await page.getByRole('button', { name: 'Issue the grant' }).click()
  const from = `${at}:00Z`
  t.match((await asked).postDataJSON(), {
    issueAt: from,
    window: { notBefore: from, durationSeconds: 10_800 },
    attach: 'managed',
    sourceIps: ['203.0.113.42'],
    vpc: { vpcIds: ['vpc-0123456789abcdef0'], sourceIps: ['10.0.12.0/24', '10.0.13.0/24'] }
  })
  await page.getByRole('heading', { level: 1, name: /later\s+scheduled/ }).waitFor()
  t.equal(service.iam.state.keyCount, 0)
  const radius = await page.getByRole('region', { name: 'Blast radius' }).innerText()
  t.match(radius, /This key is not made yet\s+it will work from 203\.0\.113\.42 or /)
  t.match(radius, /The grant is scheduled: it has no key before /)
  t.notMatch(radius, /now, until|now and/)

  await page.goto(`${service.url}/console#/issue`)
  await page.getByLabel('Its policy is attached').selectOption('session')
  await page.getByLabel('Role profile').fill('trainers')
  const session = page.waitForRequest(request => request.method() === 'POST' && request.url().endsWith('/v1/grants'))
  await page.getByRole('button', { name: 'Issue the grant' }).click()
  t.match((await session).postDataJSON(), { attach: 'session', profile: 'trainers' })
  await page.getByText(/^Not yet/).waitFor()
})

t.test('the source of a grant is changed, and a request is checked against its policy', async t => {
  const service = await serveConsole(t)
  const { id } = await service.issue({ job: { id: 'moved', team: 'nlp' } })
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [400, 422], hash: `#/grants/${id}` })
  await page.getByRole('button', { name: 'Change source…' }).click()
  const addresses = page.getByLabel('Addresses or CIDRs', { exact: true })
  t.equal(await addresses.inputValue(), '203.0.113.42/32')
  await addresses.fill('10.0.0.1')
  await page.getByRole('button', { name: 'Change', exact: true }).click()
  await page.getByRole('dialog').getByRole('alert').waitFor()
  t.match(await saidAt(addresses), /public internet/)
  await addresses.fill('198.51.100.7 198.51.100.8')
  await page.getByRole('button', { name: 'Change', exact: true }).click()
  await page.getByRole('status').getByText('Its source has changed.').waitFor()
  t.match(await page.getByRole('region', { name: 'Window' }).innerText(), /Source address\s+198\.51\.100\.7\/32 198\.51\.100\.8\/32/)

  const check = page.getByRole('region', { name: 'Check' })
  t.equal(await check.getByLabel('From address').inputValue(), '198.51.100.7')
  await check.getByRole('button', { name: 'Check' }).click()
  await check.getByRole('alert').waitFor()
  t.equal(await check.getByLabel('Bucket', { exact: true }).getAttribute('aria-invalid'), 'true')
  await check.getByLabel('Bucket', { exact: true }).fill('acmeco-training-datasets-wikipedia-2025-07-01')
  await check.getByLabel('Key', { exact: true }).fill('wiki/a')
  await check.getByRole('button', { name: 'Check' }).click()
  await check.getByText('Allowed', { exact: true }).waitFor()
  await check.getByLabel('From address').fill('203.0.113.42')
  await check.getByRole('button', { name: 'Check' }).click()
  await check.getByText('Denied', { exact: true }).waitFor()
})

t.test('the API opens in a tab of its own', async t => {
  const service = await serveConsole(t)
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp })
  const opened = page.waitForEvent('popup')
  await page.getByRole('link', { name: /^API/ }).click()
  const api = await opened
  await api.waitForURL(/\/docs/)
  t.match(page.url(), /\/console/)
  await page.getByRole('button', { name: 'Sign out' }).waitFor()
})

const labelsOverOthers = (page: Page) => page.evaluate(() => {
  const labels = Array.from(document.querySelectorAll('.axis span'), label => ({ text: label.textContent, box: label.getBoundingClientRect() }))
    .toSorted((a, b) => a.box.left - b.box.left)
  return labels.filter(({ box }, index) => box.left < (labels[index - 1]?.box.right ?? 0)).map(({ text }) => text)
})

for (const width of [390, 780, 1060, 1280]) {
  t.test(`long names and "now" are seen whole at ${width} pixels`, async t => {
    const service = await serveConsole(t)
    const at = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString().replace(/\.\d+/, '')
    const team = 'natural-language-processing-and-understanding'
    await service.issue({ job: { id: `pretrain-${'long-name-'.repeat(11)}`, team }, window: { notBefore: at(1), notAfter: at(30) } })
    await service.issue({ job: { id: 'x', team: 'nlp' } })
    const page = await openConsole(t, browser, service, { token: service.tokens.admin, viewport: { width, height: 800 } })
    await page.getByRole('link', { name: 'x', exact: true }).waitFor()
    for (const range of ['hours', 'fit']) {
      await page.getByLabel('Time shown').selectOption(range)
      const cut = await page.evaluate(() => {
        const panel = document.querySelector('.timeline-panel')?.getBoundingClientRect()
        const axis = document.querySelector('.axis')?.getBoundingClientRect()
        const now = document.querySelector('.now-label')?.getBoundingClientRect()
        if (!panel || !axis || !now) return ['nothing is shown']
        return [
          ...Array.from(document.querySelectorAll('tbody th, tbody td'), cell => ({ cell, box: cell.getBoundingClientRect() }))
            .filter(({ cell, box }) => box.right > panel.right + 1 || cell.scrollWidth > cell.clientWidth + 1 || box.width < 60)
            .map(({ cell }) => cell.textContent),
          ...(now.left < axis.left || now.right > axis.right ? ['now'] : [])
        ]
      })
      t.strictSame(cut, [], range)
      t.strictSame(await labelsOverOthers(page), [], range)
    }
    await page.getByRole('link', { name: 'x', exact: true }).click()
    await page.locator('.own-lane').waitFor()
    t.strictSame(await labelsOverOthers(page), [], 'of one grant')
  })
}
