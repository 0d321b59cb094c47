import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { agentWorld, hurried, inSeconds, until } from './agent-world.ts'
import { between } from './between.ts'
import { jobFlags, runCli, startCli } from './service.ts'

const world = await agentWorld(t)
const { client, env } = world
type T = Parameters<typeof agentWorld>[0]

const home = mkdtempSync(join(tmpdir(), 'job-access-workers-'))
t.teardown(() => rmSync(home, { recursive: true, force: true }))

const sourceless = (job: string) => jobFlags(job).filter(word => !['--source-ip', '203.0.113.42'].includes(word))
/** Issues a job of workers; @returns the flags that name it. */
const open = async (t: T, job: string, ...more: string[]) => {
  const file = join(home, job)
  const ran = await runCli(t, ['issue', ...sourceless(job), '--workers', '4', '--grant-file', file, ...more], env)
  t.match(ran, { code: 0 }, ran.stderr)
  t.match(JSON.parse(ran.stdout), { credentials: null, grant: { workers: { max: 4 } } })
  return { id: readFileSync(file, 'utf8').trim(), named: ['--grant-file', file] }
}
const from = (n: number) => ['--source-ip', `203.0.113.${n}`]
const stateOf = async (job: string, name: string) => (await client.worker(job, name)).state

t.test('by hand: join, list, end', async t => {
  const { id, named } = await open(t, 'hand')
  const cli = (...args: string[]) => runCli(t, args, env)
  const first = await cli('join', id, '--worker', 'node-0', ...from(1))
  t.match(JSON.parse(first.stdout), { grant: { worker: { name: 'node-0' }, attempt: null }, credentials: { accessKeyId: /^AKIA/ } })
  t.match(await cli('join', '--grant', id, '--worker', 'node-0', ...from(1)), { code: 1, stdout: '', stderr: /key-delivered/ })
  const out = join(home, 'credentials')
  const again = ['join', ...named, '--worker', 'node-0', '--attempt', '1', ...from(2), '--format', 'aws-profile', '--out', out, '--wait']
  t.match(await cli(...again), { code: 0, stdout: '' })
  t.match(readFileSync(out, 'utf8'), /aws_access_key_id = AKIA/)
  t.match(await cli('join', ...named, '--worker', 'node-0', '--replace', ...from(2)), { code: 0 })
  t.match(await cli('join', ...named, '--worker', 'node-1', '--vpc', 'vpc-0123456789abcdef0', '--vpc-source-ip', '10.0.12.7'), { code: 0 })
  t.match(await cli('join', ...named, '--worker', 'node-2', '--source', 'observed'), { code: 1, stderr: /at \/source: Of the observed address 127\.0\.0\.1/ })
  const listed = await cli('workers', id, '--state', 'active')
  t.match(listed.stdout.trim().split('\n'), [
    /^node-1 {2}active {4}\S+Z {2}- {2}vpc-0123456789abcdef0,10\.0\.12\.7\/32 {2}\w{26}$/, /^node-0 {2}active {4}\S+Z {2}- {2}203\.0\.113\.2\/32 {2}\w{26}$/
  ])
  t.match(JSON.parse((await cli('workers', ...named, '--json')).stdout), [{ worker: { name: 'node-1' } }, { worker: { name: 'node-0' } }])
  t.match(await cli('end-worker', id, '--worker', 'node-0', '--attempt', 'x'), { code: 1, stdout: '', stderr: /worker-replaced/ })
  t.match(await cli('end-worker', id, '--worker', 'node-0'), { code: 0, stdout: 'node-0 revoked\n' })
  t.match(await cli('end-worker', ...named, '--worker', 'node-0'), { code: 0, stdout: 'node-0 revoked\n' }, 'twice')
  t.match(await cli('end-worker', id, '--worker', 'nobody'), { code: 1, stderr: /worker-unknown/ })
  t.match((await cli('workers', id, '--state', 'active')).stdout, /^node-1[^\n]+\n$/)
  t.match(await cli('complete', id), { code: 0 })
  t.equal(await stateOf(id, 'node-1'), 'revoked')
})

