import { execFile } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { variables } from '../../src/cli/settings.ts'
import { createClient } from '../../src/client/index.ts'
import { jobFlags, runCli, startCli, startService, type Running } from './service.ts'

const service = await startService(t)
const client = createClient({ url: service.url, token: service.token })
const statesOf = async (job: string) => (await client.list({ job })).grants.map(({ state }) => state)
const node = (script: string) => ['--', process.execPath, '-e', script]

/** Says who it is, then waits for a signal and ends by itself. */
const waiting = `
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2']) process.on(name, () => {
    console.log('got', name)
    if (name !== 'SIGUSR2') process.exit(3)
  })
  setInterval(() => {}, 1000)
  console.log('ready')`

t.test('the command has the credentials in its environment, and nothing that could issue more', async t => {
  const telling = node('console.log(JSON.stringify({ env: process.env, argv: process.argv }))')
  const ran = await runCli(t, ['exec', ...jobFlags('env'), ...telling], {
    ...service.env,
    HOME: '/nonexistent',
    AWS_PROFILE: 'mine',
    AWS_SESSION_TOKEN: 'mine',
    AWS_WEB_IDENTITY_TOKEN_FILE: '/mine',
    AWS_ROLE_ARN: 'mine',
    JOBACCESS_ALLOW_HTTP: 'false',
    EPOCHS: '3'
  })
  t.equal(ran.code, 0, ran.stderr)
  const { env, argv } = JSON.parse(ran.stdout)
  const [grant] = (await client.list({ job: 'env' })).grants
  t.match(env, { AWS_ACCESS_KEY_ID: grant?.accessKeyId, AWS_SECRET_ACCESS_KEY: /^.{40}$/, JOBACCESS_GRANT: grant?.id })
  t.match(env, { EPOCHS: '3', HOME: '/nonexistent' }, 'the rest is as it was')
  const other = ['AWS_PROFILE', 'AWS_SESSION_TOKEN', 'AWS_WEB_IDENTITY_TOKEN_FILE', 'AWS_ROLE_ARN']
  for (const name of [...Object.keys(variables), ...other]) t.notOk(name in env, name)
  t.notMatch(argv.join(' '), env.AWS_SECRET_ACCESS_KEY, 'not on the command line')
  t.notMatch(ran.stderr, env.AWS_SECRET_ACCESS_KEY)
  t.match(ran.stderr, /embedded IAM/, 'the notice of the service')
  t.equal(grant?.state, 'revoked')
})

