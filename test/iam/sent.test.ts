import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { createIam } from '../../src/iam/client.ts'

// What is sent to the provider, and by which clock and key it is signed.

interface Sent { path: string | undefined, headers: IncomingHttpHeaders, body: string }
interface Answer { status?: number, body: string, date?: string, age?: string }

const ok = (action: string, result = '') => ({ body: `<${action}Response>${result}</${action}Response>` })

const provider = async (t: Test, answers: Answer[]) => {
  const sent: Sent[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', part => { body += String(part) }).on('end', () => {
      sent.push({ path: request.url, headers: request.headers, body })
      const { status = 200, body: text, date, age } = answers.shift() ?? { status: 500, body: '' }
      response.writeHead(status, { 'content-type': 'text/xml', ...(date && { date }), ...(age && { age }) }).end(text)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}/iam`
  const credentials = { accessKeyId: 'AKIAOWN', secretAccessKey: 'secret' }
  const iam = createIam({ region: 'eu-west-3', endpoint, stsEndpoint: endpoint, credentials, sleep: async () => {} })
  t.teardown(() => {
    iam.close()
    server.close()
    server.closeAllConnections()
  })
  return { iam, sent, host: new URL(endpoint).host }
}

const until = () => Date.now() + 60_000
/** Of the time in the signature, how far it is ahead of now, in minutes. */
const minutesAhead = ({ headers: { 'x-amz-date': date } }: Sent) =>
  Math.round((Date.parse(String(date).replace(/(....)(..)(..T..)(..)/, '$1-$2-$3:$4:')) - Date.now()) / 60_000)
const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000).toUTCString()

t.test('a call goes to the endpoint of the client, signed for its region and service', async t => {
  const { iam, sent, host } = await provider(t, [ok('DeleteUser'), ok('DeleteUserPolicy')])
  await iam.deleteUser('job', until())
  await iam.deleteUserPolicy('job', 'access', until())
  t.same(sent.map(({ path, body }) => [path, body]), [
    ['/iam/', 'Action=DeleteUser&Version=2010-05-08&UserName=job'],
    ['/iam/', 'Action=DeleteUserPolicy&Version=2010-05-08&UserName=job&PolicyName=access']
  ])
  for (const { headers, body } of sent) {
    t.equal(headers.host, host)
    t.equal(headers['content-length'], String(body.length))
    t.match(headers['user-agent'], /^aws-sdk-js\/3/)
    t.match(headers.authorization, /Credential=AKIAOWN\/\d{8}\/eu-west-3\/iam\/aws4_request/)
  }
})

t.test('a key is asked by a call that this key signs, and only this call', async t => {
  const who = ok('GetCallerIdentity', '<GetCallerIdentityResult><Arn>arn:aws:iam::1:user/job</Arn></GetCallerIdentityResult>')
  const user = ok('GetUser', '<GetUserResult><User><UserName>job</UserName><Arn>arn:aws:iam::1:user/job</Arn></User></GetUserResult>')
  const { iam, sent } = await provider(t, [who, user, who])
  const key = { accessKeyId: 'AKIAJOB', secretAccessKey: 'x', sessionToken: 'session' }
  t.equal(await iam.callerIdentity(key, until()), 'arn:aws:iam::1:user/job')
  t.equal(await iam.ownUser(key, until()), 'arn:aws:iam::1:user/job')
  t.equal(await iam.callerIdentity(undefined, until()), 'arn:aws:iam::1:user/job')
  t.same(sent.map(({ headers }) => [/Credential=(\w+)\/\d+\/[\w-]+\/(\w+)/.exec(String(headers.authorization))?.slice(1), headers['x-amz-security-token']]), [
    [['AKIAJOB', 'sts'], 'session'], [['AKIAJOB', 'iam'], 'session'], [['AKIAOWN', 'sts'], undefined]
  ])
})

t.test('after a refusal for the time, calls are signed by the provider’s clock', async t => {
  const refusal = '<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>Signature not yet current: 1</Message></Error></ErrorResponse>'
  const { iam, sent } = await provider(t, [
    { status: 403, body: refusal, date: inMinutes(-60) },
    { ...ok('DeleteUser'), date: inMinutes(-60) },
    { ...ok('DeleteUser'), date: inMinutes(-120), age: '3600' },
    { ...ok('DeleteUser'), date: inMinutes(0) },
    ok('DeleteUser')
  ])
  for (let call = 0; call < 4; call++) await iam.deleteUser('job', until())
  t.same(sent.map(minutesAhead), [0, -60, -60, -60, 0], 'the Date of an answer that a cache kept says nothing')
})

t.test('the first call may fail before it is sent, and the next one finds the credentials', async t => {
  const { iam, sent, host } = await provider(t, [ok('DeleteUser')])
  let lost = true
  const late = createIam({
    region: 'us-east-1',
    endpoint: `http://${host}/`,
    credentials: (async () => {
      if (lost) throw Object.assign(new Error('no credentials'), { name: 'CredentialsProviderError' })
      return { accessKeyId: 'AKIALATE', secretAccessKey: 'x' }
    }) as any
  })
  t.teardown(() => late.close())
  await t.rejects(late.deleteUser('job', until()), { name: 'IamError', kind: 'credentials' })
  lost = false
  await late.deleteUser('job', until())
  t.match(sent, [{ headers: { authorization: /Credential=AKIALATE/ } }])
  t.ok(iam)
})

