import { BlockList } from 'node:net'
import fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import t from 'tap'
import { readSourceIps, type SourceIpRules } from '../../src/policy/source.ts'

const strict: SourceIpRules = { minPrefixV4: 16, minPrefixV6: 48, allowPrivate: false }
const loose: SourceIpRules = { minPrefixV4: 1, minPrefixV6: 1, allowPrivate: true }

const cidrs = (texts: string[], rules = strict): string[] => {
  const read = readSourceIps(texts, '/sourceIps', rules)
  return read.ok ? read.cidrs : [JSON.stringify(read.findings)]
}

const codes = (texts: string[], rules = strict): string[] => {
  const read = readSourceIps(texts, '/sourceIps', rules)
  return read.ok ? [] : read.findings.map(({ code, pointer }) => `${code} ${pointer}`)
}

t.test('canonical form', async t => {
  const table: Record<string, string> = {
    '203.0.113.42': '203.0.113.42/32',
    '203.0.113.42/32': '203.0.113.42/32',
    '203.0.113.0/24': '203.0.113.0/24',
    '8.8.0.0/16': '8.8.0.0/16',
    '2001:db8::1': '2001:db8::1/128',
    '2001:DB8:0:0:0:0:0:1': '2001:db8::1/128',
    '2001:0db8:0001::/48': '2001:db8:1::/48',
    '2001:db8:0:0:1::1': '2001:db8::1:0:0:1/128',
    '2001:db8:0:1:1:1:1:1': '2001:db8:0:1:1:1:1:1/128',
    '2001:db8::203.0.113.42': '2001:db8::cb00:712a/128',
    '::ffff:203.0.113.42': '203.0.113.42/32',
    '::FFFF:cb00:712a': '203.0.113.42/32',
    '::ffff:203.0.113.0/120': '203.0.113.0/24',
    '3fff::/48': '3fff::/48',
    '192.0.2.0/24': '192.0.2.0/24',
    '198.51.100.0/24': '198.51.100.0/24'
  }
  for (const [text, canonical] of Object.entries(table)) t.strictSame(cidrs([text]), [canonical], text)
})

t.test('merged and sorted: IPv4 first, by address, without those inside another', async t => {
  const table: [string[], string[]][] = [
    [['203.0.113.42', '203.0.113.42'], ['203.0.113.42/32']],
    [['203.0.113.42', '203.0.113.0/24', '203.0.113.0/28'], ['203.0.113.0/24']],
    [['203.0.113.0/25', '203.0.113.128/25'], ['203.0.113.0/25', '203.0.113.128/25']],
    [['100.1.1.1', '9.9.9.9', '20.1.1.1'], ['9.9.9.9/32', '20.1.1.1/32', '100.1.1.1/32']],
    [['2001:db8::1', '203.0.113.42'], ['203.0.113.42/32', '2001:db8::1/128']],
    [['2001:db8:a::/48', '2001:db8:9::/48', '2001:db8:a:1::/64'], ['2001:db8:9::/48', '2001:db8:a::/48']],
    [['::ffff:203.0.113.42', '203.0.113.42'], ['203.0.113.42/32']]
  ]
  for (const [texts, merged] of table) t.strictSame(cidrs(texts), merged, texts.join(' '))
})

t.test('what is not an address', async t => {
  const texts = [
    '', ' ', '203.0.113', '203.0.113.42.1', '203.0.113.256', '203.0.113.042', '0xcb.0.113.42', '3405803818', '203.113.42', '203.0.113.42 ',
    ' 203.0.113.42', '203.0.113.42/', '203.0.113.42/33', '203.0.113.42/-1', '203.0.113.42/08', '203.0.113.42/+8', '203.0.113.42/8.0',
    '203.0.113.0/255.255.255.0', '203.0.113.42/24/24', '203.0.113.42:443', '[2001:db8::1]', '2001:db8::1%eth0', 'fe80::1%1', '2001:db8:::1',
    '2001:db8::1::1', '2001:db8', '2001:db8::/129', '2001:db8::12345', '::ffff:0x7f.0.0.1', '::ffff:203.0.113.042', 'localhost',
    'example.com', '*', '203.0.113.*', '２０３.0.113.42', '203.0.113.42\n', '203.0.113.42\u0000', '203.0.113.42-203.0.113.50', '1', '127.1'
  ]
  for (const text of texts) t.strictSame(codes([text], loose), ['ip-invalid /sourceIps/0'], JSON.stringify(text))
})

