import { execFile, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts'
import t from 'tap'
import { createClient } from '../../src/client/index.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import { appOf, bench } from '../harness.ts'
import { tool } from '../examples/example.ts'
import { agentWorld, inSeconds } from './agent-world.ts'
import { cliCommand, jobFlags, runCli } from './service.ts'

const b = await bench(t, { now: Date.now })
const url = await (await appOf(t, b)).listen({ host: '127.0.0.1', port: 0 })
const client = createClient({ url, token: b.tokens.nlp })
const home = mkdtempSync(join(tmpdir(), 'job-access-process-'))
const env = { PATH: process.env.PATH ?? '', JOBACCESS_URL: url, JOBACCESS_TOKEN: b.tokens.nlp, XDG_RUNTIME_DIR: join(home, 'run') }
mkdirSync(env.XDG_RUNTIME_DIR)
t.teardown(() => rmSync(home, { recursive: true, force: true }))

const process_ = (job: string, ...more: string[]) => runCli(t, ['credential-process', ...jobFlags(job), ...more], env)
const grants = async (job: string) => (await client.list({ job })).grants

/** An AWS configuration with the profile `training`, as a person writes it. */
const profile = (job: string, ...more: string[]): string => {
  const path = join(home, `${job}.ini`)
  const command = [...cliCommand, 'credential-process', ...jobFlags(job), ...more]
  writeFileSync(path, `[profile training]\nregion = us-east-1\ncredential_process = ${command.join(' ')}\n`)
  return path
}

t.test('what AWS’s contract asks for; the same grant at every call', async t => {
  const ids = new Set<string>()
  for (let call = 0; call < 2; call++) {
    const ran = await process_('contract', '--no-cache')
    t.equal(ran.code, 0, ran.stderr)
    const { Expiration, ...given } = JSON.parse(ran.stdout)
    const [grant, ...more] = await grants('contract')
    t.strictSame(more, [])
    t.strictSame(Object.keys(given).sort(), ['AccessKeyId', 'SecretAccessKey', 'Version'])
    t.match(given, { Version: 1, AccessKeyId: grant?.accessKeyId })
    t.ok(Math.abs(Date.parse(Expiration) - Date.now() - 30 * 60_000) < 10_000, `${Expiration}: the SDK asks again long before the end`)
    ids.add(grant?.id ?? '')
  }
  t.equal(ids.size, 1)
  t.match(await runCli(t, ['credential-process', '--job', 'x'], env), { code: 1, stdout: '', stderr: /request-invalid at \/job\/team/ })
})

t.test('the AWS SDK takes its key from the profile, and the key works', async t => {
  const before = { ...process.env }
  t.teardown(() => { process.env = before })
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name]
  Object.assign(process.env, { AWS_CONFIG_FILE: profile('sdk'), AWS_SHARED_CREDENTIALS_FILE: '/dev/null', ...env })
  const sts = new STSClient({ profile: 'training', endpoint: b.iam.url })
  t.teardown(() => sts.destroy())
  const { Arn } = await sts.send(new GetCallerIdentityCommand())
  const [grant] = await grants('sdk')
  t.equal(Arn, `arn:aws:iam::000000000000:user${grant?.user.path}${grant?.user.name}`)
})

t.test('where no call tells whose a key is, it does not wait', async t => {
  const ceph = await bench(t, { now: Date.now })
  ceph.deps.deployment.dialect = { ...dialects.aws, identityProbe: null }
  const at = await (await appOf(t, ceph)).listen({ host: '127.0.0.1', port: 0 })
  const ran = await runCli(t, ['credential-process', ...jobFlags('unprobed')], { ...env, JOBACCESS_URL: at, JOBACCESS_TOKEN: ceph.tokens.nlp })
  t.equal(ran.code, 0, ran.stderr)
  const { grants } = await createClient({ url: at, token: ceph.tokens.nlp }).list({ job: 'unprobed' })
  t.match(grants, [{ state: 'active', accessKeyId: JSON.parse(ran.stdout || '{}').AccessKeyId }])
})

