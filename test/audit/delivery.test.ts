import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { chainFile } from '../../src/audit/files.ts'
import { genesis, sealLine } from '../../src/audit/chain.ts'
import { RetryLater, startDelivery, TooLarge, type DeliveredLine, type Sink } from '../../src/audit/delivery.ts'
import { httpSink } from '../../src/audit/http-sink.ts'
import { openAudit, type AuditOptions } from '../../src/audit/log.ts'
import { verifyChain } from '../../src/audit/verify-chain.ts'
import { auditFiles, auditLines, issued, verifyDir } from './written.ts'

const backoff = { first: 5, most: 40 }

async function opened (t: Test, dir: string, sink: Sink, more: Partial<AuditOptions> = {}) {
  const problems: string[] = []
  const audit = await openAudit({
    path: join(dir, 'audit'), instance: 'a', now: () => new Date(), sinks: [sink], backoff, random: () => 0, onProblem: message => problems.push(message), ...more
  })
  t.teardown(() => audit.close(0))
  return { audit, problems }
}

async function until (condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 5))
}

interface Receiver {
  url: string
  requests: { headers: IncomingMessage['headers'], lines: string[] }[]
  lines: () => string[]
  seqs: () => number[]
  answer: (request: IncomingMessage, response: ServerResponse, body: string) => void
  down: () => Promise<void>
  up: () => Promise<void>
}

