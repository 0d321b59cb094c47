import { createSocket } from 'node:dgram'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { DeliveredLine, Sink } from '../../src/audit/delivery.ts'
import { openAudit } from '../../src/audit/log.ts'
import { syslogMessage, syslogSink } from '../../src/audit/syslog-sink.ts'
import { verifyChain } from '../../src/audit/verify-chain.ts'
import { selfSigned } from '../identity/certificate.ts'
import { auditLines, issued } from './written.ts'

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

async function opened (t: Test, dir: string, sink: Sink) {
  const audit = await openAudit({ path: join(dir, 'audit'), instance: 'a', now: () => new Date(), sinks: [sink], backoff: { first: 5, most: 40 } })
  t.teardown(() => audit.close(0))
  return audit
}

async function until (condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 5))
}

const line = (more: Partial<DeliveredLine> = {}): DeliveredLine => ({
  seq: 7, instance: 'a', at: '2026-07-01T12:00:00.123Z', action: 'grant.issue', outcome: 'done', text: '{"seq":7,"ü":"\\n"}', ...more
})

const messages: [string, DeliveredLine, string, string][] = [
  ['done', line(), 'node-1', '<110>1 2026-07-01T12:00:00.123Z node-1 job-access a grant.issue [meta sequenceId="7"] {"seq":7,"ü":"\\n"}'],
  ['allowed', line({ outcome: 'allowed', action: 'policy.render' }), 'h', '<110>1 2026-07-01T12:00:00.123Z h job-access a policy.render [meta sequenceId="7"] {"seq":7,"ü":"\\n"}'],
  ['denied', line({ outcome: 'denied' }), 'h', '<108>1 2026-07-01T12:00:00.123Z h job-access a grant.issue [meta sequenceId="7"] {"seq":7,"ü":"\\n"}'],
  ['failed', line({ outcome: 'failed' }), 'h', '<107>1 2026-07-01T12:00:00.123Z h job-access a grant.issue [meta sequenceId="7"] {"seq":7,"ü":"\\n"}'],
  ['a host name with spaces', line(), 'a b\nc', '<110>1 2026-07-01T12:00:00.123Z a_b_c job-access a grant.issue [meta sequenceId="7"] {"seq":7,"ü":"\\n"}'],
  ['no host name', line(), '', '<110>1 2026-07-01T12:00:00.123Z - job-access a grant.issue [meta sequenceId="7"] {"seq":7,"ü":"\\n"}'],
  ['the last sequenceId', line({ seq: 2 ** 31 - 1, text: '{}' }), 'h', '<110>1 2026-07-01T12:00:00.123Z h job-access a grant.issue [meta sequenceId="2147483647"] {}'],
  ['the one after it', line({ seq: 2 ** 31, text: '{}' }), 'h', '<110>1 2026-07-01T12:00:00.123Z h job-access a grant.issue [meta sequenceId="1"] {}']
]
for (const [name, given, host, expected] of messages) {
  t.test(`RFC 5424: ${name}`, async t => t.equal(syslogMessage(given, host).toString(), expected))
}

/** The MSG part of RFC 5424 messages, which is the line. */
const linesOf = (received: string[]) => received.map(message => /^<\d{1,3}>1 \S+ \S+ job-access \S+ \S+ \[meta sequenceId="\d+"\] (.*)$/s.exec(message)?.[1] ?? message)

/** Takes RFC 6587 octet-counted messages apart. */
function unframed (stream: Buffer): string[] {
  const found: string[] = []
  let offset = 0
  while (offset < stream.length) {
    const space = stream.indexOf(0x20, offset)
    const length = Number(stream.toString('latin1', offset, space))
    found.push(stream.toString('utf8', space + 1, space + 1 + length))
    offset = space + 1 + length
  }
  return found
}

t.test('udp: a datagram per line at a real socket', async t => {
  const dir = t.testdir({})
  const socket = createSocket('udp4')
  const received: string[] = []
  socket.on('message', message => received.push(message.toString()))
  await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
  t.teardown(() => socket.close())
  const audit = await opened(t, dir, syslogSink({ name: 'log', protocol: 'udp', host: '127.0.0.1', port: socket.address().port, hostname: 'h' }))
  await Promise.all(numbers(1, 20).map(i => audit.record(issued(`r${i}`, { reason: 'Überfluß\n' }))))
  await audit.close(10_000)
  await until(() => received.length === 22)
  t.match(verifyChain('a', [{ name: 'received', bytes: Buffer.from(linesOf(received).map(line => `${line}\n`).join('')) }]), { ok: true, lines: 22 })
})

interface Receiver {
  server: Server
  port: number
  /** One buffer per connection that ended. */
  streams: Buffer[]
  connected: (socket: Socket) => void
}

