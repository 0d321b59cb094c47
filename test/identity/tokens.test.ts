import { createHash } from 'node:crypto'
import { execFile } from 'node:child_process'
import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import t from 'tap'
import { loadIdentity, mintToken, staticTokens } from '../../src/identity/authenticator.ts'
import type { TokenEntry } from '../../src/identity/config.ts'
import type { ProblemError } from '../../src/problems.ts'

const noon = Date.parse('2026-07-01T12:00:00Z')

function entry (id: string, more: Partial<TokenEntry> = {}): { token: string, entry: TokenEntry } {
  const { token, sha256 } = mintToken(id)
  return { token, entry: { id, sha256, teams: ['nlp'], ...more } }
}

function authenticator (tokens: TokenEntry[], now = () => noon) {
  const refusals: [string, object][] = []
  const { authenticate } = loadIdentity({ tokens, issuers: [] }, {
    now: () => new Date(now()),
    onRefusal: (reason, details) => refusals.push([reason, details])
  })
  return { authenticate, refusals }
}

t.test('a minted token has a scannable form, 256 random bits, and its hash', async t => {
  const { token, sha256 } = mintToken('ci-nlp')
  t.match(token, /^jat_ci-nlp_[A-Za-z0-9_-]{43}$/)
  t.equal(Buffer.from(token.slice('jat_ci-nlp_'.length), 'base64url').length, 32)
  t.equal(sha256, createHash('sha256').update(token).digest('hex'))
  t.not(mintToken('ci-nlp').token, token)
  for (const id of ['', 'CI', 'a_b', '-a', 'a'.repeat(64), 'a b']) t.throws(() => mintToken(id), RangeError)
})

t.test('several tokens are valid at the same time, each with its own identity', async t => {
  const a = entry('a', { teams: ['nlp', 'vision'], attributes: { environment: 'prod' } })
  const b = entry('b', { teams: ['*'], expiresAt: '2026-07-01T12:00:01Z' })
  const { authenticate, refusals } = authenticator([a.entry, b.entry])
  t.same(await authenticate(`Bearer ${a.token}`), {
    id: 'token:a', kind: 'token', teams: ['nlp', 'vision'], attributes: { environment: 'prod' }, expiresAt: null
  })
  t.same(await authenticate(`bearer ${b.token}`), { id: 'token:b', kind: 'token', teams: ['*'], attributes: {}, expiresAt: noon + 1000 })
  t.same(refusals, [])
})

t.test('a token expires to the millisecond, in any time zone', async t => {
  const { token, entry: configured } = entry('a', { expiresAt: '2026-07-01T14:00:00+02:00' })
  let now = noon - 1
  const { authenticate, refusals } = authenticator([configured], () => now)
  await authenticate(`Bearer ${token}`)
  now = noon
  await t.rejects(authenticate(`Bearer ${token}`), { code: 'unauthenticated', status: 401 })
  t.same(refusals, [['token-expired', { token: 'a' }]])
})

t.test('a token whose end cannot be read is refused, though the check of the configuration lets none through', async t => {
  const { token, entry: configured } = entry('a', { expiresAt: 'never' })
  t.throws(() => staticTokens([configured], () => new Date(noon))(token), { name: 'TokenRefusedError', reason: 'token-expired' })
})

t.test('every refusal has the same text for the caller', async t => {
  const a = entry('a', { expiresAt: '2020-01-01T00:00:00Z' })
  const { authenticate, refusals } = authenticator([a.entry])
  const seen = new Set<string>()
  const tries = [undefined, '', 'Basic x', 'Bearer x y', `Bearer ${a.token}`, `Bearer ${mintToken('a').token}`, 'Bearer a.b.c', 'Bearer jat_', `Bearer ${a.entry.sha256}`]
  for (const header of tries) {
    const problem: ProblemError = await authenticate(header).then(() => t.fail('accepted'), error => error)
    t.equal(problem.code, 'unauthenticated')
    t.ok(problem.init.hint)
    t.equal(problem.cause, undefined)
    seen.add(JSON.stringify([problem.message, problem.init]))
  }
  t.equal(seen.size, 1)
  t.same(refusals.map(([reason]) => reason), [
    'header-missing', 'header-missing', 'header-malformed', 'header-malformed', 'token-expired', 'token-unknown', 'token-malformed', 'token-unknown', 'token-malformed'
  ])
  t.notMatch(JSON.stringify(refusals), a.token)
})

t.test('a call can get the reason of its own refusal', async t => {
  const { authenticate, refusals } = authenticator([])
  const own: string[] = []
  await t.rejects(authenticate(undefined, reason => own.push(reason)))
  t.same(own, ['header-missing'])
  t.same(refusals, [])
})

