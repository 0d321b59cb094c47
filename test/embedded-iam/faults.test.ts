import { CreateUserCommand, DeleteUserCommand, GetUserCommand, IAMClient, ListUsersCommand } from '@aws-sdk/client-iam'
import { GetCallerIdentityCommand } from '@aws-sdk/client-sts'
import t from 'tap'
import { createFaults } from './levers/faults.ts'
import type { Call, Effect } from './levers/faults.ts'
import { connect, refused } from './connect.ts'
import type { Connected, Refused } from './connect.ts'

const create = ({ iam }: Pick<Connected, 'iam'>, UserName: string): Promise<unknown> => iam.send(new CreateUserCommand({ UserName }))

/** An abort that stands for the client's timeout: it comes when the server has the call, not after a time. */
async function abandoned ({ iam, server }: Connected, UserName: string, done: () => boolean): Promise<unknown> {
  const abort = new AbortController()
  const sent = iam.send(new CreateUserCommand({ UserName }), { abortSignal: abort.signal })
    .then(() => 'answered', (error: Error) => error.name)
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 2))
  // Whatever the server would still do in this turn, or in one that is due by now, it has done by then.
  await new Promise((resolve) => setTimeout(resolve, 20))
  abort.abort()
  return sent.then((outcome) => [outcome, server.calls.at(-1)?.status])
}

t.test('each effect: what the client sees, and whether it was done', async (t) => {
  const dropped: Refused = { name: /Error/, message: /socket hang up|ECONNRESET/ }
  const cases: Array<[Effect, Refused | null, boolean, number | null]> = [
    [{ kind: 'error', code: 'EntityAlreadyExists' }, refused('EntityAlreadyExistsException', 409), false, 409],
    [{ kind: 'error', code: 'ServiceUnavailable', message: 'later' }, refused('ServiceUnavailable', 503, 'later'), false, 503],
    [{ kind: 'error', code: 'Odd', status: 418 }, refused('Odd', 418), false, 418],
    [{ kind: 'error', code: 'Odd' }, refused('Odd', 400), false, 400],
    [{ kind: 'errorAfter' }, refused('ServiceFailureException', 500), true, 500],
    [{ kind: 'errorAfter', code: 'ConcurrentModification' }, refused('ConcurrentModificationException', 409), true, 409],
    [{ kind: 'throttle' }, refused('Throttling', 400, 'Rate exceeded'), false, 400],
    [{ kind: 'delay', ms: 1 }, null, true, 200],
    [{ kind: 'drop' }, dropped, false, null],
    [{ kind: 'dropAfter' }, dropped, true, null]
  ]
  for (const [effect, error, done, status] of cases) {
    const connected = await connect(t)
    const { server } = connected
    server.faults.on({ action: 'CreateUser', nth: 1 }, effect)
    if (error) await t.rejects(create(connected, 'job'), error, JSON.stringify(effect))
    else await t.resolves(create(connected, 'job'), JSON.stringify(effect))
    t.equal(server.state.userCount, done ? 1 : 0, `${effect.kind} ${done ? 'does it' : 'does nothing'}`)
    t.match(server.calls, [{ action: 'CreateUser', params: { UserName: 'job' }, accessKeyId: server.admin.accessKeyId, status }])
    await create(connected, 'next')
    t.ok(server.state.user('next'), 'and the next call is served')
  }
})

t.test('timeout and timeoutAfter never answer', async (t) => {
  const connected = await connect(t)
  const { server } = connected
  server.faults.on({ nth: 1 }, { kind: 'timeoutAfter' })
  t.same(await abandoned(connected, 'done', () => server.state.userCount === 1), ['AbortError', null])
  server.faults.on({ nth: 1 }, { kind: 'timeout' })
  t.same(await abandoned(connected, 'undone', () => server.calls.length === 2), ['AbortError', null])
  t.match(server.state.users, [{ name: 'done' }])
})

t.test('a delay comes before the effect', async (t) => {
  const connected = await connect(t)
  const { server } = connected
  server.faults.on({ nth: 1 }, { kind: 'delay', ms: 60_000 })
  t.same(await abandoned(connected, 'job', () => server.calls.length === 1), ['AbortError', null])
  t.equal(server.state.userCount, 0)
})

t.test('what a match means', async (t) => {
  const strikes = (match: Parameters<ReturnType<typeof createFaults>['on']>[0], effect: Effect = { kind: 'drop' }): number[] => {
    const faults = createFaults()
    faults.on(match, effect)
    const calls = ['A', 'B', 'A', 'C', 'A', 'B', 'A'].map((action, i) => ({ action, params: { UserName: `u${i % 2}` } }))
    return calls.flatMap((call, i) => faults.strike(call).length > 0 ? [i + 1] : [])
  }
  t.same(strikes({}), [1, 2, 3, 4, 5, 6, 7])
  t.same(strikes({ nth: 3 }), [3], 'the n-th of all')
  t.same(strikes({ nth: 3, times: 2 }), [3, 4])
  t.same(strikes({ action: 'A' }), [1, 3, 5, 7])
  t.same(strikes({ action: 'A', nth: 2 }), [3], 'the n-th of its action')
  t.same(strikes({ action: 'A', nth: 2, times: Infinity }), [3, 5, 7])
  t.same(strikes({ action: 'A', times: 2 }), [1, 3])
  t.same(strikes({ action: ['B', 'C'] }), [2, 4, 6])
  t.same(strikes({ action: [] }), [])
  t.same(strikes({ params: { UserName: 'u1' } }), [2, 4, 6])
  t.same(strikes({ action: 'B', params: { UserName: 'u1' }, nth: 2 }), [6])
  t.same(strikes({ params: { UserName: 'u1', Path: '/' } }), [])
  t.same(strikes({ action: 'A' }, { kind: 'throttle', times: 3 }), [1, 3, 5], 'throttled so many times')
  t.same(strikes({ action: 'A', nth: 2 }, { kind: 'throttle', times: 2 }), [3, 5])
})

