import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t from 'tap'
import { help } from '../../../src/cli/help.ts'
import { createClient } from '../../../src/client/index.ts'
import { cliCommand, jobFlags, startCommand, startService } from '../../commands/service.ts'

/**
 * The command as one file, on a machine without Node: its root has the file, the libraries that the file names, and a shell, and
 * nothing else. `npm run test:executable` also runs the CLI's suites of test/commands with the file.
 */

const [file, ...rest] = cliCommand
if (rest.length > 0) throw new Error('npm run test:executable builds the file, and says where it is')

const skip = process.getuid?.() !== 0 && 'only root can give a process another root'
t.test('on a machine that has nothing but the file', { skip }, async t => {
  const machine = mkdtempSync(join(tmpdir(), 'job-access-machine-'))
  t.teardown(() => rmSync(machine, { recursive: true, force: true }))
  const there = (path: string): string => join(machine, path)
  const put = (source: string, path = source): void => {
    mkdirSync(dirname(there(path)), { recursive: true })
    copyFileSync(source, there(path))
  }
  const libraries = [...execFileSync('ldd', [file], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g)].map(([, path = '']) => path)
  for (const path of ['/bin/sh', ...libraries]) put(path)
  put(file, '/opt/job-access')
  const files = readdirSync(machine, { recursive: true, encoding: 'utf8' }).filter(name => statSync(there(name)).isFile())
  t.equal(files.length, libraries.length + 2, files.join(' '))

  const service = await startService(t)
  const client = createClient({ url: service.url, token: service.token })
  writeFileSync(there('token'), service.token)
  // NODE_OPTIONS are the job's: this Node would end if it took them. There is no HOME, and no /etc/passwd.
  const env = { PATH: '/bin', JOBACCESS_URL: service.url, JOBACCESS_TOKEN_FILE: '/token', NODE_OPTIONS: '--require=/missing.js' }
  const start = (args: string[], more = {}) => startCommand(t, ['/usr/sbin/chroot', machine, '/opt/job-access', ...args], { ...env, ...more })
  const run = (args: string[], more = {}) => start(args, more).done
  const states = async (job: string) => (await client.list({ job })).grants.map(({ state }) => state)
  const read = (path: string) => readFileSync(there(path), 'utf8')

  await t.test('help, and nothing of Node on stderr', async t => {
    t.match(await run(['help']), { code: 0, stdout: help, stderr: '' })
    t.match(await run(['--version']), { code: 2, stderr: /There is no command --version/ }, 'which Node would answer')
  })

  await t.test('a grant by hand, from issue to complete', async t => {
    t.match(await run(['issue', ...jobFlags('hand'), '--format', 'env', '--out', '/key', '--grant-file', '/grant']), { code: 0 })
    t.match(read('key'), /^AWS_ACCESS_KEY_ID='?AKIA/m)
    t.match(await run(['list', '--job', 'hand']), { code: 0, stdout: read('grant').trim() })
    t.match(await run(['policy', ...jobFlags('hand')]), { code: 0, stdout: /"s3:GetObject"/ })
    t.match(await run(['check', ...jobFlags('hand'), '--action', 's3:PutObject', '--object', 'other/x', '--from-ip', '203.0.113.42']), { code: 1 })
    t.match(await run(['complete', '--grant-file', '/grant']), { code: 0, stdout: /revoked/, stderr: '' })
  })

  await t.test('exec: the command sees the job’s credentials, and the grant ends with it', async t => {
    const say = 'echo "$AWS_CONTAINER_CREDENTIALS_FULL_URI|$AWS_ACCESS_KEY_ID|$NODE_OPTIONS"; exit 7'
    const url = await run(['exec', ...jobFlags('exec'), '--', 'sh', '-c', say])
    t.match(url, { code: 7, stdout: /^http:\/\/127\.0\.0\.1:\d+\/credentials\|\|.*--require=\/missing\.js/ }, url.stderr)
    t.strictSame(await states('exec'), ['revoked'])
    const key = await run(['exec', '--keys-in-env', ...jobFlags('keys'), '--', 'sh', '-c', say])
    t.match(key, { code: 7, stdout: /^\|AKIA\w+\|/ }, key.stderr)
    t.match(await run(['exec', ...jobFlags('none'), '--', 'node', '-v']), { code: 127, stderr: /node cannot be started: ENOENT/ })
    t.strictSame([await states('keys'), await states('none')], [['revoked'], ['revoked']])
  })

  await t.test('agent: answers over loopback until SIGTERM', async t => {
    const agent = start(['agent', ...jobFlags('agent'), '--token-file', '/agent.token', '--out', '/agent.env', '--complete-on-exit'])
    await agent.says('JOBACCESS_GRANT=')
    const url = /AWS_CONTAINER_CREDENTIALS_FULL_URI=(.*)/.exec(read('agent.env'))?.[1] ?? ''
    const answer = await fetch(url, { headers: { authorization: read('agent.token') } })
    const [grant] = (await client.list({ job: 'agent' })).grants
    t.match(await answer.json(), { AccessKeyId: grant?.accessKeyId, SecretAccessKey: /^.{40}$/ })
    agent.child.kill('SIGTERM')
    t.match(await agent.done, { code: 0, signal: null })
    t.strictSame(await states('agent'), ['revoked'])
    t.notOk(existsSync(there('agent.token')))
  })

  await t.test('credential-process: one key for all calls', async t => {
    const calls = [1, 2].map(() => run(['credential-process', ...jobFlags('process'), '--cache', '/cache']))
    const keys = (await Promise.all(calls)).map(({ stdout }) => JSON.parse(stdout) as { AccessKeyId: string })
    const [grant] = (await client.list({ job: 'process' })).grants
    t.strictSame(keys.map(({ AccessKeyId }) => AccessKeyId), [grant?.accessKeyId, grant?.accessKeyId])
  })

  await t.test('no service: exit code 3', async t => {
    const gone = await run(['list'], { JOBACCESS_URL: 'http://127.0.0.1:1', JOBACCESS_DEADLINE_SECONDS: '1' })
    t.equal(gone.code, 3, gone.stderr)
  })
})

t.test('the licences of what is in it lie beside it', async t => {
  const licences = readFileSync(join(dirname(file), 'LICENSES'), 'utf8')
  for (const text of ['Apache License', 'Node.js v24', 'OpenSSL', 'V8', 'libuv', 'ICU', 'undici']) t.ok(licences.includes(text), text)
})
