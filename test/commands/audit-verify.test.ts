import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openAudit } from '../../src/audit/log.ts'
import { auditFiles, issued, secret } from '../audit/written.ts'

const cli = (args: string[]) => new Promise<{ code: number, stdout: string, stderr: string }>(resolve => {
  execFile(process.execPath, ['src/commands/audit-verify.ts', ...args], (error, stdout, stderr) =>
    resolve({ code: error ? Number(error.code) : 0, stdout, stderr }))
})

async function written (dir: string, instance: string, hmacKey?: Buffer) {
  const audit = await openAudit({ path: join(dir, 'audit'), instance, now: Date.now, maxBytes: 1200, ...(hmacKey ? { hmacKey } : {}) })
  for (const id of ['r1', 'r2', 'r3']) await audit.record(issued(id))
  await audit.close()
  return audit.state().head
}

t.test('whole chains: counts, heads, status 0; files in any order', async t => {
  const dir = t.testdir({ 'audit.a.000000000099.jsonl': '' })
  const a = await written(dir, 'a')
  const b = await written(dir, 'b')
  const { code, stdout, stderr } = await cli(auditFiles(dir).reverse())
  t.equal(code, 0)
  t.equal(stderr, '')
  t.same(stdout.trim().split('\n').sort(), [a, b].map(({ hash }, i) => `OK ${'ab'[i]}: 5 lines (1 to 5) in 3 files, sealed without a key, head 5:${hash}`))
})

t.test('the documented check of one line by hand', async t => {
  const dir = t.testdir({})
  await written(dir, 'a')
  const [block = ''] = /^line=.*$/m.exec(readFileSync('docs/audit.md', 'utf8')) ?? []
  const [file = ''] = auditFiles(dir)
  const { stdout } = await new Promise<{ stdout: string }>((resolve, reject) =>
    execFile('sh', ['-c', block], { env: { ...process.env, FILE: file } }, (error, stdout) => error ? reject(error) : resolve({ stdout })))
  t.equal(JSON.parse(readFileSync(file, 'utf8').split('\n')[1] ?? '').hash, `sha256:${stdout.slice(0, 64)}`)
})

t.test('a key, from a file as hex or as bytes', async t => {
  const dir = t.testdir({ hex: `${secret.toString('hex')}\n`, raw: secret, other: Buffer.alloc(32, 9), short: 'short' })
  const head = await written(dir, 'a', secret)
  const files = auditFiles(dir)
  for (const file of ['hex', 'raw']) {
    const { code, stdout } = await cli(['--key-file', join(dir, file), '--head', `5:${head.hash}`, ...files])
    t.equal(code, 0)
    t.match(stdout, /^OK a: 5 lines .* sealed with the key/)
  }
  t.match(await cli(['--key-file', join(dir, 'other'), ...files]), { code: 1, stdout: /BROKEN .*1\.jsonl:1 \(seq 1\): wrong-key: / })
  t.match(await cli(['--key-file', join(dir, 'other'), '--key-file', join(dir, 'raw'), ...files]), { code: 0 })
  t.match(await cli(files), { code: 1, stdout: /key-needed/ })
  t.match(await cli(['--key-file', join(dir, 'short'), ...files]), { code: 2, stderr: /32 bytes/ })
})

t.test('a broken chain: the first broken line, why, status 1; the others are still checked', async t => {
  const dir = t.testdir({})
  await written(dir, 'a')
  await written(dir, 'b')
  const files = auditFiles(dir)
  const second = files[1] ?? ''
  writeFileSync(second, readFileSync(second, 'utf8').replace('nlp', 'cv'))
  const { code, stdout } = await cli(files)
  t.equal(code, 1)
  t.match(stdout, /^BROKEN .*audit\.a\.000000000003\.jsonl:1 \(seq 3\): edited: line was edited/)
  t.match(stdout, /^OK b: 5 lines/m)
})

t.test('the head of an earlier run: a cut end', async t => {
  const dir = t.testdir({})
  const head = await written(dir, 'a')
  const files = auditFiles(dir)
  t.match(await cli(['--head', `5:${head.hash}`, ...files]), { code: 0 })
  t.match(await cli(['--head', head.hash, ...files]), { code: 0 })
  t.match(await cli(['--head', `5:${head.hash}`, ...files.slice(0, 2)]), { code: 1, stdout: /truncated: line the expected head \(line 5\) is not in the chain, which ends at line 4/ })
  t.match(await cli(['--head', `4:${head.hash}`, ...files]), { code: 1, stdout: /head-differs/ })
})

const wrong: [string, string[], RegExp][] = [
  ['no file', [], /no file/],
  ['a file that is not there', ['nowhere.jsonl'], /ENOENT/],
  ['an unknown option', ['--heads', 'x', 'f'], /Unknown option/],
  ['a head that is none', ['--head', 'abc', 'package.json'], /--head takes/],
  ['empty files only', ['/dev/null'], /empty/]
]
for (const [name, args, message] of wrong) {
  t.test(`status 2 and the usage for ${name}`, async t => {
    const { code, stdout, stderr } = await cli(args)
    t.equal(code, 2)
    t.equal(stdout, '')
    t.match(stderr, message)
    t.match(stderr, /Usage: node \S+audit-verify\.ts /)
  })
}

t.test('a file of something else', async t => {
  t.match(await cli(['package.json']), { code: 1, stdout: /BROKEN package\.json:1: not-a-line/ })
})
