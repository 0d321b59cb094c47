import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { freePort } from '../servers/daemon.ts'
import { cliFile, example, workplace } from './example.ts'
import { behindProxy, everyWorkerFromItsOwnNode, probe } from './observed.ts'
import { startCluster, until } from './slurm-cluster.ts'

t.setTimeout(300_000)

const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
const lacking = (...programs: string[]) => {
  const missing = programs.filter(name => spawnSync('sh', ['-c', `command -v ${name}`], { env }).status !== 0).join(', ')
  return missing !== '' && `no ${missing}: run test/examples/install.sh`
}

/** The service, the command on PATH, and a working folder. */
const place = async (t: Test) => {
  const service = await startService(t, behindProxy)
  const home = workplace(t)
  const [bin, work, seen] = ['bin', 'work', 'seen'].map(name => join(home, name)) as [string, string, string]
  for (const path of [bin, work]) mkdirSync(path)
  const program = (name: string, text: string) => writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  program('job-access', `exec ${process.execPath} --disable-warning=ExperimentalWarning ${cliFile} "$@"`)
  writeFileSync(join(home, 'probe.cjs'), probe)
  writeFileSync(join(home, 'token'), service.token, { mode: 0o600 })
  cpSync(example('slurm-nodes', 'job-access.json'), join(work, 'request.json'))
  const client = createClient({ url: service.url, token: service.token })
  return {
    home,
    work,
    program,
    client,
    /** A shell's word that runs the training process under this name. */
    training: (name: string) => `${process.execPath} ${join(home, 'probe.cjs')} ${seen} ${name}`,
    env: {
      ...env,
      PATH: `${bin}:${env.PATH}`,
      HOME: home,
      JOBACCESS_URL: await everyWorkerFromItsOwnNode(t, service.url),
      JOBACCESS_TOKEN_FILE: join(home, 'token')
    },
    names: () => existsSync(seen) ? readdirSync(seen).filter(name => name !== 'go').sort() : [],
    keyOf: (name: string): string => {
      const { AccessKeyId, token } = JSON.parse(readFileSync(join(seen, name), 'utf8'))
      t.notOk(token, 'the training has no token')
      return AccessKeyId
    },
    go: () => writeFileSync(join(seen, 'go'), ''),
    grantIn: (file: string) => readFileSync(file, 'utf8').trim()
  }
}
type Place = Awaited<ReturnType<typeof place>>

/** Of all workers of a job at once: each has its own key, from its own address. */
const checkWorkers = async (t: Test, { client, keyOf }: Place, job: string, names: string[], processOf: (worker: string) => string) => {
  const { grants } = await client.workers(job, { state: 'active' })
  t.strictSame(grants.map(({ worker }) => worker?.name).sort(), names)
  t.equal(new Set(grants.map(({ accessKeyId }) => accessKeyId)).size, names.length)
  t.equal(new Set(grants.map(({ source }) => String(source.sourceIps))).size, names.length)
  for (const { worker, accessKeyId } of grants) t.equal(keyOf(processOf(worker?.name ?? '')), accessKeyId, worker?.name ?? '')
}

t.test('MPI: every rank joins, and ends with its process; the script completes the job', { skip: lacking('mpirun') }, async t => {
  const p = await place(t)
  p.program('train', p.training('"$OMPI_COMM_WORLD_RANK"'))
  const run = spawn(example('mpi', 'run.sh'), ['4', 'train'], {
    cwd: p.work, env: { ...p.env, MPIRUN_FLAGS: '--allow-run-as-root --oversubscribe' }, stdio: ['ignore', 'inherit', 'inherit']
  })
  t.teardown(() => run.kill('SIGTERM'))
  const ended = once(run, 'exit')
  await until(() => String(p.names()), async () => p.names().length === 4 || run.exitCode !== null)
  const job = p.grantIn(join(p.work, 'grant'))
  await checkWorkers(t, p, job, ['rank-0', 'rank-1', 'rank-2', 'rank-3'], worker => worker.slice(5))
  p.go()
  t.strictSame(await ended, [0, null])
  t.equal((await p.client.get(job)).state, 'revoked')
  t.strictSame((await p.client.workers(job, { state: 'active' })).grants, [])
})

