import { readFileSync } from 'node:fs'
import t from 'tap'
import { readConfig } from '../../src/config.ts'
import { dialects } from '../../src/iam/dialects/index.ts'

const page = readFileSync(new URL('../../docs/dialects.md', import.meta.url), 'utf8')
const blocks = (language: string) => [...page.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 'gs'))].map(([, text]) => text ?? '')

t.test('there is a configuration for every dialect', async t => {
  const configured = blocks('sh config').map(text => readConfig(Object.fromEntries(text.trim().split('\n').map(line => {
    const [name = '', ...value] = line.split('=')
    return [name, value.join('=')]
  }))))
  t.strictSame([...new Set(configured.map(({ dialect }) => dialect.name))].sort(), Object.keys(dialects).sort())
})

t.test('the table says what the dialects say', async t => {
  const rows = page.split('\n').filter(line => line.startsWith('| ')).map(line => line.split('|').slice(1, -1).map(cell => cell.trim()))
  const [[, ...names] = [], ...rest] = rows
  const cells = (title: string) => Object.fromEntries(names.map((name, index) => [name.replaceAll('`', ''), rest.find(([first]) => first === title)?.[index + 1]]))
  const sizes = cells('Policies, characters')
  const sessions = cells('attach `session`')
  const waiting = cells('`waitUntilReady`')
  const changed = cells('A changed policy')
  for (const { name, ...dialect } of Object.values(dialects)) {
    const { inline, managed, session } = dialect.sizes
    const said = [['inline', inline], ['managed', managed]].filter(([, size]) => size !== undefined).map(([way, size]) => `${way} ${size?.toLocaleString('en')}`)
    if (name !== 'localstack') t.equal(sizes[name], said.join(', '), `${name}: sizes`)
    t.equal(sessions[name]?.startsWith('yes'), session !== undefined, `${name}: sessions`)
    t.equal(waiting[name], dialect.identityProbe === null ? 'refused' : 'yes', `${name}: waitUntilReady`)
    const inPlace = dialect.policyVersions || managed === undefined
    t.equal(changed[name], inPlace ? 'replaces in place' : 'a second policy takes over', `${name}: changes`)
  }
})
