import t from 'tap'
import { loadGuardrails } from '../../src/guardrails/guardrails.ts'
import { clientNames, needsOf } from '../../src/policy/clients.ts'
import { defaultLimits } from '../../src/policy/limits.ts'
import { normalise, restate } from '../../src/policy/normalise.ts'
import { check } from '../../src/policy/prove/check.ts'
import { render } from '../../src/policy/render.ts'
import type { PolicyRequest } from '../../src/request.ts'
import { at, nlp } from '../guardrails/sample.ts'

const now = new Date('2025-07-16T00:30:00Z')
const base = {
  job: { id: 'job-42', team: 'nlp' },
  window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' },
  sourceIps: ['203.0.113.42']
} satisfies PolicyRequest
const specOf = (request: Partial<PolicyRequest>) => {
  const normalised = normalise({ ...base, ...request }, defaultLimits, now)
  if (!normalised.ok) throw new Error(JSON.stringify(normalised.findings))
  return normalised
}
const entriesOf = (request: Partial<PolicyRequest>) => specOf(request).spec.entries
  .map(({ pointer, prefix, exact, level, list }) => [pointer, `${prefix}${exact ? ' alone' : ''}`, level, list])

const wiki = { bucket: 'acme-datasets', prefix: 'wiki' }
const runs = { bucket: 'acme-output', prefix: 'runs/42/' }

t.test('what each client adds to an entry', async t => {
  const table: Array<[what: string, request: Partial<PolicyRequest>, added: unknown[]]> = [
    ['nobody', { datasets: [wiki] }, [['/datasets/0', 'wiki/', 'read', true]]],
    ['boto3', { datasets: [wiki], clients: ['boto3'] }, [['/datasets/0', 'wiki/', 'read', true]]],
    ['s3fs', { datasets: [wiki], clients: ['s3fs'] }, [['/datasets/0', 'wiki/', 'read', true], ['/clients', 'wiki', 'read', true]]],
    ['of the entry alone', { datasets: [{ ...wiki, clients: ['s3fs', 'pyarrow'] }, { ...wiki, prefix: 'news' }] },
      [['/datasets/0', 'wiki/', 'read', true], ['/datasets/0/clients', 'wiki', 'read', true], ['/datasets/1', 'news/', 'read', true]]],
    ['none for this entry', { datasets: [{ ...wiki, clients: [] }], clients: ['s3fs'] }, [['/datasets/0', 'wiki/', 'read', true]]],
    ['an output', { output: runs, clients: ['s3fs'] }, [['/output', 'runs/42/', 'write', true]]],
    ['an output that is read', { output: { ...runs, level: 'read-write' }, clients: ['s3fs'] },
      [['/output', 'runs/42/', 'read-write', true], ['/clients', 'runs/42', 'read', true]]],
    ['who reads first gets no right to read', { output: runs, clients: ['dvc'] }, [['/output', 'runs/42/', 'write', false]]],
    ['a whole bucket has all names', { datasets: [{ bucket: 'acme-datasets' }], clients: ['s3fs'] }, [['/datasets/0', '', 'read', true]]],
    ['a key', { datasets: [{ bucket: 'acme-datasets', key: 'wiki' }], clients: ['s3fs'] }, [['/datasets/0', 'wiki', 'read', false]]],
    ['the beginning of keys', { datasets: [{ bucket: 'acme-datasets', keyPrefix: 'wiki/a-' }], clients: ['s3fs'] }, [['/datasets/0', 'wiki/a-', 'read', true]]]
  ]
  for (const [what, request, added] of table) {
    const plain = (text: unknown) => String(text).replace(' alone', '')
    t.strictSame(entriesOf(request).map(([pointer, prefix, ...rest]) => [pointer, plain(prefix), ...rest]), added, what)
  }
})

t.test('the name is read and listed as it is, and nothing beside it', async t => {
  const { spec, warnings } = specOf({ datasets: [wiki], clients: ['s3fs', 'pyarrow'] })
  t.strictSame(render(spec).Statement.map(({ Sid, Resource, Condition }) => [Sid, Resource, Condition?.StringLike]), [
    ['Dataset1', ['arn:aws:s3:::acme-datasets', 'arn:aws:s3:::acme-datasets/wiki/*', 'arn:aws:s3:::acme-datasets/wiki'], undefined],
    ['Dataset1List', ['arn:aws:s3:::acme-datasets'], { 's3:prefix': ['wiki/*', 'wiki'] }]
  ])
  t.match(warnings, [{
    code: 'client-widens',
    detail: '/datasets/0: for s3fs, pyarrow the job may also read the key acme-datasets/wiki and list by it, and so sees the names of the ' +
      'bucket that begin with it.'
  }, { code: 'key-lists-siblings' }])
  t.strictSame(specOf(restate(spec)).spec.entries.map(({ pointer, ...entry }) => entry), spec.entries.map(({ pointer, ...entry }) => entry),
    'a grant that is changed keeps it')
})

t.test('guardrails are asked about what is added, and say where it comes from', async t => {
  const guardrails = loadGuardrails('@id("directories") permit (principal, action, resource) when { !(resource is JobAccess::Access) || resource.kind == "prefix" };', 'x.cedar')
  const request = { datasets: [wiki] }
  t.equal(guardrails.decide(nlp, specOf(request).spec, 'issue', at).allowed, true)
  t.match(guardrails.decide(nlp, specOf({ ...request, clients: ['s3fs'] }).spec, 'issue', at), { allowed: false, findings: [{ pointer: '/clients' }] })
})

t.test('an upload can be completed or aborted until the grace is over, and its place is not read any more', async t => {
  for (const layout of ['everywhere', 'guarded'] as const) {
    const window = { ...base.window, outputGraceSeconds: 600 }
    const policy = render(specOf({ layout, window, output: { ...runs, uploads: true }, datasets: [wiki] }).spec)
    const allowed = (action: string, at: string, place: object = { bucket: 'acme-output', key: 'runs/42/model' }) =>
      check(policy, { action, bucket: '', ...place, at: new Date(at), sourceIp: '203.0.113.42' }).allowed
    const grace = '2025-07-16T04:09:59Z'
    for (const action of ['AbortMultipartUpload', 'CompleteMultipartUpload', 'ListParts']) {
      t.strictSame([allowed(action, grace), allowed(action, '2025-07-16T04:10:00Z')], [true, false], `${layout}: ${action}`)
    }
    t.equal(allowed('ListMultipartUploads', grace, { bucket: 'acme-output' }), true, layout)
    t.equal(allowed('GetObject', grace, { bucket: 'acme-datasets', key: 'wiki/a' }), false, layout)
  }
})

t.test('no client gets a right to write', async t => {
  for (const name of clientNames) {
    t.strictSame(entriesOf({ datasets: [wiki], clients: [name] }).filter(([, , level]) => level !== 'read'), [], name)
    t.ok(needsOf(name, 'write').every(need => need === 'list'), name)
  }
})
