import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import type { AgentWorld } from '../../commands/agent-world.ts'
import { cachePath } from '../../servers/daemon.ts'

/** boto3 and the AWS CLI, as they come from PyPI. */

export const bin = cachePath('aws', 'bin')

export interface Client {
  /** The key that a call used; it rejects with what the client said. */
  use: () => Promise<string | null | undefined>
}

/** boto3 with a home of its own, which calls STS in this world. */
export const awsClients = (t: Test, world: AgentWorld) => {
  const home = mkdtempSync(join(tmpdir(), 'job-access-clients-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const base = { PATH: process.env.PATH ?? '', HOME: home, STS: world.bench.iam.url }

  /** One process of boto3, which keeps its client. */
  const boto3 = (t: Test, env: Record<string, string>, file = join(bin, 'python'), args: string[] = []): Client => {
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

  return { home, base, boto3 }
}
