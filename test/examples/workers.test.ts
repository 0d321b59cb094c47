import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
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

t.test('torchrun, with a stand-in for it: a key per node, which all its ranks ask for', async t => {
  const p = await place(t)
  // It starts the ranks of a node, and waits for them. The real one would need PyTorch.
  p.program('torchrun', `
    while [ $# -gt 1 ]; do case $1 in --node-rank) node=$2;; --nproc-per-node) count=$2;; esac; shift; done
    for local in $(seq "$count"); do ${p.training('"$node.$local"')} & done
    wait`)
  const { grant } = await p.client.issue({
    job: { id: 'torch', team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets' }], window: { durationSeconds: 3600 }, workers: { max: 2 }
  })
  const nodes = [0, 1].map(rank => spawn(example('torchrun', 'node.sh'), {
    cwd: p.work,
    env: { ...p.env, GRANT: grant.id, NODES: '2', NODE_RANK: `${rank}`, MASTER: 'node-0', ATTEMPT: '0', GPUS: '2' },
    stdio: ['ignore', 'inherit', 'inherit']
  }))
  const ended = nodes.map(node => once(node, 'exit'))
  await until(() => String(p.names()), async () => p.names().length === 4)
  await checkWorkers(t, p, grant.id, ['node-0', 'node-1'], worker => `${worker.slice(5)}.1`)
  for (const node of ['0', '1']) t.equal(p.keyOf(`${node}.1`), p.keyOf(`${node}.2`), 'the ranks of a node share it')
  p.go()
  t.strictSame(await Promise.all(ended), [[0, null], [0, null]])
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
