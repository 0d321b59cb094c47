import { createHmac } from 'node:crypto'
import { exportJWK, exportSPKI, generateKeyPair } from 'jose'
import t, { type Test } from 'tap'
import { loadIdentity } from '../../src/identity/authenticator.ts'
import type { IssuerEntry } from '../../src/identity/config.ts'
import type { ProblemError } from '../../src/problems.ts'
import { base64url, sign, signingKey, startIssuer, type Payload, type SigningKey } from './issuer.ts'

const noon = Date.parse('2026-07-01T12:00:00Z')
const seconds = noon / 1000
const audience = 'https://job-access.example'

async function world (t: Test, entry: Partial<IssuerEntry> = {}, keys?: SigningKey[]) {
  const signers = keys ?? [await signingKey('k1')]
  const [key] = signers
  if (!key) throw new Error('no key')
  const issuer = await startIssuer(t, signers.map(({ jwk }) => jwk))
  const refusals: [string, object][] = []
  let now = noon
  const configured: IssuerEntry = { name: 'main', issuer: issuer.url, audience, team: { claim: '/team' }, ...entry }
  const { authenticate } = loadIdentity({ tokens: [], issuers: [configured] }, {
    now: () => new Date(now),
    onRefusal: (reason, details) => refusals.push([reason, details])
  })
  const claims = (more: Payload = {}): Payload => ({ iss: issuer.url, aud: audience, sub: 'job:1', exp: seconds + 600, iat: seconds, team: 'nlp', ...more })
  return {
    key,
    issuer,
    refusals,
    claims,
    at: (ms: number) => { now = ms },
    ask: (token: string) => authenticate(`Bearer ${token}`),
    async refused (t: Test, token: string, reason: string, details?: object) {
      refusals.length = 0
      const problem: ProblemError = await authenticate(`Bearer ${token}`).then(identity => t.fail(`accepted as ${identity.id}`), error => error)
      t.equal(problem.code, 'unauthenticated', reason)
      t.equal(refusals[0]?.[0], reason)
      if (details) t.match(refusals[0]?.[1], details)
    }
  }
}

const without = (payload: Payload, ...names: string[]) =>
  Object.fromEntries(Object.entries(payload).filter(([name]) => !names.includes(name)))

t.test('a valid token gives an identity', async t => {
  const { key, claims, ask, issuer } = await world(t)
  t.same(await ask(await sign(key, claims())), {
    id: 'oidc:main#job:1', kind: 'oidc', teams: ['nlp'], attributes: { issuer: 'main' }, expiresAt: noon + 600_000
  })
  await ask(await sign(key, claims()))
  t.same(issuer.hits, { '/.well-known/openid-configuration': 1, '/keys': 1 }, 'discovery and keys are cached')
})

for (const alg of ['RS256', 'PS256', 'ES256', 'EdDSA']) {
  t.test(`${alg} is accepted by default`, async t => {
    const { key, claims, ask } = await world(t, {}, [await signingKey('k', alg)])
    t.match(await ask(await sign(key, claims())), { id: 'oidc:main#job:1' })
  })
}

t.test('a token with an algorithm that is not allowed is refused before keys are fetched', async t => {
  const { key, claims, refused, issuer } = await world(t, {}, [await signingKey('k', 'ES384')])
  await refused(t, await sign(key, claims()), 'algorithm-refused')
  t.same(issuer.hits['/keys'] ?? 0, 0)
})

