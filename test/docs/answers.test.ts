import t from 'tap'
import { differences, sameText } from './answers.ts'
import { blocksOf } from './markdown.ts'

/** What compares must not take everything for the same. */

const alike: Array<[shown: unknown, real: unknown]> = [
  [{ a: 1 }, { a: 1 }],
  ['…', { anything: [] }],
  [{ a: 1, '…': '…' }, { a: 1, b: 2 }],
  [[1, '…'], [1, 2, 3]],
  ['2025-07-16T01:00:00Z', '2026-11-24T08:44:32.335Z'],
  ['AKIAEMBEDDED4QH2X7RZ', 'AKIAIOSFODNN7EXAMPLE'],
  ['until …, only from 203.0.113.42', 'until 2026-11-24T08:44:32Z, only from 203.0.113.42']
]
const different: Array<[shown: unknown, real: unknown, pointer: string]> = [
  [{ a: 1 }, { a: 1, b: 2 }, '/b'],
  [{ a: 1, b: 2 }, { a: 1 }, '/b'],
  [{ a: 1, '…': '…' }, { a: 2, b: 2 }, '/a'],
  [[1, 2], [1], ''],
  [[1, 2, '…'], [1], ''],
  [{ a: { b: ['x'] } }, { a: { b: ['y'] } }, '/a/b/0'],
  ['2025-07-16T01:00:00Z', 'tomorrow', ''],
  ['AKIAEMBEDDED4QH2X7RZ', 'ASIA', ''],
  [null, {}, ''],
  [1, '1', '']
]

t.test('JSON', async t => {
  for (const [shown, real] of alike) t.strictSame(differences(shown, real), [], JSON.stringify([shown, real]))
  for (const [shown, real, pointer] of different) t.match(differences(shown, real)[0] ?? 'the same', new RegExp(`^${pointer}: `), JSON.stringify([shown, real]))
})

t.test('text', async t => {
  t.ok(sameText('a 1\n…\nz\n', 'a 1\nb\nc\nz'))
  t.ok(sameText('key: …\n', 'key: x\n\n'))
  t.notOk(sameText('a\nz', 'a\nb\nz'))
  t.notOk(sameText('a\n', 'a\nb\n'))
  t.notOk(sameText('a.c', 'abc'), 'nothing of it is a pattern')
})

t.test('blocks: indented ones too; what has no end, or another fence, is refused', async t => {
  const [block] = blocksOf('p.md', 'text\n   ```sh start port=1 needs=x\n   a\n     b\n   ```\n')
  t.match(block, { line: 2, language: 'sh', words: ['start', 'port=1'], needs: 'x', text: 'a\n  b\n' })
  for (const markdown of ['```sh\na', '~~~\na\n~~~', '````\na\n````', '```sh\n```sh\n```']) t.throws(() => blocksOf('p.md', markdown), markdown)
})
