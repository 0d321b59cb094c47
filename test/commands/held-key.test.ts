import t from 'tap'
import { deliveredEnv, toldExpiration, verdictOn, type Verdict } from '../../src/cli/held-key.ts'
import type { Grant } from '../../src/client/index.ts'

const now = Date.parse('2025-07-16T12:00:00Z')
const at = (seconds: number) => new Date(now + seconds * 1000).toISOString()
const key = { accessKeyId: 'OURS', receivedAt: now - 1_800_000, end: now + 1_800_000 }
const grant = (change: object): Grant =>
  ({ state: 'active', attach: 'inline', accessKeyId: 'OURS', previousKey: null, window: { outputNotAfter: at(1800) }, ...change }) as unknown as Grant

t.test('what a grant says about the key that is held', async t => {
  const session = { attach: 'session', accessKeyId: 'OTHER' }
  const cases: [string, object, Verdict][] = [
    ['as it was', {}, { is: 'good', end: now + 1_800_000, renewAt: Infinity }],
    ['extended', { window: { outputNotAfter: at(7200) } }, { is: 'good', end: now + 7_200_000, renewAt: Infinity }],
    ['shortened', { window: { outputNotAfter: at(60) } }, { is: 'good', end: now + 60_000, renewAt: Infinity }],
    ['another operation is under way', { accessKeyId: null }, { is: 'good', end: now + 1_800_000, renewAt: Infinity }],
    ['rotated with overlap: used until shortly before it is deleted',
      { accessKeyId: 'OTHER', previousKey: { accessKeyId: 'OURS', diesAt: at(600.5) } }, { is: 'good', end: now + 600_500, renewAt: now + 570_000 }],
    ['its overlap is nearly over', { accessKeyId: 'OTHER', previousKey: { accessKeyId: 'OURS', diesAt: at(20) } }, { is: 'replace', end: now + 20_000 }],
    ['rotated without overlap', { accessKeyId: 'OTHER' }, { is: 'replace', end: 0 }],
    ['rotated twice', { accessKeyId: 'OTHER', previousKey: { accessKeyId: 'THIRD', diesAt: at(600) } }, { is: 'replace', end: 0 }],
    ['completed', { state: 'revoking' }, { is: 'over', state: 'revoking' }],
    ['a session that ends with the window', session, { is: 'good', end: now + 1_800_000, renewAt: Infinity }],
    ['a session in a longer window', { ...session, window: { outputNotAfter: at(7200) } },
      { is: 'good', end: now + 1_800_000, renewAt: now + 600_000 }]
  ]
  for (const [name, change, verdict] of cases) t.strictSame(verdictOn(key, grant(change), now), verdict, name)
  const longer = grant({ ...session, window: { outputNotAfter: at(7200) } })
  t.strictSame(verdictOn(key, longer, now + 600_000), { is: 'replace', end: now + 1_800_000 }, 'a session shortly before its end')
  const short = { ...key, receivedAt: now, end: now + 900_000 }
  t.match(verdictOn(short, longer, now), { is: 'good', renewAt: now + 450_000 }, 'a short session is used for half of its life')
})

t.test('what an SDK is told: soon enough, never past while the key works', async t => {
  t.equal(toldExpiration(now + 7_200_000, 960_000, now), '2025-07-16T12:16:00Z')
  t.equal(toldExpiration(now + 60_000, 960_000, now), '2025-07-16T12:01:00Z')
  t.equal(toldExpiration(now + 400, 960_000, now + 300), '2025-07-16T12:00:01Z')
})

t.test('a delivery in the format env', async t => {
  const text = '# grant g, job a, ends b, ends 2025-07-16T15:00:00Z\n# notice\nAWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=a=b\nAWS_REGION=r\n'
  t.strictSame(deliveredEnv({ grantId: 'g', text }, now), {
    key: { grantId: 'g', accessKeyId: 'A', secretAccessKey: 'a=b', sessionToken: undefined, receivedAt: now, end: now + 10_800_000 },
    title: 'grant g, job a, ends b, ends 2025-07-16T15:00:00Z',
    notices: ['notice'],
    env: { AWS_ACCESS_KEY_ID: 'A', AWS_SECRET_ACCESS_KEY: 'a=b', AWS_REGION: 'r' },
    target: { AWS_REGION: 'r' }
  })
  t.throws(() => deliveredEnv({ grantId: 'g', text: 'AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=b\n' }, now), /not understood/)
})
