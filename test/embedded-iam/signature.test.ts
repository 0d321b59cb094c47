import { CreateAccessKeyCommand, CreateUserCommand, ListUsersCommand } from '@aws-sdk/client-iam'
import { GetCallerIdentityCommand } from '@aws-sdk/client-sts'
import t from 'tap'
import { clients, connect } from './connect.ts'
import type { Connected } from './connect.ts'

interface Signed { headers: Record<string, string>, body: string }

/** A request as the SDK signed it, not sent. */
async function signed ({ iam }: Pick<Connected, 'iam'>, date?: Date): Promise<Signed> {
  let request: Signed | undefined
  iam.middlewareStack.add((next) => async (args) => {
    request = args.request as Signed
    return next(args)
  }, { name: 'capture', step: 'finalizeRequest', priority: 'low', override: true })
  if (date) iam.config.systemClockOffset = date.getTime() - Date.now()
  await iam.send(new ListUsersCommand({})).catch(() => {})
  if (!request) throw new Error('Nothing was signed.')
  const { 'content-length': _, ...headers } = request.headers
  return { headers, body: request.body }
}

/** Sent by hand, so that it can be spoilt. */
async function send (url: string, { headers, body }: Signed, init: RequestInit = {}): Promise<{ status: number, text: string }> {
  const answer = await fetch(url, { method: 'POST', ...(init.method === 'GET' ? {} : { body }), headers, ...init })
  return { status: answer.status, text: await answer.text() }
}

const codeOf = (text: string): string | undefined => /<Code>(\w+)<\/Code>/.exec(text)?.[1]

t.test('the admin’s secret is what counts, in IAM and in STS', async (t) => {
  const { server } = await connect(t)
  const wrong = clients(t, server.url, { ...server.admin, secretAccessKey: `${server.admin.secretAccessKey.slice(0, -1)}~` })
  const refused = { name: 'SignatureDoesNotMatch', $metadata: { httpStatusCode: 403 } }
  await t.rejects(wrong.iam.send(new CreateUserCommand({ UserName: 'job' })), refused)
  await t.rejects(wrong.sts.send(new GetCallerIdentityCommand({})), refused)
  const unknown = clients(t, server.url, { accessKeyId: 'AKIAEMBEDDEDNOTTHERE', secretAccessKey: server.admin.secretAccessKey })
  await t.rejects(unknown.iam.send(new ListUsersCommand({})), { name: 'InvalidClientTokenId', $metadata: { httpStatusCode: 403 } })
  t.equal(server.state.userCount, 0)
})

t.test('a job’s key does nothing in IAM', async (t) => {
  const { server, iam, as } = await connect(t)
  await iam.send(new CreateUserCommand({ UserName: 'job' }))
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName: 'job' }))
  const job = as({ accessKeyId: AccessKey?.AccessKeyId ?? '', secretAccessKey: AccessKey?.SecretAccessKey ?? '' })
  const denied = { name: 'AccessDenied', message: /user\/job is not authorized to perform: iam:/, $metadata: { httpStatusCode: 403 } }
  await t.rejects(job.iam.send(new ListUsersCommand({})), denied)
  await t.rejects(job.iam.send(new CreateUserCommand({ UserName: 'more' })), denied)
  await t.rejects(job.iam.send(new CreateAccessKeyCommand({ UserName: 'job' })), denied)
  t.match(server.state.users, [{ name: 'job', keys: [{ id: AccessKey?.AccessKeyId }] }])
  t.match(await job.sts.send(new GetCallerIdentityCommand({})), { Arn: /user\/job$/ })
  t.match(server.calls.at(-1), { action: 'GetCallerIdentity', accessKeyId: AccessKey?.AccessKeyId, status: 200, code: null })
})

