import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { mock } from 'node:test'
import { writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { loadIdentity } from '../../src/identity/authenticator.ts'
import type { IssuerEntry } from '../../src/identity/config.ts'
import type { ProblemError } from '../../src/problems.ts'
import { selfSigned } from './certificate.ts'
import { sign, signingKey, startIssuer, type Issuer, type Payload, type SigningKey } from './issuer.ts'

const audience = 'https://job-access.example'
// jose measures the age of its keys with Date.now.
mock.timers.enable({ apis: ['Date'], now: Date.parse('2026-07-01T12:00:00Z') })
t.teardown(() => mock.timers.reset())
const pass = (seconds: number) => mock.timers.tick(seconds * 1000)

const [key, next, stray] = await Promise.all([signingKey('k1'), signingKey('k2'), signingKey('stray')])

function authenticator (issuer: string, entry: Partial<IssuerEntry> = {}) {
  const refusals: [string, object][] = []
  const { authenticate } = loadIdentity({ tokens: [], issuers: [{ name: 'main', issuer, audience, team: { claim: '/team' }, ...entry }] }, {
    now: () => new Date(),
    onRefusal: (reason, details) => refusals.push([reason, details])
  })
  const now = () => Math.floor(Date.now() / 1000)
  const claims = (more: Payload = {}): Payload => ({ iss: issuer, aud: audience, sub: 's', exp: now() + 60, team: 'nlp', ...more })
  /** 'ok', or the code of the refusal. */
  const ask = async (by: SigningKey, more?: Payload): Promise<string> =>
    authenticate(`Bearer ${await sign(by, claims(more))}`).then(() => 'ok', (problem: ProblemError) => problem.code)
  return { ask, authenticate, claims, refusals }
}

const keyHits = (issuer: Issuer) => issuer.hits['/keys'] ?? 0

t.test('rotation: a new key is accepted, the old one is refused when the cache has expired', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask } = authenticator(issuer.url)
  t.equal(await ask(key), 'ok')
  issuer.keys = [key.jwk, next.jwk]
  pass(31)
  t.equal(await ask(next), 'ok', 'an unknown kid after the cooldown fetches')
  t.equal(keyHits(issuer), 2)
  issuer.keys = [next.jwk]
  t.equal(await ask(key), 'ok', 'the cache still has the old key')
  pass(601)
  t.equal(await ask(next), 'ok')
  t.equal(await ask(key), 'unauthenticated', 'the removed key is gone')
  t.equal(keyHits(issuer), 3)
})

t.test('a key that is rotated within the cooldown is accepted after it', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask } = authenticator(issuer.url, { cooldownSeconds: 60 })
  t.equal(await ask(key), 'ok')
  issuer.keys = [next.jwk]
  pass(59)
  t.equal(await ask(next), 'unauthenticated')
  pass(2)
  t.equal(await ask(next), 'ok')
})

t.test('many unknown kids cause one request per cooldown', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask, claims, authenticate, refusals } = authenticator(issuer.url)
  const flood = async () => {
    const tokens = await Promise.all(Array.from({ length: 200 }, (_, i) => sign({ ...stray, kid: `unknown-${i}` }, claims())))
    const answers = await Promise.allSettled(tokens.map(token => authenticate(`Bearer ${token}`)))
    t.ok(answers.every(({ status }) => status === 'rejected'))
  }
  await flood()
  t.same(issuer.hits, { '/.well-known/openid-configuration': 1, '/keys': 1 })
  pass(31)
  await flood()
  await flood()
  t.equal(keyHits(issuer), 2)
  t.ok(refusals.every(([reason]) => reason === 'key-unknown'))
  t.equal(await ask(key), 'ok', 'meanwhile good tokens work')
})

t.test('while the issuer is down, many tokens cause one request per 5 seconds', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  let tries = 0
  issuer.answer = (request, response) => {
    tries += 1
    response.writeHead(500).end()
    return true
  }
  const { ask } = authenticator(issuer.url)
  const answers = await Promise.all(Array.from({ length: 100 }, () => ask(stray)))
  t.same([...new Set(answers)], ['identity-unavailable'])
  t.equal(tries, 1)
  pass(5)
  await Promise.all(Array.from({ length: 100 }, () => ask(stray)))
  t.equal(tries, 2)
  mock.timers.setTime(Date.now() - 3_600_000)
  await ask(stray)
  t.equal(tries, 3, 'a clock set back does not lock the issuer out')
})