t.test('claims: a valid token with one changed claim is refused', async t => {
  const { key, claims, refused } = await world(t)
  const cases: [string, Payload, string, object?][] = [
    ['another audience', claims({ aud: 'https://other.example' }), 'audience-wrong'],
    ['an audience that begins alike', claims({ aud: `${audience}/` }), 'audience-wrong'],
    ['no audience', without(claims(), 'aud'), 'claim-missing', { claim: '/aud' }],
    ['an empty list of audiences', claims({ aud: [] }), 'audience-wrong'],
    ['ours and another audience', claims({ aud: [audience, 'https://other.example'] }), 'audience-wrong'],
    ['an issuer nobody configured', claims({ iss: 'https://evil.example' }), 'issuer-unknown', { iss: 'https://evil.example' }],
    ['the issuer with a slash', claims({ iss: `${String(claims().iss)}/` }), 'issuer-unknown'],
    ['the issuer in a list', claims({ iss: [claims().iss] }), 'claim-missing', { claim: '/iss' }],
    ['no issuer', without(claims(), 'iss'), 'claim-missing', { claim: '/iss' }],
    ['an issuer like a prototype’s key', claims({ iss: '__proto__' }), 'issuer-unknown'],
    ['no exp', without(claims(), 'exp'), 'claim-missing', { claim: '/exp' }],
    ['exp as text', claims({ exp: String(seconds + 600) }), 'claim-wrong', { claim: '/exp' }],
    ['exp null', claims({ exp: null }), 'claim-wrong', { claim: '/exp' }],
    ['no sub', without(claims(), 'sub'), 'claim-missing', { claim: '/sub' }],
    ['an empty sub', claims({ sub: '' }), 'claim-wrong', { claim: '/sub' }],
    ['a number as sub', claims({ sub: 7 }), 'claim-wrong', { claim: '/sub' }],
    ['a sub with a line break', claims({ sub: 'a\nb' }), 'claim-wrong', { claim: '/sub' }],
    ['a sub of 513 characters', claims({ sub: 'a'.repeat(513) }), 'claim-wrong', { claim: '/sub' }],
    ['nbf as text', claims({ nbf: 'now' }), 'claim-wrong', { claim: '/nbf' }],
    ['iat as text', claims({ iat: 'now' }), 'claim-wrong', { claim: '/iat' }],
    ['no team', without(claims(), 'team'), 'team-missing', { claim: '/team' }],
    ['a team that is no name', claims({ team: 'n l p' }), 'claim-wrong', { claim: '/team' }],
    ['every team', claims({ team: '*' }), 'claim-wrong', { claim: '/team' }],
    ['no teams', claims({ team: [] }), 'team-missing', { claim: '/team' }],
    ['a good and a bad team', claims({ team: ['nlp', '*'] }), 'claim-wrong', { claim: '/team' }],
    ['an object as team', claims({ team: { nlp: true } }), 'claim-wrong', { claim: '/team' }]
  ]
  for (const [name, payload, reason, details] of cases) {
    await t.test(name, async t => refused(t, await sign(key, payload), reason, { ...details }))
  }
})

t.test('instants, to the second, with 30 seconds of skew', async t => {
  const { key, claims, refused, ask, at } = await world(t)
  const accepted: [string, number, Payload][] = [
    ['29 s after exp', noon + 29_000, { exp: seconds }],
    ['just before 30 s after exp', noon + 29_999, { exp: seconds }],
    ['30 s before nbf', noon - 30_000, { nbf: seconds, iat: seconds - 60 }],
    ['30 s before iat', noon - 30_000, { iat: seconds }]
  ]
  for (const [name, now, more] of accepted) {
    await t.test(name, async t => {
      at(now)
      t.match(await ask(await sign(key, claims(more))), { id: 'oidc:main#job:1' })
    })
  }
  const refusedOnes: [string, number, Payload, string][] = [
    ['30 s after exp', noon + 30_000, { exp: seconds }, 'token-expired'],
    ['31 s before nbf', noon - 31_000, { nbf: seconds, iat: seconds - 60 }, 'token-not-yet-valid'],
    ['31 s before iat', noon - 31_000, { iat: seconds }, 'token-not-yet-valid'],
    ['long after exp', noon, { exp: 0 }, 'token-expired']
  ]
  for (const [name, now, more, reason] of refusedOnes) {
    await t.test(name, async t => {
      at(now)
      await refused(t, await sign(key, claims(more)), reason)
    })
  }
})

