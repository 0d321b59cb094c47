import { execFile, spawn } from 'node:child_process'
import { openSync, closeSync, readFileSync, existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'

export const run = promisify(execFile)

export const here = import.meta.dirname

/** Options of Node for our own programs. As `npm start` they keep what Node has compiled: a start takes half the time. */
export const nodeOptions = ['--disable-warning=ExperimentalWarning', `--import=${join(here, '..', '..', 'src', 'warm-start.js')}`]

export interface DaemonOptions {
  name: string
  command: string
  args: string[]
  /** Becomes the working directory, holds the log, and is removed at stop(). */
  dir: string
  env: NodeJS.ProcessEnv
  /** Files that the server leaves outside dir; no spaces in their names. */
  litter?: string[]
  /** What ends the command fastest without leaving anything behind. */
  signal?: 'TERM' | 'QUIT' | 'KILL'
  ready: () => Promise<boolean>
  timeoutMs?: number
}

export interface Daemon {
  stop (): Promise<void>
}

export function cachePath (...parts: string[]): string {
  return join(process.env.JOB_ACCESS_CACHE ?? join(homedir(), '.cache', 'job-access'), ...parts)
}

export function requireInstalled (path: string, target: string): string {
  if (!existsSync(path)) throw missing(path, target)
  return path
}

export function missing (what: string, target: string): Error {
  return new Error(`${what} not found: run test/servers/install.sh ${target}`)
}

export function temporaryDir (name: string): Promise<string> {
  return mkdtemp(join(tmpdir(), `job-access-${name}-`))
}

/** A port that is free on every given host at the moment of asking. */
export async function freePort (...hosts: string[]): Promise<number> {
  for (;;) {
    const port = randomPort()
    if (await allFree(port, hosts)) return port
  }
}

// Below the ephemeral range (32768 and up), so that no outgoing connection takes the port before the server binds
// it, and random, so that test files that start at the same moment do not agree on one.
function randomPort (): number {
  return 20000 + Math.floor(Math.random() * 12000)
}

async function allFree (port: number, hosts: string[]): Promise<boolean> {
  for (const host of hosts) {
    if (!await isFree(port, host)) return false
  }
  return true
}

function isFree (port: number, host: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false)
      else reject(error)
    })
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/** The test's environment without anything that would point a server at the developer's own AWS settings. */
export function serverEnv (extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith('AWS_'))
  return { ...Object.fromEntries(entries), ...extra }
}

export async function startDaemon (options: DaemonOptions): Promise<Daemon> {
  const logFile = join(options.dir, 'server.log')
  const log = openSync(logFile, 'a')
  const child = spawn(
    'bash',
    [join(here, 'supervise.sh'), options.dir, options.signal ?? 'TERM', options.command, ...options.args],
    {
      cwd: options.dir,
      env: { ...options.env, LITTER: options.litter?.join(' ') },
      detached: true,
      stdio: ['pipe', log, log]
    }
  )
  closeSync(log)
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  // Only stop() or the end of this process may end the server: neither the child nor the pipe keeps the process alive.
  child.unref()
  const lifeline = child.stdin as Socket
  lifeline.unref()

  const stop = async (): Promise<void> => {
    child.ref()
    lifeline.end()
    await exited
    await rm(options.dir, { recursive: true, force: true })
  }

  try {
    await untilReady(options, () => child.exitCode !== null || child.signalCode !== null, logFile)
  } catch (error) {
    await stop()
    throw error
  }
  return { stop }
}

async function untilReady (options: DaemonOptions, ended: () => boolean, logFile: string): Promise<void> {
  const timeoutMs = options.timeoutMs ?? 60_000
  const deadline = Date.now() + timeoutMs
  let log = ''
  while (Date.now() < deadline) {
    log = tail(logFile) || log
    if (ended()) throw new Error(`${options.name} ended while starting:\n${log}`)
    if (await options.ready().catch(() => false)) return
    await delay(100)
  }
  throw new Error(`${options.name} was not ready after ${timeoutMs / 1000} s:\n${log}`)
}

function tail (file: string): string {
  try {
    return readFileSync(file, 'utf8').split('\n').slice(-30).join('\n')
  } catch {
    return ''
  }
}

/** Whether an HTTP server answers there at all, whatever the status. */
export async function answers (url: string): Promise<boolean> {
  const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(2000) })
  await response.body?.cancel()
  return true
}
