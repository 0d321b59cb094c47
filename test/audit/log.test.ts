import { appendFileSync, chmodSync, constants, existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { genesis, readLine, sealLine } from '../../src/audit/chain.ts'
import { openAppendFile, type AppendFile, type OpenFile } from '../../src/audit/files.ts'
import { AuditBroken, AuditUnavailable, openAudit, type Audit, type AuditOptions } from '../../src/audit/log.ts'
import type { NewAuditEvent } from '../../src/audit/event.ts'
import { auditFiles, auditLines, issued, key, secret, verifyDir } from './written.ts'

const now = () => Date.parse('2026-07-01T12:00:00.123Z')

async function opened (t: Test, dir: string, more: Partial<AuditOptions> = {}): Promise<Audit> {
  const audit = await openAudit({ path: join(dir, 'audit'), instance: 'a', now, ...more })
  t.teardown(() => audit.close().catch(() => {}))
  return audit
}

const firstFile = (dir: string) => join(dir, 'audit.a.000000000001.jsonl')
const actions = (dir: string) => auditLines(dir).map(({ action }) => action)

t.test('what is recorded stands in the file, in order, for its owner alone', async t => {
  const dir = join(t.testdir({}), 'new', 'deep')
  const audit = await opened(t, dir, { path: join(dir, 'audit.jsonl') })
  await audit.record(issued('r1', { policyHash: 'abc', decidedBy: ['team-prefixes'], detail: { notAfter: '2026-07-01T15:00:00Z', keys: 1 } }))
  await audit.record({ requestId: null, actor: { id: 'sweeper', kind: 'system' }, action: 'grant.expire', outcome: 'failed', code: 'iam-unavailable' })
  const lines = auditLines(dir)
  t.same(lines.map(({ seq, action, requestId }) => [seq, action, requestId]), [[1, 'audit.open', null], [2, 'grant.issue', 'r1'], [3, 'grant.expire', null]])
  t.match(lines[1], { at: '2026-07-01T12:00:00.123Z', instance: 'a', accessKeyId: 'AKIAIOSFODNN7EXAMPLE', policyHash: 'abc', decidedBy: ['team-prefixes'] })
  t.equal(statSync(firstFile(dir)).mode & 0o777, 0o600)
  t.equal(statSync(dir).mode & 0o077, 0)
  await audit.close()
  t.same(actions(dir).at(-1), 'audit.close')
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 4 })
  await t.rejects(audit.record(issued('late')), /is closed/)
  await audit.close()
})

t.test('a file that others could read is closed to them', async t => {
  const dir = t.testdir({})
  await (await opened(t, dir)).close()
  chmodSync(firstFile(dir), 0o644)
  await (await opened(t, dir)).close()
  t.equal(statSync(firstFile(dir)).mode & 0o777, 0o600)
})

/** Counts calls, and fails where it is told to. */
function watched (): {
  openFile: OpenFile, calls: string[], fail: { append?: number, truncate?: boolean, open?: boolean }
} {
  const calls: string[] = []
  const fail: { append?: number, truncate?: boolean, open?: boolean } = {}
  const openFile: OpenFile = async (path, how) => {
    if (fail.open) throw new Error('EMFILE')
    const file = await openAppendFile(path, how)
    const around: AppendFile = {
      ...file,
      async append (bytes) {
        calls.push('append')
        if (fail.append === undefined) return file.append(bytes)
        await file.append(bytes.subarray(0, fail.append))
        throw new Error('EIO: i/o error')
      },
      async sync () {
        calls.push('sync')
        await file.sync()
      },
      async truncate (size) {
        calls.push('truncate')
        if (fail.truncate) throw new Error('EROFS')
        await file.truncate(size)
      },
      async close () {
        calls.push('close')
        await file.close()
      }
    }
    return around
  }
  return { openFile, calls, fail }
}

t.test('records that come together share one synced write, and none resolves before it', async t => {
  const dir = t.testdir({})
  const { openFile, calls } = watched()
  const audit = await opened(t, dir, { openFile })
  calls.length = 0
  const written = () => readFileSync(firstFile(dir), 'utf8')
  await Promise.all(Array.from({ length: 100 }, async (_, i) => {
    await audit.record(issued(`r${i}`))
    t.ok(written().includes(`"r${i}"`))
  }))
  t.same(calls, ['append'])
  t.same(auditLines(dir).slice(1).map(({ requestId }) => requestId), Array.from({ length: 100 }, (_, i) => `r${i}`))
  await Promise.all(Array.from({ length: 1200 }, (_, i) => audit.record(issued(`s${i}`))))
  t.equal(calls.length, 1 + 3)
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 1301 })
})

