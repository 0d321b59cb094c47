import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { createIam } from '../../src/iam/client.ts'
import type { PrincipalPlan, PrincipalProvisioner } from '../../src/iam/principal.ts'
import { withoutSts } from '../../src/iam/without-sts.ts'

/** The gate alone, against servers that answer as an STS may; the real server is test/real/seaweedfs/sts.test.ts's. */

const identity = '<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:root</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>'

const gate = async (t: Test, listener: RequestListener) => {
  const server = createServer((request, response) => request.resume().on('end', () => listener(request, response))).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const iam = createIam({ region: 'us-east-1', endpoint: url, stsEndpoint: url, credentials: { accessKeyId: 'a', secretAccessKey: 'b' } })
  t.teardown(() => {
    iam.close()
    server.closeAllConnections()
    server.close()
  })
  let made = 0
  const principals = {
    create: async ({ ref }: PrincipalPlan) => {
      made++
      return { ref, credentials: null }
    },
    ping: async () => {}
  } as unknown as PrincipalProvisioner
  const guarded = withoutSts(principals, iam, Date.now)
  const tryIt = async (what: () => Promise<unknown>) => what().then(() => 'done', (error: { kind: string, providerCode: string }) => `${error.kind} ${error.providerCode}`)
  return {
    made: () => made,
    create: (ms: number) => tryIt(() => guarded.create({ ref: { name: 'x' } } as PrincipalPlan, Date.now() + ms)),
    ping: (ms: number) => tryIt(() => guarded.ping(Date.now() + ms))
  }
}

const cases: Array<[string, RequestListener, number, RegExp]> = [
  ['none: a 503', (_request, response) => { response.writeHead(503).end() }, 5_000, /^done$/],
  ['an STS', (_request, response) => { response.end(identity) }, 5_000, /^unsupported StsConfigured$/],
  ['a slow one', (_request, response) => { setTimeout(() => response.end(identity), 700) }, 5_000, /^unsupported StsConfigured$/],
  ['one that refuses us', (_request, response) => {
    response.writeHead(403).end('<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>')
  }, 5_000, /^denied AccessDenied/],
  ['nothing that answers', request => { request.socket.destroy() }, 1_500, /^unavailable /],
  ['an answer later than the deadline', () => {}, 1_000, /^unavailable /]
]

for (const [name, listener, ms, outcome] of cases) {
  t.test(name, async t => {
    const it = await gate(t, listener)
    t.match(await it.create(ms), outcome)
    t.equal(it.made(), outcome.test('done') ? 1 : 0)
    t.match(await it.ping(ms), outcome)
  })
}
