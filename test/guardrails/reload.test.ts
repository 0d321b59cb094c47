import { appendFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { GuardrailsError, loadGuardrails, type Guardrails } from '../../src/guardrails/guardrails.ts'
import { openGuardrails } from '../../src/guardrails/reload.ts'
import { asked, at, nlp } from './sample.ts'

const permit = (id: string) => `@id("${id}") permit (principal, action, resource);\n`

t.test('a good file replaces the whole set; a decision that has begun ends under the old one', async t => {
  const file = join(t.testdir(), 'rules.cedar')
  await writeFile(file, permit('one'))
  const inForce = await openGuardrails(file)
  const before = inForce.current
  t.strictSame(before.decide(nlp, asked(), 'issue', at), { allowed: true, decidedBy: ['one'] })
  await writeFile(file, permit('two'))
  t.equal(inForce.current, before, 'nothing happens by itself')
  t.match(await inForce.reload(), { ok: true, changed: true, guardrails: { policies: [{ id: 'two' }] } })
  t.strictSame(inForce.current.decide(nlp, asked(), 'issue', at), { allowed: true, decidedBy: ['two'] })
  t.strictSame(before.decide(nlp, asked(), 'issue', at), { allowed: true, decidedBy: ['one'] })
  t.not(before.sha256, inForce.current.sha256)
  const now = inForce.current
  t.match(await inForce.reload(), { ok: true, changed: false })
  t.equal(inForce.current, now, 'an unchanged file changes nothing')
})

t.test('a bad file changes nothing, and is reported', async t => {
  const file = join(t.testdir(), 'rules.cedar')
  await writeFile(file, permit('one'))
  const inForce = await openGuardrails(file)
  const before = inForce.current
  const bad: Array<[what: string, break_: () => Promise<void>, message: RegExp, line: number]> = [
    ['syntax', () => appendFile(file, 'permit (principal'), /unexpected end of input/, 2],
    ['schema', () => writeFile(file, '\n@id("a") permit (principal, action, resource) when { resource.x == 1 };'), /attribute `x`/, 2],
    ['nesting', () => writeFile(file, `@id("a") permit (principal, action, resource) when { ${'('.repeat(500)}true${')'.repeat(500)} };`),
      /nested too deeply/, 1],
    ['encoding', () => writeFile(file, Buffer.from([0x2f, 0x2f, 0xff, 0x0a])), /is not UTF-8/, 1],
    ['no file', () => rm(file), /cannot be read: ENOENT/, 1]
  ]
  for (const [what, breakIt, message, line] of bad) {
    await breakIt()
    t.match(await inForce.reload(), { ok: false, guardrails: { policies: [{ id: 'one' }] }, findings: [{ file, line, message }] }, what)
    t.equal(inForce.current, before, what)
    t.strictSame(inForce.current.decide(nlp, asked(), 'issue', at), { allowed: true, decidedBy: ['one'] }, what)
  }
  await writeFile(file, permit('two'))
  t.match(await inForce.reload(), { ok: true, changed: true }, 'and a good one takes over afterwards')
  t.strictSame(inForce.current.policies.map(({ id }) => id), ['two'])
})

t.test('without a good file the service does not start', async t => {
  const dir = t.testdir({ 'bad.cedar': 'permit (principal, action, resource);' })
  await t.rejects(openGuardrails(join(dir, 'bad.cedar')), new GuardrailsError([
    { file: join(dir, 'bad.cedar'), line: 1, column: 1, message: 'a policy needs an @id("…"), so that a denial can name it' }
  ]))
  await t.rejects(openGuardrails(join(dir, 'none.cedar')),
    { name: 'GuardrailsError', message: /none\.cedar:1:1: cannot be read: ENOENT/ })
  await t.rejects(openGuardrails(dir), { name: 'GuardrailsError', message: /cannot be read: EISDIR/ })
})

t.test('a byte order mark is not part of the policies', async t => {
  const file = join(t.testdir(), 'rules.cedar')
  await writeFile(file, `\ufeff${permit('one')}`)
  t.match((await openGuardrails(file)).current.policies, [{ id: 'one', line: 1 }])
})

t.test('after several signals at once the last file is in force', async t => {
  const file = join(t.testdir(), 'rules.cedar')
  await writeFile(file, permit('p0'))
  const inForce = await openGuardrails(file)
  const reloads = []
  for (let index = 1; index <= 10; index += 1) {
    // As an editor or a ConfigMap does it: a reader finds the old file or the new one, never half of one.
    await writeFile(`${file}.new`, permit(`p${index}`))
    await rename(`${file}.new`, file)
    reloads.push(inForce.reload())
  }
  const results = await Promise.all(reloads)
  t.ok(results.every(({ ok }) => ok))
  t.strictSame(inForce.current.policies.map(({ id }) => id), ['p10'])
})

t.test('a reload waits for the one before it', async t => {
  const loads: Array<(guardrails: Guardrails) => void> = []
  const opening = openGuardrails('rules.cedar', () => new Promise(resolve => { loads.push(resolve) }))
  const finish = (index: number, id: string) => loads[index]?.(loadGuardrails(permit(id), 'rules.cedar'))
  finish(0, 'first')
  const inForce = await opening
  const [second, third] = [inForce.reload(), inForce.reload()]
  await setImmediate()
  t.equal(loads.length, 2, 'the third load has not begun')
  finish(1, 'second')
  t.match(await second, { guardrails: { policies: [{ id: 'second' }] } })
  await setImmediate()
  finish(2, 'third')
  t.match(await third, { guardrails: { policies: [{ id: 'third' }] } })
  t.match(inForce.current.policies, [{ id: 'third' }])
})

t.test('200 reloads leave none of the old sets in memory', async t => {
  const file = join(t.testdir(), 'rules.cedar')
  await writeFile(file, permit('p'))
  const inForce = await openGuardrails(file)
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const settled = async (): Promise<number> => {
    for (let index = 0; index < 5; index += 1) {
      collect()
      await setImmediate()
    }
    return process.memoryUsage().external
  }
  const before = await settled()
  const old: Array<WeakRef<object>> = []
  for (let index = 0; index < 200; index += 1) {
    await writeFile(file, Array.from({ length: 5 }, (_, policy) => permit(`p${index}-${policy}`)).join(''))
    if (!(await inForce.reload()).ok) t.fail(`reload ${index} failed`)
    inForce.current.decide(nlp, asked(), 'issue', at)
    old.push(new WeakRef(inForce.current))
  }
  const grown = await settled() - before
  t.ok(old.filter(ref => ref.deref() !== undefined).length <= 2, 'the old sets are gone')
  t.ok(grown < 20 * 2 ** 20, `and their WebAssembly memories: ${(grown / 2 ** 20).toFixed(1)} MiB more than before`)
})