/** How this process holds the file open: the flags of open(2), by proc(5). */
const flagsOf = (path: string): number[] => readdirSync('/proc/self/fd')
  .filter(fd => { try { return readlinkSync(`/proc/self/fd/${fd}`) === path } catch { return false } })
  .map(fd => Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8))

for (const fsync of ['always', 'batch'] as const) {
  t.test(`fsync ${fsync}: the kernel is told so, for the first file, the next and one that is continued`, { skip: process.platform !== 'linux' }, async t => {
    const dir = t.testdir({})
    const synced = (file: string) => flagsOf(join(dir, file)).map(flags => (flags & constants.O_DSYNC) !== 0)
    for (const file of ['audit.a.000000000001.jsonl', 'audit.a.000000000001.jsonl', 'audit.a.000000000007.jsonl']) {
      const audit = await opened(t, dir, { fsync, ...(file.includes('7') && { maxBytes: 1_000 }) })
      await audit.record(issued('r'))
      t.same(synced(file), [fsync === 'always'], file)
      await audit.close()
    }
  })
}

t.test('fsync batch: with the kernel at once, on the disk later, and at the latest when closed', async t => {
  const dir = t.testdir({})
  const { openFile, calls } = watched()
  const audit = await opened(t, dir, { openFile, fsync: 'batch' })
  await audit.record(issued('r1'))
  t.match(readFileSync(firstFile(dir), 'utf8'), /"r1"/)
  t.notOk(calls.includes('sync'))
  await new Promise(resolve => setTimeout(resolve, 1500))
  t.same(calls.filter(call => call === 'sync'), ['sync'])
  await audit.record(issued('r2'))
  await audit.close()
  t.same(calls.slice(-3), ['append', 'sync', 'close'])
})

const failures: [string, number][] = [['a write that fails half way', 100], ['a whole write that cannot be synced', 100_000]]
for (const [name, append] of failures) {
  t.test(`${name} rejects its records, leaves no trace, and the chain goes on`, async t => {
    const dir = t.testdir({})
    const { openFile, fail } = watched()
    const problems: string[] = []
    const audit = await opened(t, dir, { openFile, onProblem: message => problems.push(message) })
    await audit.record(issued('before'))
    const whole = readFileSync(firstFile(dir))
    fail.append = append
    await t.rejects(Promise.all([audit.record(issued('lost1')), audit.record(issued('lost2'))]), AuditUnavailable)
    t.same(readFileSync(firstFile(dir)), whole)
    t.match(problems, [/refused 2 records: EIO/])
    delete fail.append
    await audit.record(issued('after'))
    t.same(auditLines(dir).map(({ requestId }) => requestId), [null, 'before', 'after'])
    t.match(verifyDir(dir, 'a'), { ok: true })
    t.equal(audit.state().broken, undefined)
  })
}

t.test('a failed write that cannot be undone stops the log, until it is opened anew', async t => {
  const dir = t.testdir({})
  const { openFile, fail } = watched()
  const audit = await opened(t, dir, { openFile })
  await audit.record(issued('before'))
  Object.assign(fail, { append: 100, truncate: true })
  await t.rejects(audit.record(issued('lost')), AuditUnavailable)
  delete fail.append
  delete fail.truncate
  await t.rejects(audit.record(issued('refused')), AuditUnavailable)
  t.match(audit.state().broken, /could not be undone/)
  await audit.close()
  const again = await opened(t, dir)
  await again.record(issued('after'))
  t.same(auditLines(dir).map(({ requestId, reason }) => requestId ?? reason), [undefined, 'before', 'torn-line', undefined, 'after'])
  t.match(verifyDir(dir, 'a'), { ok: true })
})

t.test('opening fails when nothing can be written', async t => {
  const dir = t.testdir({})
  const { openFile, fail, calls } = watched()
  fail.append = 10
  await t.rejects(openAudit({ path: join(dir, 'audit'), instance: 'a', now, openFile }), AuditUnavailable)
  t.same(calls, ['append', 'truncate', 'close'])
  await t.rejects(openAudit({ path: join(dir, 'audit'), instance: 'a b', now }), RangeError)
  await t.rejects(openAudit({ path: join(dir, 'audit'), instance: '../a', now }), RangeError)
  await t.rejects(openAudit({ path: join(dir, 'audit'), instance: 'a', now, hmacKey: Buffer.alloc(16) }), RangeError)
})