async function receiver (t: Test): Promise<Receiver> {
  let port = 0
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => to.answer(request, response, Buffer.concat(chunks).toString()))
  })
  const to: Receiver = {
    url: '',
    requests: [],
    lines: () => to.requests.flatMap(({ lines }) => lines),
    seqs: () => to.lines().map(line => JSON.parse(line).seq),
    answer: (request, response, body) => {
      to.requests.push({ headers: request.headers, lines: body.split('\n').slice(0, -1) })
      response.writeHead(204).end()
    },
    async down () {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
    async up () {
      await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
      port = (server.address() as AddressInfo).port
      to.url = `http://127.0.0.1:${port}/audit`
    }
  }
  await to.up()
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return to
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

t.test('http: the lines as they stand in the file, in order, in batches', async t => {
  const dir = t.testdir({})
  const to = await receiver(t)
  let bearer = 'first\n'
  const { audit } = await opened(t, dir, httpSink({ name: 'siem', url: to.url, bearer: () => bearer, maxLines: 10 }))
  await Promise.all(numbers(1, 25).map(i => audit.record(issued(`r${i}`))))
  await until(() => to.seqs().length >= 26)
  bearer = 'second'
  await audit.close()
  t.same(to.seqs(), numbers(1, 27))
  t.same(to.lines().join('\n'), readFileSync(auditFiles(dir)[0] ?? '', 'utf8').trim())
  for (const { headers, lines } of to.requests) {
    t.ok(lines.length <= 10)
    t.equal(headers['content-type'], 'application/x-ndjson')
    t.equal(headers['idempotency-key'], `a:${JSON.parse(lines[0] ?? '').seq}-${JSON.parse(lines.at(-1) ?? '').seq}`)
  }
  t.equal(to.requests[0]?.headers.authorization, 'Bearer first')
  t.equal(to.requests.at(-1)?.headers.authorization, 'Bearer second')
  t.match(verifyChain('a', [{ name: 'received', bytes: Buffer.from(to.lines().map(line => `${line}\n`).join('')) }]), { ok: true, lines: 27 })
})

t.test('http: down, a restart in between, then up: nothing is lost, and record() never waited', async t => {
  const dir = t.testdir({})
  const to = await receiver(t)
  const sink = () => httpSink({ name: 'siem', url: to.url, maxLines: 7 })
  const first = await opened(t, dir, sink())
  await Promise.all(numbers(1, 10).map(i => first.audit.record(issued(`r${i}`))))
  await until(() => to.seqs().length === 11)
  await to.down()
  await Promise.all(numbers(11, 40).map(i => first.audit.record(issued(`r${i}`))))
  await until(() => (first.audit.state().deliveries[0]?.failures ?? 0) > 3)
  t.match(first.audit.state().deliveries, [{ sink: 'siem', deliveredSeq: 11, lastError: /./ }])
  t.match(first.problems, [/audit sink siem: attempt 1 failed/])
  await first.audit.close(50)

  const second = await opened(t, dir, sink())
  await Promise.all(numbers(41, 60).map(i => second.audit.record(issued(`r${i}`))))
  t.equal(to.seqs().length, 11)
  await to.up()
  await second.audit.close(10_000)
  const ids = to.lines().map(line => JSON.parse(line).requestId).filter(id => id !== null)
  t.same(ids, numbers(1, 60).map(i => `r${i}`), 'all of it, in order, once')
  t.same(to.seqs(), numbers(1, auditLines(dir).length))
})

t.test('http: an answer that is lost makes the batch come again, to be told by its seqs', async t => {
  const dir = t.testdir({})
  const to = await receiver(t)
  const take = to.answer
  let lost = 0
  to.answer = (request, response, body) => {
    if (lost++ >= 2) return take(request, response, body)
    to.requests.push({ headers: request.headers, lines: body.split('\n').slice(0, -1) })
    request.socket.destroy()
  }
  const { audit } = await opened(t, dir, httpSink({ name: 'siem', url: to.url }))
  await audit.record(issued('r1'))
  await audit.close(10_000)
  t.same([...new Set(to.seqs())], [1, 2, 3])
  t.ok(to.seqs().length > 3)
})

t.test('http: refusals are tried again; a batch that is too large comes in halves', async t => {
  const dir = t.testdir({})
  const to = await receiver(t)
  const take = to.answer
  const statuses: number[] = []
  const refusals = [500, 401, 400, 302]
  to.answer = (request, response, body) => {
    const status = refusals.shift() ?? (body.split('\n').length - 1 > 3 ? 413 : 0)
    statuses.push(status)
    if (status === 0) take(request, response, body)
    else response.writeHead(status, { location: to.url }).end()
  }
  const sink = httpSink({ name: 'siem', url: to.url, maxLines: 16 })
  const { audit } = await opened(t, dir, sink)
  await Promise.all(numbers(1, 20).map(i => audit.record(issued(`r${i}`))))
  await audit.close(10_000)
  t.same(to.seqs(), numbers(1, 22))
  t.ok(statuses.includes(413))
  for (const { lines } of to.requests) t.ok(lines.length <= 3)
})

t.test('http: a receiver that never answers is given up, and asked again', async t => {
  const dir = t.testdir({})
  const to = await receiver(t)
  const take = to.answer
  let asked = 0
  to.answer = (request, response, body) => {
    asked += 1
    if (asked > 2) take(request, response, body)
  }
  const { audit } = await opened(t, dir, httpSink({ name: 'siem', url: to.url, timeoutMs: 50 }))
  await audit.close(10_000)
  t.same(to.seqs().at(-1), 2)
  t.ok(asked >= 3)
})

/** A sink in this process that does as it is told. */
function scripted (script: (lines: DeliveredLine[]) => void | Promise<void>): Sink & { got: number[] } {
  const got: number[] = []
  return {
    name: 'test',
    maxLines: 8,
    got,
    async deliver (lines) {
      await script(lines)
      got.push(...lines.map(({ seq }) => seq))
    }
  }
}

t.test('waits grow, are jittered, end with a success, and heed Retry-After', async t => {
  const dir = t.testdir({})
  const waits: number[] = []
  const original = globalThis.setTimeout
  globalThis.setTimeout = ((fn: () => void, ms: number, ...rest: []) => {
    waits.push(ms)
    return original(fn, ms < 10_000 ? 0 : 1, ...rest)
  }) as typeof setTimeout
  t.teardown(() => { globalThis.setTimeout = original })
  const errors: (Error | undefined)[] = [...Array.from({ length: 9 }, () => new Error('no')), new RetryLater('busy', 120), undefined, new Error('no'), undefined]
  const sink = scripted(() => {
    const error = errors.shift()
    if (error) throw error
  })
  const { audit } = await opened(t, dir, sink, { backoff: { first: 100, most: 2000 }, random: () => 0.5 })
  await until(() => sink.got.length === 1)
  await audit.record(issued('r1'))
  await until(() => sink.got.length === 2)
  globalThis.setTimeout = original
  const seen = waits.filter(ms => ms !== 5)
  t.same(seen, [75, 150, 300, 600, 1200, 1500, 1500, 1500, 1500, 90_000, 75])
})

t.test('http: Retry-After in seconds is passed on, within an hour', async t => {
  const to = await receiver(t)
  let after = '7'
  to.answer = (request, response) => response.writeHead(503, { 'retry-after': after }).end()
  const sink = httpSink({ name: 'siem', url: to.url })
  const wait = () => sink.deliver([line], AbortSignal.timeout(5000)).then(() => t.fail(), error => error instanceof RetryLater ? error.seconds : null)
  t.equal(await wait(), 7)
  after = '999999'
  t.equal(await wait(), 3600)
  for (after of ['Wed, 21 Oct 2026 07:28:00 GMT', '-1', '0', 'soon']) t.equal(await wait(), null)
})

t.test('a sink that is stuck holds up nothing', async t => {
  const dir = t.testdir({})
  const sink = scripted(() => new Promise(() => {}))
  sink.deliver = (_lines, signal) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('stopped'))))
  const { audit } = await opened(t, dir, sink)
  await Promise.all(numbers(1, 100).map(i => audit.record(issued(`r${i}`))))
  t.match(audit.state().deliveries, [{ deliveredSeq: 0 }])
  await audit.close(10)
  t.match(verifyDir(dir, 'a'), { ok: true, lines: 102 })
})

