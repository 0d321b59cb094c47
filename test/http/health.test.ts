import t from 'tap'
import { appOf, bench } from '../harness.ts'

t.test('live, and ready as long as IAM and ledger answer', async t => {
  const b = await bench(t)
  const app = await appOf(t, b)
  t.strictSame((await app.inject('/healthz')).json(), { status: 'ok' })
  const ready = await app.inject('/readyz')
  t.equal(ready.statusCode, 200)
  t.strictSame(ready.json(), { status: 'ready', checks: { iam: 'ok', ledger: 'ok' } })
  await b.iam.stop()
  b.clock.advance(1_000) // the provider is asked at most once a second
  const iamless = await app.inject('/readyz')
  t.equal(iamless.statusCode, 503)
  t.match(iamless.json(), { status: 'not-ready', checks: { iam: 'failed', ledger: 'ok' } })
  t.notMatch(iamless.body, /ECONNREFUSED|127\.0\.0\.1/, 'an anonymous caller is not told how')
  await b.ledger.close()
  t.match((await app.inject('/readyz')).json(), { checks: { ledger: 'failed' } })
  t.equal((await app.inject('/healthz')).statusCode, 200, 'still alive')
})