t.test('the skew can be 0', async t => {
  const { key, claims, refused, ask, at } = await world(t, { clockSkewSeconds: 0 })
  at(noon - 1)
  await ask(await sign(key, claims({ exp: seconds, iat: seconds - 5 })))
  at(noon)
  await refused(t, await sign(key, claims({ exp: seconds, iat: seconds - 5 })), 'token-expired')
})

t.test('with a maximum age, iat is required', async t => {
  const { key, claims, refused, ask } = await world(t, { maxTokenAgeSeconds: 300, clockSkewSeconds: 0 })
  await ask(await sign(key, claims({ iat: seconds - 300 })))
  await refused(t, await sign(key, claims({ iat: seconds - 301 })), 'token-too-old')
  await refused(t, await sign(key, without(claims(), 'iat')), 'claim-missing', { claim: '/iat' })
})

t.test('a token without a signature is refused', async t => {
  const { key, claims, refused } = await world(t)
  const [, payload = '', signature = ''] = (await sign(key, claims())).split('.')
  for (const alg of ['none', 'None', 'NONE', 'nOnE']) {
    const header = base64url({ alg, kid: key.kid })
    await refused(t, `${header}.${payload}.`, 'algorithm-refused')
    await refused(t, `${header}.${payload}.${signature}`, 'algorithm-refused')
  }
  await refused(t, `${base64url({ kid: key.kid })}.${payload}.${signature}`, 'token-malformed')
  await refused(t, `${base64url({ alg: 'RS256', kid: key.kid })}.${payload}.`, 'signature-wrong')
  await refused(t, `${base64url({ alg: 'RS256', kid: key.kid })}.${payload}`, 'token-malformed')
})

t.test('a public key is not accepted as an HMAC secret', async t => {
  const { key, claims, refused } = await world(t)
  const pem = await exportSPKI(key.publicKey)
  const secrets: [string, string | Buffer][] = [
    ['PEM', pem], ['PEM without its last newline', pem.trim()], ['JWK', JSON.stringify(await exportJWK(key.publicKey))],
    ['modulus', Buffer.from(key.jwk.n ?? '', 'base64url')], ['empty', '']
  ]
  for (const [name, secret] of secrets) {
    for (const [alg, hash] of [['HS256', 'sha256'], ['HS512', 'sha512']] as const) {
      await t.test(`${alg} with ${name}`, async t => {
        const input = `${base64url({ alg, kid: key.kid })}.${base64url(claims())}`
        await refused(t, `${input}.${createHmac(hash, secret).update(input).digest('base64url')}`, 'algorithm-refused')
      })
    }
  }
})

t.test('HMAC is refused even when the issuer publishes a symmetric key', async t => {
  const { key, claims, refused, issuer } = await world(t)
  issuer.keys = [{ kty: 'oct', kid: 'oct', k: base64url('a secret that everybody can read') }, key.jwk]
  const input = `${base64url({ alg: 'HS256', kid: 'oct' })}.${base64url(claims())}`
  await refused(t, `${input}.${createHmac('sha256', 'a secret that everybody can read').update(input).digest('base64url')}`, 'algorithm-refused')
})

t.test('a key or a URL of a key in the token is never used', async t => {
  const { key, claims, refused, issuer } = await world(t)
  const evil = await signingKey('evil')
  const elsewhere = await startIssuer(t, [evil.jwk])
  const headers: [string, Record<string, unknown>, string][] = [
    ['jwk', { jwk: evil.jwk }, 'key-unknown'],
    ['jwk under the known kid', { jwk: evil.jwk, kid: key.kid }, 'signature-wrong'],
    ['jku', { jku: `${elsewhere.url}/keys` }, 'key-unknown'],
    ['x5u', { x5u: `${elsewhere.url}/keys`, kid: key.kid }, 'signature-wrong'],
    ['x5c', { x5c: ['MIIB'], kid: key.kid }, 'signature-wrong']
  ]
  for (const [name, header, reason] of headers) {
    await t.test(name, async t => refused(t, await sign(evil, claims(), header), reason))
  }
  t.same(elsewhere.hits, {}, 'nobody asked the other host')
  t.equal(issuer.hits['/keys'], 1)
})

