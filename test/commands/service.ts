import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { join, resolve } from 'node:path'
import type { Test } from 'tap'
import { nodeOptions } from '../servers/daemon.ts'

const root = join(import.meta.dirname, '..', '..')

/** A test that is killed runs no teardown; its service must not outlive it. */
const endWithParent = 'data:text/javascript,process.on("disconnect", () => process.exit(1))'

export interface Running {
  url: string
  token: string
  process: ChildProcess
  /** The environment of a CLI that talks to it. */
  env: Record<string, string>
  stop: (signal?: NodeJS.Signals) => Promise<void>
}

/**
 * The service as `npm start` runs it: a process of its own, on the embedded IAM. With an identity file it says nothing of itself,
 * so that its address is taken from its log, and there is no token.
 */
export const startService = async (t: Test, env: Record<string, string> = {}): Promise<Running> => {
  const args = [...nodeOptions, '--import', endWithParent, join(root, 'src', 'start.ts')]
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH ?? '', PORT: '0', LOG_LEVEL: env.JOB_ACCESS_IDENTITY ? 'info' : 'error', ...env },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc']
  })
  const ended = once(child, 'exit')
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal)
    await ended
  }
  t.teardown(() => stop('SIGKILL'))
  const { stdout } = child
  if (!stdout) throw new Error('no stdout')
  let url = ''
  for await (const line of createInterface({ input: stdout })) {
    url ||= /(?:listens on|Server listening at) (http:[^\s"]+)/.exec(line)?.[1] ?? ''
    const token = env.JOB_ACCESS_IDENTITY && url ? '' : /jat_\S+/.exec(line)?.[0]
    if (token !== undefined) {
      stdout.resume()
      return { url, token, process: child, env: { PATH: process.env.PATH ?? '', JOBACCESS_URL: url, JOBACCESS_TOKEN: token }, stop }
    }
  }
  throw new Error('the service did not start')
}

export interface Ran { code: number | null, signal: NodeJS.Signals | null, stdout: string, stderr: string }

export interface Started {
  child: ChildProcess
  done: Promise<Ran>
  /** Resolves once stdout has this text. */
  says: (text: string) => Promise<void>
  said: () => string
}

const executable = process.env.JOB_ACCESS_TEST_CLI
/** The CLI from its sources, or the file that `npm run test:executable` has built. */
export const cliCommand = executable === undefined
  ? [process.execPath, ...nodeOptions, join(root, 'src', 'cli', 'main.ts')] as const
  : [resolve(root, executable)] as const

/** The CLI as a process of its own. */
export const startCli = (t: Test, args: string[], env: Record<string, string>, input?: string): Started =>
  startCommand(t, [...cliCommand, ...args], env, input)

export const startCommand = (t: Test, [file, ...args]: [string, ...string[]], env: Record<string, string>, input?: string): Started => {
  const child = spawn(file, args, { env, stdio: 'pipe' })
  t.teardown(() => { child.kill('SIGKILL') })
  const texts = { stdout: '', stderr: '' }
  const waiting: { text: string, resolve: () => void }[] = []
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      texts[name] += chunk
      for (const { text, resolve } of waiting) if (texts.stdout.includes(text)) resolve()
    })
  }
  child.stdin.on('error', () => {}).end(input ?? '')
  const done = once(child, 'close').then(([code, signal]): Ran => ({ code, signal, ...texts }))
  return {
    child,
    done,
    said: () => texts.stdout,
    says: text => new Promise((resolve, reject) => {
      if (texts.stdout.includes(text)) resolve()
      waiting.push({ text, resolve })
      done.then(ran => reject(new Error(`ended without saying ${text}: ${JSON.stringify(ran)}`)), reject)
    })
  }
}

export const runCli = (t: Test, args: string[], env: Record<string, string>, input?: string): Promise<Ran> =>
  startCli(t, args, env, input).done

/** A job whose request fits on the command line. */
export const jobFlags = (id: string): string[] => [
  '--job', id, '--team', 'nlp', '--dataset', 'acmeco-datasets/wikipedia', '--output', `acmeco-models/${id}`,
  '--duration', '1h', '--source-ip', '203.0.113.42'
]