t.test('a new file is begun before one grows too large; the chain goes through all', async t => {
  const dir = t.testdir({})
  const audit = await opened(t, dir, { maxBytes: 2000 })
  for (let i = 0; i < 20; i++) await audit.record(issued(`r${i}`))
  await audit.close()
  const files = auditFiles(dir)
  t.ok(files.length > 4)
  for (const file of files) t.ok(statSync(file).size <= 2000)
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 22, first: 1 })
  const again = await opened(t, dir, { maxBytes: 2000 })
  await again.record(issued('again'))
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 24 })
})

t.test('a crash between a new file and its first line', async t => {
  const dir = t.testdir({})
  await (await opened(t, dir)).close()
  writeFileSync(join(dir, 'audit.a.000000000003.jsonl'), '')
  const audit = await opened(t, dir)
  await audit.record(issued('after'))
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 4 })
  t.equal(auditFiles(dir).length, 2)
})

t.test('a crash within the very first line, or the first of a new file', async t => {
  for (const [name, before] of [['audit.a.000000000001.jsonl', 0], ['audit.a.000000000003.jsonl', 2]] as const) {
    const dir = t.testdir({})
    if (before > 0) await (await opened(t, dir)).close()
    writeFileSync(join(dir, name), '{"v":1,"seq":')
    const audit = await opened(t, dir)
    await audit.close()
    t.match(verifyDir(dir, 'a'), { ok: true, lines: before + 3 })
    t.same(actions(dir).slice(before), ['audit.recover', 'audit.open', 'audit.close'])
    rmSync(dir, { recursive: true })
  }
})

t.test('a torn end is moved aside, recorded, and the chain goes on: every length of the tear', async t => {
  const dir = t.testdir({})
  await (await opened(t, dir)).record(issued('r1'))
  const whole = readFileSync(firstFile(dir))
  const lastLine = whole.subarray(whole.indexOf(0x0a) + 1)
  for (const size of [1, 2, 50, lastLine.length - 100, lastLine.length - 2]) {
    const torn = join(dir, String(size))
    mkdirSync(torn)
    writeFileSync(firstFile(torn), Buffer.concat([whole, lastLine.subarray(0, size)]))
    const audit = await opened(t, torn)
    await audit.record(issued('after'))
    t.match(verifyDir(torn, 'a'), { ok: true, lines: 5 }, `${size} bytes`)
    t.match(auditLines(torn)[2], { action: 'audit.recover', reason: 'torn-line', detail: { bytes: size, sha256: /^[0-9a-f]{64}$/ } })
    const aside = readdirSync(torn).filter(name => name.includes('.torn.'))
    t.same(aside.map(name => readFileSync(join(torn, name))), [lastLine.subarray(0, size)])
    t.equal(statSync(join(torn, aside[0] ?? '')).mode & 0o777, 0o600)
  }
})

t.test('zeros, as a machine that lost power leaves them, are torn too', async t => {
  const dir = t.testdir({})
  await (await opened(t, dir)).close()
  appendFileSync(firstFile(dir), Buffer.alloc(5000))
  await (await opened(t, dir)).close()
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 5 })
})

t.test('a whole last line without its newline is kept', async t => {
  const dir = t.testdir({})
  await (await opened(t, dir)).close()
  truncateSync(firstFile(dir), statSync(firstFile(dir)).size - 1)
  await (await opened(t, dir)).close()
  t.same(actions(dir), ['audit.open', 'audit.close', 'audit.recover', 'audit.open', 'audit.close'])
  t.match(verifyDir(dir, 'a'), { ok: true })
  t.equal(auditLines(dir)[2]?.reason, 'newline-missing')
})

t.test('a long file is checked at its end alone', async t => {
  const dir = t.testdir({})
  const audit = await opened(t, dir)
  for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 300 }, () => audit.record(issued('r'))))
  await audit.close()
  t.ok(statSync(firstFile(dir)).size > 1_300_000)
  appendFileSync(firstFile(dir), 'torn')
  await (await opened(t, dir)).close()
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 3005 })
})

/** Line n replaced by another one that fits the line before it. */
function forged (text: string, n: number, { seq }: { seq: number }): string {
  const lines = text.split('\n')
  const before = readLine(Buffer.from(lines[n - 2] ?? ''))?.point ?? genesis
  return lines.toSpliced(n - 1, 1, sealLine({ ...issued('forged'), seq, at: '', instance: 'a' }, before).line).join('\n')
}