t.test('what is wrong on the command line is said before anything is asked', async t => {
  const { id } = await open(t, 'usage')
  const agent = ['agent', '--token-file', join(home, 'usage.token')]
  const worker = ['--grant', id, '--worker', 'w', '--attempt', '0']
  const cases: Array<[string[], RegExp]> = [
    [['join', id, ...from(1)], /--worker NAME/],
    [['join', '--worker', 'w'], /Give one grant/],
    [['join', id, '--grant', id, '--worker', 'w'], /Give one grant/],
    [['issue', ...sourceless('usage'), '--workers', 'many'], /--workers many/],
    [['issue', ...sourceless('usage'), '--workers', '2', '--format', 'env'], /no key of its own/],
    [['exec', '--grant', id, '--', 'true'], /give --worker NAME/],
    [['exec', '--grant-file', join(home, 'usage'), '--', 'true'], /give --worker NAME/],
    [['exec', '--worker', 'w', '--attempt', '0', '--', 'true'], /Give one grant/],
    [['exec', '--grant', id, '--worker', 'w', ...from(1), '--', 'true'], /wants --attempt START/],
    [['exec', '--grant', id, '--worker', 'w', '--attempt', '', ...from(1), '--', 'true'], /wants --attempt START/],
    [[...agent, ...worker, '--dataset', 'acmeco-datasets'], /--dataset does not go with --worker/],
    [[...agent, ...worker, '--duration', '1h'], /--duration does not go with --worker/],
    [[...agent, ...worker, '--per-job'], /--per-job does not go with --worker/],
    [[...agent, ...worker, '--complete-on-exit'], /--complete-on-exit does not go with --worker/]
  ]
  for (const [args, stderr] of cases) t.match(await runCli(t, args, env), { code: 2, stdout: '', stderr }, args.join(' '))
  t.strictSame((await client.workers(id)).grants, [])
})

const asking = `fetch(process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI, { headers: { authorization: process.env.AWS_CONTAINER_AUTHORIZATION_TOKEN } })
  .then(async answer => console.log(JSON.stringify({ grant: process.env.JOBACCESS_GRANT, ...await answer.json() })))`