const aws = tool('lint', 'bin', 'aws')
t.test('the AWS CLI does, too', { skip: aws.skip }, async t => {
  const args = ['sts', 'get-caller-identity', '--profile', 'training', '--endpoint-url', b.iam.url, '--output', 'text', '--query', 'Arn']
  const inherited = { ...env, HOME: process.env.HOME ?? '', AWS_CONFIG_FILE: profile('awscli'), AWS_SHARED_CREDENTIALS_FILE: '/dev/null' }
  const arn = await new Promise<string>((resolve, reject) => {
    execFile(aws.path, args, { env: inherited }, (error, stdout) => error ? reject(error) : resolve(stdout.trim()))
  })
  const [grant] = await grants('awscli')
  t.equal(arn, `arn:aws:iam::000000000000:user${grant?.user.path}${grant?.user.name}`)
})

t.test('nothing on disk: the cache is in memory, its owner’s alone; --no-cache has none', async t => {
  const before = readdirSync(home)
  t.equal((await runCli(t, ['credential-process', ...jobFlags('disk')], { ...env, HOME: home, TMPDIR: home })).code, 0)
  t.strictSame(readdirSync(home), before)
  const folder = join(env.XDG_RUNTIME_DIR, `job-access-${process.getuid?.()}`)
  const kept = readdirSync(folder)
  t.match(kept, [/^[0-9a-f]{64}\.json$/])
  for (const path of [folder, ...kept.map(name => join(folder, name))]) t.equal(statSync(path).mode & 0o077, 0, path)
  t.equal((await process_('disk', '--no-cache')).code, 0)
  t.strictSame(readdirSync(folder), kept)
  const keyOf = async (...more: string[]) => JSON.parse((await process_('disk', ...more)).stdout).AccessKeyId
  t.equal(await keyOf(), await keyOf())
  t.not(await keyOf('--no-cache'), await keyOf('--no-cache'), 'every call replaces the key')
  t.match(await process_('disk', '--no-cache', '--cache', 'x'), { code: 2, stderr: /exclude each other/ })
  chmodSync(folder, 0o755)
  // It then takes the next place, which is this machine's.
  const next = `/dev/shm/job-access-${process.getuid?.()}`
  const there = existsSync(next) ? readdirSync(next) : []
  t.teardown(() => {
    for (const name of existsSync(next) ? readdirSync(next) : []) if (!there.includes(name)) rmSync(join(next, name))
  })
  t.match(await runCli(t, ['credential-process', ...jobFlags('disk')], { ...env, TMPDIR: home }), { code: 0, stderr: /others can use it/ })
  chmodSync(folder, 0o700)
})

t.test('processes that start at once share one key through --cache', async t => {
  const cache = join(home, 'shared')
  const ran = await Promise.all([1, 2, 3, 4].map(() => process_('shared', '--cache', cache)))
  t.strictSame(ran.map(({ code }) => code), [0, 0, 0, 0], ran.map(({ stderr }) => stderr).join(''))
  t.equal(new Set(ran.map(({ stdout }) => JSON.parse(stdout).AccessKeyId)).size, 1)
  const [grant] = await grants('shared')
  t.equal(JSON.parse(ran[0]?.stdout ?? '').AccessKeyId, grant?.accessKeyId, 'and it is the live one')
  t.equal(statSync(cache).mode & 0o777, 0o600)
  t.strictSame(readdirSync(home).filter(name => name.startsWith('shared')), ['shared'], 'no lock is left')
})

t.test('a lock whose process has ended is taken over; one of a process that runs is waited for', async t => {
  const cache = join(home, 'locked')
  const lock = `${cache}.lock`
  const ended = spawnSync('true').pid
  writeFileSync(lock, `${hostname()} ${ended} x`)
  const began = Date.now()
  t.match(await process_('locked', '--cache', cache), { code: 0 })
  t.ok(Date.now() - began < 20_000, 'at once')
  t.notOk(existsSync(lock))
  for (const holder of [`${hostname()} ${process.pid} x`, `elsewhere ${ended} x`]) {
    writeFileSync(lock, holder)
    const ran = process_('locked', '--cache', cache)
    t.equal(await Promise.race([ran, new Promise(resolve => setTimeout(() => resolve('waits'), 3_000))]), 'waits', holder)
    rmSync(lock)
    t.match(await ran, { code: 0 })
  }
})