t.test('headers of other kinds of tokens', async t => {
  const { key, claims, refused, ask } = await world(t)
  for (const typ of ['JWT', 'jwt', 'at+jwt', 'application/jwt']) await ask(await sign(key, claims(), { typ }))
  for (const typ of ['logout+jwt', 'secevent+jwt', 'dpop+jwt', 'JOSE', '']) await refused(t, await sign(key, claims(), { typ }), 'header-refused', { header: 'typ' })
  const good = await sign(key, claims())
  for (const crit of [['exp'], ['b64'], [], 'exp', null]) {
    const forged = `${base64url({ alg: 'RS256', kid: key.kid, crit, b64: true })}.${good.split('.').slice(1).join('.')}`
    await refused(t, forged, 'header-refused', { header: 'crit' })
  }
})

t.test('a changed token is refused', async t => {
  const { key, claims, refused } = await world(t)
  const [header = '', , signature = ''] = (await sign(key, claims())).split('.')
  await refused(t, `${header}.${base64url(claims({ team: 'vision' }))}.${signature}`, 'signature-wrong')
  await refused(t, `${header}.${base64url(claims())}.${signature.slice(0, -8)}AAAAAAAA`, 'signature-wrong')
  await refused(t, `${header}.${base64url('[]')}.${signature}`, 'token-malformed')
  await refused(t, `${header}.${base64url('not json')}.${signature}`, 'token-malformed')
  await refused(t, `${header}..${signature}`, 'token-malformed')
  await refused(t, '..', 'token-malformed')
  await refused(t, 'a.b.c.d.e', 'token-malformed')
})

t.test('a token over 16 KB is refused before it is parsed', async t => {
  const { key, claims, refused, ask, issuer } = await world(t)
  const big = await sign(key, claims({ filler: 'x'.repeat(13_000) }))
  await refused(t, big, 'token-oversize')
  t.same(issuer.hits, {})
  await ask(await sign(key, claims({ filler: 'x'.repeat(10_000) })))
})

t.test('a key that is too weak is not used', async t => {
  const { key, claims, refused, issuer } = await world(t)
  const { privateKey, publicKey } = await crypto.subtle.generateKey(
    { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]) }, true, ['sign', 'verify'])
  issuer.keys = [key.jwk, { ...await exportJWK(publicKey), kid: 'weak', alg: 'RS256', use: 'sig' }]
  const input = `${base64url({ alg: 'RS256', kid: 'weak' })}.${base64url(claims())}`
  const signature = Buffer.from(await crypto.subtle.sign('RSASSA-PKCS1-v1_5', privateKey, Buffer.from(input))).toString('base64url')
  await refused(t, `${input}.${signature}`, 'key-unfit')
})

t.test('keys for encryption, of another type, or private ones do not verify', async t => {
  const { key, claims, refused, issuer } = await world(t)
  const other = await signingKey('other')
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  issuer.keys = [key.jwk, { ...other.jwk, use: 'enc' }, { ...await exportJWK(privateKey), kid: 'private', alg: 'RS256' }]
  await refused(t, await sign(other, claims()), 'key-unknown')
  await refused(t, await sign({ ...key, kid: 'private' }, claims()), 'key-unfit')
})

