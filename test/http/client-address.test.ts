import t from 'tap'
import { clientAddress } from '../../src/client-address.ts'
import { appOf, bearer, bench } from '../harness.ts'

/** name, X-Forwarded-For, the address */
const cases: [string, string | undefined, string][] = [
  ['none', undefined, '127.0.0.1'],
  ['an address', '203.0.113.42', '203.0.113.42'],
  ['the last one that no trusted proxy has', '198.51.100.1, 203.0.113.42', '203.0.113.42'],
  ['a text', 'somebody', '127.0.0.1'],
  ['a text before a trusted proxy', 'somebody, 127.0.0.1', '127.0.0.1'],
  ['a text after an address', '203.0.113.42, unknown', '127.0.0.1'],
  ['an address with a port', '203.0.113.42:1234', '127.0.0.1'],
  ['an address with a zone', 'fe80::1%any.text', '127.0.0.1'],
  ['another spelling of an IPv4 address', '::FFFF:203.0.113.42', '203.0.113.42'],
  ['another spelling of an IPv6 address', '2001:DB8:0:0::1', '2001:db8::1']
]

t.test('with a trusted proxy, only an address becomes the address of the actor', async t => {
  const b = await bench(t)
  const ips: string[] = []
  b.service.trustProxy = '127.0.0.1'
  b.service.audit = { ...b.service.audit, refused: ({ ip }) => { ips.push(ip) } }
  const app = await appOf(t, b)
  for (const [name, forwarded, expected] of cases) {
    await app.inject({ url: '/v1/grants', headers: { ...bearer('jat_bad'), ...(forwarded && { 'x-forwarded-for': forwarded }) } })
    t.equal(ips.at(-1), expected, name)
  }
})

t.test('texts in X-Forwarded-For do not make buckets', async t => {
  const b = await bench(t, { refusalsPerMinute: 3 })
  b.service.trustProxy = '127.0.0.1'
  const app = await appOf(t, b)
  const statuses: number[] = []
  for (let i = 0; i < 5; i++) {
    const headers = { ...bearer('jat_bad'), 'x-forwarded-for': `somebody-${i}` }
    statuses.push((await app.inject({ url: '/v1/grants', headers })).statusCode)
  }
  t.strictSame(statuses, [401, 401, 401, 429, 429])
})

t.test('a client that has gone has no address', async t => {
  t.equal(clientAddress({}), '::')
})
