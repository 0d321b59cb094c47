import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { variables } from '../../src/cli/settings.ts'
import { createClient } from '../../src/client/index.ts'
import { between } from './between.ts'
import { cliCommand, jobFlags, runCli, startCli, startService, type Running } from './service.ts'

const service = await startService(t)
const client = createClient({ url: service.url, token: service.token })
const statesOf = async (job: string) => (await client.list({ job })).grants.map(({ state }) => state)
const node = (script: string) => ['--', process.execPath, '-e', script]

/** Of the environment of whoever calls: it must not reach the command. */
const foreign = {
  AWS_PROFILE: 'mine',
  AWS_SESSION_TOKEN: 'mine',
  AWS_WEB_IDENTITY_TOKEN_FILE: '/mine',
  AWS_ROLE_ARN: 'mine',
  JOBACCESS_ALLOW_HTTP: 'false',
  EPOCHS: '3'
}
const withoutForeign = [...Object.keys(variables), 'AWS_PROFILE', 'AWS_SESSION_TOKEN', 'AWS_WEB_IDENTITY_TOKEN_FILE', 'AWS_ROLE_ARN']

const workplace = (t: Parameters<typeof startService>[0]): string => {
  const path = mkdtempSync(join(tmpdir(), 'job-access-exec-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Says who it is, then waits for a signal and ends by itself. */
const waiting = `
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2']) process.on(name, () => {
    console.log('got', name)
    if (name !== 'SIGUSR2') process.exit(3)
  })
  setInterval(() => {}, 1000)
  console.log('ready')`

t.test('the command is told whom its SDKs ask, and has nothing that could issue more', async t => {
  const script = `fetch(process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI, { headers: { authorization: process.env.AWS_CONTAINER_AUTHORIZATION_TOKEN } })
    .then(async answer => console.log(JSON.stringify({ env: process.env, argv: process.argv, given: await answer.json() })))`
  const config = join(workplace(t), 'config')
  writeFileSync(config, '[default]\nregion = eu-west-1\n')
  const ran = await runCli(t, ['exec', ...jobFlags('env'), ...node(script)], {
    ...service.env,
    HOME: '/nonexistent',
    AWS_ACCESS_KEY_ID: 'mine',
    AWS_SECRET_ACCESS_KEY: 'mine',
    AWS_SHARED_CREDENTIALS_FILE: '/mine',
    AWS_CONFIG_FILE: config,
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '/mine',
    AWS_ACCESS_KEY: 'mine',
    AWS_SECRET_KEY: 'mine',
    AWS_CREDENTIAL_FILE: '/mine',
    BOTO_CONFIG: '/mine',
    ...foreign
  })
  t.equal(ran.code, 0, ran.stderr)
  const { env, argv, given } = JSON.parse(ran.stdout)
  const [grant] = (await client.list({ job: 'env' })).grants
  t.match(given, { AccessKeyId: grant?.accessKeyId, SecretAccessKey: /^.{40}$/, Token: '', Expiration: /Z$/ })
  t.match(env, { AWS_CONTAINER_CREDENTIALS_FULL_URI: /^http:\/\/127\.0\.0\.1:\d+\/credentials$/, JOBACCESS_GRANT: grant?.id })
  t.match(env, { EPOCHS: '3', HOME: '/nonexistent', AWS_CONFIG_FILE: config }, 'the rest is as it was')
  t.match(env, { AWS_SHARED_CREDENTIALS_FILE: '/dev/null', BOTO_CONFIG: '/dev/null' }, 'which the SDKs ask first')
  const other = [
    'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', 'AWS_ACCESS_KEY', 'AWS_SECRET_KEY',
    'AWS_CREDENTIAL_FILE'
  ]
  for (const name of [...withoutForeign, ...other]) t.notOk(name in env, name)
  t.notMatch(argv.join(' '), given.SecretAccessKey, 'not on the command line')
  t.notMatch(ran.stderr, given.SecretAccessKey)
  t.match(ran.stderr, /embedded IAM/, 'the notice of the service')
  t.equal(grant?.state, 'revoked')
})

t.test('a configuration file that names credentials is hidden', async t => {
  const home = workplace(t)
  const config = join(home, '.aws', 'config')
  mkdirSync(join(home, '.aws'))
  writeFileSync(config, '[default]\nregion = eu-west-1\ncredential_process = /bin/mine\n')
  const command = node('console.log(process.env.AWS_CONFIG_FILE)')
  const ran = await runCli(t, ['exec', ...jobFlags('config'), ...command], { ...service.env, HOME: home })
  t.match(ran, { code: 0, stdout: '/dev/null\n', stderr: /config is hidden from the command: its credential_process would win/ })
})

t.test('--keys-in-env: the key in the environment, for programs that read nothing else', async t => {
  const telling = node('console.log(JSON.stringify({ env: process.env, argv: process.argv }))')
  const ran = await runCli(t, ['exec', '--keys-in-env', ...jobFlags('keys'), ...telling], { ...service.env, HOME: '/nonexistent', ...foreign })
  t.equal(ran.code, 0, ran.stderr)
  const { env, argv } = JSON.parse(ran.stdout)
  const [grant] = (await client.list({ job: 'keys' })).grants
  t.match(env, { AWS_ACCESS_KEY_ID: grant?.accessKeyId, AWS_SECRET_ACCESS_KEY: /^.{40}$/, JOBACCESS_GRANT: grant?.id })
  t.match(env, { EPOCHS: '3', HOME: '/nonexistent' }, 'the rest is as it was')
  for (const name of [...withoutForeign, 'AWS_CONTAINER_CREDENTIALS_FULL_URI']) t.notOk(name in env, name)
  t.notMatch(argv.join(' '), env.AWS_SECRET_ACCESS_KEY, 'not on the command line')
  t.notMatch(ran.stderr, env.AWS_SECRET_ACCESS_KEY)
  t.equal(grant?.state, 'revoked')
})

t.test('--credentials-file: there while the command runs, for its owner alone', async t => {
  const file = join(workplace(t), 'credentials')
  const command = node(`const fs = require('node:fs'); console.log(fs.statSync('${file}').mode & 0o777, fs.readFileSync('${file}', 'utf8'))`)
  const ran = await runCli(t, ['exec', ...jobFlags('file'), '--credentials-file', file, ...command], service.env)
  t.match(ran, { code: 0, stdout: /^384 \[default\]\naws_access_key_id = AKIA\w+\naws_secret_access_key = .{40}\n/ }, ran.stderr)
  t.notOk(existsSync(file))
  const nowhere = join(file, 'no', 'credentials')
  t.match(await runCli(t, ['exec', ...jobFlags('nowhere'), '--credentials-file', nowhere, ...command], service.env), { code: 2, stderr: /cannot be written/ })
  t.strictSame(await statesOf('nowhere'), [], 'not asked for what cannot be kept')
})

t.test('the command cannot read the issuing token in /proc', { skip: process.platform !== 'linux' && 'Linux only' }, async t => {
  const parent = 'const read = name => require("node:fs").readFileSync("/proc/" + process.ppid + "/" + name, "latin1")'
  const ran = await runCli(t, ['exec', ...jobFlags('proc'), ...node(`${parent}\nconsole.log((read('environ') + read('cmdline')).replaceAll('\\0', '|'))`)], { ...service.env, EPOCHS: '3' })
  t.equal(ran.code, 0, ran.stderr)
  t.match(ran.stdout, /JOBACCESS_TOKEN=x+\|/, 'it is the process that had it')
  t.match(ran.stdout, /EPOCHS=3\|/, 'and the rest stands')
  t.notOk(ran.stdout.includes(service.token.slice(0, 12)), ran.stdout)
})

t.test('nothing is written to disk', async t => {
  const home = workplace(t)
  const command = node('console.log(process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI)')
  const ran = await runCli(t, ['exec', ...jobFlags('disk'), ...command], { ...service.env, HOME: home, TMPDIR: home })
  t.equal(ran.code, 0)
  t.strictSame(readdirSync(home), [])
})

t.test('the exit code is the command’s, and the grant is completed', async t => {
  const home = workplace(t)
  const unrunnable = join(home, 'unrunnable')
  writeFileSync(unrunnable, 'x')
  chmodSync(unrunnable, 0o600)
  const cases: [string, string[], number][] = [
    ['ok', node('0'), 0],
    ['fails', node('process.exit(42)'), 42],
    ['killed', node('process.kill(process.pid, "SIGKILL")'), 137],
    ['missing', ['--', 'no-such-command-here'], 127],
    ['unrunnable', ['--', unrunnable], 126],
    ['below-a-file', ['--', join(unrunnable, 'x')], 126]
  ]
  for (const [job, command, code] of cases) {
    const ran = await runCli(t, ['exec', ...jobFlags(job), ...command], service.env)
    t.equal(ran.code, code, `${job}: ${ran.stderr}`)
    t.strictSame(await statesOf(job), ['revoked'], job)
  }
})

t.test('nobody reads what it says: the command runs, and the grant is completed', async t => {
  const home = workplace(t)
  mkdirSync(join(home, '.aws'))
  writeFileSync(join(home, '.aws', 'config'), '[default]\ncredential_process = /bin/mine\n')
  const done = join(home, 'done')
  const command = node(`require('node:fs').writeFileSync('${done}', '')`)
  const started = startCli(t, ['exec', ...jobFlags('unheard'), ...command], { ...service.env, HOME: home })
  started.child.stdout?.destroy()
  started.child.stderr?.destroy()
  t.match(await started.done, { code: 0, signal: null })
  t.ok(existsSync(done))
  t.strictSame(await statesOf('unheard'), ['revoked'])
})

t.test('the credentials file cannot be removed: said, and the grant is completed', async t => {
  const file = join(workplace(t), 'credentials')
  const command = node(`const fs = require('node:fs'); fs.rmSync('${file}'); fs.mkdirSync('${file}')`)
  const ran = await runCli(t, ['exec', ...jobFlags('stuck'), '--credentials-file', file, ...command], service.env)
  t.match(ran, { code: 0, stderr: /credentials/ })
  t.strictSame(await statesOf('stuck'), ['revoked'])
})

const asRoot = process.getuid?.() === 0
t.test('a command that it may not signal is waited for', { skip: !asRoot && 'only root can arrange it' }, async t => {
  const cli = join(import.meta.dirname, '../../src/cli/main.ts')
  // The CLI gives up root's right over other users' processes once its command, which keeps it, runs.
  const preload = `data:text/javascript,${encodeURIComponent(`
    process.on('SIGUSR2', () => process.setuid(65534))`)}`
  const command = node("console.log('ready'); process.on('SIGTERM', () => process.exit(4)); setTimeout(() => process.exit(6), 3000)")
  const args = ['--disable-warning=ExperimentalWarning', '--import', preload, cli, 'exec', ...jobFlags('theirs'), ...command]
  const child = spawn(process.execPath, args, { env: service.env, stdio: 'pipe' })
  let stderr = ''
  child.stderr.on('data', chunk => { stderr += String(chunk) })
  const ended = once(child, 'exit')
  await once(child.stdout, 'data')
  child.kill('SIGUSR2')
  t.strictSame(await ended, [6, null], stderr)
  t.match(stderr, /cannot be signalled: EPERM/)
  t.strictSame(await statesOf('theirs'), ['revoked'])
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
  const args = ['-c', terminal, ...cliCommand, 'exec', ...jobFlags('terminal'), ...node(counting)]
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
  const again = (...how: string[]) => runCli(t, ['exec', '--per-job', ...jobFlags('one'), ...how, ...node('console.log("ran")')], service.env)
  const refused = await again()
  t.match(refused, { code: 1, stdout: '', stderr: /key-delivered: .*--attempt START or --replace/s })
  t.strictSame(await statesOf('one'), ['active'], 'a run that does not say so ends nothing of another one')
  const restarted = await again('--attempt', '2')
  t.match(restarted, { code: 0, stdout: 'ran\n' }, restarted.stderr)
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
