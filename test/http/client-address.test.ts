import { once } from 'node:events'
import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import t from 'tap'
import { clientAddress } from '../../src/client-address.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

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

/** name, X-Forwarded-For, the source of the grant, or what the refusal says */
const observations: [string, string[], string | RegExp][] = [
  ['an address', ['203.0.113.42'], '203.0.113.42/32'],
  ['an IPv6 address', ['2001:DB8:0:0::1'], '2001:db8::1/128'],
  ['the last one that no trusted proxy has', ['198.51.100.1, 203.0.113.42'], '203.0.113.42/32'],
  ['one behind a second trusted proxy', ['198.51.100.1, 203.0.113.42, 127.0.0.9'], '203.0.113.42/32'],
  ['several headers', ['198.51.100.1', '203.0.113.42'], '203.0.113.42/32'],
  ['several headers, the last one of a proxy', ['203.0.113.42', '127.0.0.9'], '203.0.113.42/32'],
  ['none', [], /names no client/],
  ['an empty one', [''], /names no client/],
  ['only commas', [' , '], /names no client/],
  ['an empty element after what a client may have written', ['203.0.113.42,'], /has an empty element/],
  ['an empty element between', ['203.0.113.42, , 127.0.0.9'], /has an empty element/],
  ['a private name', ['unknown'], /names "unknown" as the client/],
  ['a private name after an address', ['203.0.113.42, _gazonk'], /names "_gazonk" as the client/],
  ['a private name before a trusted proxy', ['unknown, 127.0.0.9'], /names "unknown" as the client/],
  ['an address with a port', ['203.0.113.42:4711'], /names "203.0.113.42:4711" as the client/],
  ['an IPv6 address in brackets', ['[2001:db8::1]'], /names "\[2001:db8::1\]" as the client/],
  ['an IPv6 address with a port', ['[2001:db8::1]:4711'], /as the client, which is no address/],
  ['an IPv6 address with a zone', ['2001:db8::1%eth0'], /as the client, which is no address/],
  ['a number that some read as an address', ['3405803818'], /as the client, which is no address/],
  ['a long text', ['x'.repeat(5_000)], /names "x{60}" as the client/],
  ['a proxy', ['127.0.0.9'], /Every address .* is a trusted proxy’s/],
  ['a proxy in another spelling', ['::ffff:127.0.0.9'], /Every address .* is a trusted proxy’s/],
  ['a private address', ['10.0.0.7'], /Of the observed address 10\.0\.0\.7/]
]

t.test('an observed source is the client’s own address, or refused: at issue and at join', async t => {
  const b = await bench(t)
  b.service.trustProxy = '127.0.0.0/8, 192.0.2.1'
  const app = await appOf(t, b)
  const { sourceIps: _, ...job } = guideJob()
  const ask = (url: string, payload: object, forwarded: string[]) =>
    app.inject({ method: 'POST', url, headers: { ...bearer(b.tokens.nlp), ...(forwarded.length > 0 && { 'x-forwarded-for': forwarded.join(', ') }) }, payload })
  const opened = await ask('/v1/grants', { ...job, job: { id: 'workers', team: 'nlp' }, workers: { max: 100 } }, [])
  for (const [index, [name, forwarded, expected]] of observations.entries()) {
    for (const answer of [
      await ask('/v1/grants', { ...job, job: { id: `job-${index}`, team: 'nlp' }, source: 'observed' }, forwarded),
      await ask(`/v1/grants/${opened.json().grant.id}/workers`, { name: `worker-${index}`, source: 'observed' }, forwarded)
    ]) {
      if (typeof expected === 'string') t.match(answer.json(), { grant: { source: { sourceIps: [expected] } } }, name)
      else t.match([answer.statusCode, answer.json()], [422, { code: /^(source-unobserved|ip-private)$/, pointer: '/source', detail: expected }], name)
    }
  }
  t.match(await ask('/v1/grants', guideJob(), ['unknown']), { statusCode: 201 }, 'a stated source needs none of it')
})

t.test('without trusted proxies, or past them, the connection’s own address is observed, whatever X-Forwarded-For says', async t => {
  for (const trustProxy of [false, '192.0.2.1'] as const) {
    const b = await bench(t)
    b.service.trustProxy = trustProxy
    const { sourceIps: _, ...job } = guideJob()
    const answer = await (await appOf(t, b)).inject({
      method: 'POST',
      url: '/v1/grants',
      remoteAddress: '203.0.113.9',
      payload: { ...job, source: 'observed' },
      headers: { ...bearer(b.tokens.nlp), 'x-forwarded-for': 'unknown, 203.0.113.1' }
    })
    t.match(answer.json(), { grant: { source: { sourceIps: ['203.0.113.9/32'] } } })
  }
})

t.test('several headers are one list, as the client’s address of Node’s own HTTP server', async t => {
  const b = await bench(t)
  b.service.trustProxy = '127.0.0.1'
  const app = await appOf(t, b)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { sourceIps: _, ...job } = guideJob()
  const { port } = app.server.address() as AddressInfo
  for (const [headers, expected] of [
    [['198.51.100.1', '203.0.113.42'], { grant: { source: { sourceIps: ['203.0.113.42/32'] } } }],
    [['203.0.113.42', 'unknown'], { code: 'source-unobserved' }],
    [['203.0.113.42', ''], { code: 'source-unobserved' }]
  ] as const) {
    const sent = request({ port, path: '/v1/grants', method: 'POST', headers: { ...bearer(b.tokens.nlp), 'content-type': 'application/json', 'x-forwarded-for': [...headers] } })
    sent.end(JSON.stringify({ ...job, job: { id: headers.join('-').replaceAll('.', '-') + 'x', team: 'nlp' }, source: 'observed' }))
    const [response] = await once(sent, 'response')
    t.match(await json(response), expected, headers.join(' and '))
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
