import t from 'tap'
import { defaultLimits, type Limits } from '../../src/policy/limits.ts'
import { normalise } from '../../src/policy/normalise.ts'
import type { WarningCode } from '../../src/policy/normalise.ts'
import type { PolicyRequest } from '../../src/request.ts'

const now = new Date('2025-07-16T00:30:00Z')
const base = {
  job: { id: 'job-42', team: 'nlp' },
  datasets: [{ bucket: 'acme-datasets' }],
  output: { bucket: 'acme-output', prefix: 'runs/42/' },
  window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' },
  sourceIps: ['203.0.113.42']
} satisfies PolicyRequest
const { sourceIps: _ips, ...sourceless } = base
const { output: _output, ...readOnly } = base

const cases: [string, PolicyRequest, string[], Partial<Limits>?][] = [
  ['nothing to say', base, []],
  ['a prefix like a key', { ...base, datasets: [{ bucket: 'acme-datasets', prefix: 'llama/model.safetensors' }] }, ['prefix-like-key']],
  ['prefixes like the beginning of keys', {
    ...base, datasets: [{ bucket: 'acme-datasets', prefix: 'train-' }, { bucket: 'acme-datasets', prefix: 'a/part_' }]
  }, ['prefix-like-key', 'prefix-like-key']],
  ['the output’s prefix, too', { ...base, output: { ...base.output, prefix: 'runs/out.tar' } }, ['prefix-like-key']],
  ['directories', {
    ...base,
    datasets: ['model.safetensors/', 'v1.2', '.cache', 'a/2025.07', 'train-/', 'runs', 'x.tar/y'].map(prefix => ({ bucket: 'acme-datasets', prefix }))
  }, []],
  ['options of reads', {
    ...base, datasets: [{ bucket: 'acme-datasets', prefix: 'x', versions: true, restore: true, attributes: true, tags: true }]
  }, ['versions-granted', 'restore-granted']],
  ['options of writes', { ...base, output: { ...base.output, acl: 'private', tags: true, uploads: true } },
    ['acl-canned', 'tags-granted', 'uploads-listed']],
  ['names outside of the prefix', {
    ...base, datasets: [{ bucket: 'acme-datasets', prefix: 'x', listNames: true }, { bucket: 'acme-datasets', prefix: 'y', bareName: true }]
  }, ['names-listed', 'siblings-listed']],
  ['nothing outside of it', {
    ...base,
    datasets: [{ bucket: 'acme-datasets', listNames: true }, { bucket: 'acme-datasets', prefix: 'y', bareName: true, list: false }],
    output: { bucket: 'acme-output', uploads: true }
  }, ['write-whole-bucket']],
  ['a key', { ...base, datasets: [{ bucket: 'acme-datasets', key: 'llama/model.safetensors' }] }, []],
  ['a key that is listed', { ...base, datasets: [{ bucket: 'acme-datasets', key: 'llama/model.safetensors', list: true }] },
    ['key-lists-siblings']],
  ['the beginning of keys', { ...base, datasets: [{ bucket: 'acme-datasets', keyPrefix: 'train-' }] }, []],
  ['clients that need nothing', { ...base, clients: ['boto3', 'mlflow'] }, []],
  ['clients that ask for a directory’s name', { ...base, datasets: [{ bucket: 'acme-datasets', prefix: 'wiki', clients: ['s3fs', 'pyarrow'] }] },
    ['client-widens', 'key-lists-siblings']],
  ['clients that list before they write', { ...base, clients: ['s3fs'] }, ['client-widens']],
  ['clients that read before they write', { ...base, clients: ['dvc', 'rclone'] }, ['client-reads-first', 'client-reads-first']],
  ['guide', { ...base, output: { bucket: 'acme-output' }, layout: 'guide' },
    ['guide-reads-unbound', 'guide-grants-acl', 'guide-unknown-action', 'write-whole-bucket']],
  ['guide, only reads', { ...readOnly, layout: 'guide' }, ['guide-reads-unbound']],
  ['guide, only writes',
    { job: base.job, output: { bucket: 'acme-output' }, window: base.window, sourceIps: base.sourceIps, layout: 'guide' },
    ['guide-grants-acl', 'guide-unknown-action', 'write-whole-bucket']],
  ['acl', { ...base, output: { ...base.output, acl: true } }, ['acl-granted']],
  ['delete', { ...base, output: { ...base.output, delete: true } }, ['delete-granted']],
  ['any source', sourceless, ['source-any']],
  ['two whole buckets', { ...readOnly, access: [{ bucket: 'acme-a', level: 'write' }, { bucket: 'acme-b', level: 'read-write' }] },
    ['write-whole-bucket', 'write-whole-bucket']],
  ['start', { ...base, window: { durationSeconds: 3600 } }, ['window-starts-now']],
  ['twelve hours', { ...base, window: { ...base.window, notAfter: '2025-07-16T13:00:00Z' } }, []],
  ['longer', { ...base, window: { ...base.window, notAfter: '2025-07-16T13:00:01Z' } }, ['window-long']],
  ['longer by the grace', { ...base, window: { ...base.window, notAfter: '2025-07-16T13:00:00Z', outputGraceSeconds: 1 } }, ['window-long']],
  ['no GetBucketLocation', base, ['no-bucket-location'], { noBucketLocation: true }],
  ['no GetBucketLocation, which the guide has not', { ...readOnly, layout: 'guide' }, ['guide-reads-unbound'], { noBucketLocation: true }]
]

t.test('warnings about what is granted', async t => {
  for (const [name, request, codes, limits] of cases) {
    const normalised = normalise(request, { ...defaultLimits, allowAnySource: true, ...limits }, now)
    if (!normalised.ok) {
      t.fail(name, { findings: normalised.findings })
      continue
    }
    t.strictSame(normalised.warnings.map(warning => warning.code), codes, name)
    for (const { detail } of normalised.warnings) t.match(detail, /^\S.*\.$/, `${name}: a sentence`)
  }
})

t.test('every warning is reached by a case', async t => {
  const every: Record<WarningCode, true> = {
    'prefix-like-key': true,
    'key-lists-siblings': true,
    'acl-canned': true,
    'versions-granted': true,
    'tags-granted': true,
    'restore-granted': true,
    'names-listed': true,
    'siblings-listed': true,
    'uploads-listed': true,
    'client-widens': true,
    'client-reads-first': true,
    'guide-reads-unbound': true,
    'guide-grants-acl': true,
    'guide-unknown-action': true,
    'acl-granted': true,
    'delete-granted': true,
    'source-any': true,
    'write-whole-bucket': true,
    'no-bucket-location': true,
    'window-starts-now': true,
    'window-long': true
  }
  t.strictSame([...new Set(cases.flatMap(([, , codes]) => codes))].sort(), Object.keys(every).sort())
})