t.test('an issuer that is down and then up again', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask, authenticate, claims, refusals } = authenticator(issuer.url)
  await issuer.down()
  const problem: ProblemError = await authenticate(`Bearer ${await sign(key, claims())}`).then(() => t.fail('accepted'), error => error)
  t.match(problem, { code: 'identity-unavailable', status: 503 })
  t.match(problem.init, { retryAfterSeconds: 5, hint: /again/ })
  t.notMatch(JSON.stringify(problem.init), issuer.url, 'the caller is told no address')
  t.match(refusals, [['issuer-down', { issuer: 'main', error: /ECONNREFUSED/ }]])
  await issuer.up()
  t.equal(await ask(key), 'identity-unavailable', 'not asked again at once')
  pass(5)
  t.equal(await ask(key), 'ok')
})

t.test('during an outage, known keys are accepted until the cache has expired', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask } = authenticator(issuer.url, { cacheSeconds: 600 })
  t.equal(await ask(key), 'ok')
  await issuer.down()
  pass(599)
  t.equal(await ask(key), 'ok')
  t.equal(await ask(stray), 'identity-unavailable', 'whether this kid exists cannot be known')
  t.equal(await ask(key), 'ok')
  pass(2)
  t.equal(await ask(key), 'identity-unavailable')
  await issuer.up()
  pass(5)
  t.equal(await ask(key), 'ok')
})

t.test('an outage of discovery alone has no effect when the URL of the keys is known', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask } = authenticator(issuer.url)
  t.equal(await ask(key), 'ok')
  issuer.answer = (request, response) => request.url !== '/keys' && Boolean(response.writeHead(500).end())
  pass(3601)
  t.equal(await ask(key), 'ok')
  t.equal(keyHits(issuer), 2, 'the keys were renewed')
  t.equal(await ask(key), 'ok')
  t.equal(issuer.hits['/.well-known/openid-configuration'], 2, 'and discovery not tried again at once')
})

t.test('discovery is repeated every hour, and keys with the same URL are not fetched again', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask } = authenticator(issuer.url, { cacheSeconds: 86_400 })
  t.equal(await ask(key), 'ok')
  pass(3600)
  t.equal(await ask(key), 'ok')
  t.same(issuer.hits, { '/.well-known/openid-configuration': 2, '/keys': 1 })
})

t.test('a new URL of the keys is used after an hour', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask } = authenticator(issuer.url)
  t.equal(await ask(key), 'ok')
  issuer.answer = (request, response) => {
    if (request.url === '/keys') return Boolean(response.writeHead(404).end())
    if (request.url === '/new-keys') return Boolean(response.end(JSON.stringify({ keys: [next.jwk] })))
    response.end(JSON.stringify({ issuer: issuer.url, jwks_uri: `${issuer.url}/new-keys` }))
    return true
  }
  pass(3601)
  t.equal(await ask(next), 'ok')
  t.equal(await ask(key), 'unauthenticated')
})

type Answer = (url: string) => { discovery?: unknown, keys?: unknown, status?: number }
const invalidAnswers: [string, Answer, RegExp][] = [
  ['another issuer’s discovery', url => ({ discovery: { issuer: 'https://other.example', jwks_uri: `${url}/keys` } }), /another issuer/],
  ['the issuer with a slash', url => ({ discovery: { issuer: `${url}/`, jwks_uri: `${url}/keys` } }), /another issuer/],
  ['no jwks_uri', url => ({ discovery: { issuer: url } }), /no jwks_uri/],
  ['a jwks_uri over plain http', url => ({ discovery: { issuer: url, jwks_uri: 'http://192.0.2.1/keys' } }), /must be https/],
  ['a jwks_uri that is a file', url => ({ discovery: { issuer: url, jwks_uri: 'file:///etc/passwd' } }), /not an https URL/],
  ['a list for discovery', () => ({ discovery: [] }), /not an object/],
  ['no JSON', () => ({ discovery: 'nope' }), /JSON/],
  ['keys that are not a list', () => ({ keys: { keys: {} } }), /not a JWK set/],
  ['keys that are not objects', () => ({ keys: { keys: ['x'] } }), /not a JWK set/],
  ['a redirect', () => ({ status: 302 }), /status 302/],
  ['a status 404', () => ({ status: 404 }), /status 404/],
  ['more than a megabyte', () => ({ keys: { keys: [], filler: 'x'.repeat(1024 * 1024) } }), /more than/]
]
for (const [name, answer, message] of invalidAnswers) {
  t.test(`an issuer that answers with ${name} counts as down`, async t => {
    const issuer = await startIssuer(t, [key.jwk])
    const { discovery, keys, status } = answer(issuer.url)
    issuer.answer = (request, response) => {
      const body = request.url === '/keys' ? keys : discovery
      if (status !== undefined) response.writeHead(status, { location: `${issuer.url}/keys` }).end()
      else if (body !== undefined) response.end(typeof body === 'string' ? body : JSON.stringify(body))
      else return false
      return true
    }
    const { ask, refusals } = authenticator(issuer.url)
    t.equal(await ask(key), 'identity-unavailable')
    t.match(refusals, [['issuer-down', { error: message }]])
    issuer.answer = undefined
    pass(5)
    t.equal(await ask(key), 'ok')
  })
}

