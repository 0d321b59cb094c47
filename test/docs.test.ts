import { readFileSync } from 'node:fs'
import t from 'tap'
import { configurationPage, errorsPage } from '../src/docs.ts'

const committed = (name: string) => readFileSync(new URL(`../docs/${name}`, import.meta.url), 'utf8')

t.test('the generated pages are those of the code', async t => {
  t.equal(committed('errors.md'), errorsPage(), 'run `npm run docs`')
  t.equal(committed('configuration.md'), configurationPage(), 'run `npm run docs`')
})