async function receiver (t: Test, tls?: { cert: string, key: string }): Promise<Receiver> {
  const sockets = new Set<Socket>()
  const listener = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    to.connected(socket)
  }
  const server = tls ? createTlsServer(tls, listener) : createServer(listener)
  const to: Receiver = {
    server,
    port: 0,
    streams: [],
    connected: socket => {
      const chunks: Buffer[] = []
      socket.on('data', chunk => chunks.push(chunk))
      socket.on('end', () => to.streams.push(Buffer.concat(chunks)))
    }
  }
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  to.port = (server.address() as AddressInfo).port
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return to
}

for (const protocol of ['tcp', 'tls'] as const) {
  t.test(`${protocol}: octet-counted messages at a real socket`, async t => {
    const dir = t.testdir({})
    const certificate = selfSigned()
    const to = await receiver(t, protocol === 'tls' ? certificate : undefined)
    const sink = syslogSink({
      name: 'log', protocol, host: '127.0.0.1', port: to.port, hostname: 'h', maxLines: 8, ...(protocol === 'tls' ? { ca: certificate.cert } : {})
    })
    const audit = await opened(t, dir, sink)
    await Promise.all(numbers(1, 20).map(i => audit.record(issued(`r${i}`, { reason: 'Überfluß\n' }))))
    await audit.close(10_000)
    const received = to.streams.flatMap(unframed)
    t.match(verifyChain('a', [{ name: 'received', bytes: Buffer.from(linesOf(received).map(line => `${line}\n`).join('')) }]), { ok: true, lines: 22 })
  })
}

t.test('tls: a receiver with another certificate gets nothing', async t => {
  const to = await receiver(t, selfSigned())
  const sink = syslogSink({ name: 'log', protocol: 'tls', host: '127.0.0.1', port: to.port, hostname: 'h', ca: selfSigned().cert })
  await t.rejects(sink.deliver([line()], AbortSignal.timeout(5000)), /certificate/)
  t.same(to.streams, [])
})

const rude: [string, (socket: Socket) => void][] = [
  ['resets the connection', socket => socket.once('data', () => socket.resetAndDestroy())],
  ['closes before it has read', socket => socket.destroy()],
  ['says goodbye before it has read', socket => socket.pause().end()],
  ['never closes', socket => socket.resume().on('end', () => {})]
]
for (const [name, connected] of rude) {
  t.test(`tcp: a receiver that ${name} does not have the records`, async t => {
    const to = await receiver(t)
    to.server.close()
    const hold = createServer({ allowHalfOpen: true }, socket => {
      socket.on('error', () => {})
      t.teardown(() => socket.destroy())
      connected(socket)
    })
    await new Promise<void>(resolve => hold.listen(0, '127.0.0.1', resolve))
    t.teardown(() => hold.close())
    const sink = syslogSink({ name: 'log', protocol: 'tcp', host: '127.0.0.1', port: (hold.address() as AddressInfo).port, hostname: 'h', timeoutMs: 200 })
    // More than a socket's buffers take, so that it cannot all be on its way before the end.
    await t.rejects(sink.deliver([line({ text: 'x'.repeat(20_000_000) })], AbortSignal.timeout(5000)))
  })
}

t.test('tcp: a receiver that goes away in the middle gets the batch again', async t => {
  const dir = t.testdir({})
  const to = await receiver(t)
  const { connected } = to
  let connections = 0
  to.connected = socket => {
    connections += 1
    if (connections <= 3) socket.once('data', () => socket.resetAndDestroy())
    else connected(socket)
  }
  const audit = await opened(t, dir, syslogSink({ name: 'log', protocol: 'tcp', host: '127.0.0.1', port: to.port, hostname: 'h' }))
  await Promise.all(numbers(1, 20).map(i => audit.record(issued(`r${i}`))))
  await audit.close(10_000)
  t.ok(connections > 3)
  const seqs = linesOf(to.streams.flatMap(unframed)).map(text => JSON.parse(text).seq)
  t.same([...new Set(seqs)].sort((a, b) => a - b), auditLines(dir).map(({ seq }) => seq))
})

t.test('nobody there', async t => {
  const to = await receiver(t)
  await new Promise(resolve => to.server.close(resolve))
  const sink = syslogSink({ name: 'log', protocol: 'tcp', host: '127.0.0.1', port: to.port, hostname: 'h' })
  await t.rejects(sink.deliver([line()], AbortSignal.timeout(5000)), /ECONNREFUSED/)
  const nowhere = syslogSink({ name: 'log', protocol: 'udp', host: 'host.invalid', port: 514, hostname: 'h' })
  await t.rejects(nowhere.deliver([line()], AbortSignal.timeout(5000)), /ENOTFOUND|EAI_AGAIN/)
  for (const each of [sink, nowhere]) await t.rejects(each.deliver([line()], AbortSignal.abort()), { name: 'AbortError' })
})