t.test('an issuer that does not answer causes a timeout', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  issuer.answer = (request, response) => {
    if (request.url === '/keys') response.write('{"keys":')
    return request.url === '/keys'
  }
  const { ask, refusals } = authenticator(issuer.url, { timeoutSeconds: 1 })
  t.equal(await ask(key), 'identity-unavailable')
  t.match(refusals, [['issuer-down', { error: /abort|timeout/i }]])
})

t.test('a remote issuer cannot name a URL on this machine', async t => {
  const calls: string[] = []
  const issuer = 'https://idp.example'
  const { authenticate } = loadIdentity({ tokens: [], issuers: [{ name: 'main', issuer, audience, team: { claim: '/team' } }] }, {
    now: () => new Date(),
    async fetchJson (url) {
      calls.push(url.href)
      return { issuer, jwks_uri: 'http://127.0.0.1:9/keys' }
    }
  })
  const token = await sign(key, { iss: issuer, aud: audience, sub: 's', exp: Math.floor(Date.now() / 1000) + 60, team: 'nlp' })
  await t.rejects(authenticate(`Bearer ${token}`), { code: 'identity-unavailable' })
  t.same(calls, ['https://idp.example/.well-known/openid-configuration'])
})

t.test('jwksUri: no discovery, and the issuer need not be a URL', async t => {
  const issuer = await startIssuer(t, [key.jwk])
  const { ask } = authenticator('kubernetes/serviceaccount', { jwksUri: `${issuer.url}/keys` })
  t.equal(await ask(key), 'ok')
  t.same(issuer.hits, { '/keys': 1 })
})

t.test('the bearer token is read at every fetch and is never sent to another origin', async t => {
  const dir = t.testdir({ token: 'first\n' })
  const elsewhere = await startIssuer(t, [key.jwk])
  const issuer = await startIssuer(t, [key.jwk])
  const { ask } = authenticator(issuer.url, { bearerFile: `${dir}/token` })
  t.equal(await ask(key), 'ok')
  t.same(issuer.authorization, ['Bearer first', 'Bearer first'])
  writeFileSync(`${dir}/token`, 'second')
  pass(601)
  t.equal(await ask(key), 'ok')
  t.equal(issuer.authorization.at(-1), 'Bearer second')

  issuer.answer = (request, response) => {
    response.end(JSON.stringify({ issuer: issuer.url, jwks_uri: `${elsewhere.url}/keys` }))
    return true
  }
  const other = authenticator(issuer.url, { bearerFile: `${dir}/token` })
  t.equal(await other.ask(key), 'identity-unavailable')
  t.match(other.refusals, [['issuer-down', { error: /another origin/ }]])
  t.same(elsewhere.hits, {})
})

async function tlsIssuer (t: Test) {
  const { cert, key: privateKey } = selfSigned()
  const server = createServer({ cert, key: privateKey }, (request, response) => {
    response.end(JSON.stringify(request.url === '/keys' ? { keys: [key.jwk] } : { issuer: url, jwks_uri: `${url}/keys` }))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, cert }
}

t.test('https: only the authority of caFile is trusted', async t => {
  const { url, cert } = await tlsIssuer(t)
  const dir = t.testdir({ 'ca.pem': cert, 'other.pem': selfSigned().cert })
  t.equal(await authenticator(url, { caFile: `${dir}/ca.pem` }).ask(key), 'ok')
  for (const entry of [{}, { caFile: `${dir}/other.pem` }]) {
    const { ask, refusals } = authenticator(url, entry)
    t.equal(await ask(key), 'identity-unavailable')
    t.match(refusals, [['issuer-down', { error: /self-signed certificate|certificate/ }]])
  }
})