t.test('two issuers with the same kid never verify each other’s tokens', async t => {
  const [a, b] = await Promise.all([signingKey('same'), signingKey('same')])
  const [ia, ib] = await Promise.all([startIssuer(t, [a.jwk]), startIssuer(t, [b.jwk])])
  const reasons: string[] = []
  const { authenticate } = loadIdentity({
    tokens: [],
    issuers: [
      { name: 'a', issuer: ia.url, audience, team: { claim: '/team' } },
      { name: 'b', issuer: ib.url, audience: 'of-b', team: { claim: '/team' } }
    ]
  }, { now: () => new Date(noon), onRefusal: reason => reasons.push(reason) })
  const claims = (iss: string, aud = audience) => ({ iss, aud, sub: 's', exp: seconds + 60, team: 'nlp' })
  t.match(await authenticate(`Bearer ${await sign(a, claims(ia.url))}`), { id: 'oidc:a#s', attributes: { issuer: 'a' } })
  t.match(await authenticate(`Bearer ${await sign(b, claims(ib.url, 'of-b'))}`), { id: 'oidc:b#s', attributes: { issuer: 'b' } })
  await t.rejects(authenticate(`Bearer ${await sign(a, claims(ib.url, 'of-b'))}`))
  await t.rejects(authenticate(`Bearer ${await sign(b, claims(ia.url))}`))
  await t.rejects(authenticate(`Bearer ${await sign(b, claims(ib.url, audience))}`))
  t.same(reasons, ['signature-wrong', 'signature-wrong', 'audience-wrong'])
})

t.test('required claims', async t => {
  const { key, claims, refused, ask } = await world(t, {
    requiredClaims: { '/env': ['prod', 'stage'], '/nested/a~1b': 'x', '/verified': true, '/groups': 'ml' }
  })
  const good = { env: 'prod', nested: { 'a/b': 'x' }, verified: true, groups: ['all', 'ml'] }
  await ask(await sign(key, claims(good)))
  await ask(await sign(key, claims({ ...good, env: 'stage' })))
  const bad: [Payload, string, string][] = [
    [{ ...good, env: 'dev' }, 'claim-wrong', '/env'],
    [without(good, 'env'), 'claim-missing', '/env'],
    [{ ...good, env: { prod: true } }, 'claim-wrong', '/env'],
    [{ ...good, nested: 'x' }, 'claim-missing', '/nested/a~1b'],
    [{ ...good, nested: { 'a/b': 'X' } }, 'claim-wrong', '/nested/a~1b'],
    [{ ...good, verified: 'true' }, 'claim-wrong', '/verified'],
    [{ ...good, groups: ['all'] }, 'claim-wrong', '/groups'],
    [{ ...good, groups: [['ml']] }, 'claim-wrong', '/groups']
  ]
  for (const [payload, reason, claim] of bad) await refused(t, await sign(key, claims(payload)), reason, { claim })
})

t.test('teams through a map', async t => {
  const { key, claims, refused, ask } = await world(t, {
    team: { claim: '/groups', map: { 'ml/nlp': ['nlp'], 'ml/vision': ['vision', 'nlp'], platform: ['*'] } }
  })
  const teams = async (groups: unknown) => (await ask(await sign(key, claims({ groups })))).teams
  t.same(await teams('ml/nlp'), ['nlp'])
  t.same(await teams(['ml/nlp', 'ml/vision', 'unheard-of']), ['nlp', 'vision'])
  t.same(await teams(['platform']), ['*'])
  for (const groups of ['unheard-of', [], ['ml'], 'constructor', '__proto__', 'toString']) await refused(t, await sign(key, claims({ groups })), 'team-missing')
  await refused(t, await sign(key, claims({ groups: ['ml/nlp', 7] })), 'claim-wrong')
})

t.test('attributes are those of the config, and no claim can replace the issuer', async t => {
  const { key, claims, refused, ask } = await world(t, { attributes: { repository: '/repository', run: '/run', ok: '/ok', none: '/nothing', nothing: '/null', inherited: '/constructor/name', item: '/list/0' } })
  t.same((await ask(await sign(key, claims({ repository: 'o/r', run: 7, ok: true, null: null, list: ['x'], issuer: 'other', secret: 'x' })))).attributes, {
    repository: 'o/r', run: '7', ok: 'true', issuer: 'main'
  })
  await refused(t, await sign(key, claims({ repository: ['o/r'] })), 'claim-wrong', { claim: '/repository' })
  await refused(t, await sign(key, claims({ repository: 'x'.repeat(1025) })), 'claim-wrong', { claim: '/repository' })
})