t.test('throttling is over after its number, and the SDK gets through', async (t) => {
  const { server } = await connect(t)
  const iam = new IAMClient({ endpoint: server.url, region: 'us-east-1', credentials: server.admin, maxAttempts: 3 })
  t.teardown(() => { iam.destroy() })
  const fault = server.faults.on({ action: 'CreateUser' }, { kind: 'throttle', times: 2 })
  const { $metadata } = await iam.send(new CreateUserCommand({ UserName: 'job' }))
  t.equal($metadata.attempts, 3)
  t.same([fault.seen, fault.hits], [3, 2])
  t.same(server.calls.map(({ status, code }) => [status, code]), [[400, 'Throttling'], [400, 'Throttling'], [200, null]])
})

t.test('several faults: the first decides, delays and runs all happen', async (t) => {
  const connected = await connect(t)
  const { faults } = connected.server
  const ran: string[] = []
  const first = faults.on({}, { kind: 'error', code: 'First' })
  const second = faults.on({}, { kind: 'error', code: 'Second' })
  faults.on({ nth: 1 }, { kind: 'delay', ms: 1 })
  faults.on({ nth: 1 }, { kind: 'run', before: () => ran.push('before'), after: () => ran.push('after') })
  await t.rejects(create(connected, 'job'), { name: 'First' })
  t.same(ran, ['before', 'after'])
  first.remove()
  first.remove()
  await t.rejects(create(connected, 'job'), { name: 'Second' })
  t.same(faults.list().map(({ id, hits }) => [id, hits]), [[2, 2], [3, 1], [4, 1]])
  faults.clear()
  await create(connected, 'job')
  t.equal(second.hits, 2)
})

t.test('run sees the call before and after it is done', async (t) => {
  const connected = await connect(t)
  const { server } = connected
  const seen: unknown[] = []
  const look = (call: Call): unknown => seen.push([call.action, call.params.UserName, server.state.userCount])
  server.faults.on({ action: 'CreateUser' }, { kind: 'run', before: look, after: async (call) => { look(call) } })
  await create(connected, 'job')
  t.same(seen, [['CreateUser', 'job', 0], ['CreateUser', 'job', 1]])
})

t.test('calls to STS count too, and faults can be made before the server', async (t) => {
  const faults = createFaults()
  faults.on({ nth: 2 }, { kind: 'error', code: 'InternalFailure' })
  const { iam, sts, server } = await connect(t, { faults })
  t.equal(server.faults, faults)
  await iam.send(new ListUsersCommand({}))
  await t.rejects(sts.send(new GetCallerIdentityCommand({})), { name: 'InternalFailure', $metadata: { httpStatusCode: 500 } })
})

t.test('errorAfter a refused call is still the injected error', async (t) => {
  const { iam, server } = await connect(t)
  server.faults.on({ action: 'DeleteUser', nth: 1 }, { kind: 'errorAfter' })
  await t.rejects(iam.send(new DeleteUserCommand({ UserName: 'none' })), { name: 'ServiceFailureException' })
})

t.test('calls are kept in order, with outcome, and only so many', async (t) => {
  const connected = await connect(t, { keepCalls: 3 })
  const { server, iam } = connected
  for (let i = 0; i < 20; i++) await create(connected, `u${i}`)
  await iam.send(new GetUserCommand({ UserName: 'none' })).catch(() => {})
  t.ok(server.calls.length >= 3 && server.calls.length <= 7)
  t.same(server.calls.slice(-3).map(({ action, params: { UserName }, status, code }) => [action, UserName, status, code]),
    [['CreateUser', 'u18', 200, null], ['CreateUser', 'u19', 200, null], ['GetUser', 'none', 404, 'NoSuchEntity']])
  const none = await connect(t, { keepCalls: 0 })
  await create(none, 'job')
  t.same(none.server.calls, [])
})

t.test('reset empties everything, and the admin stays', async (t) => {
  const connected = await connect(t)
  const { server } = connected
  await create(connected, 'job')
  server.faults.on({}, { kind: 'drop' })
  server.reset()
  t.same([server.state.users, server.calls, server.faults.list()], [[], [], []])
  await create(connected, 'job')
})

t.test('latency holds the answer back, not the effect', async (t) => {
  const connected = await connect(t, { latencyMs: 60_000 })
  const { server } = connected
  t.same(await abandoned(connected, 'job', () => server.state.userCount === 1), ['AbortError', null])
})

t.test('stop ends open connections', async (t) => {
  const connected = await connect(t)
  const { server } = connected
  server.faults.on({}, { kind: 'timeout' })
  const sent = create(connected, 'job').then(() => 'answered', () => 'failed')
  while (server.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 2))
  await server.stop()
  t.equal(await sent, 'failed')
  await t.rejects(create(connected, 'job'), { message: /ECONNREFUSED/ })
})

t.test('only loopback, only a twelve-digit account', async (t) => {
  await t.rejects(connect(t, { host: '0.0.0.0' as '127.0.0.1' }), { message: /127\.0\.0\.1/ })
  await t.rejects(connect(t, { accountId: '1' }), { message: /twelve digits/ })
})
