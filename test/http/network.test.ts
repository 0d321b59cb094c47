import { normalizeIP } from '@fastify/rate-limit'
import t from 'tap'

/** What the limits count as one caller is the library's word: a new version must not change it unseen. */

for (const [address, network] of [
  ['203.0.113.42', '203.0.113.42'],
  ['::ffff:203.0.113.42', '203.0.113.42'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::'],
  ['2001:db8:1:2:ffff::1', '2001:db8:1:2::'],
  ['2001:db8:1:3::1', '2001:db8:1:3::'],
  ['fe80::1%eth0', 'fe80::'],
  ['::1', '::'],
  ['not an address', 'not an address']
] as const) {
  t.equal(normalizeIP(address), network, address)
}
