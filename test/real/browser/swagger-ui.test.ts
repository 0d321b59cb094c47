import { setTimeout as delay } from 'node:timers/promises'
import type { Locator, Page } from 'playwright-core'
import t from 'tap'
import { startService } from '../../commands/service.ts'
import { complaintsOf, openBrowser } from './chromium.ts'

/** /docs as a stranger uses it, of the service as `npm start` starts it: authorize, then execute every example as it stands. */

const service = await startService(t)
const browser = await openBrowser(t)
const page = await browser.newPage({ viewport: { width: 1280, height: 1000 } })
const complaints = complaintsOf(page)

interface Operation { operationId: string, tags: [string], parameters?: { name: string, in: string }[], requestBody?: Body }
interface Body { content: { 'application/json': { examples: Record<string, { value: object }> } } }

const { paths } = await (await fetch(`${service.url}/openapi.json`)).json() as { paths: Record<string, Record<string, Operation>> }
const operations = Object.values(paths).flatMap(methods => Object.values(methods))
const named = (operationId: string): Operation => {
  const operation = operations.find(operation => operation.operationId === operationId)
  if (!operation) throw new Error(`no ${operationId}`)
  return operation
}
const examplesOf = ({ requestBody }: Operation) => Object.keys(requestBody?.content['application/json'].examples ?? {})

t.test('the page opens', async t => {
  await page.goto(`${service.url}/docs`)
  await page.getByRole('heading', { name: /^job-access/ }).waitFor()
  t.equal(await page.title(), 'job-access API')
  for (const { tags: [tag], operationId } of operations) {
    t.ok(await page.locator(`#operations-${tag}-${operationId}`).isVisible(), operationId)
  }
  t.strictSame(complaints, [])
})

t.test('an operation is told before its refusals take the page', async t => {
  const block = await expanded(page, named('issueGrant'))
  const heightOf = (part: Locator) => part.evaluate(element => element.getBoundingClientRect().height)
  const refusals = await block.locator('tr.response:is([data-code^="4"], [data-code^="5"])').all()
  t.ok(refusals.length > 10, `${refusals.length} statuses`)
  for (const row of refusals) {
    const height = await heightOf(row)
    t.ok(height < 250, `${await row.getAttribute('data-code')}: ${height} px`)
    t.match(await row.locator('.example').first().innerText(), /"code": "[a-z-]+"/)
  }
  // It was 6,700 with an example for each code, each as long as it is.
  const whole = await heightOf(block)
  t.ok(whole < 5000, `${whole} px`)
  await collapse(block)
})

t.test('without a token every operation answers what to do', async t => {
  const answer = await execute(await expanded(page, named('listGrants')))
  t.equal(answer.status, 401)
  t.match(JSON.parse(answer.body), { code: 'unauthenticated', hint: /Authorization: Bearer/ })
  // Chromium notes a failed load; nothing else.
  t.match(complaints.splice(0), [/responded with a status of 401 .*\/v1\/grants/])
})

t.test('the Authorize button takes the token', async t => {
  await page.locator('.auth-wrapper').getByRole('button', { name: 'Authorize' }).click()
  const dialog = page.locator('.dialog-ux .modal-ux')
  t.match(await dialog.innerText(), /API token/)
  await dialog.locator('input').fill(service.token)
  await dialog.getByRole('button', { name: 'Apply credentials' }).click()
  await dialog.getByRole('button', { name: 'Remove authorization' }).waitFor()
  await dialog.getByRole('button', { name: 'Close' }).last().click()
  t.notOk(await dialog.isVisible())
})

t.test('every operation runs as it is, with each of its examples', async t => {
  // First what gives the id that the others ask for, last what ends it.
  const [first, ...last] = ['issueGrant', 'completeGrant', 'revokeGrant'].map(named)
  if (!first) throw new Error('no first')
  const inOrder = [first, ...operations.filter(operation => ![first, ...last].includes(operation)), ...last]
  const ran = new Set<string>()
  let id = ''
  let ofWorkers = ''
  for (const operation of inOrder) {
    const { operationId } = operation
    const block = await expanded(page, operation)
    for (const example of examplesOf(operation).length > 0 ? examplesOf(operation) : [null]) {
      if (operation.parameters?.some(({ name }) => name === 'id')) {
        const own = operation.tags.includes('workers') ? ofWorkers : id
        await block.getByPlaceholder('id').fill(operationId === 'fetchCredentials' ? await scheduled(`${example}`) : own)
      }
      if (operation.parameters?.some(({ name }) => name === 'name')) await block.getByPlaceholder('name').fill('trainer-0')
      if (example) await block.locator('.opblock-section-request-body .examples-select-element').selectOption(example)
      const answer = await (operationId === 'fetchCredentials' ? executeOnceMinted(block) : execute(block))
      const what = `${operationId} ${example ?? ''}: ${answer.status}`
      t.ok(answer.status >= 200 && answer.status < 300, answer.status < 300 ? what : `${what} ${answer.body}`)
      t.ok(answer.body.length > 0, `${what}: an answer to read`)
      if (operationId === 'issueGrant' && !id) id = JSON.parse(answer.body).grant.id
      if (operationId === 'issueGrant' && example === 'workers') ofWorkers = JSON.parse(answer.body).grant.id
      if (operationId === 'listGrants') t.match(answer.body, id, 'nothing is filtered away')
    }
    ran.add(operationId)
    await collapse(block)
  }
  t.strictSame(ran, new Set(operations.map(({ operationId }) => operationId)))
  t.strictSame(complaints, [])
})

