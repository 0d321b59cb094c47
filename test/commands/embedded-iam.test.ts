import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { CreateAccessKeyCommand, CreateUserCommand, ListUsersCommand, PutUserPolicyCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import type { Test } from 'tap'
import { clients, connect, documentOf } from '../embedded-iam/connect.ts'

const main = new URL('../embedded-iam/levers/main.ts', import.meta.url).pathname
const keys = { accessKeyId: 'AKIAEMBEDDEDGIVENKEY', secretAccessKey: 'given-in-the-environment-of-this-process' }
const given = { EMBEDDED_IAM_ACCESS_KEY_ID: keys.accessKeyId, EMBEDDED_IAM_SECRET_ACCESS_KEY: keys.secretAccessKey }

interface Line { url: string, admin: { accessKeyId: string, secretAccessKey?: string } }

async function start (t: Test, args: string[], env: NodeJS.ProcessEnv = {}): Promise<{ child: ChildProcess, line: Line, raw: string }> {
  const { EMBEDDED_IAM_ACCESS_KEY_ID: _, EMBEDDED_IAM_SECRET_ACCESS_KEY: __, ...inherited } = process.env
  const child = spawn(process.execPath, [main, ...args], { stdio: ['pipe', 'pipe', 'inherit'], env: { ...inherited, ...env } })
  t.teardown(() => child.kill('SIGKILL'))
  const [raw] = await once(createInterface({ input: child.stdout }), 'line') as [string]
  return { child, line: JSON.parse(raw), raw }
}

interface Answer { status: number, json: unknown }

async function call (url: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const answer = await fetch(`${url}/_embedded/${path}`, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
  return { status: answer.status, json: await answer.json() }
}

t.test('prints its URL, takes the given keys and keeps them to itself', async (t) => {
  const { child, line, raw } = await start(t, ['--port', '0', '--account-id', '123456789012', '--max-users', '1'], given)
  t.match(line.url, /^http:\/\/127\.0\.0\.1:\d+$/)
  t.same(line.admin, { accessKeyId: keys.accessKeyId })
  t.notOk(raw.includes(keys.secretAccessKey))
  const { iam } = clients(t, line.url, keys)
  const { User } = await iam.send(new CreateUserCommand({ UserName: 'job' }))
  t.equal(User?.Arn, 'arn:aws:iam::123456789012:user/job')
  await t.rejects(iam.send(new CreateUserCommand({ UserName: 'more' })), { name: 'LimitExceededException' })
  t.equal((await fetch(`${line.url}/_embedded/state`)).headers.get('content-type'), 'text/xml', 'no control unless asked for')
  child.kill('SIGTERM')
  t.same(await once(child, 'exit'), [0, null])
})

t.test('makes up keys when none are given, and tells its parent', async (t) => {
  const { line } = await start(t, [])
  const { accessKeyId, secretAccessKey = '' } = line.admin
  await clients(t, line.url, { accessKeyId, secretAccessKey }).iam.send(new ListUsersCommand({}))
})

t.test('ends with its parent, when told so', async (t) => {
  const { child } = await start(t, ['--exit-with-stdin'])
  child.stdin?.destroy()
  t.same(await once(child, 'exit'), [0, null])
})

t.test('refuses odd options', async (t) => {
  for (const args of [['--port', 'x'], ['--latency', '-1'], ['--account-id', '1'], ['--unknown']]) {
    const child = spawn(process.execPath, [main, ...args], { stdio: 'ignore' })
    t.teardown(() => child.kill('SIGKILL'))
    t.same(await once(child, 'exit'), [1, null], args.join(' '))
  }
})

t.test('faults, state and reset over HTTP', async (t) => {
  const { line: { url } } = await start(t, ['--control'], given)
  const { iam } = clients(t, url, keys)
  const second = { match: { action: 'CreateUser', nth: 2 }, effect: { kind: 'errorAfter' } }
  t.match(await call(url, 'POST', 'faults', second), { status: 201, json: { id: 1 } })
  t.match(await call(url, 'POST', 'faults', { effect: { kind: 'delay', ms: 1 } }), { status: 201, json: { id: 2 } })
  await iam.send(new CreateUserCommand({ UserName: 'a', Path: '/ml/' }))
  await t.rejects(iam.send(new CreateUserCommand({ UserName: 'b' })), { name: 'ServiceFailureException' })
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName: 'a' }))
  await iam.send(new PutUserPolicyCommand({ UserName: 'a', PolicyName: 'p', PolicyDocument: documentOf(150) }))

  const state = await call(url, 'GET', 'state')
  t.match(state.json, {
    users: [
      { name: 'b', keys: [] },
      { name: 'a', path: '/ml/', inline: { p: documentOf(150) }, keys: [{ id: AccessKey?.AccessKeyId, status: 'Active' }] }
    ],
    calls: 4
  })
  const calls = await call(url, 'GET', 'calls')
  t.match(calls.json,
    [{ action: 'CreateUser', status: 200 }, { action: 'CreateUser', status: 500 }, { action: 'CreateAccessKey' }, { action: /^PutUser/ }])
  t.notOk(JSON.stringify([state, calls]).includes(AccessKey?.SecretAccessKey ?? ''), 'no secret')
  t.match(await call(url, 'GET', 'faults'), {
    json: [
      { id: 1, ...second, seen: 2, hits: 1 },
      { id: 2, match: {}, effect: { kind: 'delay', ms: 1 }, seen: 4, hits: 4 }
    ]
  })
  await call(url, 'DELETE', 'faults')
  t.same((await call(url, 'GET', 'faults')).json, [])
  await call(url, 'POST', 'reset')
  t.same((await call(url, 'GET', 'state')).json, { users: [], policies: [], roles: [], calls: 0 })
})

t.test('control refuses what it does not know, and browsers', async (t) => {
  const { server: { url, faults } } = await connect(t, { control: true })
  const effects = [
    {}, { kind: 'odd' }, { kind: 'constructor' }, { kind: 'run' }, { kind: 'error' }, { kind: 'delay' }, { kind: 'delay', ms: '5' },
    { kind: 'drop', ms: 5 }
  ]
  const matches = [{ Action: 'X' }, { action: 5 }, { action: ['A', 5] }, { nth: 0 }, { times: 1.5 }, { params: { a: 1 } }, { params: [] }]
  const effect = { kind: 'drop' }
  const odd: unknown[] = [
    null, [], 'x', {}, { match: {} }, { effect, more: 1 },
    ...effects.map((effect) => ({ effect })), ...matches.map((match) => ({ match, effect }))
  ]
  for (const fault of odd) t.equal((await call(url, 'POST', 'faults', fault)).status, 400, JSON.stringify(fault))
  t.equal((await fetch(`${url}/_embedded/faults`, { method: 'POST', body: '{' })).status, 400)
  t.equal((await call(url, 'GET', 'nothing')).status, 404)
  t.equal((await call(url, 'PUT', 'state')).status, 404)
  t.equal((await call(url, 'POST', 'reset', {}, { origin: 'http://evil.example' })).status, 403)
  t.same(faults.list(), [])
})