t.test('tokens similar to a valid one are unknown', async t => {
  const { token, entry: configured } = entry('a')
  const { authenticate } = authenticator([configured])
  const last = token.at(-1) === 'A' ? 'B' : 'A'
  for (const near of [token.slice(0, -1), `${token}A`, token.slice(0, -1) + last, token.toUpperCase(), token.replace('jat_a_', 'jat_b_'), `${token}=`]) {
    await t.rejects(authenticate(`Bearer ${near}`), { code: 'unauthenticated' }, near)
  }
})

t.test('a short secret is refused, even when its hash is configured', async t => {
  const secret = 'jat_a_hunter2'
  const { authenticate } = authenticator([{ id: 'a', sha256: createHash('sha256').update(secret).digest('hex'), teams: ['*'] }])
  await t.rejects(authenticate(`Bearer ${secret}`), { code: 'unauthenticated' })
})

t.test('every entry is compared in constant time, whether or not an earlier one matched', async t => {
  const compared: string[] = []
  const original = crypto.timingSafeEqual
  crypto.timingSafeEqual = ((a: Buffer, b: Buffer) => {
    compared.push(a.toString('hex'))
    return original(a, b)
  }) as typeof original
  syncBuiltinESMExports()
  t.teardown(() => {
    crypto.timingSafeEqual = original
    syncBuiltinESMExports()
  })
  const entries = ['a', 'b', 'c'].map(id => entry(id))
  const all = entries.map(({ entry }) => entry.sha256)
  const { authenticate } = authenticator(entries.map(({ entry }) => entry))
  for (const { token } of [...entries, { token: mintToken('z').token }, { token: 'jat_short' }]) {
    compared.length = 0
    await authenticate(`Bearer ${token}`).catch(() => {})
    t.same(compared, all, token.slice(0, 6))
  }
})

const cli = (args: string[]) => new Promise<{ code: number, stdout: string, stderr: string }>(resolve => {
  execFile(process.execPath, ['src/commands/token.ts', ...args], (error, stdout, stderr) =>
    resolve({ code: error ? Number(error.code) : 0, stdout, stderr }))
})

t.test('npm run token prints a token once and an entry that accepts it', async t => {
  const { code, stdout, stderr } = await cli(['--id', 'ci-nlp', '--team', 'nlp', '--team', 'vision', '--expires', '2126-01-01T00:00:00Z', '--attribute', 'environment=a=b'])
  t.equal(code, 0)
  const [token = '', ...rest] = stdout.split('\n')
  t.notMatch(stderr + rest.join('\n'), token)
  const configured = JSON.parse(rest.join('\n'))
  t.match(configured, { id: 'ci-nlp', teams: ['nlp', 'vision'], expiresAt: '2126-01-01T00:00:00Z', attributes: { environment: 'a=b' } })
  const { authenticate } = authenticator([configured])
  t.match(await authenticate(`Bearer ${token}`), { id: 'token:ci-nlp' })
})

const wrong: [string, string[], RegExp][] = [
  ['no id', ['--team', 'nlp'], /--id is missing/],
  ['no team', ['--id', 'a'], /--team is missing/],
  ['a bad id', ['--id', 'A_b', '--team', 'nlp'], /token id/],
  ['a bad team', ['--id', 'a', '--team', 'n lp'], /teams/],
  ['a time without zone', ['--id', 'a', '--team', 'nlp', '--expires', '2126-01-01T00:00:00'], /expiresAt/],
  ['a day that does not exist', ['--id', 'a', '--team', 'nlp', '--expires', '2126-02-30T00:00:00Z'], /expiresAt/],
  ['a time in the past', ['--id', 'a', '--team', 'nlp', '--expires', '2020-01-01T00:00:00Z'], /past/],
  ['an attribute without value', ['--id', 'a', '--team', 'nlp', '--attribute', 'x'], /NAME=VALUE/],
  ['an unknown option', ['--id', 'a', '--team', 'nlp', '--teams', 'x'], /Unknown option/],
  ['a word too many', ['ci', '--id', 'a', '--team', 'nlp'], /positional/]
]
for (const [name, args, message] of wrong) {
  t.test(`npm run token refuses ${name} with its usage`, async t => {
    const { code, stdout, stderr } = await cli(args)
    t.equal(code, 2)
    t.equal(stdout, '')
    t.match(stderr, message)
    t.match(stderr, /Usage: node \S+token\.ts --id/)
  })
}