t.test('a token without the claim of a required attribute is refused, and so is one with null', async t => {
  const { key, claims, refused, ask } = await world(t, { attributes: { ref: '/ref', run: '/run' }, requiredAttributes: ['ref'] })
  t.same((await ask(await sign(key, claims({ ref: 'main' })))).attributes, { ref: 'main', issuer: 'main' })
  await refused(t, await sign(key, claims({})), 'claim-missing', { claim: '/ref' })
  await refused(t, await sign(key, claims({ ref: null })), 'claim-missing', { claim: '/ref' })
})

t.test('text of an unverified token is short and printable in the log', async t => {
  const { key, claims, refused, refusals } = await world(t)
  await refused(t, await sign(key, claims({ iss: `x\n\u001b[31m${'y'.repeat(9000)}` })), 'issuer-unknown')
  t.match(refusals[0]?.[1], { iss: /^x\?\?\[31my{1,200}$/ })
})

t.test('a Kubernetes projected service-account token', async t => {
  const { key, claims, ask, refused } = await world(t, {
    team: { claim: '/kubernetes.io/namespace' },
    attributes: { namespace: '/kubernetes.io/namespace', serviceAccount: '/kubernetes.io/serviceaccount/name', pod: '/kubernetes.io/pod/name' },
    requiredClaims: { '/kubernetes.io/serviceaccount/name': ['trainer', 'orchestrator'] }
  })
  const token = (namespace: string, name: string) => claims({
    aud: [audience],
    jti: 'c8b7f0b5-0d0c-4a35-9b0a-3c0f2a5f8f11',
    nbf: seconds,
    sub: `system:serviceaccount:${namespace}:${name}`,
    'kubernetes.io': {
      namespace,
      node: { name: 'node-1', uid: '8f2b' },
      pod: { name: 'launcher-0', uid: '7d1c' },
      serviceaccount: { name, uid: '6a0e' },
      warnafter: seconds + 500
    }
  })
  t.same(await ask(await sign(key, token('nlp', 'orchestrator'))), {
    id: 'oidc:main#system:serviceaccount:nlp:orchestrator',
    kind: 'oidc',
    teams: ['nlp'],
    attributes: { namespace: 'nlp', serviceAccount: 'orchestrator', pod: 'launcher-0', issuer: 'main' },
    expiresAt: noon + 600_000
  })
  await refused(t, await sign(key, token('nlp', 'default')), 'claim-wrong')
})

t.test('a GitHub Actions token', async t => {
  const { key, claims, ask, refused } = await world(t, {
    team: { claim: '/repository', map: { 'acme/train-nlp': ['nlp'] } },
    requiredClaims: { '/repository_owner_id': '1001', '/environment': 'training' },
    attributes: { repository: '/repository', environment: '/environment', ref: '/ref', workflow: '/job_workflow_ref' }
  })
  const token = (more: Payload = {}) => claims({
    sub: 'repo:acme/train-nlp:environment:training',
    nbf: seconds - 300,
    environment: 'training',
    ref: 'refs/heads/main',
    repository: 'acme/train-nlp',
    repository_owner: 'acme',
    repository_owner_id: '1001',
    run_id: '42',
    job_workflow_ref: 'acme/train-nlp/.github/workflows/train.yml@refs/heads/main',
    ...more
  })
  t.same(await ask(await sign(key, token(), { typ: 'JWT', x5t: 'k' })), {
    id: 'oidc:main#repo:acme/train-nlp:environment:training',
    kind: 'oidc',
    teams: ['nlp'],
    attributes: {
      repository: 'acme/train-nlp',
      environment: 'training',
      ref: 'refs/heads/main',
      workflow: 'acme/train-nlp/.github/workflows/train.yml@refs/heads/main',
      issuer: 'main'
    },
    expiresAt: noon + 600_000
  })
  await refused(t, await sign(key, token({ repository: 'acme/fork' })), 'team-missing')
  await refused(t, await sign(key, token({ repository_owner_id: '6666' })), 'claim-wrong')
  await refused(t, await sign(key, without(token(), 'environment')), 'claim-missing')
})