const edits: [string, (text: string) => string][] = [
  ['edited', text => text.replace('"r2"', '"rX"')],
  ['deleted', text => text.split('\n').toSpliced(2, 1).join('\n')],
  ['reordered', text => text.split('\n').map((line, i, all) => (i === 1 ? all[2] : i === 2 ? all[1] : line)).join('\n')],
  ['edited in its last line', text => text.replace('"audit.close"', '"audit.clone"')],
  ['broken in its first line', text => text.replace('"v":1', '"v":1,')],
  ['replaced in one line', text => forged(text, 3, { seq: 3 })],
  ['numbered anew', text => forged(text, 5, { seq: 6 })],
  ['broken in the middle', text => text.replace('"v":1,"seq":3', '"v":1 "seq":3')]
]
for (const [name, edit] of edits) {
  t.test(`an end that was ${name} is not written to`, async t => {
    const dir = t.testdir({})
    const audit = await opened(t, dir)
    for (const id of ['r1', 'r2', 'r3']) await audit.record(issued(id))
    await audit.close()
    const text = edit(readFileSync(firstFile(dir), 'utf8'))
    writeFileSync(firstFile(dir), text)
    await t.rejects(opened(t, dir), AuditBroken)
    t.equal(readFileSync(firstFile(dir), 'utf8'), text)
  })
}

t.test('another process with the same name is noticed before anything is written', async t => {
  const dir = t.testdir({})
  const problems: string[] = []
  const audit = await opened(t, dir, { onProblem: message => problems.push(message) })
  await audit.record(issued('mine'))
  const { size } = statSync(firstFile(dir))
  const other = await opened(t, dir)
  await other.record(issued('other'))
  const both = readFileSync(firstFile(dir))
  await t.rejects(audit.record(issued('mine')), AuditUnavailable)
  truncateSync(firstFile(dir), size)
  await t.rejects(audit.record(issued('mine')), AuditUnavailable, 'it stays stopped, whatever becomes of the file')
  writeFileSync(firstFile(dir), both)
  t.match(problems.join(), /another process has the same instance name/)
  t.match(audit.state().broken, /instead of/)
  await audit.close()
  await other.close()
  t.match(verifyDir(dir, 'a'), { ok: true })
})

t.test('two replicas in one directory have a chain each', async t => {
  const dir = t.testdir({})
  const replicas = await Promise.all(['a', 'b'].map(instance => openAudit({ path: join(dir, 'audit'), instance, now })))
  await Promise.all(replicas.flatMap(audit => Array.from({ length: 20 }, (_, i) => audit.record(issued(`r${i}`)))))
  await Promise.all(replicas.map(audit => audit.close()))
  const files = auditFiles(dir)
  t.equal(files.length, 2)
  for (const line of auditLines(dir)) t.ok(line.seq <= 22)
})

t.test('a file that is moved away while it is written to: the chain goes on in a new one', async t => {
  const dir = t.testdir({})
  const problems: string[] = []
  const audit = await opened(t, dir, { onProblem: message => problems.push(message) })
  await audit.record(issued('before'))
  renameSync(firstFile(dir), join(dir, 'audit.a.000000000001.jsonl.old'))
  await audit.record(issued('after'))
  await audit.close()
  t.match(auditLines(dir), [{ seq: 3, action: 'audit.recover', reason: 'file-gone' }, { seq: 4, requestId: 'after' }, { seq: 5 }])
  t.match(problems, [/moved or deleted/])
  renameSync(join(dir, 'audit.a.000000000001.jsonl.old'), firstFile(dir))
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 5 })
})

t.test('a file that is replaced by another one of its name: the same', async t => {
  const dir = t.testdir({})
  const audit = await opened(t, dir)
  await audit.record(issued('before'))
  const whole = readFileSync(firstFile(dir))
  renameSync(firstFile(dir), join(dir, 'old'))
  writeFileSync(firstFile(dir), whole)
  await audit.record(issued('after'))
  t.same(readFileSync(firstFile(dir)), whole)
  t.match(auditLines(dir).slice(2), [{ seq: 3, reason: 'file-gone' }, { seq: 4, requestId: 'after' }])
})

