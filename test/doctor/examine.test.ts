import t from 'tap'
import { judgeWindow } from '../../src/doctor/effect.ts'
import { Stopped } from '../../src/doctor/examine.ts'
import { clean, removePolicy } from '../../src/doctor/scratch.ts'
import { complaints, drift } from '../../src/doctor/verdict.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import { embeddedStore, examined, leftIn, type EmbeddedStore } from './embedded-store.ts'

t.test('a store that enforces: everything that grants use is shown, and nothing stays', async t => {
  const store = await embeddedStore(t)
  const found = await examined(store)
  t.strictSame(found.enforces, { window: true, address: true, prefix: true, deletion: true })
  t.strictSame(found.findings.filter(({ verdict }) => verdict === 'open' || verdict === 'refused').map(({ id, way, detail }) => ({ id, way, detail })), [])
  t.strictSame(complaints(found), [])
  t.strictSame(drift(dialects.aws, found), [])
  t.strictSame(found.dialect.sizes, { inline: 2048, managed: 6144, session: 2048 })
  t.strictSame(leftIn(store), [])
  t.strictSame(found.left, [])
})

t.test('a second run says the same', async t => {
  const store = await embeddedStore(t, { inline: true })
  const [first, second] = [await examined(store), await examined(store, { run: '1badcafe' })]
  t.strictSame(second.findings, first.findings)
  t.strictSame(second.dialect, first.dialect)
})

t.test('stopped at any time, nothing stays', async t => {
  for (const at of [3, 40, 200]) {
    const store = await embeddedStore(t)
    const stop = new AbortController()
    let calls = 0
    const counting = { ...store, call: async (...args: Parameters<EmbeddedStore['call']>) => { if (++calls === at) stop.abort(); return store.call(...args) } }
    await t.rejects(examined(counting, { signal: stop.signal }), new Stopped('stopped'))
    t.strictSame(leftIn(store), [], `after ${at} calls`)
  }
})

t.test('what was made while the stop came is removed', async t => {
  const store = await embeddedStore(t)
  const stop = new AbortController()
  const sized = async (...args: Parameters<EmbeddedStore['call']>) => {
    if (args[0] === 'CreatePolicy' && JSON.stringify(args[1]).includes('-size')) stop.abort()
    return store.call(...args)
  }
  await t.rejects(examined({ ...store, call: sized }, { signal: stop.signal }), new Stopped('stopped'))
  t.strictSame(leftIn(store), [])
})

t.test('what a killed run left is cleaned up, and nothing else', async t => {
  const store = await embeddedStore(t)
  const stop = new AbortController()
  const crash = async () => { throw new Error('killed') }
  let calls = 0
  // From then on nothing works: neither the run nor its own removal.
  const dying = {
    ...store,
    call: async (...args: Parameters<EmbeddedStore['call']>) => ++calls > 120 ? crash() : store.call(...args),
    s3: async (...args: Parameters<EmbeddedStore['s3']>) => calls > 120 ? crash() : store.s3(...args)
  }
  await t.rejects(examined(dying, { signal: stop.signal }))
  await store.call('CreateUser', { UserName: 'somebody' })
  t.ok(leftIn(store).length > 3, leftIn(store).join())
  const { removed, left } = await clean(store)
  t.ok(removed.length > 2)
  t.strictSame(left, [])
  t.strictSame(leftIn(store), ['somebody'])
})

t.test('a list that fails is no list without anything of ours', async t => {
  const store = await embeddedStore(t)
  const refusing = (code: string) => ({
    ...store,
    call: async (...args: Parameters<EmbeddedStore['call']>) =>
      args[0] === 'ListPolicies' ? { ok: false as const, code, status: 400 } : store.call(...args)
  })
  t.equal(await removePolicy(refusing('Throttling'), 'ja-doctor-0badcafe-calls'), 'ListPolicies, for ja-doctor-0badcafe-calls: Throttling')
  t.equal(await removePolicy(refusing('InvalidAction'), 'ja-doctor-0badcafe-calls'), null, 'a store without the call never made one')
  t.equal(await removePolicy(store, 'ja-doctor-0badcafe-calls'), null)
  t.strictSame(await clean(refusing('Throttling')), { removed: [], left: ['ListPolicies: Throttling'] })
})

t.test('a window is judged by what was seen of it', async t => {
  const seen = (...at: Array<[at: number, open: boolean]>) => at.map(([at, open]) => ({ at, open }))
  const judged = (...at: Array<[at: number, open: boolean]>) => judgeWindow(seen(...at), 10_000, 14_000).verdict
  t.equal(judged([8_000, false], [9_900, false], [10_100, true], [12_000, true], [13_900, true], [14_100, false], [15_900, false]), 'yes')
  t.equal(judged([8_000, true], [12_000, true], [15_900, false]), 'open', 'too early')
  t.equal(judged([8_000, false], [12_000, true], [15_900, true]), 'open', 'too late')
  t.equal(judged([8_000, false], [12_000, false], [15_900, false]), 'shut', 'never')
  t.equal(judged([8_000, false], [15_900, false]), 'shut', 'nothing was seen of it')
  t.equal(judged([8_900, true], [12_000, true], [15_900, false]), 'untried', 'nothing was seen of the time before')
  t.equal(judged([8_000, false], [12_000, true]), 'untried', 'nothing was seen of the time after')
})

t.test('where STS is all there is, and needs no role: its sessions are judged, and the file is a dialect without roles', async t => {
  const store = await embeddedStore(t, { sts: 'alone' })
  const found = await examined(store)
  t.strictSame(found.enforces, { window: true, address: true, prefix: true, deletion: true })
  t.match(found.dialect, { principals: 'sessions', identityProbe: null, holdsWithSts: true })
  t.strictSame(found.dialect.sizes, { session: 2048 })
  const verdicts = Object.fromEntries(found.findings.map(({ id, verdict }) => [id, verdict]))
  t.match(verdicts, { users: 'no', roles: 'untried', session: 'yes', 'no-role': 'yes', 'widen AssumeRole': 'yes' })
  t.strictSame(complaints(found), [])
  t.strictSame([found.left, leftIn(store)], [[], []], 'what no call could make need not be removed')
  t.strictSame(await clean(store), { removed: [], left: [] })

  const leaky = await examined(await embeddedStore(t, { sts: 'leaky' }))
  t.match(leaky.enforces, { window: false, address: false, prefix: false }, 'a session that may assume the next one leaves its policy behind')
  t.match(complaints(leaky), ['window: not shown to be enforced', /address/, /prefix/, 'no: a key may not call AssumeRole (session)'])
})