t.test('everyone, host bits, width', async t => {
  for (const text of ['0.0.0.0/0', '::/0', '1.2.3.4/0', '2001:db8::/0', '::ffff:0.0.0.0/96']) {
    t.strictSame(codes([text], loose), ['ip-everyone /sourceIps/0'], text)
  }
  const hostBits: Record<string, string> = {
    '203.0.113.42/24': '203.0.113.0/24',
    '203.0.113.43/31': '203.0.113.42/31',
    '203.0.255.255/17': '203.0.128.0/17',
    '2001:db8::1/64': '2001:db8::/64',
    '2001:db8:0:ff::/57': '2001:db8:0:80::/57',
    '::ffff:203.0.113.42/120': '203.0.113.0/24'
  }
  for (const [text, corrected] of Object.entries(hostBits)) {
    const read = readSourceIps([text], '/sourceIps', strict)
    t.match(read, { ok: false, findings: [{ code: 'ip-host-bits', hint: `The CIDR is ${corrected}.` }] }, text)
    t.strictSame(cidrs([corrected]), [corrected], 'the hint is taken')
  }
  t.strictSame(codes(['8.8.0.0/15']), ['ip-too-wide /sourceIps/0'])
  t.strictSame(codes(['2001:db8::/47']), ['ip-too-wide /sourceIps/0'])
  t.strictSame(codes(['::ffff:8.8.0.0/111']), ['ip-too-wide /sourceIps/0'], 'the mapped network counts as IPv4')
  t.strictSame(codes(['8.8.0.0/15'], { ...strict, minPrefixV4: 15 }), [])
})

t.test('private addresses', async t => {
  const texts = [
    '10.0.0.1', '10.255.255.255', '172.16.0.1', '172.31.255.255', '192.168.1.0/24', '127.0.0.1', '169.254.169.254',
    '100.64.0.1', '100.127.255.255', '0.0.0.0', '0.1.2.3', '192.0.0.1', '198.18.0.1',
    '198.19.255.255', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255',
    '::', '::1', 'fc00::1', 'fd12:3456::/48', 'fe80::1', 'fec0::1', 'ff02::1', '64:ff9b::1', '100::1', '2001:2::1',
    '4000::1', '::10.0.0.1', '::ffff:10.0.0.1',
    '::ffff:127.0.0.1'
  ]
  for (const text of texts) {
    t.strictSame(codes([text]), ['ip-private /sourceIps/0'], text)
    t.strictSame(codes([text], { ...strict, allowPrivate: true }), [], `${text}, where it is allowed`)
  }
  for (const text of [
    '9.255.255.255', '11.0.0.0', '172.15.255.255', '172.32.0.0', '100.63.255.255', '100.128.0.0', '192.167.255.255', '192.169.0.0',
    '198.17.255.255', '198.20.0.0', '223.255.255.255', '2000::1', '3fff:ffff::1', '2001:3::1'
  ]) {
    t.strictSame(codes([text]), [], `${text} is public`)
  }
  const wide = { ...strict, minPrefixV4: 1, minPrefixV6: 1 }
  for (const text of ['8.0.0.0/6', '128.0.0.0/1', '192.0.0.0/8', '2001::/16', '::/1']) {
    t.strictSame(codes([text], wide), ['ip-private /sourceIps/0'], `${text} has private addresses in it`)
  }
  t.match(readSourceIps(['10.0.0.1'], '/sourceIps', strict), { findings: [{ hint: /`vpc`/ }] })
})