t.test('credentials that end are asked for anew, those of a role for example', async t => {
  const { iam, sent, host } = await provider(t, [ok('DeleteUser'), ok('DeleteUser'), ok('DeleteUser')])
  let asked = 0
  const ofRole = createIam({
    region: 'us-east-1',
    endpoint: `http://${host}/`,
    credentials: (async () =>
      ({ accessKeyId: `AKIA${++asked}`, secretAccessKey: 'x', sessionToken: `session ${asked}`, expiration: new Date(Date.now() + 1000) })) as any
  })
  t.teardown(() => ofRole.close())
  for (let call = 0; call < 3; call++) await ofRole.deleteUser('job', until())
  const keys = sent.map(({ headers }) => /AKIA\d+/.exec(String(headers.authorization))?.[0])
  t.equal(new Set(keys).size, 3, keys.join(' '))
  t.same(sent.map(({ headers }) => headers['x-amz-security-token']), keys.map(key => `session ${key?.slice(4)}`))
  t.ok(iam)
})

t.test('an answer that is cut off leaves it open whether it was done', async t => {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-length': '100' }).write('<DeleteUserResponse>')
    setImmediate(() => response.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const iam = createIam({ region: 'us-east-1', endpoint, credentials: { accessKeyId: 'AKIA', secretAccessKey: 'x' }, random: () => 1e9 })
  t.teardown(() => { iam.close(); server.close() })
  await t.rejects(iam.deleteUser('job', until()), { name: 'IamError', kind: 'unavailable', definite: false })
})

/** A provider where every call is made with a role, whose sessions last as long as `lasts` says, in minutes; undefined: no answer. */
const providerWithRole = async (t: Test, lasts: () => number | undefined) => {
  const signers: Array<string | undefined> = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', part => { body += String(part) }).on('end', () => {
      if (!body.includes('AssumeRole')) {
        signers.push(/Credential=(\w+)/.exec(String(request.headers.authorization))?.[1])
        return response.end(ok('DeleteUser').body)
      }
      const minutes = lasts()
      return minutes !== undefined && response.end(ok('AssumeRole', `<AssumeRoleResult><Credentials><AccessKeyId>ASIA${minutes}</AccessKeyId>
        <SecretAccessKey>x</SecretAccessKey><SessionToken>x</SessionToken>
        <Expiration>${new Date(Date.now() + minutes * 60_000).toISOString()}</Expiration></Credentials></AssumeRoleResult>`).body)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const iam = createIam({
    region: 'us-east-1',
    endpoint,
    stsEndpoint: endpoint,
    credentials: { accessKeyId: 'AKIAOWN', secretAccessKey: 'x' },
    role: { arn: 'arn:aws:iam::111122223333:role/job-access' },
    attemptMs: 250,
    random: () => 1e9
  })
  t.teardown(() => {
    iam.close()
    server.close()
    server.closeAllConnections()
  })
  return { iam, signers }
}

t.test('the credentials of a role are asked for again before they end', async t => {
  let minutes = 1
  const { iam, signers } = await providerWithRole(t, () => minutes)
  await iam.deleteUser('job', until())
  minutes = 60
  await iam.deleteUser('job', until())
  minutes = 30
  await iam.deleteUser('job', until())
  t.same(signers, ['ASIA1', 'ASIA60', 'ASIA60'])
})

t.test('an STS that hangs keeps no call, and the next call asks it again', async t => {
  let hangs = true
  const { iam, signers } = await providerWithRole(t, () => hangs ? undefined : 60)
  await t.rejects(iam.deleteUser('job', until()), { name: 'IamError', kind: 'unavailable' })
  hangs = false
  await iam.deleteUser('job', until()).catch(() => iam.deleteUser('job', until()))
  t.same(signers, ['ASIA60'])
})
