import t from 'tap'
import { ConfigError } from '../../src/config-file.ts'
import { loadIdentity } from '../../src/identity/authenticator.ts'
import { identityFaults, type IssuerEntry, type TokenEntry } from '../../src/identity/config.ts'

const token: TokenEntry = { id: 'ci', sha256: 'ab'.repeat(32), teams: ['nlp'] }
const issuer: IssuerEntry = { name: 'main', issuer: 'https://idp.example', audience: 'us', team: { claim: '/team' } }
const tokens = (...more: object[]) => ({ tokens: more.map((one, i) => ({ ...token, id: `t${i}`, sha256: `${i}`.padEnd(64, 'a'), ...one })), issuers: [] })
const issuers = (...more: object[]) => ({ tokens: [], issuers: more.map((one, i) => ({ ...issuer, name: `i${i}`, issuer: `https://${i}.example`, ...one })) })
const less = (key: string, from: object) => Object.fromEntries(Object.entries(from).filter(([name]) => name !== key))

const good: [string, unknown][] = [
  ['nobody', { tokens: [], issuers: [] }],
  ['a token', tokens({})],
  ['every field of a token', tokens({ teams: ['nlp', '*'], expiresAt: '2026-07-01T00:00:00.5+02:00', attributes: { env: 'prod', empty: '' } })],
  ['a leap day', tokens({ expiresAt: '2028-02-29T00:00Z' })],
  ['an issuer', issuers({})],
  ['every field of an issuer', issuers({
    jwksUri: 'https://idp.example/keys?x=1',
    algorithms: ['ES256', 'Ed25519'],
    clockSkewSeconds: 0,
    maxTokenAgeSeconds: 600,
    requiredClaims: { '/a~1b/c~0d': 'x', '/list': ['a', 1, true] },
    team: { claim: '/kubernetes.io/namespace', map: { 'octo-org/x': ['nlp'], platform: ['*'] } },
    attributes: { namespace: '/kubernetes.io/namespace' },
    caFile: '/ca',
    bearerFile: '/token',
    cacheSeconds: 30,
    cooldownSeconds: 1,
    timeoutSeconds: 30
  })],
  ['discovery on loopback', issuers({ issuer: 'http://127.0.0.1:8080' }, { issuer: 'http://localhost' }, { issuer: 'http://[::1]:1' })],
  ['an issuer that is not a URL, with jwksUri', issuers({ issuer: 'kubernetes/serviceaccount', jwksUri: 'https://k/keys' })],
  ['an issuer with any text, with jwksUri', issuers({ issuer: 'http://plain.example?x', jwksUri: 'https://k/keys' })]
]
for (const [name, config] of good) t.test(`takes ${name}`, async t => t.same(identityFaults(config), []))

