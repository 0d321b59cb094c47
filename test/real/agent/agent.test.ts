import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { serveCredentials } from '../../../src/cli/credentials-server.ts'
import { agentSettings } from '../../../src/cli/local-agent.ts'
import { agentWorld, inSeconds, startAgent, until } from '../../commands/agent-world.ts'
import { between } from '../../commands/between.ts'
import { jobFlags } from '../../commands/service.ts'
import { script } from '../../examples/example.ts'

// boto3 and the AWS CLI, as they come from PyPI, while keys rotate, windows move and the service is away.

const bin = join(process.env.JOB_ACCESS_CACHE ?? join(homedir(), '.cache', 'job-access'), 'aws', 'bin')
const world = await agentWorld(t)
const { client } = world
const home = mkdtempSync(join(tmpdir(), 'job-access-clients-'))
t.teardown(() => rmSync(home, { recursive: true, force: true }))
type T = Parameters<typeof agentWorld>[0]

const base = { PATH: process.env.PATH ?? '', HOME: home, STS: world.bench.iam.url }
const cli = join(import.meta.dirname, '..', '..', '..', 'src', 'cli', 'main.ts')
const command = [process.execPath, '--disable-warning=ExperimentalWarning', cli]

interface Client {
  /** The key that a call used; it rejects with what the client said. */
  use: () => Promise<string | null | undefined>
}

/** One process of boto3, which keeps its client. */
const boto3 = (t: T, env: Record<string, string>, file = join(bin, 'python'), args: string[] = []): Client => {
  const child = spawn(file, [...args, join(import.meta.dirname, 'worker.py')], { env: { ...base, ...env }, stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => { child.kill('SIGKILL') })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async use () {
      child.stdin.write('\n')
      const { value = 'ended' } = await lines.next() as { value?: string }
      if (!value.startsWith('ok ')) throw new Error(value)
      return world.lastUsed()
    }
  }
}

/** A process of the AWS CLI for every call. */
const awsCli = (_t: T, env: Record<string, string>): Client => ({
  async use () {
    const args = ['sts', 'get-caller-identity', '--endpoint-url', world.bench.iam.url, '--region', 'us-east-1', '--output', 'text']
    const { code, stderr } = await script(join(bin, 'aws'), args, { env: { ...base, ...env } })
    if (code !== 0) throw new Error(stderr)
    return world.lastUsed()
  }
})

for (const [name, start] of [['boto3', boto3], ['AWS CLI', awsCli]] as const) {
  t.test(`${name} and the agent: rotation, extension, outage, end`, async t => {
    const job = name.replace(' ', '-')
    const agent = await startAgent(t, world, job, '--not-after', inSeconds(90))
    const worker = start(t, agent.variables)
    const first = await worker.use()
    t.equal((await client.get(agent.grantId)).accessKeyId, first)

    const before = world.minted()
    await client.rotate(agent.grantId, 36)
    const fresh = await until(worker.use, key => key !== first, 25_000)
    t.equal((await client.get(agent.grantId)).accessKeyId, fresh, 'no call failed, and it has the agent’s fresh key')
    t.equal(world.minted(), before + 2)

    await world.goAway()
    for (const end = Date.now() + 3_000; Date.now() < end; await delay(200)) t.equal(await worker.use(), fresh, 'the service is away')
    await world.comeBack()

    await client.rotate(agent.grantId, 0)
    const later = await until(() => worker.use().catch(() => fresh), key => key !== fresh, 25_000)
    t.equal((await client.get(agent.grantId)).accessKeyId, later)

    const { window } = await client.extend(agent.grantId, { window: { durationSeconds: 7200 } })
    t.ok(Date.parse(window.outputNotAfter) > Date.now() + 7_000_000)
    t.equal(await worker.use(), later, 'the key stays')

    await client.complete(agent.grantId)
    const said = async () => worker.use().then(() => '', (error: Error) => error.message)
    t.match(await until(said, text => text.includes('grant-ended'), 20_000), /has ended \(revoked\)/, 'the reason reaches whoever reads the log')
  })
}

