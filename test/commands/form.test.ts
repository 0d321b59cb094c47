import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../..')
const names = readdirSync(join(root, 'src/commands')).map(name => name.replace(/\.ts$/, '')).filter(name => name !== 'command')
const run = (name: string, args: string[], env: NodeJS.ProcessEnv = {}) =>
  spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', join(root, `src/commands/${name}.ts`), ...args],
    { encoding: 'utf8', env: { PATH: process.env.PATH, ...env } })

for (const name of names) {
  t.test(name, async t => {
    const usage = new RegExp(`^Usage: node \\S+/${name}\\.ts `)
    const help = run(name, ['--help'])
    t.match(help, { status: 0, stdout: usage, stderr: '' }, '--help prints the usage')
    const wrong = run(name, ['--no-such-option'])
    t.match(wrong, { status: 2, stdout: '', stderr: /^Unknown option/ }, 'a wrong command line: status 2')
    t.ok(wrong.stderr.endsWith(`\n\n${help.stdout}`), 'with the usage')
  })
}

t.test('a wrong configuration is status 1, without the usage', async t => {
  for (const [name, ...args] of [['reconcile'], ['own-policies', 'service', '--account', '111122223333']] as const) {
    const { status, stdout, stderr } = run(name, args, { JOB_ACCESS_NO_SUCH: 'x' })
    t.equal(status, 1, name)
    t.equal(stdout, '', name)
    t.match(stderr, /JOB_ACCESS_NO_SUCH/, name)
    t.notMatch(stderr, /Usage/, name)
  }
})

t.test('operating.md has every operator command, for a checkout and for the image', async t => {
  const page = readFileSync(join(root, 'docs/operating.md'), 'utf8')
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  for (const name of names) {
    const script = Object.keys(scripts).find(script => scripts[script]?.endsWith(`src/commands/${name}.ts`))
    t.ok(page.includes(`| \`npm run -s ${script}\` | \`${name}.js\` |`), name)
  }
})