const bad: [string, unknown, string][] = [
  ['nothing', undefined, ''],
  ['no tokens', { issuers: [] }, '/tokens'],
  ['no issuers', { tokens: [] }, '/issuers'],
  ['an unknown field', { tokens: [], issuers: [], users: [] }, '/users'],
  ['a token in plain text', tokens({ token: 'jat_x' }), '/tokens/0/token'],
  ['the same id twice', tokens({ id: 'a' }, { id: 'b' }, { id: 'a' }), '/tokens/2/id'],
  ['the same hash twice', tokens({ sha256: token.sha256 }, { sha256: token.sha256 }), '/tokens/1/sha256'],
  ['a hash too short', tokens({ sha256: 'ab'.repeat(31) }), '/tokens/0/sha256'],
  ['a hash too long', tokens({ sha256: 'ab'.repeat(33) }), '/tokens/0/sha256'],
  ['a hash in capitals', tokens({ sha256: 'AB'.repeat(32) }), '/tokens/0/sha256'],
  ['a hash in base64', tokens({ sha256: `${'A'.repeat(43)}=` }), '/tokens/0/sha256'],
  ['no hash', tokens({ sha256: undefined }), '/tokens/0/sha256'],
  ['a bad id', tokens({ id: 'A' }), '/tokens/0/id'],
  ['no team', tokens({ teams: [] }), '/tokens/0/teams'],
  ['teams left out', { tokens: [less('teams', token)], issuers: [] }, '/tokens/0/teams'],
  ['a wildcard within a team', tokens({ teams: ['nlp*'] }), '/tokens/0/teams/0'],
  ['a time without zone', tokens({ expiresAt: '2026-07-01T00:00:00' }), '/tokens/0/expiresAt'],
  ['a day', tokens({ expiresAt: '2026-07-01' }), '/tokens/0/expiresAt'],
  ['a day that does not exist', tokens({ expiresAt: '2026-02-29T00:00:00Z' }), '/tokens/0/expiresAt'],
  ['an hour that does not exist', tokens({ expiresAt: '2026-02-20T25:00:00Z' }), '/tokens/0/expiresAt'],
  ['never', tokens({ expiresAt: 'never' }), '/tokens/0/expiresAt'],
  ['a number of seconds', tokens({ expiresAt: 1_800_000_000 }), '/tokens/0/expiresAt'],
  ['an attribute that is not a string', tokens({ attributes: { a: 1 } }), '/tokens/0/attributes/a'],
  ['an attribute name with a dash', tokens({ attributes: { 'a-b': 'x' } }), '/tokens/0/attributes/a-b'],
  ['a token with an attribute named issuer', tokens({ attributes: { issuer: 'main' } }), '/tokens/0/attributes/issuer'],
  ['the same name twice', issuers({ name: 'a' }, { name: 'a' }), '/issuers/1/name'],
  ['the same issuer twice', issuers({ issuer: 'https://a' }, { issuer: 'https://a' }), '/issuers/1/issuer'],
  ['no audience', issuers({ audience: '' }), '/issuers/0/audience'],
  ['a list of audiences', issuers({ audience: ['a'] }), '/issuers/0/audience'],
  ['HMAC', issuers({ algorithms: ['HS256'] }), '/issuers/0/algorithms/0'],
  ['no signature', issuers({ algorithms: ['none'] }), '/issuers/0/algorithms/0'],
  ['no algorithm', issuers({ algorithms: [] }), '/issuers/0/algorithms'],
  ['more than 5 minutes of skew', issuers({ clockSkewSeconds: 301 }), '/issuers/0/clockSkewSeconds'],
  ['half a second', issuers({ clockSkewSeconds: 0.5 }), '/issuers/0/clockSkewSeconds'],
  ['no team mapping', { tokens: [], issuers: [less('team', issuer)] }, '/issuers/0/team'],
  ['a team without claim', issuers({ team: {} }), '/issuers/0/team/claim'],
  ['an empty map', issuers({ team: { claim: '/t', map: {} } }), '/issuers/0/team/map'],
  ['a map to an empty list of teams', issuers({ team: { claim: '/t', map: { a: [] } } }), '/issuers/0/team/map/a'],
  ['a dotted path', issuers({ team: { claim: 'kubernetes.io.namespace' } }), '/issuers/0/team/claim'],
  ['a pointer to everything', issuers({ team: { claim: '' } }), '/issuers/0/team/claim'],
  ['a pointer with a bad escape', issuers({ team: { claim: '/a~2' } }), '/issuers/0/team/claim'],
  ['an attribute named issuer', issuers({ attributes: { issuer: '/x' } }), '/issuers/0/attributes/issuer'],
  ['a required claim that is not a pointer', issuers({ requiredClaims: { env: 'prod' } }), '/issuers/0/requiredClaims/env'],
  ['a required attribute that is none', issuers({ attributes: { ref: '/ref' }, requiredAttributes: ['ref', 'run'] }), '/issuers/0/requiredAttributes/1'],
  ['a required claim with no value', issuers({ requiredClaims: { '/env': [] } }), '/issuers/0/requiredClaims/~1env'],
  ['plain http', issuers({ issuer: 'http://idp.example' }), '/issuers/0/issuer'],
  ['plain http to a host that begins like loopback', issuers({ issuer: 'http://127.0.0.1.evil.example' }), '/issuers/0/issuer'],
  ['plain http to another address', issuers({ issuer: 'http://192.0.2.1' }), '/issuers/0/issuer'],
  ['plain http for keys', issuers({ jwksUri: 'http://idp.example/keys' }), '/issuers/0/jwksUri'],
  ['a file for keys', issuers({ jwksUri: 'file:///keys' }), '/issuers/0/jwksUri'],
  ['a password in the address', issuers({ jwksUri: 'https://u:p@idp.example/keys' }), '/issuers/0/jwksUri'],
  ['no URL and no jwksUri', issuers({ issuer: 'kubernetes/serviceaccount' }), '/issuers/0/issuer'],
  ['discovery at a query', issuers({ issuer: 'https://idp.example/?tenant=1' }), '/issuers/0/issuer'],
  ['discovery at a fragment', issuers({ issuer: 'https://idp.example/#x' }), '/issuers/0/issuer']
]
for (const [name, config, pointer] of bad) {
  t.test(`refuses ${name}`, async t => {
    const faults = identityFaults(config)
    t.ok(faults.some(fault => fault.pointer === pointer), JSON.stringify(faults))
    t.throws(() => loadIdentity(config, { now: () => new Date(0), readFile: () => 'x' }), ConfigError)
  })
}

t.test('all faults at once, without values', async t => {
  const faults = identityFaults({ tokens: [{ ...token, teams: [], expiresAt: 'secret-looking', sha256: 'hunter2' }], issuers: [{ ...issuer, audience: '' }] })
  t.ok(faults.length >= 3)
  t.notMatch(JSON.stringify(faults), /hunter2|secret-looking/)
})

t.test('missing or empty files are refused at start', async t => {
  const dir = t.testdir({ empty: '\n', full: 'x' })
  const load = (entry: object) => loadIdentity(issuers(entry), { now: () => new Date(0) })
  t.throws(() => load({ caFile: `${dir}/none` }), new ConfigError([{ pointer: '/issuers/0/caFile', message: 'cannot be read' }], 'identity'))
  t.throws(() => load({ bearerFile: `${dir}/empty` }), new ConfigError([{ pointer: '/issuers/0/bearerFile', message: 'is empty' }], 'identity'))
  t.doesNotThrow(() => load({ caFile: `${dir}/full`, bearerFile: `${dir}/full` }))
})