t.test('when even that fails the record is refused, and what happened is told later', async t => {
  const dir = t.testdir({})
  const { openFile, fail } = watched()
  const audit = await opened(t, dir, { openFile })
  rmSync(firstFile(dir))
  fail.open = true
  await t.rejects(audit.record(issued('refused')), AuditUnavailable)
  delete fail.open
  fail.append = 5
  await t.rejects(audit.record(issued('refused too')), AuditUnavailable)
  delete fail.append
  await audit.record(issued('after'))
  t.match(auditLines(dir), [{ seq: 2, reason: 'file-gone' }, { seq: 3, requestId: 'after' }])
  t.equal(auditLines(dir).length, 2)
})

t.test('with a key the chain verifies only with it, and a change of keys begins a new file', async t => {
  const dir = t.testdir({})
  await (await opened(t, dir)).close()
  await (await opened(t, dir, { hmacKey: secret })).close()
  await (await opened(t, dir, { hmacKey: secret })).close()
  const [open = '', sealed = ''] = auditFiles(dir)
  t.equal(auditFiles(dir).length, 2)
  t.match(readFileSync(open, 'utf8'), /"hash":"sha256:/)
  t.notMatch(readFileSync(sealed, 'utf8'), /"hash":"sha256:/)
  t.notMatch(readFileSync(sealed, 'utf8'), secret.toString('hex'))
  rmSync(open)
  t.match(verifyDir(dir, 'a', { keys: [key] }), { ok: true, keyed: true, lines: 4, first: 3 })
})

t.test('an end that somebody sealed without the key is noticed by the verifier', async t => {
  const dir = t.testdir({})
  await (await opened(t, dir, { hmacKey: secret })).close()
  await (await opened(t, dir)).close()
  t.match(verifyDir(dir, 'a', { keys: [key] }), { ok: false, fault: 'unkeyed', seq: 3 })
})

t.test('secrets never: what looks like a token is blanked wherever it stands', async t => {
  const dir = t.testdir({})
  const token = `jat_ci-nlp_${'aB3_-'.repeat(9).slice(0, 43)}`
  const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl'
  const audit = await opened(t, dir)
  await audit.record(issued('r1', {
    reason: `refused ${token} and Bearer ${jwt}.`,
    actor: { id: token, kind: 'anonymous' },
    decidedBy: [jwt],
    detail: { note: token, count: 3, none: null, flag: true }
  }))
  const text = readFileSync(firstFile(dir), 'utf8')
  t.notMatch(text, /jat_ci|eyJ/)
  t.match(auditLines(dir)[1], {
    reason: 'refused [token removed] and Bearer [token removed].', actor: { id: '[token removed]' }, decidedBy: ['[token removed]'], detail: { count: 3, none: null, flag: true }
  })
})

t.test('an event is taken as it is at the call, and one that is too long is refused', async t => {
  const dir = t.testdir({})
  const audit = await opened(t, dir)
  const event: NewAuditEvent = issued('r1')
  const written = audit.record(event)
  event.requestId = 'changed'
  event.actor.id = 'changed'
  await written
  t.match(auditLines(dir)[1], { requestId: 'r1', actor: { id: 'token:ci' } })
  await t.rejects(audit.record(issued('r2', { reason: 'x'.repeat(33_000) })), AuditUnavailable)
  await audit.record(issued('r3'))
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 3 })
})

t.test('on a disk that hangs the queue is bounded, and what was taken is written when it goes on', async t => {
  const dir = t.testdir({})
  const hang = Promise.withResolvers<void>()
  let slow = false
  const openFile: OpenFile = async (path, how) => {
    const file = await openAppendFile(path, how)
    return {
      ...file,
      async append (bytes) {
        if (slow) await hang.promise
        await file.append(bytes)
      }
    }
  }
  const audit = await opened(t, dir, { openFile })
  slow = true
  const taken = [audit.record(issued('first'))]
  await new Promise(resolve => setImmediate(resolve))
  for (let i = 0; i < 10_000; i++) taken.push(audit.record(issued(`r${i}`)))
  await t.rejects(audit.record(issued('too many')), /10000 audit events wait/)
  t.equal(audit.state().waiting, 10_000)
  hang.resolve()
  await Promise.all(taken)
  await audit.record(issued('after'))
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 10_003 })
})

t.test('closing writes what waits', async t => {
  const dir = t.testdir({})
  const audit = await opened(t, dir)
  const records = Array.from({ length: 50 }, (_, i) => audit.record(issued(`r${i}`)))
  await Promise.all([audit.close(), ...records])
  t.equal(auditLines(dir).length, 52)
  t.ok(existsSync(firstFile(dir)))
})