t.test('only what is on the disk is delivered', async t => {
  const dir = t.testdir({})
  const sink = scripted(() => {})
  const { audit } = await opened(t, dir, sink, { fsync: 'batch' })
  await audit.record(issued('r1'))
  await new Promise(resolve => setTimeout(resolve, 100))
  t.same(sink.got, [], 'written, but not synced yet')
  await until(() => sink.got.length === 2)
  await audit.close()
  t.same(sink.got, [1, 2, 3])
})

t.test('the chain’s files are followed, also from a cursor in one that was archived', async t => {
  const dir = t.testdir({})
  const sink = scripted(() => {})
  const first = await opened(t, dir, sink, { maxBytes: 1500 })
  for (const i of numbers(1, 12)) await first.audit.record(issued(`r${i}`))
  await first.audit.close()
  t.same(sink.got, numbers(1, 14))
  const [oldest = ''] = auditFiles(dir)
  const cursor = join(dir, 'audit.a.test.cursor')
  writeFileSync(cursor, JSON.stringify({ seq: 5, file: join(dir, 'gone.jsonl'), offset: 99 }))
  const second = await opened(t, dir, scriptedInto(sink))
  await second.audit.close()
  t.same(sink.got, [...numbers(1, 14), ...numbers(6, 16)])
  t.same(second.problems, [])

  rmSync(oldest)
  writeFileSync(cursor, JSON.stringify({ seq: 1, file: oldest, offset: 0 }))
  const third = await opened(t, dir, scriptedInto(sink))
  await third.audit.close()
  t.match(third.problems, [/lines 2 to \d were removed before they were delivered/])
  t.equal(sink.got.at(-1), 18)
})

const scriptedInto = (sink: Sink & { got: number[] }): Sink => ({ ...sink })

t.test('a crash after delivery and before the cursor delivers again', async t => {
  const dir = t.testdir({})
  const sink = scripted(() => {})
  const first = await opened(t, dir, sink)
  await first.audit.close()
  rmSync(join(dir, 'audit.a.test.cursor'))
  const second = await opened(t, dir, scriptedInto(sink))
  await second.audit.close()
  t.same(sink.got, [1, 2, 1, 2, 3, 4])
})

t.test('a broken cursor stops the start, since guessing would lose or flood', async t => {
  const dir = t.testdir({ 'audit.a.test.cursor': '{"seq":"5"}' })
  await t.rejects(opened(t, dir, scripted(() => {})), /is not a cursor/)
})

t.test('halving goes down to single lines, and up again', async t => {
  const dir = t.testdir({})
  const sizes: number[] = []
  let narrow = true
  const sink = scripted(lines => {
    sizes.push(lines.length)
    if (narrow && lines.length > 1) throw new TooLarge('too large')
  })
  const { audit } = await opened(t, dir, sink)
  await until(() => sink.got.length === 1)
  await Promise.all(numbers(1, 40).map(i => audit.record(issued(`r${i}`))))
  await until(() => sink.got.length >= 4)
  t.ok(sizes.every((size, i) => i === 0 || size <= 8))
  narrow = false
  sizes.length = 0
  await audit.close(10_000)
  t.same(sink.got, numbers(1, 42))
  t.ok(sizes.includes(8), sizes.join())
})

const line: DeliveredLine = { seq: 1, instance: 'a', at: '', action: '', outcome: '', text: '{}' }

t.test('http: stopping ends a request that hangs', async t => {
  const to = await receiver(t)
  to.answer = () => {}
  await t.rejects(httpSink({ name: 'siem', url: to.url, timeoutMs: 60_000 }).deliver([line], AbortSignal.timeout(20)))
})

/** A chain of n lines without a log that writes it. */
function writeChain (dir: string, from: number, n: number): { path: string, size: number } {
  const { path } = chainFile(join(dir, 'audit'), 'a', from)
  writeFileSync(path, numbers(from, from + n - 1).map(seq => `${sealLine({ ...issued('r'), seq, at: '', instance: 'a' }, genesis).line}\n`).join(''))
  return { path, size: statSync(path).size }
}

t.test('what is written while the last look is on its way is still delivered before the stop', async t => {
  const dir = t.testdir({})
  let end = writeChain(dir, 1, 1)
  const sink = scripted(() => {})
  let stopped: Promise<void> | undefined
  const delivery = startDelivery({
    path: join(dir, 'audit'),
    instance: 'a',
    sink,
    random: () => 0,
    onProblem: message => t.fail(message),
    end () {
      const seen = end
      if (sink.got.length === 1 && !stopped) {
        end = writeChain(dir, 1, 2)
        stopped = delivery.stop(10_000)
      }
      return seen
    }
  })
  await until(() => stopped !== undefined)
  await stopped
  t.same(sink.got, [1, 2])
})

t.test('a file behind the one that is on the disk is left for later', async t => {
  const dir = t.testdir({})
  const end = writeChain(dir, 1, 2)
  writeChain(dir, 3, 2)
  const sink = scripted(() => {})
  const delivery = startDelivery({ path: join(dir, 'audit'), instance: 'a', sink, random: () => 0, onProblem: message => t.fail(message), end: () => end })
  await delivery.stop(10_000)
  t.same(sink.got, [1, 2])
})
