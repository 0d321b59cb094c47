import t, { type Test } from 'tap'
import { AuditUnavailable } from '../../src/audit/log.ts'
import { LedgerUnavailableError, type Ledger } from '../../src/ledger/ledger.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'
import { makeRole, role } from '../lifecycle/world.ts'

// In an incident whoever reads an error must know which key works. Each operation, each failure: its words, and that they are true.

type Failure = 'iam-unavailable' | 'iam-refused' | 'ledger-unavailable' | 'audit-unavailable'
interface Row { says: RegExp, key: 'works' | 'dead' | 'either' }

const changing = ['CreateUser', 'PutUserPolicy', 'CreateAccessKey', 'DeleteAccessKey', 'DeleteUser', 'DeleteUserPolicy']
const failures: Failure[] = ['iam-unavailable', 'iam-refused', 'ledger-unavailable', 'audit-unavailable']

const undelivered = /No key was delivered\. What the request made is deleted, now or by the sweeper\./
const current = /No new key was delivered.* The current key still works\./
const unread = { says: /Nothing was changed\./, key: 'works' } as const
const ending = { says: /The grant may not have ended, and its key may still work/, key: 'either' } as const
const unchanged = { says: /The change does not hold.* The key was not deleted\./, key: 'works' } as const
const redelivered = { says: /its earlier key may be deleted, too\./, key: 'either' } as const

interface Operation {
  name: string
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  url: (id: string) => string
  /** `order`: that of the grant. */
  payload?: object | 'order'
  /** What stands before: nothing, a grant whose key a job holds, a scheduled grant that is due. */
  before: 'nothing' | 'held' | 'due'
  rows: Partial<Record<Failure, Row>>
}

const all = (row: Row, but: Partial<Record<Failure, Row | undefined>> = {}): Operation['rows'] =>
  Object.fromEntries(failures.map(failure => [failure, failure in but ? but[failure] : row]).filter(([, row]) => row !== undefined))

const reading = (name: string, path: string): Operation =>
  ({ name, method: 'GET', url: id => `/v1/grants${path.replace(':id', id)}`, before: 'held', rows: { 'ledger-unavailable': unread } })

const operations: Operation[] = [
  { name: 'issue', method: 'POST', url: () => '/v1/grants', payload: 'order', before: 'nothing', rows: all({ says: undelivered, key: 'dead' }) },
  { name: 'issue again', method: 'POST', url: () => '/v1/grants', payload: 'order', before: 'held', rows: all(redelivered) },
  {
    name: 'fetch',
    method: 'POST',
    url: id => `/v1/grants/${id}/credentials`,
    payload: {},
    before: 'due',
    rows: all({ says: /No key was delivered.*The grant stays: fetch again\./, key: 'dead' })
  },
  {
    name: 'rotate',
    method: 'POST',
    url: id => `/v1/grants/${id}/rotate`,
    payload: {},
    before: 'held',
    rows: all({ says: current, key: 'works' }, {
      'ledger-unavailable': { says: /The current key was not deleted, but may be once the ledger answers/, key: 'either' }
    })
  },
  {
    name: 'change',
    method: 'PATCH',
    url: id => `/v1/grants/${id}`,
    payload: { window: { durationSeconds: 20_000 } },
    before: 'held',
    rows: all(unchanged, { 'ledger-unavailable': { says: /Whether the change holds is not known.* The key was not deleted\./, key: 'works' } })
  },
  // IAM's failures are a 202 here, and what cannot be audited gives no access.
  { name: 'complete', method: 'POST', url: id => `/v1/grants/${id}/complete`, before: 'held', rows: { 'ledger-unavailable': ending } },
  { name: 'revoke', method: 'DELETE', url: id => `/v1/grants/${id}`, before: 'held', rows: { 'ledger-unavailable': ending } },
  reading('list', ''), reading('read', '/:id'), reading('history', '/:id/events'), reading('explain', '/:id/explanation')
]

const statuses: Record<Failure, number> = {
  'iam-unavailable': 503, 'iam-refused': 502, 'ledger-unavailable': 503, 'audit-unavailable': 503
}

