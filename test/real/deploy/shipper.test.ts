import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { createServer } from 'node:https'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { openAudit, type Audit } from '../../../src/audit/log.ts'
import { auditFiles, issued } from '../../audit/written.ts'
import { selfSigned } from '../../identity/certificate.ts'
import { freePort, serverEnv, startDaemon, temporaryDir } from '../../servers/daemon.ts'
import { root } from './tools.ts'

/** The log shipper that docs/audit.md gives a configuration for, syslog-ng, on the files of a real audit. */

const certificate = selfSigned()
const token = 'the-receivers-token'

interface Place { dir: string, state: string, ca: string }

const place = (t: Test): Place => {
  const top = t.testdir({ audit: {}, state: {}, 'ca.pem': certificate.cert })
  return { dir: join(top, 'audit'), state: join(top, 'state'), ca: join(top, 'ca.pem') }
}

/** Small files, so that the chain goes on in many of them. */
const opened = async (t: Test, { dir }: Place): Promise<Audit> => {
  const audit = await openAudit({ path: join(dir, 'audit'), instance: 'node-1', now: Date.now, maxBytes: 20_000 })
  t.teardown(() => audit.close())
  return audit
}

const record = async (audit: Audit, count: number) => {
  for (let i = 0; i < count; i++) await audit.record(issued(`r${i}`, { reason: `  two  spaces, ü, \\ and "${'x'.repeat(i % 300)}` }))
}

/** The shipped configuration. It waits 5 s between tries; the tests want several tries. `signal`: how stop() ends it. */
const ship = async (t: Test, { dir, state, ca }: Place, conf: string, env: Record<string, string>, signal: 'TERM' | 'KILL' = 'TERM') => {
  const file = join(state, conf)
  writeFileSync(file, readFileSync(join(root, 'deploy/syslog-ng', conf), 'utf8').replace('time-reopen(5)', 'time-reopen(1)'))
  const temporary = await temporaryDir('shipper')
  // The path of a socket has 107 bytes at most: none in the test's own directory.
  const control = join(temporary, 'ctl')
  const shipper = await startDaemon({
    name: 'syslog-ng',
    command: 'syslog-ng',
    args: ['--foreground', '--stderr', '--no-caps', '--cfgfile', file, '--persist-file', join(state, 'persist'), '--control', control, '--pidfile', join(state, 'pid')],
    dir: temporary,
    env: serverEnv({ AUDIT_DIR: dir, AUDIT_CA: ca, ...env }),
    signal,
    ready: async () => existsSync(control) && execFileSync('syslog-ng-ctl', ['stats', '--control', control]).length > 0
  })
  t.teardown(() => shipper.stop())
  const metrics = () => execFileSync(join(root, 'deploy/syslog-ng/metrics.sh'), [control], { encoding: 'utf8' })
  return { ...shipper, metrics }
}

const until = async (condition: () => boolean, what: string) => {
  for (const end = Date.now() + 60_000; !condition(); await delay(50)) if (Date.now() > end) throw new Error(`not in time: ${what}`)
}

const httpReceiver = async (t: Test) => {
  let server: Server | undefined
  const to = {
    // Nobody else takes it while this is down.
    port: await freePort('127.0.0.1'),
    /** What it was given and has acknowledged. */
    received: '',
    /** To refuse with, one a request. */
    refusals: [] as number[],
    authorizations: new Set<string | undefined>(),
    tries: 0,
    url: () => `https://localhost:${to.port}/audit`,
    lines: () => to.received.split('\n').length - 1,
    async up () {
      const listening = createServer(certificate, (request, response) => {
        const chunks: Buffer[] = []
        request.on('data', (chunk: Buffer) => chunks.push(chunk))
        request.on('end', () => {
          to.tries += 1
          to.authorizations.add(request.headers.authorization)
          const refusal = to.refusals.shift()
          if (refusal === undefined) to.received += Buffer.concat(chunks).toString()
          response.writeHead(refusal ?? 204).end()
        })
      })
      server = listening
      await new Promise<void>(resolve => listening.listen(to.port, '127.0.0.1', resolve))
    },
    async down () {
      server?.closeAllConnections()
      await new Promise<void>(resolve => server ? server.close(() => resolve()) : resolve())
    }
  }
  await to.up()
  t.teardown(() => to.down())
  return to
}

// A shipper waits for most of its time.
t.jobs = 4