t.test('nothing is written to disk', async t => {
  const home = mkdtempSync(join(tmpdir(), 'job-access-exec-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const command = node('console.log(process.env.AWS_ACCESS_KEY_ID)')
  const ran = await runCli(t, ['exec', ...jobFlags('disk'), ...command], { ...service.env, HOME: home, TMPDIR: home })
  t.equal(ran.code, 0)
  t.strictSame(readdirSync(home), [])
})

t.test('the exit code is the command’s, and the grant is completed', async t => {
  const home = mkdtempSync(join(tmpdir(), 'job-access-exec-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const unrunnable = join(home, 'unrunnable')
  writeFileSync(unrunnable, 'x')
  chmodSync(unrunnable, 0o600)
  const cases: [string, string[], number][] = [
    ['ok', node('0'), 0],
    ['fails', node('process.exit(42)'), 42],
    ['killed', node('process.kill(process.pid, "SIGKILL")'), 137],
    ['missing', ['--', 'no-such-command-here'], 127],
    ['unrunnable', ['--', unrunnable], 126]
  ]
  for (const [job, command, code] of cases) {
    const ran = await runCli(t, ['exec', ...jobFlags(job), ...command], service.env)
    t.equal(ran.code, code, `${job}: ${ran.stderr}`)
    t.strictSame(await statesOf(job), ['revoked'], job)
  }
})

t.test('flags of the command are the command’s', async t => {
  const ran = await runCli(t, ['exec', ...jobFlags('flags'), '--', process.execPath, '-p', '"--job"', '--', '--team'], service.env)
  t.equal(ran.stdout, '--job\n')
})

t.test('signals go to the command; then the grant is completed', async t => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const started = startCli(t, ['exec', ...jobFlags(signal), ...node(waiting)], service.env)
    await started.says('ready')
    t.strictSame(await statesOf(signal), ['active'])
    started.child.kill('SIGUSR2')
    await started.says('got SIGUSR2')
    started.child.kill(signal)
    const ran = await started.done
    t.match(ran, { code: 3, signal: null, stdout: new RegExp(`got ${signal}`) })
    t.strictSame(await statesOf(signal), ['revoked'], signal)
  }
})

t.test('SIGUSR1 goes to the command and opens no debugger', async t => {
  const command = "trap 'echo got usr1; exit 5' USR1; echo ready; while :; do sleep 0.1; done"
  const started = startCli(t, ['exec', ...jobFlags('usr1'), '--', 'sh', '-c', command], service.env)
  await started.says('ready')
  started.child.kill('SIGUSR1')
  const ran = await started.done
  t.match(ran, { code: 5, stdout: /got usr1/ })
  t.notMatch(ran.stderr, /[Dd]ebugger/)
})

t.test('a command that does not handle the signal: 128+n', async t => {
  const started = startCli(t, ['exec', ...jobFlags('unhandled'), ...node('console.log("ready"); setInterval(() => {}, 1000)')], service.env)
  await started.says('ready')
  started.child.kill('SIGTERM')
  t.match(await started.done, { code: 143, signal: null })
  t.strictSame(await statesOf('unhandled'), ['revoked'])
})

t.test('in a terminal, ^C reaches the command once', async t => {
  const terminal = `
import os, pty, sys, time
pid, fd = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
out = b""
while b"ready" not in out: out += os.read(fd, 4096)
os.write(fd, b"\\x03")
try:
    while True:
        chunk = os.read(fd, 4096)
        if not chunk: break
        out += chunk
except OSError: pass
sys.stdout.write(out.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))`
  const counting = `
    let times = 0
    process.on('SIGINT', () => { times++; setTimeout(() => { console.log('times', times); process.exit(9) }, 300) })
    setInterval(() => {}, 1000)
    console.log('ready')`
  const cli = join(import.meta.dirname, '../../src/cli/main.ts')
  const command = [process.execPath, '--disable-warning=ExperimentalWarning', cli, 'exec', ...jobFlags('terminal'), ...node(counting)]
  const args = ['-c', terminal, ...command]
  const { error, stdout } = await new Promise<{ error: Error & { code?: unknown } | null, stdout: string }>(resolve =>
    execFile('python3', args, { env: service.env }, (error, stdout) => resolve({ error, stdout })))
  t.equal(error?.code, 9, stdout)
  t.match(stdout, /times 1\r?\n/)
  t.strictSame(await statesOf('terminal'), ['revoked'])
})

t.test('every run has its own grant; with --per-job the job has one', async t => {
  const both = await Promise.all([1, 2].map(() => runCli(t, ['exec', ...jobFlags('own'), ...node('0')], service.env)))
  t.strictSame(both.map(({ code }) => code), [0, 0])
  t.equal((await statesOf('own')).length, 2)
  const telling = node(`${waiting}\nconsole.log('pid', process.pid, '')`)
  const first = startCli(t, ['exec', '--per-job', ...jobFlags('one'), ...telling], service.env)
  await first.says('pid ')
  // Nobody can forward this one: the command lives on, as on a node whose agent dies.
  first.child.kill('SIGKILL')
  process.kill(Number(/pid (\d+)/.exec(first.said())?.[1]), 'SIGKILL')
  await first.done
  const again = await runCli(t, ['exec', '--per-job', ...jobFlags('one'), ...node('0')], service.env)
  t.equal(again.code, 0, again.stderr)
  t.strictSame(await statesOf('one'), ['revoked'], 'the restart took the first one’s grant and ended it')
})

t.test('refused: nothing is run', async t => {
  const ran = await runCli(t, ['exec', ...jobFlags('refused'), '--dataset', 'Not_a_bucket', ...node('console.log("ran")')], service.env)
  t.match(ran, { code: 1, stdout: '', stderr: /bucket-invalid at \/datasets\/1\/bucket/ })
  t.strictSame(await statesOf('refused'), [])
})

t.test('signalled before the command was started: it is not, and the grant is completed', async t => {
  const { proxy, issued, release } = await holding(t, service)
  const started = startCli(t, ['exec', ...jobFlags('early'), ...node('console.log("ran")')], { ...service.env, JOBACCESS_URL: proxy })
  await issued
  started.child.kill('SIGTERM')
  // The signal must arrive before the answer, and nothing tells that it has.
  await new Promise(resolve => setTimeout(resolve, 2_000))
  release()
  t.match(await started.done, { code: 143, stdout: '' })
  t.strictSame(await statesOf('early'), ['revoked'])
})

t.test('the service is gone at completion: said, and the exit code stays', async t => {
  const other = await startService(t)
  const started = startCli(t, ['exec', ...jobFlags('gone'), '--complete-seconds', '1', ...node(waiting)], other.env)
  await started.says('ready')
  await other.stop()
  started.child.kill('SIGTERM')
  const ran = await started.done
  t.equal(ran.code, 3)
  t.match(ran.stderr, /did not answer: ECONNREFUSED.*NOT completed: grant [0-9a-z]{26}, job gone, ends .*job-access complete [0-9a-z]{26}/s)
})

t.test('the service comes back in time: completed', async t => {
  const { proxy, down } = await flaky(t, service)
  const started = startCli(t, ['exec', ...jobFlags('back'), ...node(waiting)], { ...service.env, JOBACCESS_URL: proxy })
  await started.says('ready')
  down(2)
  started.child.kill('SIGTERM')
  const ran = await started.done
  t.equal(ran.code, 3)
  t.notMatch(ran.stderr, /NOT completed/)
  t.strictSame(await statesOf('back'), ['revoked'])
})

type T = Parameters<typeof startService>[0]

/** Answers the first POST only when it is let go. */
async function holding (t: T, { url }: Running) {
  let release = () => {}
  const released = new Promise<void>(resolve => { release = resolve })
  let seen = () => {}
  const issued = new Promise<void>(resolve => { seen = resolve })
  const proxy = await between(t, url, async (path, answer) => {
    if (path === '/v1/grants') {
      seen()
      await released
    }
    return answer
  })
  return { proxy, issued, release }
}

/** Drops so many connections once it is told to. */
async function flaky (t: T, { url }: Running) {
  let drops = 0
  const proxy = await between(t, url, async (_path, answer) => drops-- > 0 ? undefined : answer)
  return { proxy, down (times: number) { drops = times } }
}

interface Answer { status: number, headers: Record<string, string>, body: Buffer }

async function between (t: T, target: string, pass: (path: string, answer: Answer) => Promise<Answer | undefined>): Promise<string> {
  const server = createServer((request, response) => {
    const handle = async () => {
      const body = await buffer(request)
      const { authorization = '', accept = '', 'content-type': type, 'idempotency-key': key } = request.headers
      const answered = await fetch(target + request.url, {
        method: request.method ?? 'GET',
        headers: {
          authorization, accept, ...(type && { 'content-type': type }), ...(typeof key === 'string' && { 'idempotency-key': key })
        },
        ...(body.length > 0 && { body })
      })
      const kept = ['content-type', 'job-access-grant', 'job-access-ready', 'retry-after'].flatMap(name => {
        const value = answered.headers.get(name)
        return value === null ? [] : [[name, value]]
      })
      const given = { status: answered.status, headers: Object.fromEntries(kept), body: Buffer.from(await answered.arrayBuffer()) }
      const answer = await pass(request.url ?? '', given)
      if (answer) response.writeHead(answer.status, answer.headers).end(answer.body)
      else response.destroy()
    }
    handle().catch(() => response.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
}