t.test('torchrun: a key per node, which all its ranks ask for, also when they are restarted', { skip: lacking('torchrun') }, async t => {
  const p = await place(t)
  // The ranks of both nodes meet. Then one fails, so that all are started again, on both nodes.
  writeFileSync(join(p.work, 'train.py'), `
import os
import time
import torch.distributed
# torchrun counts only the restarts of the node that failed.
start = int(os.path.exists("failed"))
torch.distributed.init_process_group("gloo")
torch.distributed.barrier()
# Who leaves while another one still greets it makes that one fail, too.
time.sleep(2)
if torch.distributed.get_rank() == 3 and start == 0:
    open("failed", "w").close()
    raise SystemExit("fails once")
os.execv("${process.execPath}", "${p.training('RANK')}".replace("RANK", f"{os.environ['NODE_RANK']}.{os.environ['LOCAL_RANK']}-{start}").split())
`)
  const { grant } = await p.client.issue({
    job: { id: 'torch', team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets' }], window: { durationSeconds: 3600 }, workers: { max: 2 }
  })
  const MASTER = `127.0.0.1:${await freePort('127.0.0.1')}`
  // Debian's PyTorch 1.13 fails with its Python 3.11 when nothing is redirected.
  const redirected = { PET_REDIRECTS: '1', PET_TEE: '1', PET_LOG_DIR: join(p.home, 'logs') }
  const nodes = [0, 1].map(rank => spawn(example('torchrun', 'node.sh'), {
    cwd: p.work,
    env: { ...p.env, ...redirected, GRANT: grant.id, NODES: '2', NODE_RANK: `${rank}`, MASTER, ATTEMPT: '0', GPUS: '2' },
    stdio: ['ignore', 'ignore', 'pipe']
  }))
  const said = nodes.map(node => text(node.stderr))
  t.teardown(() => { for (const node of nodes) node.kill('SIGTERM') })
  const ended = nodes.map(node => once(node, 'exit'))
  const restarted = ['0.0-1', '0.1-1', '1.0-1', '1.1-1']
  const anyEnded = () => nodes.some(({ exitCode }) => exitCode !== null)
  await until(() => String(p.names()), async () => restarted.every(name => p.names().includes(name)) || anyEnded())
  await checkWorkers(t, p, grant.id, ['node-0', 'node-1'], worker => `${worker.slice(5)}.1-1`)
  for (const name of p.names()) t.equal(p.keyOf(name), p.keyOf(`${name.slice(0, 2)}1-1`), `${name}: the ranks of a node share it, before and after`)
  p.go()
  t.strictSame(await Promise.all(ended), [[0, null], [0, null]], (await Promise.all(said)).join('\n'))
  t.match((await p.client.workers(grant.id)).grants, [{ state: 'revoked' }, { state: 'revoked' }])
  t.equal((await p.client.complete(grant.id)).state, 'revoked')
})

const noCluster = process.getuid?.() !== 0 ? 'a cluster needs root' : lacking('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun')
t.test('Slurm: a job on two nodes, each with its own key', { skip: noCluster }, async t => {
  const p = await place(t)
  p.program('python3', `[ "$1" = train.py ] && exec ${p.training('"$SLURMD_NODENAME"')}`)
  cpSync(example('slurm-nodes', 'job-access.json'), join(p.work, 'job-access.json'))
  const cluster = await startCluster(t, undefined, 2)
  const shared = ['PATH', 'HOME', 'JOBACCESS_URL', 'JOBACCESS_TOKEN_FILE'] as const
  const exported = shared.map(name => `${name}=${p.env[name]}`).join(',')
  const out = join(p.work, 'out')
  const id = await cluster.run(
    'sbatch', '--parsable', '--nodes=2', `--chdir=${p.work}`, `--output=${out}`, `--export=${exported}`, example('slurm-nodes', 'train.sbatch')
  )
  const said = () => `${existsSync(out) ? readFileSync(out, 'utf8') : ''}\n${cluster.logs()}`
  await until(said, async () => p.names().length === 2)
  const job = p.grantIn(join(p.work, 'grant'))
  t.match(await p.client.get(job), { job: { id: `slurm-${id}` }, workers: { max: 2 } })
  await checkWorkers(t, p, job, ['node1', 'node2'], worker => worker)
  p.go()
  await until(said, async () => (await p.client.get(job)).state === 'revoked')
  t.strictSame((await p.client.workers(job, { state: 'active' })).grants, [])
})
