import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts'
import t, { type Test } from 'tap'
import { serveCredentials } from '../../src/cli/credentials-server.ts'
import { keepKey } from '../../src/cli/key-keeper.ts'
import { startAgent as startInProcess } from '../../src/cli/local-agent.ts'
import { createClient } from '../../src/client/index.ts'
import { agentWorld, hurried, inSeconds, startAgent, until, type RunningAgent } from './agent-world.ts'
import { between } from './between.ts'
import { jobFlags, runCli } from './service.ts'

const world = await agentWorld(t)
const { client, env } = world
type T = Parameters<typeof agentWorld>[0]

/** A long-lived client of the AWS SDK for JavaScript in the environment that the agent names; @returns the key that a call used. */
const sdk = (t: T, { variables }: RunningAgent) => {
  const before = { ...process.env }
  t.teardown(() => { process.env = before })
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name]
  Object.assign(process.env, variables, { AWS_CONFIG_FILE: '/dev/null', AWS_SHARED_CREDENTIALS_FILE: '/dev/null' })
  const sts = new STSClient({ region: 'us-east-1', endpoint: world.bench.iam.url, maxAttempts: 1 })
  t.teardown(() => sts.destroy())
  return async () => {
    await sts.send(new GetCallerIdentityCommand())
    return world.lastUsed()
  }
}

