import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createClient } from '../../../src/client/index.ts'
import { inSeconds, startAgentOf, until } from '../../commands/agent-world.ts'
import { example } from '../../examples/example.ts'
import { cachePath, requireInstalled, serverEnv } from '../../servers/daemon.ts'
import { eventually } from '../job.ts'
import { buckets } from '../store.ts'
import { here, startGateway } from '../versitygw/gateway.ts'

/*
 * One worker of many processes, each with an S3 client of another kind, which write and read without an end, on a gateway that enforces
 * policies and windows. Meanwhile the key is rotated, the service is restarted, and the window moves.
 */

interface Client {
  /** Where it is installed. */
  in: 'compat' | 'minio'
  /** How it gets the key: from the agent itself, by a process that asks the agent, or from the file, which it reads for each request. */
  by: 'agent' | 'process' | 'file'
  /** Its error has the agent's reason. The others use the key that they have until it is refused. */
  saysWhy?: true
}
const clients: Record<string, Client> = {
  boto3: { in: 'compat', by: 'agent', saysWhy: true },
  s3fs: { in: 'compat', by: 'agent', saysWhy: true },
  pyarrow: { in: 'compat', by: 'agent' },
  rclone: { in: 'compat', by: 'agent', saysWhy: true },
  s3torchconnector: { in: 'compat', by: 'process' },
  minio: { in: 'minio', by: 'file' }
}

interface Worker {
  /** What each turn came to, in order: nothing, or what the client said. */
  turns: (string | undefined)[]
}

const startWorker = (t: Test, name: string, client: Client, env: Record<string, string>): Worker => {
  const python = requireInstalled(cachePath(client.in, 'bin', 'python'), client.in)
  const home = mkdtempSync(join(tmpdir(), 'job-access-storage-'))
  const child = spawn(python, [join(import.meta.dirname, 'storage-worker.py'), name], {
    env: serverEnv({ HOME: home, AWS_EC2_METADATA_DISABLED: 'true', ...env }), stdio: ['pipe', 'pipe', 'ignore']
  })
  const ended = once(child, 'exit')
  const turns: (string | undefined)[] = []
  createInterface({ input: child.stdout }).on('line', line => turns.push(line === 'ok' ? undefined : line))
  t.teardown(async () => {
    child.stdin.end()
    await ended
    rmSync(home, { recursive: true, force: true })
  })
  return { turns }
}

t.test('six kinds of clients: an overlapping rotation, a restart, a window that moves, a rotation without overlap, the end', async t => {
  const gateway = await startGateway(t)
  // The sweeper deletes the key whose overlap has ended.
  const service = await gateway.serve({ provider: 'versitygw', env: { JOB_ACCESS_SWEEP_SECONDS: '1' } })
  const client = createClient({ url: service.url, token: service.token })
  const place = mkdtempSync(join(tmpdir(), 'job-access-storage-'))
  t.teardown(() => rmSync(place, { recursive: true, force: true }))
  const file = join(place, 'credentials')
  const prefix = 'runs/storage'
  const agent = await startAgentOf(t, { env: { PATH: process.env.PATH ?? '', JOBACCESS_URL: service.url, JOBACCESS_TOKEN: service.token } }, [
    '--job', 'storage', '--team', 'nlp', '--output', `${buckets.output}/${prefix}`, '--output-level', 'read-write',
    '--client', 's3fs', '--client', 'pyarrow', '--client', 'rclone',
    '--not-after', inSeconds(50), '--source-ip', here,
    '--credentials-file', file
  ])
  const key = async () => {
    const { body } = await agent.get()
    const { AccessKeyId: accessKeyId = '', SecretAccessKey: secretAccessKey = '' } = body
    return { accessKeyId, secretAccessKey }
  }
  const first = await key()
  const firstEnd = Date.parse((await client.get(agent.grantId)).window.outputNotAfter)

  const config = join(place, 'config')
  writeFileSync(config, `[default]\ncredential_process = ${example('agent', 'credential-process.sh')}\n`)
  const toldBy = {
    agent: agent.variables, process: { ...agent.variables, AWS_CONFIG_FILE: config }, file: { AWS_SHARED_CREDENTIALS_FILE: file }
  }
  const workers = Object.entries(clients).map(([name, client]) => {
    const told = { ...toldBy[client.by], ENDPOINT: gateway.endpoint, BUCKET: buckets.output, PREFIX: `${prefix}/${name}` }
    return { name, ...client, ...startWorker(t, name, client, told) }
  })
  /** After so many more turns of each. */
  const turnsOfAll = async (more: number) => {
    const wanted = workers.map(({ turns }) => turns.length + more)
    await until(() => workers.map(({ turns }) => turns.length), counts => counts.every((count, at) => count >= (wanted[at] ?? 0)), 60_000)
  }
  const refusedOf = ({ turns }: Worker) => turns.filter(turn => turn !== undefined)
  /** A key that dies is dead for what is on its way: each may be refused for a moment, and then is not. @returns how often each was */
  const settled = async () => {
    const before = workers.map(({ turns }) => turns.length)
    const works = () => workers.every(({ turns }, at) =>
      turns.length - (before[at] ?? 0) > 10 && turns.slice(-10).every(turn => turn === undefined))
    await until(() => works() || workers.map(({ turns }) => turns.at(-1)), works => works === true, 30_000)
    return Object.fromEntries(workers.map(worker => [worker.name, refusedOf(worker).length]))
  }
  await turnsOfAll(5)
  for (const worker of workers) t.strictSame(refusedOf(worker), [], `${worker.name}: the key of the agent opens its folder`)

  await client.rotate(agent.grantId, 36)
  await client.extend(agent.grantId, { window: { durationSeconds: 3600 } })
  const second = await until(key, ({ accessKeyId }) => accessKeyId !== first.accessKeyId, 25_000)
  const deadKey = await eventually(() => gateway.jobFrom(here, first).write(buckets.output, `${prefix}/dead`), 'unknown-key')
  t.equal(deadKey, 'unknown-key', 'the key before is dead')
  const overlapping = await settled()
  t.comment(`refused at an overlapping rotation: ${JSON.stringify(overlapping)}`)
  for (const { name, by } of workers) if (by !== 'file') t.ok((overlapping[name] ?? 0) <= 1, `${name} asked for the fresh key in time`)

  await service.stop()
  await turnsOfAll(5)
  await service.start()
  await delay(firstEnd + 2_000 - Date.now())
  await turnsOfAll(5)
  t.strictSame(await key(), second, 'with the same key')
  for (const worker of workers) t.equal(refusedOf(worker).length, overlapping[worker.name], `${worker.name}: not refused by the restart, nor at the first end`)

  await client.rotate(agent.grantId, 0)
  await until(key, ({ accessKeyId }) => accessKeyId !== second.accessKeyId)
  t.comment(`refused since then, at a rotation without overlap as well: ${JSON.stringify(await settled())}`)

  await client.complete(agent.grantId)
  // The agent sees the end at its next look at the grant. Until then the clients that ask it still get the dead key.
  const reasonOf = ({ saysWhy }: Client) => saysWhy ? /grant-ended/ : /^failed/
  await until(() => workers.filter(worker => !reasonOf(worker).test(worker.turns.at(-1) ?? '')), others => others.length === 0, 30_000)
  await turnsOfAll(3)
  for (const worker of workers) t.match(worker.turns.at(-1), reasonOf(worker), `${worker.name}: what the job’s log says`)
})
