import t from 'tap'
import { defaultLimits, type Limits } from '../../src/policy/limits.ts'
import { normalise, normaliseChange, restate, type Change } from '../../src/policy/normalise.ts'
import type { AccessSpec } from '../../src/domain/access-spec.ts'
import type { PolicyRequest } from '../../src/request.ts'

const issued = new Date('2025-07-16T00:30:00Z')
const later = new Date('2025-07-16T03:00:00Z')
const base = {
  job: { id: 'job-42', team: 'nlp', labels: { a: 'b' } },
  datasets: [{ bucket: 'acme-datasets', prefix: 'wiki/' }],
  output: { bucket: 'acme-output', delete: true },
  window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z', outputGraceSeconds: 600 },
  sourceIps: ['203.0.113.42'],
  attach: 'managed'
} satisfies PolicyRequest

const spec = (request: PolicyRequest = base, limits: Limits = defaultLimits): AccessSpec => {
  const normalised = normalise(request, limits, issued)
  if (!normalised.ok) throw new Error(JSON.stringify(normalised.findings))
  return normalised.spec
}

const { sourceIps: _ips, ...sourceless } = base
const vpc = { vpcIds: ['vpc-01234567'] }

t.test('changes that are made', async t => {
  const before = spec()
  const cases: [string, Change, Partial<AccessSpec>][] = [
    ['nothing', {}, {}],
    ['the end moves; start and grace stay', { window: { notAfter: '2025-07-16T08:00:00Z' } }, {
      window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T08:00:00Z', outputNotAfter: '2025-07-16T08:10:00Z' }
    }],
    ['a duration counts from the start that is kept', { window: { durationSeconds: 5 * 3600 } }, {
      window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T06:00:00Z', outputNotAfter: '2025-07-16T06:10:00Z' }
    }],
    ['the grace goes', { window: { notAfter: '2025-07-16T04:00:00Z', outputGraceSeconds: 0 } }, {
      window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z', outputNotAfter: '2025-07-16T04:00:00Z' }
    }],
    ['the window moves as a whole', { window: { notBefore: '2025-07-17T01:00:00Z', durationSeconds: 60 } }, {
      window: { notBefore: '2025-07-17T01:00:00Z', notAfter: '2025-07-17T01:01:00Z', outputNotAfter: '2025-07-17T01:11:00Z' }
    }],
    ['the address', { sourceIps: ['198.51.100.7'] }, { source: { kind: 'ip', cidrs: ['198.51.100.7/32'] } }],
    ['from addresses to a VPC', { vpc }, { source: { kind: 'vpc', vpcIds: ['vpc-01234567'], vpcEndpointIds: [], cidrs: [] } }]
  ]
  for (const [name, change, expected] of cases) {
    const normalised = normaliseChange(before, change, defaultLimits, later)
    t.ok(normalised.ok, name)
    t.strictSame(normalised.ok && normalised.spec, { ...before, ...expected }, name)
  }
  const fromVpc = normaliseChange(spec({ ...sourceless, vpc }), { sourceIps: ['198.51.100.7'] }, defaultLimits, later)
  t.match(fromVpc, { ok: true, spec: { source: { kind: 'ip', cidrs: ['198.51.100.7/32'] } } }, 'from a VPC to addresses')
})

t.test('a source of each kind is kept when the change has none', async t => {
  const limits = { ...defaultLimits, allowAnySource: true }
  const sources: PolicyRequest[] = [base, { ...sourceless, vpc: { ...vpc, sourceIps: ['10.0.0.0/24'] } }, sourceless]
  for (const request of sources) {
    const before = spec(request, limits)
    const normalised = normaliseChange(before, { window: { durationSeconds: 5 * 3600 } }, limits, later)
    t.ok(normalised.ok)
    t.strictSame(normalised.ok && normalised.spec.source, before.source)
  }
})

t.test('changes that are refused', async t => {
  const cases: [string, Change, Partial<Limits>, string[]][] = [
    ['an end in the past', { window: { notAfter: '2025-07-16T02:59:59Z' } }, {}, ['window-over /window/notAfter']],
    ['no end', { window: {} }, {}, ['window-invalid /window']],
    ['two ends', { window: { notAfter: '2025-07-16T05:00:00Z', durationSeconds: 60 } }, {}, ['window-invalid /window']],
    ['longer in all than allowed, grace included', { window: { durationSeconds: 4 * 3600 } }, { maxWindowSeconds: 4 * 3600 },
      ['window-too-long /window/durationSeconds']],
    ['an address for everyone', { sourceIps: ['0.0.0.0/0'] }, {}, ['ip-everyone /sourceIps/0']],
    ['addresses and a VPC', { sourceIps: ['198.51.100.7'], vpc }, {}, ['source-ambiguous /vpc']],
    ['a kept source that is no longer allowed', { window: { durationSeconds: 4 * 3600 } }, { minPrefixV4: 33 },
      ['ip-too-wide /sourceIps/0']],
    ['a bucket that is no longer allowed', { window: { durationSeconds: 4 * 3600 } }, { allowedBuckets: ['acme-output'] },
      ['bucket-refused ']]
  ]
  for (const [name, change, limits, findings] of cases) {
    const normalised = normaliseChange(spec(), change, { ...defaultLimits, ...limits }, later)
    t.strictSame(normalised.ok ? [] : normalised.findings.map(({ code, pointer }) => `${code} ${pointer}`), findings, name)
  }
  const anywhere = spec(sourceless, { ...defaultLimits, allowAnySource: true })
  t.match(normaliseChange(anywhere, { window: { durationSeconds: 4 * 3600 } }, defaultLimits, later),
    { ok: false, findings: [{ code: 'source-missing' }] })
})

t.test('the grace follows the rules of the entries and the layout', async t => {
  const { output: _output, window: { outputGraceSeconds: _grace, ...window }, ...rest } = base
  const reading = spec({ ...rest, window })
  t.match(normaliseChange(reading, { window: { durationSeconds: 4 * 3600, outputGraceSeconds: 1 } }, defaultLimits, later),
    { ok: false, findings: [{ code: 'option-without-write', pointer: '/window/outputGraceSeconds' }] })
  const guide = spec({ ...base, datasets: [{ bucket: 'acme-datasets' }], window, layout: 'guide' })
  t.match(normaliseChange(guide, { window: { durationSeconds: 4 * 3600, outputGraceSeconds: 1 } }, defaultLimits, later),
    { ok: false, findings: [{ code: 'layout-unfit', pointer: '/window/outputGraceSeconds' }] })
})

t.test('restate() asks for exactly the spec', async t => {
  t.strictSame(restate(spec()), {
    job: { id: 'job-42', team: 'nlp', labels: { a: 'b' } },
    access: [
      { bucket: 'acme-datasets', prefix: 'wiki/', level: 'read', sid: 'Dataset1', list: true, acl: false, delete: false },
      { bucket: 'acme-output', level: 'write', sid: 'Output', list: false, acl: false, delete: true }
    ],
    window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z', outputGraceSeconds: 600 },
    sourceIps: ['203.0.113.42/32'],
    layout: 'everywhere',
    attach: 'managed'
  })
})
