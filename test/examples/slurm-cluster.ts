import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { freePort } from '../servers/daemon.ts'
import { script, workplace } from './example.ts'

/** A cluster on loopback: munged, slurmctld and a slurmd for each node, as root, all of it in one directory. */
export interface Cluster {
  /** sbatch, sinfo …, as root. */
  run: (command: string, ...args: string[]) => Promise<string>
  logs: () => string
}

/** @param nodes how many; more than one have the names node1, node2 … */
export const startCluster = async (
  t: Test, scripts?: { prolog: string, taskProlog: string, epilog: string }, nodes = 1
): Promise<Cluster> => {
  const home = workplace(t)
  chmodSync(home, 0o755)
  for (const name of ['munge', 'state', 'spool', 'log']) mkdirSync(join(home, name), { mode: 0o755 })
  const ctldPort = await freePort('127.0.0.1')
  const key = join(home, 'munge', 'key')
  const socket = join(home, 'munge', 'socket')
  writeFileSync(key, randomBytes(128), { mode: 0o400 })
  const host = hostname().split('.')[0] ?? ''
  const named = await Promise.all(Array.from({ length: nodes }, async (_, n) => ({ name: nodes === 1 ? host : `node${n + 1}`, port: await freePort('127.0.0.1') })))
  const conf = join(home, 'slurm.conf')
  writeFileSync(conf, `ClusterName=example
SlurmctldHost=${host}(127.0.0.1)
SlurmctldPort=${ctldPort}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${socket}
CredType=cred/munge
StateSaveLocation=${home}/state
SlurmdSpoolDir=${home}/spool/%n
SlurmctldPidFile=${home}/slurmctld.pid
SlurmdPidFile=${home}/slurmd-%n.pid
SlurmctldLogFile=${home}/log/slurmctld
SlurmdLogFile=${home}/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
KillWait=2
${scripts ? `PrologFlags=Alloc\nProlog=${scripts.prolog}\nTaskProlog=${scripts.taskProlog}\nEpilog=${scripts.epilog}` : ''}
${named.map(({ name, port }) => `NodeName=${name} NodeHostname=${host} NodeAddr=127.0.0.1 Port=${port} CPUs=1`).join('\n')}
PartitionName=train Nodes=ALL Default=YES State=UP
`)
  const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin`, SLURM_CONF: conf }
  const daemon = (name: string, ...args: string[]): void => {
    const log = openSync(join(home, 'log', `${name}.out`), 'a')
    const child = spawn(name, args, { env, stdio: ['ignore', log, log] })
    const ended = once(child, 'exit').catch(() => {})
    t.teardown(async () => {
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), 5_000)
      await ended
      clearTimeout(late)
    })
  }
  const logs = () => ['munged.out', 'slurmctld', 'slurmd', 'slurmctld.out', 'slurmd.out'].map(name => {
    try {
      return `== ${name}\n${readFileSync(join(home, 'log', name), 'utf8')}`
    } catch {
      return ''
    }
  }).join('')
  const run = async (command: string, ...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await script(command, args, { env, cwd: '/' })
    if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}\n${logs()}`)
    return stdout.trim()
  }
  const files = [`--key-file=${key}`, `--socket=${socket}`, `--pid-file=${home}/munge/pid`, `--seed-file=${home}/munge/seed`]
  daemon('munged', '--foreground', '--force', ...files)
  await until(logs, async () => (await script('munge', ['-n', `--socket=${socket}`], { env })).code === 0)
  daemon('slurmctld', '-D', '-i')
  for (const { name } of named) daemon('slurmd', '-D', '-N', name)
  await until(logs, async () => await run('sinfo', '-h', '-o', '%T').catch(() => '') === 'idle')
  return { run, logs }
}

/** Waits up to two minutes. */
export const until = async (logs: () => string, holds: () => Promise<boolean>): Promise<void> => {
  for (let tries = 0; !await holds(); tries++) {
    if (tries >= 480) throw new Error(`not in two minutes\n${logs()}`)
    await sleep(250)
  }
}