t.test('a kept key that works is not given up when the service does not know the caller now', async t => {
  const cache = join(home, 'unknown')
  const first = JSON.parse((await process_('unknown', '--cache', cache)).stdout)
  const stranger = { ...env, JOBACCESS_TOKEN: `${env.JOBACCESS_TOKEN.slice(0, -1)}x` }
  const ran = await runCli(t, ['credential-process', ...jobFlags('unknown'), '--cache', cache], stranger)
  t.match(ran, { code: 0 }, ran.stderr)
  t.equal(JSON.parse(ran.stdout).AccessKeyId, first.AccessKeyId)
})

t.test('its calls are retries; no key of another machine, user or process ends', async t => {
  const keyOf = async (...more: string[]) => {
    const ran = await process_('own', '--no-cache', ...more)
    t.equal(ran.code, 0, ran.stderr)
    return JSON.parse(ran.stdout).AccessKeyId
  }
  const { grant: others, credentials } = await client.issue({
    job: { id: 'own', team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets' }], sourceIps: ['203.0.113.42'], window: { durationSeconds: 3600 }
  }, { idempotencyKey: null })
  const first = await keyOf()
  t.not(await keyOf(), first)
  await keyOf('--attempt', '2')
  t.equal((await grants('own')).length, 2, 'its own, also for another attempt')
  t.match(await client.get(others.id), { state: 'active', accessKeyId: credentials?.accessKeyId ?? '' })
  await keyOf('--idempotency-key', 'theirs')
  t.equal((await grants('own')).length, 3)
})

t.test('a kept key is not handed out when it is dead, another job’s, or readable by others', async t => {
  const cache = join(home, 'kept')
  const keyOf = async (job: string) => JSON.parse((await process_(job, '--cache', cache)).stdout).AccessKeyId
  const first = await keyOf('kept')
  t.equal(await keyOf('kept'), first)
  const [grant] = await grants('kept')
  await client.rotate(grant?.id ?? '')
  const second = await keyOf('kept')
  t.not(second, first, 'rotated')
  t.not(await keyOf('another'), second)
  await client.complete(grant?.id ?? '')
  t.equal((await grants('kept')).length, 1)
  const ended = await process_('kept', '--cache', cache)
  t.match(ended, { code: 1, stdout: '', stderr: /stays ended: ask for it anew with another --idempotency-key.*grant-state: Grant \w+ has ended/s })
  t.match((await grants('kept')).map(({ state }) => state), ['revoked'], 'completed: what still runs of the job gets nothing more')
  const anew = async () => JSON.parse((await process_('kept', '--cache', cache, '--idempotency-key', 'anew')).stdout).AccessKeyId
  await anew()
  t.equal((await grants('kept')).length, 2)

  const { of, grantId, text } = JSON.parse(readFileSync(cache, 'utf8'))
  const { AccessKeyId } = JSON.parse(text)
  writeFileSync(cache, JSON.stringify({ of, grantId, text, receivedAt: 0, seenAt: Date.now(), end: Date.now() - 1000 }))
  t.not(await anew(), AccessKeyId, 'over')

  writeFileSync(cache, '{')
  t.ok(await anew(), 'torn')
  chmodSync(cache, 0o644)
  t.match(await process_('kept', '--cache', cache), { code: 2, stdout: '', stderr: /others can read it/ })
})

t.test('while the service is away, a kept key is handed out until its window ends', async t => {
  const cache = join(home, 'away')
  const kept = JSON.parse((await process_('away', '--cache', cache)).stdout)
  const away = { ...env, JOBACCESS_URL: 'http://127.0.0.1:1', JOBACCESS_DEADLINE_SECONDS: '1' }
  const { Expiration, ...given } = JSON.parse((await runCli(t, ['credential-process', ...jobFlags('away'), '--cache', cache], away)).stdout)
  t.match(kept, given)
  t.ok(Date.parse(Expiration) >= Date.parse(kept.Expiration))
  t.match(await runCli(t, ['credential-process', ...jobFlags('away')], away), { code: 3, stdout: '' })
})

t.test('in the window’s last minutes: no fresh key for asking, seldom a question to the service; an extension is seen', async t => {
  const cache = join(home, 'last')
  const ask = async () => JSON.parse((await process_('last', '--cache', cache, '--duration', '15m')).stdout)
  const first = await ask()
  const [grant] = await grants('last')
  const keys = () => b.iam.calls.filter(({ action }) => action === 'CreateAccessKey').length
  const before = keys()
  t.equal(Date.parse(first.Expiration), Date.parse(grant?.window.outputNotAfter ?? ''))
  t.strictSame(await ask(), first)
  const { seenAt } = JSON.parse(readFileSync(cache, 'utf8'))
  t.strictSame(await ask(), first)
  t.equal(JSON.parse(readFileSync(cache, 'utf8')).seenAt, seenAt, 'the service was not asked')
  await client.extend(grant?.id ?? '', { window: { durationSeconds: 7200 } })
  writeFileSync(cache, JSON.stringify({ ...JSON.parse(readFileSync(cache, 'utf8')), seenAt: 0 }))
  const extended = await ask()
  t.equal(extended.AccessKeyId, first.AccessKeyId)
  t.ok(Date.parse(extended.Expiration) - Date.now() > 29 * 60_000, extended.Expiration)
  t.equal(keys(), before)
})

t.test('a rotation by somebody else: the old key for as long as it lives, then a fresh one that leaves the other alive', async t => {
  const cache = join(home, 'overlap')
  const ask = async () => JSON.parse((await process_('overlap', '--cache', cache)).stdout)
  const first = await ask()
  const [grant] = await grants('overlap')
  const { grant: rotated } = await client.rotate(grant?.id ?? '', 600)
  const second = await ask()
  t.equal(second.AccessKeyId, first.AccessKeyId)
  t.ok(Date.parse(second.Expiration) < Date.parse(rotated.previousKey?.diesAt ?? ''), 'and it is told to end before it does')
  const { credentials } = await client.rotate(grant?.id ?? '', 0)
  writeFileSync(cache, JSON.stringify({ ...JSON.parse(readFileSync(cache, 'utf8')), seenAt: 0 }))
  const third = await ask()
  t.notOk([first.AccessKeyId, credentials?.accessKeyId].includes(third.AccessKeyId))
  t.match(await client.get(grant?.id ?? ''), { accessKeyId: third.AccessKeyId, previousKey: { accessKeyId: credentials?.accessKeyId ?? '' } })
})

t.test('role sessions: one is used until 20 minutes before its end, however often it is asked for; then the next of the same grant', async t => {
  const sessions = await agentWorld(t)
  const cache = join(home, 'sessions')
  const notAfter = inSeconds(172_800)
  const flags = jobFlags('sessions').filter(word => !['--duration', '1h'].includes(word))
  const ask = async () => {
    const ran = await runCli(t, ['credential-process', ...flags, '--not-after', notAfter, '--attach', 'session', '--cache', cache], sessions.env)
    t.match(ran, { code: 0 }, ran.stderr)
    return JSON.parse(ran.stdout)
  }
  const kept = () => JSON.parse(readFileSync(cache, 'utf8'))
  const aged = (sinceMinutes: number, leftMinutes: number) => {
    const now = Date.now()
    const [receivedAt, end] = [now - sinceMinutes * 60_000, now + leftMinutes * 60_000]
    writeFileSync(cache, JSON.stringify({ ...kept(), receivedAt, end, seenAt: receivedAt }))
    return end
  }
  const first = await ask()
  t.match(first, { AccessKeyId: /^ASIA/, SessionToken: /./ })
  const end = aged(30, 30)
  t.equal((await ask()).AccessKeyId, first.AccessKeyId)
  t.equal(kept().end, end, 'its own end is kept, from which its renewal is reckoned')
  aged(41, 19)
  const second = await ask()
  t.not(second.AccessKeyId, first.AccessKeyId)
  t.match((await sessions.client.list({ job: 'sessions' })).grants, [{ accessKeyId: second.AccessKeyId }], 'of the same grant')
  t.equal((await ask()).AccessKeyId, second.AccessKeyId)
})