const written = ({ dir }: Place) => auditFiles(dir).map(path => readFileSync(path, 'utf8')).join('')
const count = (text: string) => text.split('\n').length - 1

/** What docs/audit.md says to do with what the receiver has; the command is the page's own. */
const verified = (text: string, dir: string): string => {
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'received.jsonl'), text)
  const page = readFileSync(join(root, 'docs/audit.md'), 'utf8')
  const command = /^(grep -F .*? received\.jsonl .*?)^```$/ms.exec(page)?.[1] ?? 'exit 9'
  return execFileSync('bash', ['-euc', command.replace('npm run -s audit:verify --', `${process.execPath} ${join(root, 'src/commands/audit-verify.ts')}`)], { cwd: dir, encoding: 'utf8' })
}

t.test('http: the lines as they stand in the file, in order, once, with the token', { buffered: true }, async t => {
  const here = place(t)
  const to = await httpReceiver(t)
  await ship(t, here, 'audit-http.conf', { AUDIT_URL: to.url(), AUDIT_TOKEN: token })
  const audit = await opened(t, here)
  await audit.record(issued('long', { reason: 'x'.repeat(31_000) }))
  await record(audit, 300)
  await audit.close()
  t.ok(auditFiles(here.dir).length > 5, 'the file was changed several times')
  await until(() => to.lines() >= count(written(here)), 'all lines')
  t.equal(to.received.split('\n').sort().join('\n'), written(here).split('\n').sort().join('\n'))
  for (const path of auditFiles(here.dir)) {
    const own = new Set(readFileSync(path, 'utf8').split('\n').slice(0, -1))
    t.equal(to.received.split('\n').filter(line => own.has(line)).join('\n'), [...own].join('\n'), 'a file’s lines are in their order')
  }
  t.same([...to.authorizations], [`Bearer ${token}`])
  t.match(verified(to.received, here.state), `OK node-1: ${count(written(here))} lines (1 to ${count(written(here))})`)
})

t.test('http: the receiver is down, the shipper is killed, the file is changed: nothing is lost', { buffered: true }, async t => {
  const here = place(t)
  const to = await httpReceiver(t)
  const env = { AUDIT_URL: to.url(), AUDIT_TOKEN: token }
  const first = await ship(t, here, 'audit-http.conf', env, 'KILL')
  const audit = await opened(t, here)
  await record(audit, 50)
  await until(() => to.lines() === 51, 'the first lines')
  await until(() => /_waiting_lines 0$/m.test(first.metrics()), 'nothing waits')
  t.match(first.metrics(), /^job_access_audit_shipper_delivered_lines_total 51$/m)
  await to.down()
  await record(audit, 150)
  await until(() => /_waiting_lines [1-9]/.test(first.metrics()), 'the metrics tell that lines wait')
  await first.stop()
  await record(audit, 100)
  const second = await ship(t, here, 'audit-http.conf', env)
  await record(audit, 30)
  await second.stop()
  await audit.close()
  const third = await ship(t, here, 'audit-http.conf', env)
  t.equal(to.lines(), 51)
  await to.up()
  await until(() => new Set(to.received.split('\n')).size > count(written(here)), 'all lines')
  t.match(verified(to.received, here.state), `OK node-1: ${count(written(here))} lines (1 to ${count(written(here))})`)
  t.match(third.metrics(), /^job_access_audit_shipper_dropped_lines_total 0$/m)
})

// It tries once a second.
for (const statuses of [[302, 304, 400, 401], [410, 413, 422, 429], [500, 504, 508]]) {
  t.test(`http: what is refused with ${statuses.join(', ')} comes again`, { buffered: true }, async t => {
    const here = place(t)
    const to = await httpReceiver(t)
    // More often than the three tries after which syslog-ng drops by default.
    to.refusals = statuses.flatMap(status => [status, status, status, status, status])
    const refused = to.refusals.length
    await ship(t, here, 'audit-http.conf', { AUDIT_URL: to.url(), AUDIT_TOKEN: token })
    const audit = await opened(t, here)
    await record(audit, 3)
    await until(() => to.refusals.length < refused / 2, 'half of the refusals')
    await audit.close()
    await until(() => to.lines() >= 5, 'all lines')
    t.ok(to.tries > refused)
    t.match(verified(to.received, here.state), 'OK node-1: 5 lines (1 to 5)')
  })
}

t.test('http: another certificate than the authority’s gets nothing', { buffered: true }, async t => {
  const here = place(t)
  const to = await httpReceiver(t)
  writeFileSync(here.ca, selfSigned().cert)
  const audit = await opened(t, here)
  const wrong = await ship(t, here, 'audit-http.conf', { AUDIT_URL: to.url(), AUDIT_TOKEN: token })
  await delay(3000)
  await wrong.stop()
  t.equal(to.tries, 0)
  writeFileSync(here.ca, certificate.cert)
  await ship(t, here, 'audit-http.conf', { AUDIT_URL: to.url(), AUDIT_TOKEN: token })
  await audit.close()
  await until(() => to.lines() === 2, 'all lines, with the right authority')
})

t.test('http: a line that a crash left unfinished is not taken for the start of the next', { buffered: true }, async t => {
  const here = place(t)
  const to = await httpReceiver(t)
  await ship(t, here, 'audit-http.conf', { AUDIT_URL: to.url(), AUDIT_TOKEN: token })
  const audit = await opened(t, here)
  await record(audit, 3)
  await audit.close()
  await until(() => to.lines() === 5, 'the lines before the crash')
  appendFileSync(auditFiles(here.dir).at(-1) ?? '', '{"v":1,"seq":6,"at":"2026')
  // It looks once a second.
  await delay(2500)
  const after = await opened(t, here)
  await record(after, 3)
  await after.close()
  await until(() => new Set(to.received.split('\n')).size > count(written(here)), 'all lines')
  await delay(2500)
  t.match(verified(to.received, here.state), `OK node-1: ${count(written(here))} lines`)
})

/** RFC 6587 octet counting: the lines, which are the messages of RFC 5424, facility 13. syslog-ng ends each with a newline. */
const unframed = (stream: Buffer): string => {
  let lines = ''
  for (let offset = 0; offset < stream.length;) {
    const space = stream.indexOf(0x20, offset)
    const end = space + 1 + Number(stream.toString('latin1', offset, space))
    if (end > stream.length) break
    lines += stream.toString('utf8', space + 1, end).replace(/^<110>1 \S+ \S+ job-access - - \[meta sequenceId="\d+"\] (.*)\n$/, '$1\n')
    offset = end
  }
  return lines
}

t.test('syslog over TLS: a connection that breaks can cost a line; the verifier names it, and all can be sent again', { buffered: true }, async t => {
  const here = place(t)
  const streams: Buffer[] = []
  const port = await freePort('127.0.0.1')
  const listen = async () => {
    const server = createTlsServer(certificate, socket => {
      const index = streams.push(Buffer.alloc(0)) - 1
      socket.on('data', chunk => { streams[index] = Buffer.concat([streams[index] ?? Buffer.alloc(0), chunk]) })
      socket.on('error', () => {})
      stop.push(() => socket.destroy())
    })
    const stop = [() => { server.close() }]
    await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
    const down = () => { for (const each of stop) each() }
    t.teardown(down)
    return down
  }
  const received = () => streams.map(unframed).join('')
  const down = await listen()
  const env = { AUDIT_HOST: 'localhost', AUDIT_PORT: `${port}` }
  const first = await ship(t, here, 'audit-syslog.conf', env)
  const audit = await opened(t, here)
  await record(audit, 50)
  await until(() => count(received()) === 51, 'the first lines')
  t.match(received(), written(here).split('\n')[0])
  down()
  await delay(500)
  await record(audit, 100)
  await first.stop()
  await record(audit, 50)
  await listen()
  const second = await ship(t, here, 'audit-syslog.conf', env)
  await audit.close()
  const last = written(here).split('\n').at(-2) ?? ''
  await until(() => received().includes(last), 'the last line')
  const arrived = new Set(received().split('\n'))
  const missing = written(here).split('\n').filter(line => !arrived.has(line)).length
  t.ok(missing <= 1, `missing: ${missing}`)
  if (missing > 0) t.throws(() => verified(received(), here.state), 'the verifier finds it')
  await second.stop()
  rmSync(join(here.state, 'persist'))
  await ship(t, here, 'audit-syslog.conf', env)
  await until(() => new Set(received().split('\n')).size > count(written(here)), 'all lines')
  t.match(verified(received(), here.state), `OK node-1: ${count(written(here))} lines`)
})
