import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { agentWorld, inSeconds, startAgent, until } from '../../commands/agent-world.ts'
import { between } from '../../commands/between.ts'
import { jobFlags } from '../../commands/service.ts'
import { script } from '../../examples/example.ts'
import { awsClients, bin, type Client } from './clients.ts'

// boto3 and the AWS CLI, as they come from PyPI, while keys rotate, windows move and the service is away.

const world = await agentWorld(t)
const { client } = world
const { home, base, boto3 } = awsClients(t, world)
const cli = join(import.meta.dirname, '..', '..', '..', 'src', 'cli', 'main.ts')
const command = [process.execPath, '--disable-warning=ExperimentalWarning', cli]

/** A process of the AWS CLI for every call. */
const awsCli = (_t: Test, env: Record<string, string>): Client => ({
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
    t.match(await until(said, text => text.includes('grant-ended'), 20_000), /has ended \(revok(?:ed|ing)\)/, 'the reason reaches whoever reads the log')
  })
}

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