t.test('the credentials come in every form, and a second Execute is the same grant', async t => {
  const block = await expanded(page, named('issueGrant'))
  await block.getByPlaceholder('idempotency-key').fill('the-same-request')
  const forms: Record<string, RegExp> = {
    'application/json': /"secretAccessKey": "/,
    'text/x-env': /^AWS_SECRET_ACCESS_KEY=/m,
    'text/x-aws-credentials': /^aws_secret_access_key = /m,
    'application/vnd.aws.credential-process+json': /"SecretAccessKey": "/,
    'application/yaml': /^ {2}AWS_SECRET_ACCESS_KEY: /m
  }
  const select = block.locator('tr.response[data-code="200"] select[aria-label="Media Type"]')
  t.strictSame(await select.locator('option').allInnerTexts(), Object.keys(forms))
  const statuses: number[] = []
  for (const [type, form] of Object.entries(forms)) {
    await select.selectOption(type)
    const example = await block.locator('tr.response[data-code="200"] .example').first().innerText()
    t.match(example, form, `${type}: its example`)
    t.match(example, /EXAMPLEKEY/)
    const answer = await execute(block)
    t.match(answer.body, form, type)
    t.match(answer.type, type)
    statuses.push(answer.status)
  }
  t.strictSame(statuses.slice(1), [200, 200, 200, 200])
  t.strictSame(complaints, [])
})

const expanded = async (page: Page, { tags: [tag], operationId }: Operation): Promise<Locator> => {
  const block = page.locator(`#operations-${tag}-${operationId}`)
  const control = block.locator('.opblock-summary-control')
  if (await control.getAttribute('aria-expanded') !== 'true') await control.click()
  await block.getByRole('button', { name: 'Execute' }).waitFor()
  return block
}

const collapse = async (block: Locator): Promise<void> => {
  await block.locator('.opblock-summary-control').click()
  await block.getByRole('button', { name: 'Execute' }).waitFor({ state: 'detached' })
}

interface Answer { status: number, type: string, body: string }

/** Presses Execute, and reads what the page shows. */
const execute = async (block: Locator): Promise<Answer> => {
  const shown = block.locator('.live-responses-table .response')
  const clear = block.getByRole('button', { name: 'Clear' })
  if (await clear.isVisible()) await clear.click()
  await shown.waitFor({ state: 'detached' })
  await block.getByRole('button', { name: 'Execute' }).click()
  await shown.waitFor()
  const headers = await shown.locator('h5:text-is("Response headers") + pre').innerText()
  return {
    status: Number.parseInt(await shown.locator('.response-col_status').innerText(), 10),
    type: /content-type: ([^\s;]+)/.exec(headers)?.[1] ?? '',
    body: await shown.locator('.response-col_description pre').first().innerText()
  }
}

/** Until issueAt, and while the sweeper has the grant in hand, the answer is 409 with Retry-After. */
const executeOnceMinted = async (block: Locator): Promise<Answer> => {
  let last = ''
  for (let tries = 0; tries < 20; tries++) {
    const answer = await execute(block)
    if (answer.status !== 409) return answer
    last = answer.body
    // Chromium notes the failed load.
    complaints.splice(0)
    await delay(1000)
  }
  throw new Error(`still 409: ${last}`)
}

/** Types a request with an issueAt soon, another job each, and gives the id that is answered. */
const scheduled = async (name: string): Promise<string> => {
  const block = await expanded(page, named('issueGrant'))
  const body = block.locator('textarea')
  const request = JSON.parse(await body.inputValue())
  // Far enough, so that it is still to come when a busy machine has sent the request.
  const issueAt = new Date(Date.now() + 10_000).toISOString().replace(/\.\d+/, '')
  await body.fill(JSON.stringify({ ...request, job: { id: `later-${name}`, team: 'nlp' }, issueAt }))
  const answer = JSON.parse((await execute(block)).body)
  await collapse(block)
  return answer.grant.id
}