t.test('with the usual --valid-for boto3 asks once a minute, not for every call', async t => {
  const { credentials } = await client.issue({ job: { id: 'pace', team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets' }], sourceIps: ['203.0.113.42'], window: { durationSeconds: 7200 } })
  const { accessKeyId = '', secretAccessKey = '' } = credentials ?? {}
  const key = { grantId: '', accessKeyId, secretAccessKey, sessionToken: undefined, receivedAt: 0, end: Date.now() + 7_200_000 }
  const { validForMs } = await agentSettings({})
  let asked = 0
  const server = await serveCredentials(0, validForMs, async () => {
    asked++
    return { key }
  })
  t.teardown(() => server.close())
  const worker = boto3(t, { AWS_CONTAINER_CREDENTIALS_FULL_URI: server.url, AWS_CONTAINER_AUTHORIZATION_TOKEN: server.token })
  const began = Date.now()
  for (; Date.now() < began + 58_000; await delay(1_000)) t.equal(await worker.use(), accessKeyId)
  t.equal(asked, 1)
  await delay(began + 62_000 - Date.now())
  await worker.use()
  t.equal(asked, 2)
})

t.test('boto3 works across the end of a window that is extended in its last seconds', async t => {
  const agent = await startAgent(t, world, 'last-seconds', '--not-after', inSeconds(12))
  const worker = boto3(t, agent.variables)
  const first = await worker.use()
  const old = Date.parse((await client.get(agent.grantId)).window.outputNotAfter)
  await until(() => Date.now(), now => now > old - 4_000)
  await client.extend(agent.grantId, { window: { durationSeconds: 3600 } })
  for (; Date.now() < old + 3_000; await delay(200)) t.equal(await worker.use(), first)
})

t.test('boto3 works across role sessions', async t => {
  // As in test/commands/agent.test.ts: the sessions last longer than the proxy says.
  const url = await between(t, world.url, async (_path, answer) => answer.headers['content-type']?.startsWith('text/x-env')
    ? { ...answer, body: Buffer.from(answer.body.toString().replace(/ends \S+/, `ends ${inSeconds(8)}`)) }
    : answer)
  const agent = await startAgent(t, { env: { ...world.env, JOBACCESS_URL: url } }, 'sessions', '--attach', 'session')
  const worker = boto3(t, agent.variables)
  const seen = new Set<string | null | undefined>()
  await until(async () => seen.add(await worker.use()).size, count => count === 3, 40_000)
  for (const key of seen) t.match(key, /^ASIA/)
})

t.test('boto3 under exec: a rotation reaches the running command; a file of the user’s has no say', async t => {
  writeFileSync(join(home, 'credentials'), '[default]\naws_access_key_id = AKIAMINE\naws_secret_access_key = mine\n')
  const env = { ...world.env, AWS_SHARED_CREDENTIALS_FILE: join(home, 'credentials') }
  const [file = '', ...args] = [...command, 'exec', ...jobFlags('exec'), '--valid-for', '2s', '--poll', '1s', '--', join(bin, 'python')]
  const worker = boto3(t, env, file, args)
  const first = await worker.use()
  const [grant] = (await client.list({ job: 'exec' })).grants
  t.equal(grant?.accessKeyId, first)
  await client.rotate(grant?.id ?? '', 0)
  const next = await until(() => worker.use().catch(() => first), key => key !== first, 25_000)
  t.equal((await client.get(grant?.id ?? '')).accessKeyId, next)
})

t.test('boto3 and credential_process: one key for all that ask in the last minutes of a window; an extension and a rotation are seen', async t => {
  const config = join(home, 'config')
  const words = [...command, 'credential-process', ...jobFlags('process'), '--duration', '15m', '--cache', join(home, 'cache')]
  writeFileSync(config, `[default]\nregion = us-east-1\ncredential_process = ${words.join(' ')}\n`)
  const env = { ...world.env, AWS_CONFIG_FILE: config, AWS_SHARED_CREDENTIALS_FILE: '/dev/null' }
  const before = world.minted()
  const workers = [boto3(t, env), boto3(t, env)]
  const used = new Set<string | null | undefined>()
  for (let calls = 0; calls < 4; calls++) for (const { use } of workers) used.add(await use())
  t.equal(used.size, 1)
  t.equal(world.minted(), before + 1, 'every call asked, none got a key of its own')

  const forgetWhenAsked = () => writeFileSync(join(home, 'cache'), JSON.stringify({ ...JSON.parse(readFileSync(join(home, 'cache'), 'utf8')), seenAt: 0 }))
  const [grant] = (await client.list({ job: 'process' })).grants
  await client.extend(grant?.id ?? '', { window: { durationSeconds: 3600 } })
  forgetWhenAsked()
  for (const { use } of workers) t.ok(used.has(await use()))
  t.equal(world.minted(), before + 1)
  await client.rotate(grant?.id ?? '', 0)
  const fresh = boto3(t, env)
  const next = await fresh.use()
  t.equal((await client.get(grant?.id ?? '')).accessKeyId, next)
  t.notOk(used.has(next))
})
