import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'

/**
 * How long the service takes from its start to its first answer: the process that `npm start` runs, on the embedded IAM, in an empty
 * folder; first without Node's compile cache, as after an installation, then with it. The baseline is a Node that does nothing, in turns
 * with them. Other work on the machine adds far less to the CPU time. Run: npm run -s bench:start [-- --rounds 10]
 */

const { rounds } = parseArgs({ options: { rounds: { type: 'string', default: '10' } } }).values
const root = join(import.meta.dirname, '..')
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { start: string } }
/** The paths are relative to this folder, and the service starts in another one. */
const startArgs = scripts.start.split(' ').slice(2).map(arg => arg.replace(/(?<=^|=)(\.\/)?src\//, `${root}/src/`))

interface Taken { wallMs: number, cpuMs: number }

/** Tells its CPU time when it is asked. */
const telling = 'data:text/javascript,process.once("message",()=>process.send(process.cpuUsage()))'

const take = async (args: string[], env: Record<string, string>, answered: () => Promise<void>): Promise<Taken> => {
  const cwd = mkdtempSync(join(tmpdir(), 'job-access-start-'))
  const begun = performance.now()
  const child = spawn(process.execPath, ['--import', telling, ...args], {
    cwd, env: { PATH: process.env.PATH ?? '', ...env }, stdio: ['ignore', 'ignore', 'inherit', 'ipc']
  })
  const ended = once(child, 'exit')
  try {
    await Promise.race([answered(), ended.then(() => { throw new Error('it ended before it answered') })])
    const wallMs = performance.now() - begun
    child.send('cpu')
    const [{ user, system }] = await once(child, 'message') as [NodeJS.CpuUsage]
    return { wallMs, cpuMs: (user + system) / 1000 }
  } finally {
    // At an end by SIGTERM Node writes its compile cache.
    child.kill('SIGTERM')
    await ended
    rmSync(cwd, { recursive: true })
  }
}

/** A port that was free a moment ago. */
const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

const firstAnswer = async (url: string): Promise<void> => {
  for (;;) {
    const status = await fetch(url).then(answer => answer.status, () => 0)
    if (status === 200) return
    await delay(2)
  }
}

/** A Node that only connects to us. */
const startNothing = async (): Promise<Taken> => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const connected = once(server, 'connection')
  try {
    return await take(['-e', `require('net').connect(${port}, '127.0.0.1')`], {}, async () => { await connected })
  } finally {
    server.close()
  }
}

const startService = async (env: Record<string, string> = {}): Promise<Taken> => {
  const port = await freePort()
  return take(startArgs, { PORT: `${port}`, LOG_LEVEL: 'error', ...env }, () => firstAnswer(`http://127.0.0.1:${port}/healthz`))
}

// This one fills the compile cache.
await startService()
const kinds = {
  nothing: startNothing,
  'the first start': () => startService({ NODE_DISABLE_COMPILE_CACHE: '1' }),
  'a later start': () => startService()
}
const taken = new Map<string, Taken[]>()
for (let round = 0; round < Number(rounds); round++) {
  for (const [name, start] of Object.entries(kinds)) taken.set(name, [...taken.get(name) ?? [], await start()])
}
const at = (name: string, kind: keyof Taken, quantile: number): number => {
  const sorted = (taken.get(name) ?? []).map(each => each[kind]).sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length * quantile)] ?? NaN
}
console.table(Object.fromEntries(Object.keys(kinds).map(name => [name, {
  'wall ms, median': Math.round(at(name, 'wallMs', 0.5)),
  'wall ms, least': Math.round(at(name, 'wallMs', 0)),
  'CPU ms, median': Math.round(at(name, 'cpuMs', 0.5)),
  'CPU ms, least': Math.round(at(name, 'cpuMs', 0)),
  'CPU to nothing': (at(name, 'cpuMs', 0.5) / at('nothing', 'cpuMs', 0.5)).toFixed(1)
}])))
console.log(`load average ${loadavg()[0]?.toFixed(1)}`)
