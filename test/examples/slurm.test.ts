import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { cliFile, example, workplace } from './example.ts'
import { startCluster, until } from './slurm-cluster.ts'

const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
const programs = ['munged', 'slurmctld', 'slurmd', 'sbatch']
const missing = programs.filter(name => spawnSync('sh', ['-c', `command -v ${name}`], { env }).status !== 0).join(', ')
const skip = process.getuid?.() !== 0 ? 'a cluster needs root' : missing !== '' && `no ${missing}: run test/examples/install.sh`

t.setTimeout(300_000)

t.test('a cluster of one node: prolog, task prolog and epilog, against the service', { skip }, async t => {
  const service = await startService(t)
  const home = workplace(t)
  chmodSync(home, 0o711)
  const [etc, run, bin, work] = ['etc', 'run', 'bin', 'work'].map(name => join(home, name)) as [string, string, string, string]
  for (const path of [etc, run, bin, work]) mkdirSync(path)
  chmodSync(work, 0o777)
  const command = `exec ${process.execPath} --disable-warning=ExperimentalWarning ${cliFile} "$@"`
  writeFileSync(join(bin, 'job-access'), `#!/bin/sh\n${command}\n`, { mode: 0o755 })
  writeFileSync(join(etc, 'token'), service.token, { mode: 0o600 })
  const here = (text: string) => text.replaceAll('/etc/job-access', etc).replaceAll('/run/job-access', run)
  const settings = here(readFileSync(example('slurm', 'slurm.env'), 'utf8'))
    .replace('PATH=', `PATH=${bin}:`).replace(/^JOBACCESS_URL=.*$/m, `JOBACCESS_URL=${service.url}`).replace('SECONDS=30', 'SECONDS=3')
  writeFileSync(join(etc, 'slurm.env'), settings, { mode: 0o600 })
  const [prolog, taskProlog, epilog] = ['prolog.sh', 'task-prolog.sh', 'epilog.sh'].map(name => {
    const path = join(bin, name)
    writeFileSync(path, here(readFileSync(example('slurm', name), 'utf8')), { mode: 0o755 })
    return path
  }) as [string, string, string]
  const cluster = await startCluster(t, { prolog, taskProlog, epilog })
  const client = createClient({ url: service.url, token: service.token })

  const uid = spawnSync('id', ['-u', 'nobody'], { encoding: 'utf8' }).stdout.trim()
  const group = spawnSync('id', ['-gn', 'nobody'], { encoding: 'utf8' }).stdout.trim()
  /** Submits as nobody. */
  const submit = async (name: string, request: string | undefined, body: string) => {
    const dir = join(work, name)
    mkdirSync(dir)
    chmodSync(dir, 0o777)
    if (request !== undefined) writeFileSync(join(dir, 'job-access.json'), request)
    writeFileSync(join(dir, 'job.sh'), `#!/bin/bash\n${body}\n`)
    const out = join(dir, 'out')
    const id = await cluster.run('sbatch', '--parsable', `--uid=${uid}`, `--chdir=${dir}`, `--output=${out}`, join(dir, 'job.sh'))
    return { id, dir, out: () => existsSync(out) ? readFileSync(out, 'utf8') : '' }
  }
  const ended = (id: string) => until(cluster.logs, async () => await cluster.run('squeue', '-h', '-j', id).catch(() => '') === '')
  const idle = () => until(cluster.logs, async () => await cluster.run('sinfo', '-h', '-o', '%T') === 'idle')
  const grantsOf = async (id: string) => (await client.list()).grants.filter(({ job }) => job.id.startsWith(`slurm-${id}-`))
  const request = readFileSync(example('slurm', 'job-access.json'), 'utf8')

  const showing = 'cat "$AWS_SHARED_CREDENTIALS_FILE"; ls -l "$AWS_SHARED_CREDENTIALS_FILE"'
  const job = await submit('normal', request, `${showing}; while ! [ -e go ]; do sleep 0.2; done; exit 4`)
  await until(cluster.logs, async () => job.out().includes('-rw-------'))
  const [grant] = await grantsOf(job.id)
  t.match(grant, { state: 'active', job: { team: group } }, 'the team is the user’s group')
  t.match(job.out(), new RegExp(`aws_access_key_id = ${grant?.accessKeyId}\naws_secret_access_key = \\S+\n-rw------- 1 nobody `))
  writeFileSync(join(job.dir, 'go'), '')
  await ended(job.id)
  await until(cluster.logs, async () => (await client.get(grant?.id ?? '')).state === 'revoked')
  await idle()
  t.notOk(existsSync(join(run, job.id)), 'nothing is left on the node')

  const cancelled = await submit('cancelled', request, 'echo started; sleep 60')
  await until(cluster.logs, async () => cancelled.out().includes('started'))
  await cluster.run('scancel', cancelled.id)
  await ended(cancelled.id)
  await until(cluster.logs, async () => (await grantsOf(cancelled.id)).every(({ state }) => state === 'revoked'))
  t.equal((await grantsOf(cancelled.id)).length, 1)

  const showFile = 'echo "file=$AWS_SHARED_CREDENTIALS_FILE."'
  const without = await submit('without', undefined, showFile)
  await ended(without.id)
  t.match(without.out(), /^file=\.$/m)

  const refused = await submit('refused', request.replace('acmeco-finetuned-models', 'Not_A_Bucket'), showFile)
  await ended(refused.id)
  t.match(refused.out(), /bucket-invalid at \/output\/bucket.*^file=\.$/ms, 'said in the job’s own output')
  await idle()

  await service.stop()
  const alone = await submit('alone', request, showFile)
  await until(cluster.logs, async () => alone.out().includes('file=.'))
  t.match(alone.out(), /ECONNREFUSED/)
  await ended(alone.id)
  await idle()
})