/** A folder of its own, for as long as the test runs. */
const newHome = (t: Test): string => {
  const home = mkdtempSync(join(tmpdir(), 'job-access-agent-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  return home
}

t.test('the protocol: one path, GET, with the token, on loopback alone', async t => {
  const agent = await startAgent(t, world, 'protocol')
  const { AWS_CONTAINER_CREDENTIALS_FULL_URI: uri = '', AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file = '' } = agent.variables
  const token = readFileSync(file, 'utf8')
  const grant = await client.get(agent.grantId)
  const { status, headers, body } = await agent.get()
  t.equal(status, 200)
  t.match(body, { AccessKeyId: grant.accessKeyId, SecretAccessKey: /^.{40}$/, Token: '', Expiration: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/ })
  t.match(Object.fromEntries(headers), { 'cache-control': 'no-store', 'content-type': 'application/json' })
  const left = Date.parse(body.Expiration ?? '') - Date.now()
  t.ok(left > 0 && left <= 3_000, `${left}: as long as --valid-for says`)

  for (const authorization of ['', 'x', token.slice(0, -1), `${token}x`, `Bearer ${token}`]) {
    t.match(await agent.get({ headers: { authorization } }), { status: 401, body: { Code: 'unauthorized' } }, authorization.replace(token, '…'))
  }
  t.match(await agent.get({}), { status: 401 })
  t.match(await agent.get({ headers: { authorization: token } }, '/'), { status: 404, body: { Code: 'not-found' } })
  t.match(await agent.get({}, '/'), { status: 401 }, 'nothing is said without the token')
  for (const method of ['POST', 'PUT', 'DELETE']) t.match(await agent.get({ method, headers: { authorization: token } }), { status: 405 }, method)

  t.equal(statSync(file).mode & 0o777, 0o600)
  t.notMatch(token, /[\r\n]/, 'botocore and the Go SDK refuse a line end')
  await t.rejects(fetch(uri.replace('127.0.0.1', '127.0.0.2'), { headers: { authorization: token } }), 'no other address')
  agent.started.child.kill('SIGTERM')
  const { stdout, stderr } = await agent.started.done
  for (const secret of [token, body.SecretAccessKey ?? '', env.JOBACCESS_TOKEN ?? '']) t.notOk((stdout + stderr).includes(secret))
})

t.test('a rotation by somebody else, with overlap: no call of the SDK fails, and the agent asks for one key', async t => {
  const agent = await startAgent(t, world, 'rotation')
  const use = sdk(t, agent)
  const first = await use()
  const before = world.minted()
  const { credentials } = await client.rotate(agent.grantId, 34)
  const third = await until(use, key => key !== first, 20_000)
  t.not(third, credentials?.accessKeyId)
  t.equal(world.minted(), before + 2)
  const { accessKeyId, previousKey } = await client.get(agent.grantId)
  t.strictSame([accessKeyId, previousKey?.accessKeyId], [third, credentials?.accessKeyId], 'the other’s key is left alive')
  for (let calls = 0; calls < 15; calls++) t.equal(await until(use, () => true), third)
  t.equal(world.minted(), before + 2, 'it does not ask again while the key is good')
})

t.test('a rotation without overlap: the SDK has a fresh key in seconds', async t => {
  const agent = await startAgent(t, world, 'at-once')
  const use = sdk(t, agent)
  const first = await use()
  await client.rotate(agent.grantId, 0)
  const next = await until(async () => use().catch((error: Error) => error.name), key => /^AKIA/.test(key ?? '') && key !== first)
  t.equal((await client.get(agent.grantId)).accessKeyId, next)
})

t.test('an extension is told, the end as well', async t => {
  const agent = await startAgent(t, world, 'extension', '--not-after', inSeconds(8), '--valid-for', '1h')
  const told = async () => Date.parse((await agent.get()).body.Expiration ?? '')
  const before = world.minted()
  const first = await told()
  t.ok(first - Date.now() < 9_000, 'never beyond the window')
  const { window } = await client.extend(agent.grantId, { window: { notAfter: inSeconds(12) } })
  t.equal(await until(told, expiration => expiration > first), Date.parse(window.outputNotAfter))
  t.equal(world.minted(), before)

  const { status, body } = await until(() => agent.get(), ({ status }) => status !== 200)
  t.match({ status, body }, { status: 403, body: { Code: 'window-over', Message: /ended at .*longer --duration.*job-access extend/ } })
  t.ok(Date.now() >= Date.parse(window.outputNotAfter))
  const use = sdk(t, agent)
  await t.rejects(use(), { name: 'CredentialsProviderError' })
})

t.test('while the service is away the key is given out; afterwards all goes on', async t => {
  const agent = await startAgent(t, world, 'away')
  const use = sdk(t, agent)
  const first = await use()
  await world.goAway()
  try {
    const end = Date.now() + 5_000
    for (; Date.now() < end; await new Promise(resolve => setTimeout(resolve, 250))) t.equal(await use(), first)
  } finally {
    await world.comeBack()
  }
  await client.rotate(agent.grantId, 0)
  await until(async () => use().catch(() => first), key => key !== first, 30_000)
  await client.complete(agent.grantId)
  // The agent may look while the grant is still being revoked.
  t.match(await until(() => agent.get(), ({ status }) => status !== 200), {
    status: 403, body: { Code: 'grant-ended', Message: /has ended \(revok(?:ed|ing)\)\. Start the job again/ }
  })
  agent.started.child.kill('SIGTERM')
  t.match(await agent.started.done, { code: 0, stderr: /somebody else replaced the key.*has ended \(revok(?:ed|ing)\)/s })
})

t.test('a service that stays away is said once, and so is its return', async t => {
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const { grant, credentials } = await client.issue({ job: { id: 'said', team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets' }], sourceIps: ['203.0.113.42'], window: { durationSeconds: 900 } })
  const key = { grantId: grant.id, accessKeyId: credentials?.accessKeyId ?? '', secretAccessKey: 'x', sessionToken: undefined, receivedAt: Date.now(), end: Date.now() + 900_000 }
  const said: string[] = []
  // A busy machine needs some time for an answer, too.
  const away = createClient({ url: world.url, token: world.bench.tokens.nlp, deadlineMs: 5_000 })
  await world.goAway()
  const times = { validForMs: 1_000, pollMs: 100, overlapSeconds: 60 }
  const received = async () => {}
  const { held } = keepKey({ client: away, first: key, ...times, received, note: text => said.push(text), stopped: stop.signal })
  await until(() => said.length, count => count > 0)
  await new Promise(resolve => setTimeout(resolve, 1_000))
  await world.comeBack()
  t.match(await held(), { key })
  await until(() => said.length, count => count > 1)
  t.match(said, [/did not answer: .*The present key is given out for as long as it works/, 'all is well again.'])
})

t.test('role sessions: the next one is there before the present one ends', async t => {
  // STS's shortest session has 15 minutes. The proxy says that each one ends in eight seconds.
  const url = await between(t, world.url, async (_path, answer) => {
    if (!answer.headers['content-type']?.startsWith('text/x-env')) return answer
    return { ...answer, body: Buffer.from(answer.body.toString().replace(/ends \S+/, `ends ${inSeconds(8)}`)) }
  })
  const agent = await startAgent(t, { env: { ...env, JOBACCESS_URL: url } }, 'sessions', '--attach', 'session', '--not-after', inSeconds(604_000))
  const use = sdk(t, agent)
  const seen = new Set<string | null | undefined>()
  const began = Date.now()
  await until(async () => seen.add(await use()).size, count => count === 4, 40_000)
  t.ok(Date.now() - began > 8_000, 'each one is used for half of its life')
  for (const key of seen) t.match(key, /^ASIA/)
  t.match((await agent.get()).body, { Token: /./ })
})

t.test('role sessions: a service that is away when the next one is due', async t => {
  const url = await between(t, world.url, async (_path, answer) => {
    if (!answer.headers['content-type']?.startsWith('text/x-env')) return answer
    return { ...answer, body: Buffer.from(answer.body.toString().replace(/ends \S+/, `ends ${inSeconds(20)}`)) }
  })
  const agent = await startAgent(t, { env: { ...env, JOBACCESS_URL: url } }, 'due', '--attach', 'session', '--not-after', inSeconds(604_000))
  const use = sdk(t, agent)
  const first = await use()
  await new Promise(resolve => setTimeout(resolve, 8_000))
  await world.goAway()
  try {
    const back = Date.now() + 5_000
    for (; Date.now() < back; await new Promise(resolve => setTimeout(resolve, 250))) t.equal(await use(), first, 'the present one goes on')
  } finally {
    await world.comeBack()
  }
  t.match(await until(use, key => key !== first, 20_000), /^ASIA/)
  t.equal((await client.get(agent.grantId)).state, 'active')
})

t.test('two agents of one grant: both have keys that work, and they do not replace each other’s again and again', async t => {
  const first = await startAgent(t, world, 'two', '--idempotency-key', 'two')
  const second = await startAgent(t, world, 'two', '--idempotency-key', 'two')
  t.equal(first.grantId, second.grantId)
  await until(async () => (await client.get(first.grantId)).previousKey, previous => previous !== null)
  const before = world.minted()
  const keysOf = async () => {
    const { accessKeyId, previousKey } = await client.get(first.grantId)
    return [accessKeyId, previousKey?.accessKeyId].sort()
  }
  const keys = await keysOf()
  const held = async () => [(await first.get()).body.AccessKeyId, (await second.get()).body.AccessKeyId].sort()
  t.strictSame(await held(), keys)
  await new Promise(resolve => setTimeout(resolve, 5_000))
  t.equal(world.minted(), before)
  t.strictSame(await held(), await keysOf())
})

t.test('its files: each its owner’s alone, the credentials with every fresh key; what ends with it', async t => {
  const home = newHome(t)
  const [credentials, envFile, grantFile] = [join(home, 'credentials'), join(home, 'agent.env'), join(home, 'grant')]
  const files = ['--credentials-file', credentials, '--out', envFile, '--grant-file', grantFile]
  const agent = await startAgent(t, world, 'files', ...files, '--complete-on-exit')
  for (const file of [credentials, envFile, grantFile]) t.equal(statSync(file).mode & 0o777, 0o600, file)
  t.equal(readFileSync(envFile, 'utf8'), agent.started.said())
  t.equal(readFileSync(grantFile, 'utf8'), `${agent.grantId}\n`)
  const { body: { AccessKeyId, SecretAccessKey } } = await agent.get()
  t.equal(readFileSync(credentials, 'utf8'), `[default]\naws_access_key_id = ${AccessKeyId}\naws_secret_access_key = ${SecretAccessKey}\n`)
  await client.rotate(agent.grantId, 0)
  await until(() => readFileSync(credentials, 'utf8'), text => !text.includes(AccessKeyId ?? ''))
  t.match(readFileSync(credentials, 'utf8'), (await client.get(agent.grantId)).accessKeyId ?? '')

  agent.started.child.kill('SIGTERM')
  t.match(await agent.started.done, { code: 0 })
  t.equal((await client.get(agent.grantId)).state, 'revoked')
  for (const file of [credentials, envFile, agent.variables.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE ?? '']) t.notOk(existsSync(file), file)

  const staying = await startAgent(t, world, 'staying', '--credentials-file', credentials)
  staying.started.child.kill('SIGTERM')
  t.match(await staying.started.done, { code: 0, stderr: new RegExp(`left alive: grant ${staying.grantId}.*job-access complete ${staying.grantId}`) })
  t.equal((await client.get(staying.grantId)).state, 'active')
  t.ok(existsSync(credentials), 'whoever reads the file has the key until it ends')
})

t.test('an agent that is started again takes the grant of its file over, and the SDKs’ key lives on', async t => {
  const home = newHome(t)
  const file = ['--grant-file', join(home, 'grant')]
  const lost = await startAgent(t, world, 'again', ...file)
  const { AccessKeyId } = (await lost.get()).body
  lost.started.child.kill('SIGKILL')
  await lost.started.done
  const again = await startAgent(t, world, 'again', ...file)
  t.equal(again.grantId, lost.grantId)
  t.match(await client.get(again.grantId), { accessKeyId: (await again.get()).body.AccessKeyId, previousKey: { accessKeyId: AccessKeyId } })
  const other = await startAgent(t, world, 'another', ...file)
  t.not(other.grantId, lost.grantId, 'another job gets its own')
  await client.complete(other.grantId)
  t.not((await startAgent(t, world, 'another', ...file)).grantId, other.grantId, 'what has ended is not taken over')
})

t.test('what is wrong is said before a grant is issued; what never began is completed', async t => {
  const home = newHome(t)
  const token = ['--token-file', join(home, 'token')]
  const cases: [string[], RegExp][] = [
    [[], /wants --token-file/],
    [[...token, '--port', 'x'], /--port x: give a number/],
    [[...token, '--port', '65536'], /--port 65536: give a number up to 65535/],
    [['--token-file', join(home, 'my token')], /my token: only letters, digits and .* unquoted into --out/],
    [['--token-file', home], /this is a folder/],
    [[...token, '--out', home], /this is a folder/],
    [[...token, '--valid-for', '0s'], /--valid-for: give at least a second/],
    [[...token, '--poll', '2d'], /--poll: .*at most a day/],
    [['--token-file', join(home, 'no', 'token')], /cannot be written/],
    [[...token, '--credentials-file', join(home, 'no', 'credentials')], /cannot be written/]
  ]
  for (const [args, message] of cases) t.match(await runCli(t, ['agent', ...jobFlags('wrong'), ...args], env), { code: 2, stdout: '', stderr: message })
  t.strictSame((await client.list({ job: 'wrong' })).grants, [])
  const { port } = new URL(world.url)
  t.match(await runCli(t, ['agent', ...jobFlags('taken'), ...hurried, ...token, '--port', port], env), { code: 2, stderr: /EADDRINUSE/ })
  t.strictSame((await client.list({ job: 'taken' })).grants, [], 'the port is taken before a grant is issued')
})

/** A folder for an agent's files, which is gone once the service has delivered a key: so the agent fails after it has a grant. */
const failing = async (t: T) => {
  const home = newHome(t)
  const folder = join(home, 'gone')
  const url = await between(t, world.url, async (_path, answer) => {
    if (answer.headers['content-type']?.startsWith('text/x-env')) rmSync(folder, { recursive: true, force: true })
    return answer
  })
  return (job: string, ...more: string[]) => {
    mkdirSync(folder)
    return runCli(t, ['agent', ...jobFlags(job), ...hurried, '--token-file', join(folder, 'token'), ...more], { ...env, JOBACCESS_URL: url })
  }
}

t.test('a start that fails ends, and completes the grant that it issued', async t => {
  const fails = await failing(t)
  t.match(await fails('never'), { code: 1, signal: null, stdout: '', stderr: /ENOENT/ })
  t.match((await client.list({ job: 'never' })).grants, [{ state: 'revoked' }])
})

t.test('a start that fails leaves a grant alive that others use', async t => {
  const fails = await failing(t)
  for (const [job, ...how] of [['keyed', '--idempotency-key', 'keyed'], ['perjob', '--per-job', '--replace'], ['taken-over']] as const) {
    const home = newHome(t)
    const more = how.length > 0 ? how : ['--grant-file', join(home, 'grant')]
    const agent = await startAgent(t, world, job, ...more)
    const alive = new RegExp(`left alive: grant ${agent.grantId}`)
    t.match(await fails(job, ...more), { code: 1, stderr: alive }, job)
    const { port } = new URL(agent.variables.AWS_CONTAINER_CREDENTIALS_FULL_URI ?? '')
    // The agent fetches a fresh key when the start that failed has replaced its own.
    await until(async () => {
      const [{ accessKeyId, previousKey }, { body }] = [await client.get(agent.grantId), await agent.get()]
      return [accessKeyId, previousKey?.accessKeyId].includes(body.AccessKeyId ?? '')
    }, isLive => isLive)
    // Stopped, it keeps its port and asks for no key itself.
    agent.started.child.kill('SIGSTOP')
    const before = world.minted()
    const second = ['agent', ...jobFlags(job), ...hurried, '--token-file', join(home, 'token'), ...more, '--port', port]
    t.match(await runCli(t, second, env), { code: 2, stderr: /EADDRINUSE/ }, job)
    t.equal(world.minted(), before, 'no key is replaced for a port that is taken')
    t.equal((await client.get(agent.grantId)).state, 'active', job)
    agent.started.child.kill('SIGKILL')
  }
})

t.test('a delivery that is not understood: the grant is completed, unless others use it', async t => {
  const url = await between(t, world.url, async (_path, answer) => answer.headers['content-type']?.startsWith('text/x-env')
    ? { ...answer, body: Buffer.from('# not a delivery\n') }
    : answer)
  const home = newHome(t)
  const run = (job: string, ...more: string[]) =>
    runCli(t, ['agent', ...jobFlags(job), '--token-file', join(home, 'token'), ...more], { ...env, JOBACCESS_URL: url })
  t.match(await run('garbled'), { code: 3, stderr: /not understood/ })
  t.match((await client.list({ job: 'garbled' })).grants, [{ state: 'revoked' }])
  t.match(await run('garbled-keyed', '--idempotency-key', 'garbled'), { code: 3, stderr: /left alive: grant/ })
  t.match((await client.list({ job: 'garbled-keyed' })).grants, [{ state: 'active' }])
})

t.test('an agent that ends leaves the files of the one that replaced it', async t => {
  const home = newHome(t)
  const [token, envFile, credentials] = [join(home, 'token'), join(home, 'agent.env'), join(home, 'credentials')]
  const agent = await startAgent(t, world, 'replaced', '--token-file', token, '--out', envFile, '--credentials-file', credentials, '--complete-on-exit')
  for (const file of [token, envFile, credentials]) writeFileSync(file, 'of another agent')
  agent.started.child.kill('SIGTERM')
  t.match(await agent.started.done, { code: 0 })
  for (const file of [token, envFile, credentials]) t.equal(readFileSync(file, 'utf8'), 'of another agent', file)
})

t.test('a file that cannot be removed is said, and the grant is completed all the same', async t => {
  const home = newHome(t)
  const [token, credentials] = [join(home, 'token'), join(home, 'credentials')]
  const agent = await startAgent(t, world, 'stuck', '--token-file', token, '--credentials-file', credentials, '--complete-on-exit')
  for (const file of [token, credentials]) {
    rmSync(file)
    mkdirSync(file)
  }
  agent.started.child.kill('SIGTERM')
  t.match(await agent.started.done, { code: 0, stderr: /credentials is left behind: .*a file is left behind: /s })
  t.equal((await client.get(agent.grantId)).state, 'revoked')
})

t.test('a fresh key that could not be written is written at a later turn', async t => {
  const home = newHome(t)
  const folder = join(home, 'folder')
  mkdirSync(folder)
  const credentials = join(folder, 'credentials')
  const agent = await startAgent(t, world, 'unwritten', '--credentials-file', credentials)
  const { AccessKeyId } = (await agent.get()).body
  rmSync(folder, { recursive: true })
  await client.rotate(agent.grantId, 0)
  const fresh = await until(async () => (await agent.get()).body.AccessKeyId, key => key !== undefined && key !== AccessKeyId)
  await new Promise(resolve => setTimeout(resolve, 1_500))
  mkdirSync(folder)
  await until(() => existsSync(credentials), exists => exists)
  t.match(readFileSync(credentials, 'utf8'), `aws_access_key_id = ${fresh}\n`)
  agent.started.child.kill('SIGTERM')
  const { stderr } = await agent.started.done
  t.equal(stderr.match(/could not be written, and this is tried again/g)?.length, 1, 'said once')
  t.match(stderr, /the fresh key is written now/)
})

/** A key as `exec` gives it to its agent, and the streams of a command. */
const inProcess = async (job: string, url = world.url) => {
  const { grant, credentials } = await client.issue({ job: { id: job, team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets' }], sourceIps: ['203.0.113.42'], window: { durationSeconds: 900 } })
  const first = { grantId: grant.id, accessKeyId: credentials?.accessKeyId ?? '', secretAccessKey: 'x', sessionToken: undefined, receivedAt: Date.now(), end: Date.now() + 900_000 }
  const said: string[] = []
  const io = { env: { ...env, JOBACCESS_URL: url }, out: () => {}, err: (text: string) => { said.push(text) }, readStdin: async () => '' }
  return { first, io, said }
}

t.test('the credentials file: not brought back by a rotation under way, not left behind where the port is taken', async t => {
  const home = newHome(t)
  const credentialsFile = join(home, 'credentials')
  const settings = { credentialsFile, validForMs: 1_000, pollMs: 200 }
  let rotating = false
  const url = await between(t, world.url, async (_path, answer) => {
    if (!answer.headers['content-type']?.startsWith('text/x-env')) return answer
    rotating = true
    await new Promise(resolve => setTimeout(resolve, 1_000))
    return answer
  })
  const { first, io } = await inProcess('under-way', url)
  const before = world.minted()
  const agent = await startInProcess(settings, first, io)
  t.ok(existsSync(credentialsFile))
  await client.rotate(first.grantId, 0)
  await until(() => rotating, seen => seen)
  await agent.stop({ removeFile: true })
  t.notOk(existsSync(credentialsFile))
  await new Promise(resolve => setTimeout(resolve, 1_500))
  t.notOk(existsSync(credentialsFile))
  t.equal(world.minted(), before + 2, 'the rotation was done')

  await t.rejects(startInProcess(settings, first, io, Number(new URL(world.url).port)), /EADDRINUSE/)
  t.notOk(existsSync(credentialsFile))
})

t.test('an error of the listening port is passed on, and does not end the process', async t => {
  const listen = t.capture(Server.prototype, 'listen', Server.prototype.listen)
  const failures: string[] = []
  const server = await serveCredentials(0, 1_000, async () => ({ status: 503, code: 'key-replaced', message: '' }), error => failures.push(error.message))
  t.teardown(() => server.close())
  const listening = listen()[0]?.receiver
  if (!(listening instanceof Server)) throw new Error('no server listens')
  for (const message of ['accept EMFILE', 'accept ENFILE']) listening.emit('error', new Error(message))
  t.strictSame(failures, ['accept EMFILE', 'accept ENFILE'])
  t.equal((await fetch(server.url, { headers: { authorization: server.token } })).status, 503)
})

t.test('a token that cannot be overwritten in /proc is said', { skip: process.platform !== 'linux' && 'Linux only' }, async t => {
  // As on a kernel that forbids it.
  const forbid = `import fs from 'node:fs'
    import { syncBuiltinESMExports } from 'node:module'
    const open = fs.openSync
    fs.openSync = (path, ...rest) => {
      if (path === '/proc/self/mem') throw Object.assign(new Error('forbidden'), { code: 'EACCES' })
      return open(path, ...rest)
    }
    syncBuiltinESMExports()`
  // From the sources: the executable takes no options of Node.
  const cli = join(import.meta.dirname, '../../src/cli/main.ts')
  const before = ['--disable-warning=ExperimentalWarning', `--import=data:text/javascript,${encodeURIComponent(forbid)}`, cli]
  for (const command of ['agent', 'exec']) {
    const { stderr } = spawnSync(process.execPath, [...before, command], { env, encoding: 'utf8' })
    t.equal(stderr.match(/JOBACCESS_TOKEN could not be overwritten in \/proc/g)?.length, 1, `${command}: ${stderr}`)
    t.notMatch((await runCli(t, [command], env)).stderr, /could not be overwritten/)
    t.notMatch(stderr, env.JOBACCESS_TOKEN ?? '')
  }
})
