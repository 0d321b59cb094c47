import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'

export const root = join(import.meta.dirname, '..', '..')

const left = ['node_modules', '.git', '.tap', 'dist', '.hypothesis', '.schemathesis']

/** A checkout that may be written to, with an npm whose global is not the machine's. */
export const checkout = (t: Test): { path: string, env: Record<string, string> } => {
  const home = mkdtempSync(join(tmpdir(), 'job-access-docs-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const path = join(home, 'job-access')
  mkdirSync(path)
  for (const name of readdirSync(root)) {
    if (!left.includes(name)) cpSync(join(root, name), join(path, name), { recursive: true, filter: source => !left.includes(source.slice(source.lastIndexOf('/') + 1)) })
  }
  symlinkSync(join(root, 'node_modules'), join(path, 'node_modules'))
  mkdirSync(join(home, 'prefix', 'bin'), { recursive: true })
  // A refusal is an answer, and curl takes it for success unless told; for a page it is a failure.
  writeFileSync(join(home, '.curlrc'), 'fail-with-body\n')
  return {
    path,
    env: {
      PATH: `${join(home, 'prefix', 'bin')}:${dirname(process.execPath)}:${process.env.PATH ?? ''}`,
      HOME: home,
      npm_config_prefix: join(home, 'prefix'),
      npm_config_cache: join(home, 'npm-cache'),
      npm_config_loglevel: 'error',
      npm_config_update_notifier: 'false',
      AWS_EC2_METADATA_DISABLED: 'true'
    }
  }
}

export interface Server { said: () => string, stop: () => Promise<void> }

export interface ServerOptions {
  text: string
  port: number
  /** What it prints when it has started. */
  says?: RegExp | undefined
  cwd: string
  env: Record<string, string>
}

/** Starts what does not end by itself, as written, and waits until its port answers. It dies with the test, even when that is killed. */
export const startServer = async (t: Test, { text, port, says, cwd, env }: ServerOptions): Promise<Server> => {
  const file = join(cwd, `.server-${port}.sh`)
  writeFileSync(file, text)
  // Its standard input ends with us; then the group goes.
  const child = spawn('bash', ['-c', `bash -eu '${file}' < /dev/null & cat > /dev/null; kill -TERM -- -$$`], { cwd, env, stdio: 'pipe', detached: true })
  const ended = once(child, 'close')
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk: string) => { said += chunk })
  const stop = async () => {
    child.stdin.end()
    const late = setTimeout(() => { if (child.pid) process.kill(-child.pid, 'SIGKILL') }, 5_000)
    await ended
    clearTimeout(late)
  }
  t.teardown(stop)
  for (const deadline = Date.now() + 120_000; ;) {
    if (await answers(port) && (says?.test(said) ?? true)) return { said: () => said, stop }
    if (Date.now() > deadline || child.exitCode !== null) throw new Error(`nothing answers on port ${port}\n${said}`)
    await delay(100)
  }
}

const answers = (port: number): Promise<boolean> => new Promise(resolve => {
  const socket = connect(port, '127.0.0.1')
  socket.once('connect', () => { socket.destroy(); resolve(true) })
  socket.once('error', () => resolve(false))
})
