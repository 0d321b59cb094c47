import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { IamProcess, ServiceDir } from '../test/kill/processes.ts'

/** The service as `npm start` runs it, with its flags, against an IAM in another process. */

const root = join(import.meta.dirname, '..')
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { start: string } }

export interface StartedService {
  url: string
  /** Of all its processes, the small one first: `VmHWM` of /proc, the most that it had resident, and what it has now. In MB. */
  memory: () => Array<{ now: number, peak: number }>
  /** CPU time of all its processes, ms. */
  cpu: () => number
  stop: () => Promise<void>
}

export const startService = async (
  iam: Pick<IamProcess, 'url' | 'admin'>, dir: ServiceDir, env: Record<string, string>, moreFlags: string[] = []
): Promise<StartedService> => {
  const [, ...flags] = scripts.start.replace(/^exec /, '').split(' ')
  // Of two flags of one name the last counts.
  const added = [...(process.env.BENCH_NODE_FLAGS?.split(' ').filter(Boolean) ?? []), ...moreFlags]
  const child = spawn(process.execPath, [...flags.slice(0, -1), ...added, ...flags.slice(-1)], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env.PATH,
      HOME: dir.path,
      PORT: '0',
      JOB_ACCESS_PROVIDER: 'localstack',
      AWS_ENDPOINT_URL: iam.url,
      AWS_ACCESS_KEY_ID: iam.admin.accessKeyId,
      AWS_SECRET_ACCESS_KEY: iam.admin.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
      JOB_ACCESS_IDENTITY: join(dir.path, 'identity.json'),
      JOB_ACCESS_AUDIT: join(dir.path, 'audit.json'),
      JOB_ACCESS_LEDGER: join(dir.path, 'ledger.sqlite'),
      JOB_ACCESS_RATE_PER_MINUTE: '10000000',
      JOB_ACCESS_MAX_GRANTS: '1000000',
      JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '1000000',
      ...env
    }
  })
  process.on('exit', () => { child.kill('SIGKILL') })
  const count = Number(env.JOB_ACCESS_PROCESSES ?? 1)
  const pids = new Set([child.pid ?? 0])
  let url = ''
  let listening = 0
  for await (const line of createInterface({ input: child.stdout })) {
    const { pid, msg } = JSON.parse(line) as { pid: number, msg: string }
    const address = /Server listening at (\S+)/.exec(msg)?.[1]
    if (address === undefined) continue
    url = address
    pids.add(pid)
    if (++listening === count) break
  }
  if (listening < count) throw new Error('the service did not start')
  child.stdout.resume()
  const all = [...pids]
  return {
    url,
    memory: () => all.map(pid => {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8')
      const mb = (name: string) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024)
      return { now: mb('VmRSS'), peak: mb('VmHWM') }
    }),
    // proc(5): fields 14 and 15, in ticks of 10 ms.
    cpu: () => all.reduce((sum, pid) => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
      return sum + 10 * (Number(fields[11]) + Number(fields[12]))
    }, 0),
    stop: () => ended(child)
  }
}

const ended = async (child: ChildProcess): Promise<void> => {
  const exit = once(child, 'exit')
  child.kill('SIGTERM')
  await exit
}

export interface Client {
  send: <T>(method: string, path: string, body?: object) => Promise<T>
  close: () => void
}

/** Connections that are kept, as many as requests at once. Any answer that is not of the class 2xx is an error. */
export const clientOf = (url: string, token: string): Client => {
  const agent = new Agent({ keepAlive: true })
  return {
    send: <T>(method: string, path: string, body?: object) => new Promise<T>((resolve, reject) => {
      const sent = request(url + path, {
        method, agent, headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) }
      }, answer => {
        answer.toArray().then(parts => {
          const text = Buffer.concat(parts as Buffer[]).toString()
          if ((answer.statusCode ?? 0) >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`)
          resolve(JSON.parse(text) as T)
        }).catch(reject)
      })
      sent.on('error', reject)
      sent.end(body && JSON.stringify(body))
    }),
    close: () => agent.destroy()
  }
}

/** `atOnce` at a time until `more` says no. */
export const inLanes = async (atOnce: number, more: () => boolean, work: () => Promise<unknown>): Promise<void> => {
  await Promise.all(Array.from({ length: atOnce }, async () => { while (more()) await work() }))
}