t.test('exec: each worker has its own key while its command runs; the job goes on', async t => {
  const { id, named } = await open(t, 'exec')
  const exec = (n: number) => runCli(t, ['exec', ...named, '--worker', `rank-${n}`, '--attempt', '0', ...from(n + 1), '--', process.execPath, '-e', asking], env)
  const ran = await Promise.all([0, 1, 2].map(exec))
  for (const [n, { code, stdout, stderr }] of ran.entries()) {
    t.equal(code, 0, stderr)
    const { grant, AccessKeyId } = JSON.parse(stdout)
    const worker = await client.worker(id, `rank-${n}`)
    t.match([worker.id, worker.state, worker.source.sourceIps, AccessKeyId], [grant, 'revoked', [`203.0.113.${n + 1}/32`], /^AKIA/])
  }
  t.equal((await client.get(id)).state, 'active')
  t.match(await exec(0), { code: 0 }, 'the name is free again')
  t.match(await runCli(t, ['exec', '--request', '-', '--', 'true'], env, JSON.stringify({
    job: { id: 'one-key', team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets' }], window: { durationSeconds: 3600 }, workers: { max: 2 }
  })), { code: 1, stderr: /workers-unfit/ }, 'a job of workers has no key for exec')
})

const startWorker = async (t: T, args: string[], url = world.url) => {
  const place = mkdtempSync(join(home, 'agent-'))
  const tokenFile = join(place, 'token')
  const started = startCli(t, ['agent', '--token-file', tokenFile, ...hurried, ...args], { ...env, JOBACCESS_URL: url })
  await started.says('JOBACCESS_GRANT=')
  const [, uri = ''] = /FULL_URI=(.*)/.exec(started.said()) ?? []
  const [, grantId = ''] = /JOBACCESS_GRANT=(.*)/.exec(started.said()) ?? []
  const get = async () => {
    const answer = await fetch(uri, { headers: { authorization: readFileSync(tokenFile, 'utf8') } })
    return { status: answer.status, body: await answer.json() as Record<string, string> }
  }
  return { started, grantId, get, key: async () => (await get()).body.AccessKeyId, tokenFile }
}

t.test('agent: somebody replaces the key, and it joins again as the start that it is; SIGTERM ends the worker, not the job', async t => {
  const { id, named } = await open(t, 'agent')
  const agent = await startWorker(t, [...named, '--worker', 'pod', '--attempt', 'uid-1', ...from(7)])
  const first = await agent.key()
  t.match(await client.worker(id, 'pod'), { id: agent.grantId, accessKeyId: first, attempt: 'uid-1' })
  t.equal(readFileSync(join(home, 'agent'), 'utf8').trim(), id, 'the file of the job’s grant stays as it was')
  await client.rotate(agent.grantId, 0)
  const second = await until(agent.key, key => key !== undefined && key !== first)
  t.match(await client.worker(id, 'pod'), { id: agent.grantId, accessKeyId: second, attempt: 'uid-1', source: { sourceIps: ['203.0.113.7/32'] } })
  t.match((await client.events(agent.grantId)).events.filter(({ action }) => action === 'rotated').length, 1, 'it did not rotate')
  agent.started.child.kill('SIGTERM')
  t.match(await agent.started.done, { code: 0 })
  t.match([await stateOf(id, 'pod'), (await client.get(id)).state, existsSync(agent.tokenFile)], ['revoked', 'active', false])
})

t.test('agent: another start of the worker takes its place, and neither ends the other’s key afterwards', async t => {
  const { id, named } = await open(t, 'moved')
  const lost = await startWorker(t, [...named, '--worker', 'pod', '--attempt', 'uid-1', ...from(7)])
  const here = await startWorker(t, [...named, '--worker', 'pod', '--attempt', 'uid-2', ...from(8)])
  const key = await here.key()
  t.match(await until(lost.get, ({ status }) => status !== 200), { status: 403, body: { Code: 'worker-replaced', Message: /started again as attempt "uid-2"/ } })
  lost.started.child.kill('SIGTERM')
  t.match(await lost.started.done, { code: 0, stderr: /worker pod was started again as attempt "uid-2".*is not ended here/s })
  await new Promise(resolve => setTimeout(resolve, 2_500))
  t.equal(await here.key(), key)
  t.match(await client.worker(id, 'pod'), { state: 'active', accessKeyId: key, attempt: 'uid-2', source: { sourceIps: ['203.0.113.8/32'] } })
})

t.test('agent: the end of the job is told', async t => {
  const { id, named } = await open(t, 'over')
  const agent = await startWorker(t, [...named, '--worker', 'pod', '--attempt', '0', ...from(7)])
  await client.complete(id)
  t.match(await until(agent.get, ({ status }) => status !== 200), { status: 403, body: { Code: 'grant-ended' } })
  agent.started.child.kill('SIGTERM')
  t.match(await agent.started.done, { code: 0 })
})

t.test('agent: role sessions of a worker follow each other', async t => {
  const url = await between(t, world.url, async (_path, answer) => {
    if (!answer.headers['content-type']?.startsWith('text/x-env')) return answer
    return { ...answer, body: Buffer.from(answer.body.toString().replace(/ends \S+/, `ends ${inSeconds(8)}`)) }
  })
  const { id, named } = await open(t, 'sessions', '--attach', 'session')
  const agent = await startWorker(t, [...named, '--worker', 'pod', '--attempt', '0', ...from(7)], url)
  const seen = new Set<string | undefined>()
  await until(async () => seen.add(await agent.key()).size, count => count === 3, 40_000)
  for (const key of seen) t.match(key, /^ASIA/)
  t.match(await client.worker(id, 'pod'), { attempt: '0', state: 'active' })
})

t.test('a start that fails ends its worker', async t => {
  const { id, named } = await open(t, 'fails')
  const url = await between(t, world.url, async (_path, answer) =>
    answer.headers['content-type']?.startsWith('text/x-env') ? { ...answer, body: Buffer.from('not what it should be') } : answer)
  const ran = await runCli(t, ['exec', ...named, '--worker', 'pod', '--attempt', '0', ...from(7), '--', 'true'], { ...env, JOBACCESS_URL: url })
  t.match(ran, { code: 3, stderr: /not understood/ })
  t.equal(await stateOf(id, 'pod'), 'revoked')
})

t.test('a worker that cannot be ended is said, and the command’s code stays', async t => {
  const { id, named } = await open(t, 'unended')
  const begun = join(home, 'begun')
  writeFileSync(join(home, 'slow.js'), `require('fs').writeFileSync(${JSON.stringify(begun)}, ''); setTimeout(() => process.exit(7), 1500)`)
  const started = startCli(t, ['exec', ...named, '--worker', 'pod', '--attempt', '0', ...from(7), '--complete-seconds', '1', '--', process.execPath, join(home, 'slow.js')], env)
  // Active is not enough: the answer with the key must have come, too.
  await until(() => existsSync(begun), seen => seen, 60_000)
  await world.goAway()
  const ran = await started.done
  await world.comeBack()
  t.match(ran, { code: 7, stderr: new RegExp(`NOT ended: worker pod\\..*job-access end-worker ${id} --worker pod --attempt `) })
})
