import t from 'tap'
import { networkOf } from '../../src/http/network.ts'

for (const [address, network] of [
  ['203.0.113.42', '203.0.113.42'],
  ['::ffff:203.0.113.42', '203.0.113.42'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2:ffff::1', '2001:db8:1:2::/64'],
  ['2001:db8:1:3::1', '2001:db8:1:3::/64'],
  ['fe80::1%eth0', 'fe80::/64'],
  ['::1', '::/64'],
  ['not an address', 'not an address']
] as const) {
  t.equal(networkOf(address), network, address)
}