const scene = async (t: Test) => {
  let ledgerDown = false
  let auditDown = false
  const b = await bench(t, {
    audit: { record: async () => { if (auditDown) throw new AuditUnavailable('injected'); return undefined } },
    ledger: ledger => new Proxy(ledger, {
      get: (target, name: keyof Ledger) => ledgerDown && name !== 'close'
        ? async () => { throw new LedgerUnavailableError('injected') }
        : (target[name] as (...args: unknown[]) => unknown).bind(target)
    })
  })
  const fail: Record<Failure, () => void> = {
    'iam-unavailable': () => {
      b.deps.deadlineMs = 400
      b.iam.faults.on({ action: changing }, { kind: 'error', code: 'ServiceUnavailable' })
    },
    'iam-refused': () => { b.iam.faults.on({ action: changing, times: 1 }, { kind: 'error', code: 'MalformedPolicyDocument' }) },
    'ledger-unavailable': () => { ledgerDown = true },
    'audit-unavailable': () => { auditDown = true }
  }
  const heal = () => {
    b.iam.faults.clear()
    b.deps.deadlineMs = 15_000
    ledgerDown = auditDown = false
  }
  return { b, fail, heal }
}

t.test('each operation, each failure', async t => {
  const { b, fail, heal } = await scene(t)
  const app = await appOf(t, b)
  const headers = bearer(b.tokens.nlp)
  for (const { name, method, url, payload, before, rows } of operations) {
    for (const [failure, row] of Object.entries(rows) as Array<[Failure, Row]>) {
      await t.test(`${name}: ${failure}`, async t => {
        const job = { id: `${name}-${failure}`.replaceAll(' ', '-'), team: 'nlp' }
        const issueAt = new Date(b.clock.now + 60_000).toISOString().replace(/\.\d+/, '')
        const order = guideJob({ job, window: { durationSeconds: 10_000 }, attempt: '1', ...(before === 'due' && { issueAt }) })
        const given = before === 'nothing' ? null : (await app.inject({ method: 'POST', url: '/v1/grants', headers, payload: order })).json()
        if (before === 'due') b.clock.advance(60_000)
        fail[failure]()
        const answer = await app.inject({
          method, url: url(given?.grant.id ?? ''), headers, ...(payload && { payload: payload === 'order' ? order : payload })
        })
        t.match(answer.json(), { code: failure, status: statuses[failure], detail: row.says })
        t.notMatch(answer.body, /no live key/)
        heal()
        // The sweeper has its time, and five minutes pass.
        for (let i = 0; i < 14; i++) {
          b.clock.advance(30_000)
          await sweep(b.deps, { concurrency: 4, perSecond: 100_000 }, new AbortController().signal)
        }
        const keys = b.iam.state.users.filter(({ tags }) => tags['job-access:job'] === job.id).flatMap(({ keys }) => keys)
        if (row.key === 'works') t.match(keys, [{ id: given?.credentials.accessKeyId }], 'the key of before works')
        if (row.key === 'dead') t.same(keys, [], 'no key is left')
        t.ok(keys.length <= 1, 'and none that nobody knows')
      })
    }
  }
})

t.test('a session that was made is not said to be deleted: it cannot be', async t => {
  let failing = 'none'
  const b = await bench(t, {
    profiles: { default: { ...role, revocable: false } },
    audit: { record: async ({ detail }: { detail?: { step?: string } }) => { if (detail?.step === failing) throw new AuditUnavailable('injected') } }
  })
  await makeRole(b.iam)
  const app = await appOf(t, b)
  const call = async (url: string, step: string, payload: object) => {
    failing = step
    return (await app.inject({ method: 'POST', url, headers: bearer(b.tokens.nlp), payload })).json()
  }
  const ofSession = { detail: /A session that was made may last until its end: nobody has its key\./ }
  const order = guideJob({ attach: 'session', layout: 'guarded', window: { durationSeconds: 10_000 } })
  t.match(await call('/v1/grants', 'active', order), { code: 'audit-unavailable', ...ofSession })
  const { grant } = await call('/v1/grants', 'none', { ...order, job: { id: 'another', team: 'nlp' } })
  t.match(await call(`/v1/grants/${grant?.id}/rotate`, 'delivered', {}), { code: 'audit-unavailable', ...ofSession })
  t.equal(b.iam.calls.filter(({ action }) => action === 'AssumeRole').length, 3, 'all three were made')
})