t.test('all findings at once, each with its pointer', async t => {
  t.strictSame(codes(['203.0.113.42', 'x', '10.1.2.3/8', '0.0.0.0/0', '10.0.0.0/12']), [
    'ip-invalid /sourceIps/1',
    'ip-host-bits /sourceIps/2', 'ip-too-wide /sourceIps/2', 'ip-private /sourceIps/2',
    'ip-everyone /sourceIps/3',
    'ip-too-wide /sourceIps/4', 'ip-private /sourceIps/4'
  ])
})

const v4 = fc.tuple(fc.ipV4(), fc.integer({ min: 1, max: 32 })).map(([address, length]) => network(`${address}/${length}`))
const v6 = fc.tuple(fc.ipV6(), fc.integer({ min: 1, max: 128 })).filter(([address]) => ipaddr.IPv6.isValid(address))
  .map(([address, length]) => network(`${address}/${length}`))
const network = (text: string): string => {
  const kind = text.includes(':') ? ipaddr.IPv6 : ipaddr.IPv4
  return `${kind.networkAddressFromCIDR(text).toString()}/${text.split('/')[1]}`
}

t.test('the merged list has exactly the addresses of the given list, none twice, and stays the same when it is read again', async t => {
  const lists = fc.array(fc.oneof(v4, v6), { minLength: 1, maxLength: 8 })
  fc.assert(fc.property(lists, fc.array(fc.oneof(fc.ipV4(), fc.ipV6()), { maxLength: 8 }), (texts, probes) => {
    const read = readSourceIps(texts, '/sourceIps', loose)
    if (!read.ok) {
      // ::ffff:0:0/96 is 0.0.0.0/0.
      if (read.findings.every(finding => finding.code === 'ip-everyone')) return
      throw new Error(JSON.stringify(read.findings))
    }
    const again = readSourceIps(read.cidrs, '/sourceIps', loose)
    if (!again.ok || again.cidrs.join() !== read.cidrs.join()) throw new Error('not a fixed point')
    const given = listOf(texts)
    const merged = listOf(read.cidrs)
    for (const probe of [...probes, ...texts.map(text => text.split('/')[0] ?? '')]) {
      if (!ipaddr.isValid(probe)) continue
      const family = probe.includes(':') ? 'ipv6' : 'ipv4'
      if (given.check(probe, family) !== merged.check(probe, family)) throw new Error(`${probe}: ${texts.join()} -> ${read.cidrs.join()}`)
    }
    for (const one of read.cidrs) {
      const others = listOf(read.cidrs.filter(other => other !== one && familyAndLength(other)[0] === familyAndLength(one)[0] &&
        familyAndLength(other)[1] <= familyAndLength(one)[1]))
      if (others.check(one.split('/')[0] ?? '', one.includes(':') ? 'ipv6' : 'ipv4')) throw new Error(`contained: ${one}`)
    }
  }), { numRuns: 300 })
})

const familyAndLength = (cidr: string): [boolean, number] => [cidr.includes(':'), Number(cidr.split('/')[1])]

const listOf = (texts: string[]): BlockList => {
  const list = new BlockList()
  for (const text of texts) {
    const [address = '', length] = text.split('/')
    list.addSubnet(address, Number(length), address.includes(':') ? 'ipv6' : 'ipv4')
  }
  return list
}

t.test('no text makes it throw', async t => {
  const pieces = fc.constantFrom('1', '255', '.', ':', '::', '/', 'f', 'ffff', '%', '0x', '-', ' ', '00')
  fc.assert(fc.property(fc.array(fc.oneof(fc.string(), fc.array(pieces).map(parts => parts.join('')))), texts => {
    readSourceIps(texts, '', strict)
  }))
})
