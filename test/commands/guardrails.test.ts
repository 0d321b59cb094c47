import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { guideRequest } from '../../src/request.ts'
import { schemaText } from '../../src/guardrails/schema.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

const run = (...args: string[]): Promise<{ code: number, out: string, err: string }> => new Promise((resolve, reject) => {
  execFile(process.execPath, ['src/commands/guardrails.ts', ...args], { cwd: root }, (error, out, err) => {
    if (error && typeof error.code !== 'number') reject(error)
    else resolve({ code: error ? Number(error.code) : 0, out, err })
  })
})

t.test('check', async t => {
  const nameless = 'permit (principal, action, resource);\n'
  const dir = t.testdir({ 'bad.cedar': `// one\n${nameless}${nameless}`, 'empty.cedar': '' })
  t.match(await run('check', 'guardrails/example.cedar'),
    { code: 0, out: 'guardrails/example.cedar: 24 policies, 11 permit and 13 forbid\n', err: '' })
  t.match(await run('check', `${dir}/empty.cedar`), { code: 0, out: /no policy permits anything, so every request is refused/ })
  const bad = await run('check', `${dir}/bad.cedar`)
  t.match(bad, { code: 1, out: '' })
  t.strictSame(bad.err.split('\n'),
    [2, 3].map(line => `${dir}/bad.cedar:${line}:1: a policy needs an @id("…"), so that a denial can name it`).concat(''))
  t.match(await run('check', `${dir}/none.cedar`), { code: 1, err: /none\.cedar:1:1: cannot be read: ENOENT/ })
})

t.test('test', async t => {
  const good = await run('test', 'guardrails/example.cedar', 'guardrails/example.tests.yaml')
  t.equal(good.code, 0)
  t.match(good.out, /^TAP version 14\n1\.\.(\d+)\nok 1 - the launcher issues a job of workers/)
  t.match(good.out, /\n# (\d+) of \1 as expected\n$/)
  const wrong = await run('test', 'guardrails/open.cedar', 'guardrails/example.tests.yaml')
  t.equal(wrong.code, 1)
  t.match(wrong.out, /\nnot ok \d+ - nobody writes base models\n# expected deny by base-models-are-read-only at \/output, got allow by open-/)
  const dir = t.testdir({ 'cases.yaml': 'cases: [' })
  t.match(await run('test', 'guardrails/example.cedar', `${dir}/cases.yaml`), { code: 1, out: '', err: /cases\.yaml:1:9: / })
  t.match(await run('test', 'guardrails/example.cedar', `${dir}/none.yaml`), { code: 1, err: /none\.yaml: cannot be read: ENOENT/ })
})

t.test('explain', async t => {
  const dir = t.testdir({
    'guide.json': JSON.stringify(guideRequest),
    'good.json': JSON.stringify({ ...guideRequest, output: { bucket: 'acmeco-finetuned-models', prefix: 'nlp/' } }),
    'bad.json': JSON.stringify({ ...guideRequest, sourceIps: ['10.0.0.1'] }),
    'typo.json': JSON.stringify({ ...guideRequest, laoyut: 'guide' }),
    'no.json': '{',
    'nlp.json': JSON.stringify({ kind: 'token', teams: ['nlp'] }),
    'vision.json': JSON.stringify({ kind: 'token', teams: ['vision'] })
  })
  const explain = (request: string, caller: string, ...more: string[]) =>
    run('explain', 'guardrails/example.cedar', `${dir}/${request}.json`, '--caller', `${dir}/${caller}.json`, ...more)
  const lineOf = (id: string, text: string) => text.split('\n').findIndex(line => line === `@id("${id}")`) + 1
  const example = await readFile(`${root}/guardrails/example.cedar`, 'utf8')
  const by = (id: string) => `permitted by "${id}" (guardrails/example.cedar:${lineOf(id, example)}).`
  const guide = await explain('guide', 'nlp')
  t.strictSame(guide.out.split('\n'), [
    `/job: a grant for job "wiki-finetune-42" of team "nlp": ${by('teams-ask-for-their-jobs')}`,
    `/datasets/0: reading "acmeco-training-datasets-wikipedia-2025-07-01/" from 203.0.113.42/32: ${by('read-training-datasets')}`,
    `/baseModels/0: reading "acmeco-base-models/" from 203.0.113.42/32: ${by('read-base-models')}`,
    '/output: writing to "acmeco-finetuned-models/" from 203.0.113.42/32: no policy permits it.',
    'Refused.',
    ''
  ])
  t.equal(guide.code, 1)
  t.match(await explain('good', 'nlp', '--action', 'render', '--now', '2025-07-16T00:00:00Z'),
    { code: 0, out: /rendering a policy for[^]*\nAllowed\.\n$/ })
  t.match(await explain('good', 'vision'), { code: 1, out: '/job/team: This identity does not belong to team "nlp".\nRefused.\n' })
  t.match(await explain('bad', 'nlp'), { code: 1, out: /^\/sourceIps\/0: ip-private: [^\n]+\nRefused before the guardrails are asked\.\n$/ })
  t.match(await explain('typo', 'nlp'), { code: 1, err: /typo\.json: \/ must NOT have additional properties \(laoyut\)/ })
  t.match(await explain('no', 'nlp'), { code: 1, err: /no\.json: .*JSON/ })
  t.match(await explain('good', 'good'), { code: 1, err: /good\.json: \// })
  t.match(await explain('good', 'nlp', '--action', 'view'), { code: 2, err: /--action is one of issue, extend, join, render/ })
})

t.test('schema and misuse', async t => {
  t.match(await run('schema'), { code: 0, out: `${schemaText}\n` })
  for (const args of [[], ['chekc', 'x'], ['check', 'a', 'b'], ['check', 'x', '--verbose']]) {
    t.match(await run(...args), { code: 2, out: '', err: /explain/ }, args.join(' '))
  }
})