t.test('whatever is changed after signing is refused', async (t) => {
  const connected = await connect(t)
  const { url } = connected.server
  const good = await signed(connected)
  t.equal((await send(url, good)).status, 200, 'as it was signed')

  const without = (name: string): Signed => {
    const { [name]: _, ...headers } = good.headers
    return { ...good, headers }
  }
  const wrong = ['SignatureDoesNotMatch', 403] as const
  const incomplete = ['IncompleteSignature', 400] as const
  // One digit of what it finds, for another digit.
  const digit = (value: string): string => value.replace(/[0-9a-f]$/, (end) => end === '0' ? '1' : '0')
  const altered = (name: string, change: (value: string) => string): Signed =>
    ({ ...good, headers: { ...good.headers, [name]: change(good.headers[name] ?? '') } })
  const cases: Array<[string, Signed, string, number]> = [
    ['another body', { ...good, body: good.body.replace('ListUsers', 'ListRoles') }, ...wrong],
    ['another content hash', altered('x-amz-content-sha256', digit), ...wrong],
    ['another signed header', altered('content-type', () => 'text/plain'), ...wrong],
    ['another second', altered('x-amz-date', (date) => `${digit(date.slice(0, -1))}Z`), ...wrong],
    ['another day in the scope', altered('authorization', (value) => value.replace(/\/\d{8}\//, '/20200101/')), ...wrong],
    ['another region', altered('authorization', (value) => value.replace('us-east-1', 'eu-west-1')), ...wrong],
    ['another service', altered('authorization', (value) => value.replace('/iam/', '/sts/')), ...wrong],
    ['another signature', altered('authorization', digit), ...wrong],
    ['no signed date', altered('authorization', (value) => value.replace(';x-amz-date', '')), ...incomplete],
    ['no signed host', altered('authorization', (value) => value.replace('host;', '')), ...incomplete],
    ['no date', without('x-amz-date'), ...incomplete],
    ['an unreadable date', altered('x-amz-date', () => 'yesterday'), ...incomplete],
    ['no authorization', without('authorization'), 'MissingAuthenticationToken', 403],
    ['another scheme', altered('authorization', () => 'Bearer x'), ...incomplete],
    ['a scope cut short', altered('authorization', (value) => value.replace('/aws4_request', '')), ...incomplete],
    ['a scope too long', altered('authorization', (value) => value.replace('/aws4_request', '/aws4_request/x')), ...incomplete]
  ]
  for (const [name, request, code, status] of cases) {
    const answer = await send(url, request)
    t.same([codeOf(answer.text), answer.status], [code, status], name)
    if (name === 'another day in the scope') t.match(answer.text, /Date in Credential scope/)
  }
})

t.test('a signature is good for fifteen minutes either way, by the machine’s clock', async (t) => {
  const connected = await connect(t, { now: () => new Date('2001-01-01T00:00:00Z') })
  const { url } = connected.server
  for (const minutes of [-16, -14, 14, 16]) {
    const code = Math.abs(minutes) > 15 ? 'SignatureDoesNotMatch' : undefined
    const { text } = await send(url, await signed(connected, new Date(Date.now() + minutes * 60_000)))
    t.equal(codeOf(text), code, `${minutes} minutes`)
  }
})

t.test('actions, versions and requests that are not served', async (t) => {
  const connected = await connect(t)
  const { server, iam, sts } = connected
  const renamed = (action: string, version: string): string => `Action=${action}&Version=${version}`
  iam.middlewareStack.add((next) => async (args) => {
    const request = args.request as { body: string, headers: Record<string, string> }
    request.body = body
    request.headers['content-length'] = String(Buffer.byteLength(body))
    return next(args)
  }, { step: 'build', priority: 'low', name: 'rename' })
  let body = ''
  const refused = { name: 'InvalidAction', $metadata: { httpStatusCode: 400 } }
  for (const [action, version] of [
    ['CreateGroup', '2010-05-08'], ['constructor', '2010-05-08'], ['', '2010-05-08'], ['GetCallerIdentity', '2010-05-08'],
    ['ListUsers', '2011-06-15'], ['ListUsers', '2009-01-01'], ['ListUsers', ''], ['<&>', '2010-05-08']
  ] as const) {
    body = renamed(encodeURIComponent(action), version)
    await t.rejects(iam.send(new ListUsersCommand({})), version === '2011-06-15' ? { name: 'SignatureDoesNotMatch' } : refused, body)
  }
  body = renamed('%3C%26%3E', '2010-05-08')
  await t.rejects(iam.send(new ListUsersCommand({})), { ...refused, message: 'Could not find operation <&> for version 2010-05-08.' })
  await sts.send(new GetCallerIdentityCommand({}))

  const good = await signed(await connect(t))
  t.equal(codeOf((await send(`${server.url}/other`, good)).text), 'InvalidAction')
  t.equal(codeOf((await send(`${server.url}/?x=1`, good)).text), 'InvalidAction')
  t.equal(codeOf((await send(server.url, good, { method: 'GET' })).text), 'InvalidAction')
  const large = await send(server.url, { ...good, body: 'x'.repeat(600_000) })
  t.same([codeOf(large.text), large.status], ['RequestEntityTooLarge', 413])
})

t.test('no secret in calls, state and errors', async (t) => {
  const { server, iam, as } = await connect(t)
  await iam.send(new CreateUserCommand({ UserName: 'job' }))
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName: 'job' }))
  const secret = AccessKey?.SecretAccessKey ?? ''
  await as({ accessKeyId: AccessKey?.AccessKeyId ?? '', secretAccessKey: secret }).sts.send(new GetCallerIdentityCommand({}))
  const { users, keys, policies, roles } = server.state
  const visible = JSON.stringify([users, keys, policies, roles, server.calls, server.faults.list()])
  t.ok(secret.length === 40 && visible.includes(AccessKey?.AccessKeyId ?? '?'))
  t.notOk(visible.includes(secret) || visible.includes(server.admin.secretAccessKey))
})
