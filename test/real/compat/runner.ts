import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { cachePath, requireInstalled, serverEnv } from '../../servers/daemon.ts'
import type { Keys } from '../job.ts'

/** What a grant lets its job do: read, write, delete. */
export type Rights = 'r' | 'w' | 'rw' | 'rwd'

/** One operation of a client; `never`: it needs what the service grants to nobody. */
export interface Measured { client: string, operation: string, rights: Rights, never: boolean, ok: boolean, error: string | null }

export interface Run { keys: Keys, endpoint: string, bucket: string, prefix: string, rights: Rights, seed?: boolean }

/** A client in a process of its own, which lives through many runs. */
export const startClient = (t: Test, name: string) => {
  const python = requireInstalled(cachePath('compat', 'bin', 'python'), 'compat')
  const child = spawn(python, [join(import.meta.dirname, 'clients', `run_${name}.py`)], {
    env: serverEnv({ AWS_EC2_METADATA_DISABLED: 'true', HOME: '/nonexistent' }), stdio: ['pipe', 'pipe', 'ignore']
  })
  const exited = new Promise(resolve => child.once('exit', resolve))
  t.teardown(async () => { child.stdin.end(); await exited })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  return async ({ keys: { accessKeyId, secretAccessKey }, seed = false, ...run }: Run): Promise<Measured[]> => {
    child.stdin.write(`${JSON.stringify({ ...run, accessKeyId, secretAccessKey, seed })}\n`)
    const measured: Measured[] = []
    for (;;) {
      const { value, done } = await lines.next()
      if (done) throw new Error(`the runner of ${name} has ended`)
      if (value === '') return measured
      measured.push(JSON.parse(value) as Measured)
    }
  }
}
