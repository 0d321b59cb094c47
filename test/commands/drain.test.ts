import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { mintToken } from '../../src/identity/authenticator.ts'
import { guideRequest } from '../../src/request.ts'
import { balancer, isReady } from './balancer.ts'
import { startCommand, startService } from './service.ts'

const home = mkdtempSync(join(tmpdir(), 'job-access-drain-'))
t.teardown(() => rmSync(home, { recursive: true, force: true }))
const { token, sha256 } = mintToken('nlp', randomBytes)
writeFileSync(join(home, 'identity.json'), JSON.stringify({ tokens: [{ id: 'nlp', sha256, teams: ['nlp'] }], issuers: [] }))
const start = () => startService(t, { JOB_ACCESS_IDENTITY: join(home, 'identity.json'), JOB_ACCESS_DRAIN_SECONDS: '3', JOB_ACCESS_RATE_PER_MINUTE: '1000000' })

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
