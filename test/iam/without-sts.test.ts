import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { createIam, type Iam } from '../../src/iam/client.ts'
import { IamError } from '../../src/iam/errors.ts'
import type { PrincipalPlan, PrincipalProvisioner } from '../../src/iam/provisioner.ts'
import { countedAbsence, withoutSts } from '../../src/iam/without-sts.ts'
import type { Clock } from '../../src/iam/retry.ts'

// The check alone, against servers that answer as an STS may; test/real/seaweedfs/sts.test.ts has the real server.
// The clock moves when the code under test waits, and when an answer of the pretended STS takes its time.

const clockOf = (lateMs = 0) => {
  let time = 0
  return {
    now: () => time,
    pause: async (ms: number) => { time += ms + lateMs },
    advance (ms: number) { time += ms }
  }
}

const checked = (iam: Pick<Iam, 'callerIdentity'>, clock: Clock) => {
  let made = 0
  const principals = {
    create: async ({ ref }: PrincipalPlan) => {
      made++
      return { ref, credentials: null }
    },
    ping: async () => {}
  } as unknown as PrincipalProvisioner
  const guarded = withoutSts(principals, iam, clock)
  const outcomeOf = (what: Promise<unknown>) => what.then(() => 'done', (error: IamError) => `${error.kind} ${error.providerCode}`)
  return {
    made: () => made,
    create: (ms: number) => outcomeOf(guarded.create({ ref: { name: 'x' } } as PrincipalPlan, clock.now() + ms)),
    ping: (ms: number) => outcomeOf(guarded.ping(clock.now() + ms))
  }
}

const listening = async (t: Test, listener: RequestListener, clock: Clock) => {
  const server = createServer((request, response) => request.resume().on('end', () => listener(request, response))).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const iam = createIam({
    region: 'us-east-1',
    endpoint: url,
    stsEndpoint: url,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    now: clock.now,
    sleep: clock.pause,
    random: () => 1
  })
  t.teardown(() => {
    iam.close()
    server.closeAllConnections()
    server.close()
  })
  return iam
}

const identity = '<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:root</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>'
const error = (code: string) => `<ErrorResponse><Error><Code>${code}</Code></Error></ErrorResponse>`
const absent: RequestListener = (_request, response) => { response.writeHead(503).end() }
const lost: RequestListener = request => { request.socket.destroy() }
const throttled: RequestListener = (_request, response) => { response.writeHead(400).end(error('Throttling')) }

/** One server after another: each answers so many requests, the last one all others. */
const inTurn = (...turns: Array<[times: number, listener: RequestListener]>): RequestListener => {
  const left = turns.flatMap(([times, listener]) => Array<RequestListener>(times).fill(listener))
  return (request, response) => (left.length > 1 ? left.shift() : left[0])?.(request, response)
}

const answers: Array<[string, () => RequestListener, RegExp]> = [
  ['no STS: a 503', () => absent, /^done$/],
  ['an STS', () => (_request, response) => { response.end(identity) }, /^unsupported StsConfigured$/],
  ['an STS that refuses our credentials', () => (_request, response) => { response.writeHead(403).end(error('AccessDenied')) }, /^denied AccessDenied/],
  ['nothing that answers', () => lost, /^unavailable /],
  ['an STS that always throttles', () => throttled, /^throttled Throttling$/]
]

for (const [name, listener, outcome] of answers) {
  t.test(name, async t => {
    const clock = clockOf()
    const it = checked(await listening(t, listener(), clock), clock)
    t.match(await it.create(5_000), outcome)
    t.equal(it.made(), outcome.test('done') ? 1 : 0)
    t.match(await it.ping(5_000), outcome)
  })
}

t.test('a timer that fires late ends one probe, not the check: the caller has time left', async t => {
  const clock = clockOf(300)
  const it = checked(await listening(t, inTurn([1, lost], [1, absent]), clock), clock)
  t.equal(await it.create(5_000), 'done')
})

t.test('throttling that outlasts one probe does not end the check either', async t => {
  const clock = clockOf()
  const it = checked(await listening(t, inTurn([6, throttled], [1, absent]), clock), clock)
  t.equal(await it.create(5_000), 'done')
})

t.test('a timer that fires after the caller’s deadline: the reason is still that nothing answered', async t => {
  const clock = clockOf(10_000)
  const it = checked(await listening(t, lost, clock), clock)
  t.match(await it.create(5_000), /^unavailable /)
})

t.test('a slow STS is asked again with more patience, within the caller’s deadline', async t => {
  const cases: Array<[answersAfterMs: number, outcome: RegExp, probesUntil: number[]]> = [
    [700, /^unsupported StsConfigured$/, [300, 950, 2_200]],
    [Infinity, /^unavailable TimeoutError$/, [300, 950, 2_200, 4_650, 5_000]]
  ]
  for (const [ms, outcome, probesUntil] of cases) {
    const clock = clockOf()
    const deadlines: number[] = []
    const iam = {
      async callerIdentity (_key: unknown, until: number) {
        deadlines.push(until)
        const patience = until - clock.now()
        clock.advance(Math.min(ms, patience))
        if (ms > patience) throw new IamError('unavailable', 'GetCallerIdentity', 'TimeoutError', undefined)
        return 'arn:aws:iam::1:root'
      }
    }
    t.match(await checked(iam, clock).create(5_000), outcome)
    t.strictSame(deadlines, probesUntil)
  }
})

t.test('for the metrics, the answer without an STS is no failure', t => {
  const call = { operation: 'GetCallerIdentity', outcome: 'unavailable', ms: 3 }
  t.match(countedAbsence({ ...call, status: 503 }), { outcome: 'unsupported' })
  t.match(countedAbsence(call), { outcome: 'unavailable' }, 'nobody answered')
  t.match(countedAbsence({ ...call, operation: 'CreateUser', status: 503 }), { outcome: 'unavailable' })
  t.end()
})
