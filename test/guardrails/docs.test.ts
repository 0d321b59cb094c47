import { execFile } from 'node:child_process'
import { cp, mkdir, readFile, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseCases, runCases } from '../../src/guardrails/cases.ts'
import { checks, loadGuardrails, maxQuestions } from '../../src/guardrails/guardrails.ts'
import { actions } from '../../src/guardrails/schema.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const docs = await readFile(join(root, 'docs/guardrails.md'), 'utf8')
const blocks = (language: string) => [...docs.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([,
  block = '']) => block)

t.test('the commands work when pasted, and print what the docs say', async t => {
  const dir = t.testdir()
  await mkdir(dir, { recursive: true })
  for (const part of ['package.json', 'guardrails', 'src']) await cp(join(root, part), join(dir, part), { recursive: true })
  await symlink(join(root, 'node_modules'), join(dir, 'node_modules'))
  const paste = (script: string): Promise<string> => new Promise((resolve, reject) => {
    const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` }
    execFile('sh', ['-e', '-c', script], { cwd: dir, env }, (error, out, err) => error ? reject(new Error(`${out}${err}`)) : resolve(out))
  })
  const [write, explain, bench] = blocks('sh')
  t.match(await paste(write ?? ''), /action list appliesTo[^]*my\.cedar: 20 policies[^]*\n# (\d+) of \1 as expected\n$/)
  t.equal(await paste(explain ?? ''), blocks('text')[0])
  t.equal(bench, 'node bench/guardrails.ts\n', 'which takes its time and is run by hand')
})

t.test('the policy and the cases are good', async t => {
  const [policy = ''] = blocks('cedar')
  t.equal(loadGuardrails(policy, 'docs').policies.length, 1)
  const example = await readFile(join(root, 'guardrails/example.cedar'), 'utf8')
  t.ok(example.includes(policy), 'and the policy is the example’s')
  const outcomes = runCases(loadGuardrails(example, 'example.cedar'), parseCases(blocks('yaml')[0] ?? '', 'docs'))
  t.strictSame(outcomes.map(({ wrong }) => wrong), [null, null, null])
})

t.test('every action and every check is explained', async t => {
  for (const action of actions) t.match(docs, new RegExp(`^\\| .*\`${action}\`.*\\|`, 'm'), action)
  for (const check of Object.values(checks)) t.ok(docs.includes(`\`${check}\``), check)
  t.ok(docs.includes(`more than ${maxQuestions.toLocaleString('en')} `), 'and the number of questions')
})
