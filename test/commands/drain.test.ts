import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request as send } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { mintToken } from '../../src/identity/authenticator.ts'
import { guideRequest } from '../../src/request.ts'
import { startCommand, startService, type Running } from './service.ts'

const home = mkdtempSync(join(tmpdir(), 'job-access-drain-'))
t.teardown(() => rmSync(home, { recursive: true, force: true }))
const { token, sha256 } = mintToken('nlp', randomBytes)
writeFileSync(join(home, 'identity.json'), JSON.stringify({ tokens: [{ id: 'nlp', sha256, teams: ['nlp'] }], issuers: [] }))
const start = () => startService(t, { JOB_ACCESS_IDENTITY: join(home, 'identity.json'), JOB_ACCESS_DRAIN_SECONDS: '3', JOB_ACCESS_RATE_PER_MINUTE: '1000000' })

const isReady = (url: string): Promise<boolean> => fetch(`${url}/readyz`).then(({ ok }) => ok, () => false)

/** A load balancer: asks each replica often whether it is ready, and sends to those that were, in turn. It never tries again. */
const balancer = async (replicas: Running[]): Promise<{ url: string, isInUse: (index: number) => boolean, close: () => void }> => {
  let ready = [...replicas]
  let turn = 0
  const look = async () => {
    const looked = await Promise.all(replicas.map(async replica => ({ replica, ok: await isReady(replica.url) })))
    ready = looked.filter(({ ok }) => ok).map(({ replica }) => replica)
  }
  const timer = setInterval(() => { void look() }, 250)
  const server = createServer((request, response) => {
    const target = ready[turn++ % ready.length]
    if (!target) {
      response.writeHead(503).end()
      return
    }
    const onward = send(`${target.url}${request.url}`, { method: request.method ?? 'GET', headers: request.headers }, answer => {
      response.writeHead(answer.statusCode ?? 502)
      answer.pipe(response)
    })
    onward.on('error', () => response.writeHead(502).end())
    request.pipe(onward)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    isInUse: index => ready.some(replica => replica === replicas[index]),
    close () {
      clearInterval(timer)
      server.close()
    }
  }
}

t.test('a rolling restart behind a load balancer: no request fails', async t => {
  const replicas = [await start(), await start()]
  const { url, isInUse, close } = await balancer(replicas)
  t.teardown(close)
  const statuses: number[] = []
  const ended = new AbortController()
  const client = async () => {
    while (!ended.signal.aborted) {
      const answer = await fetch(`${url}/v1/policies`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(guideRequest)
      })
      await answer.arrayBuffer()
      statuses.push(answer.status)
      await delay(20)
    }
  }
  const clients = [client(), client()]
  for (const index of [0, 1]) {
    await replicas[index]?.stop('SIGTERM')
    replicas[index] = await start()
    while (!await isReady(replicas[index].url)) await delay(50)
    // The balancer sends to the new one before the next is stopped.
    const served = statuses.length
    while (!isInUse(index) || statuses.length === served) await delay(50)
  }
  ended.abort()
  await Promise.all(clients)
  t.strictSame([...new Set(statuses)], [200], `of ${statuses.length} requests`)
})

t.test('a port in use: the message names the variable', async t => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as AddressInfo
  const server = join(import.meta.dirname, '..', '..', 'src', 'server.ts')
  const env = { PATH: process.env.PATH ?? '', LOG_LEVEL: 'silent', PORT: String(port) }
  const { code, stderr } = await startCommand(t, [process.execPath, '--disable-warning=ExperimentalWarning', server], env).done
  t.equal(code, 1)
  t.equal(stderr, `Port ${port} is in use. Set PORT to another one, e.g. PORT=${port + 1} npm start.\n`)
})
