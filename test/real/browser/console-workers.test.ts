import t from 'tap'
import { join } from '../../../src/lifecycle/join.ts'
import { callerNamed } from '../../harness.ts'
import { openBrowser } from './chromium.ts'
import { grantIdOf, openConsole, serveConsole } from './console-page.ts'

const browser = await openBrowser(t)

t.test('a job of workers: issued, looked at, one worker ended, completed', async t => {
  const service = await serveConsole(t)
  const page = await openConsole(t, browser, service, { token: service.tokens.nlp, refusals: [400, 422] })
  await page.getByRole('link', { name: 'New grant' }).first().click()
  await page.getByLabel('Job id').fill('many-7')
  await page.getByLabel('Team').fill('nlp')
  await page.getByRole('group', { name: 'Output' }).getByLabel('Bucket').fill('acmeco-models')
  await page.getByLabel('Address or CIDR').waitFor()
  await page.getByLabel('The job has many workers').check()
  await page.getByLabel('Address or CIDR').waitFor({ state: 'hidden' })
  await page.getByLabel('Workers at once, at most').fill('3')
  await page.getByText(/^Rendered: /).waitFor()
  await page.getByRole('button', { name: 'Issue the grant' }).click()
  await page.getByRole('heading', { name: /many-7/, level: 1 }).waitFor()
  await page.getByText('No worker holds a key; 3 may.').waitFor()
  t.equal(await page.getByRole('button', { name: 'Rotate key…' }).count(), 0, 'it has no key')
  const id = grantIdOf(page)

  for (const n of [0, 1]) {
    await join(service.deps, callerNamed('token:nlp', ['nlp']), id, { name: `w-${n}`, attempt: `a${n}`, sourceIps: [`203.0.113.4${n}`] })
  }
  await page.reload()
  await page.getByLabel('API token or JWT').fill(service.tokens.nlp)
  await page.getByRole('button', { name: 'Sign in' }).click()
  const table = page.getByRole('table', { name: '2 of 3 that may hold a key' })
  await table.waitFor()
  t.match(await table.innerText(), /w-1\s+active\s+203\.0\.113\.41\/32\s+AKIA\w+\s+.*a1/s, 'who, from where, with which key')

  await table.getByRole('button', { name: 'End w-0…' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'End worker' }).click()
  await page.getByText('Worker w-0 has ended.').waitFor()
  await page.getByRole('table', { name: '1 of 3 that may hold a key' }).waitFor()
  t.equal(service.iam.state.userCount, 1)

  await page.getByRole('link', { name: 'w-1' }).click()
  await page.getByRole('heading', { name: 'many-7, worker w-1', level: 1 }).waitFor()
  t.equal(await page.getByRole('button', { name: 'Extend…' }).count(), 0, 'its window is the job’s')
  await page.getByRole('link', { name: 'many-7' }).click()
  await page.getByRole('heading', { name: /^many-7\s/, level: 1 }).waitFor()
  await page.getByRole('button', { name: 'Complete…' }).click()
  await page.getByRole('dialog').getByText('The keys of all its workers').waitFor()
  await page.getByRole('dialog').getByRole('button', { name: 'Complete' }).click()
  await page.getByText('Completed: its key is deleted.').waitFor()
  t.equal(service.iam.state.userCount, 0)
})
