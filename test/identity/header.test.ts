import t from 'tap'
import { bearerToken } from '../../src/identity/authenticator.ts'
import { TokenRefusedError } from '../../src/identity/identity.ts'

const accepted: [string, string][] = [
  ['Bearer abc', 'abc'],
  ['bearer abc', 'abc'],
  ['BEARER abc', 'abc'],
  ['bEaReR a.b.c', 'a.b.c'],
  ['Bearer  two-spaces', 'two-spaces'],
  ['Bearer A-Za.z0_9~+/==', 'A-Za.z0_9~+/==']
]
for (const [header, token] of accepted) {
  t.test(`accepts ${JSON.stringify(header)}`, async t => t.equal(bearerToken(header), token))
}

const refused: [string | undefined, string][] = [
  [undefined, 'header-missing'],
  ['', 'header-missing'],
  ['Bearer', 'header-malformed'],
  ['Bearer ', 'header-malformed'],
  ['Bearerabc', 'header-malformed'],
  ['Bearer\tabc', 'header-malformed'],
  [' Bearer abc', 'header-malformed'],
  ['Bearer abc def', 'header-malformed'],
  ['Bearer abc, Bearer def', 'header-malformed'],
  ['Bearer abc,def', 'header-malformed'],
  ['Bearer "abc"', 'header-malformed'],
  ['Bearer abc\n', 'header-malformed'],
  ['Bearer abc\r\nX-Team: nlp', 'header-malformed'],
  ['Bearer ab=c', 'header-malformed'],
  ['Bearer =', 'header-malformed'],
  ['Bearer äbc', 'header-malformed'],
  ['Basic dXNlcjpwYXNz', 'header-malformed'],
  ['Digest username="x"', 'header-malformed'],
  ['abc', 'header-malformed'],
  ['xBearer abc', 'header-malformed']
]
for (const [header, reason] of refused) {
  t.test(`refuses ${JSON.stringify(header)}`, async t => {
    t.throws(() => bearerToken(header), new TokenRefusedError(reason as TokenRefusedError['reason']))
    try {
      bearerToken(header)
    } catch (error) {
      t.equal((error as TokenRefusedError).reason, reason)
    }
  })
}
