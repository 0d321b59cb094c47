import t from 'tap'
import { defaultLimits, type Limits } from '../../src/policy/limits.ts'
import { normalise, normaliseChange, restate, type Change, type ChangedGrant } from '../../src/policy/normalise.ts'
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

/** The grant of a spec: active, and issued before its window starts. */
const granted = (of: AccessSpec = spec(), part: Partial<ChangedGrant> = {}): ChangedGrant =>
  ({ spec: of, firstIssuedAt: issued, active: true, ...part })

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
    ['the start moves to the present instant', { window: { notBefore: '2025-07-16T03:00:00Z', durationSeconds: 60 } }, {
      window: { notBefore: '2025-07-16T03:00:00Z', notAfter: '2025-07-16T03:01:00Z', outputNotAfter: '2025-07-16T03:11:00Z' }
    }],
    ['the address', { sourceIps: ['198.51.100.7'] }, { source: { kind: 'ip', cidrs: ['198.51.100.7/32'] } }],
    ['from addresses to a VPC', { vpc }, { source: { kind: 'vpc', vpcIds: ['vpc-01234567'], vpcEndpointIds: [], cidrs: [] } }],
    ['from addresses to both', { sourceIps: ['198.51.100.7'], vpc },
      { source: { kind: 'either', ip: { kind: 'ip', cidrs: ['198.51.100.7/32'] }, vpc: { kind: 'vpc', vpcIds: ['vpc-01234567'], vpcEndpointIds: [], cidrs: [] } } }]
  ]
  for (const [name, change, expected] of cases) {
    const normalised = normaliseChange(granted(before), change, defaultLimits, later)
    t.ok(normalised.ok, name)
    t.strictSame(normalised.ok && normalised.spec, { ...before, ...expected }, name)
  }
  const fromVpc = normaliseChange(granted(spec({ ...sourceless, vpc })), { sourceIps: ['198.51.100.7'] }, defaultLimits, later)
  t.match(fromVpc, { ok: true, spec: { source: { kind: 'ip', cidrs: ['198.51.100.7/32'] } } }, 'from a VPC to addresses')
  const both = granted(spec({ ...base, vpc }))
  for (const [change, source] of [[{ sourceIps: ['198.51.100.7'] }, { kind: 'ip' }], [{ vpc }, { kind: 'vpc' }]] as const) {
    const changed = normaliseChange(both, change as Change, defaultLimits, later)
    t.match(changed, { ok: true, spec: { source } }, `${Object.keys(change)[0]} alone replaces both`)
    t.notOk(changed.ok && changed.spec.source.kind === 'either')
  }
})

t.test('a window moves as a whole until it has started, and until its grant is active', async t => {
  const moved: Change = { window: { notBefore: '2025-07-17T01:00:00Z', durationSeconds: 60 } }
  const window = { notBefore: '2025-07-17T01:00:00Z', notAfter: '2025-07-17T01:01:00Z', outputNotAfter: '2025-07-17T01:11:00Z' }
  const start = new Date('2025-07-16T01:00:00Z')
  t.match(normaliseChange(granted(), moved, defaultLimits, new Date(start.getTime() - 1)), { ok: true, spec: { window } })
  t.match(normaliseChange(granted(spec(), { active: false }), moved, defaultLimits, later), { ok: true, spec: { window } })
  t.strictSame(normaliseChange(granted(), moved, defaultLimits, start), {
    ok: false,
    findings: [{
      code: 'window-invalid',
      pointer: '/window/notBefore',
      detail: 'The window has started, and the job’s access would stop until 2025-07-17T01:00:00Z.',
      hint: 'Leave notBefore out.'
    }]
  })
})

t.test('the end that a hint names is accepted, and no later one', async t => {
  const hour = 3600
  const cases: [name: string, limits: Partial<Limits>, code: string, latest: string, part?: Partial<ChangedGrant>, now?: Date][] = [
    ['from now', { maxWindowSeconds: 4 * hour }, 'window-too-long', '2025-07-16T06:50:00Z'],
    ['in the middle of a second', { maxWindowSeconds: 4 * hour }, 'window-too-long', '2025-07-16T06:50:00Z', {}, new Date('2025-07-16T03:00:00.999Z')],
    ['from a start that is ahead', { maxWindowSeconds: 4 * hour }, 'window-too-long', '2025-07-16T04:50:00Z', {}, issued],
    ['the life is over sooner', { maxWindowSeconds: 4 * hour, maxLifetimeSeconds: 5 * hour }, 'lifetime-too-long', '2025-07-16T05:20:00Z'],
    ['an issue in the middle of a second', { maxLifetimeSeconds: 5 * hour }, 'lifetime-too-long', '2025-07-16T05:20:00Z',
      { firstIssuedAt: new Date('2025-07-16T00:30:00.999Z') }],
    ['the window is over sooner', { maxWindowSeconds: 4 * hour, maxLifetimeSeconds: 7 * hour }, 'window-too-long', '2025-07-16T06:50:00Z'],
    ['after the year 9999', { maxWindowSeconds: 1e12, maxLifetimeSeconds: 1e12 }, 'window-too-long', '9999-12-31T23:49:59Z']
  ]
  for (const [name, limits, code, latest, part, now = later] of cases) {
    const until = (notAfter: string) =>
      normaliseChange(granted(spec(), part), { window: { notAfter } }, { ...defaultLimits, ...limits }, now)
    const over = new Date(Date.parse(latest) + 1000).toISOString().replace('.000', '')
    for (const end of [over, '9999-12-31T23:59:59Z']) {
      const refused = until(end)
      t.match(refused, { ok: false, findings: [{ code, pointer: '/window/notAfter' }] }, `${name}: ${end}`)
      t.equal(refused.ok ? '' : refused.findings[0]?.hint.slice(0, 41), `End it at or before ${latest}${code === 'window-too-long' ? ';' : '.'}`, name)
    }
    t.match(until(latest), { ok: true, spec: { window: { notAfter: latest } } }, name)
  }
})

t.test('where no end is possible, the hint names none', async t => {
  const until = (limits: Partial<Limits>, part?: Partial<ChangedGrant>) =>
    normaliseChange(granted(spec(), part), { window: { notAfter: '2025-07-16T09:00:00Z' } }, { ...defaultLimits, ...limits }, later)
  t.match(until({ maxWindowSeconds: 600 }), { findings: [{ code: 'window-too-long', hint: 'Ask for a shorter outputGraceSeconds.' }] })
  t.match(until({}, { firstIssuedAt: new Date('2025-06-09T03:00:00Z') }),
    { findings: [{ code: 'lifetime-too-long', hint: 'Let this grant end, and ask for a new one.' }] })
})

t.test('a source of each kind is kept when the change has none', async t => {
  const limits = { ...defaultLimits, allowAnySource: true }
  const sources: PolicyRequest[] = [base, { ...base, vpc: { vpcArns: ['arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-01234567'] } }, { ...sourceless, vpc: { ...vpc, sourceIps: ['10.0.0.0/24'] } }, sourceless]
  for (const request of sources) {
    const before = spec(request, limits)
    const normalised = normaliseChange(granted(before), { window: { durationSeconds: 5 * 3600 } }, limits, later)
    t.ok(normalised.ok)
    t.strictSame(normalised.ok && normalised.spec.source, before.source)
  }
})

t.test('changes that are refused', async t => {
  const cases: [string, Change, Partial<Limits>, string[]][] = [
    ['an end in the past', { window: { notAfter: '2025-07-16T02:59:59Z' } }, {}, ['window-over /window/notAfter']],
    ['no end', { window: {} }, {}, ['window-invalid /window']],
    ['two ends', { window: { notAfter: '2025-07-16T05:00:00Z', durationSeconds: 60 } }, {}, ['window-invalid /window']],
    ['longer from now on than allowed, grace included', { window: { durationSeconds: 6 * 3600 } }, { maxWindowSeconds: 4 * 3600 },
      ['window-too-long /window/durationSeconds']],
    ['a source for a life that is no longer allowed', { sourceIps: ['198.51.100.7'] }, { maxLifetimeSeconds: 3 * 3600 },
      ['lifetime-too-long /window/notAfter']],
    ['a window that would stop and that is too long', { window: { notBefore: '2025-07-16T03:00:01Z', durationSeconds: 4 * 3600 } },
      { maxWindowSeconds: 4 * 3600 }, ['window-invalid /window/notBefore', 'window-too-long /window/durationSeconds']],
    ['an address for everyone', { sourceIps: ['0.0.0.0/0'] }, {}, ['ip-everyone /sourceIps/0']],
    ['a kept source that is no longer allowed', { window: { durationSeconds: 4 * 3600 } }, { minPrefixV4: 33 },
      ['ip-too-wide /sourceIps/0']],
    ['a bucket that is no longer allowed', { window: { durationSeconds: 4 * 3600 } }, { allowedBuckets: ['acme-output'] },
      ['bucket-refused ']]
  ]
  for (const [name, change, limits, findings] of cases) {
    const normalised = normaliseChange(granted(), change, { ...defaultLimits, ...limits }, later)
    t.strictSame(normalised.ok ? [] : normalised.findings.map(({ code, pointer }) => `${code} ${pointer}`), findings, name)
  }
  const anywhere = spec(sourceless, { ...defaultLimits, allowAnySource: true })
  t.match(normaliseChange(granted(anywhere), { window: { durationSeconds: 4 * 3600 } }, defaultLimits, later),
    { ok: false, findings: [{ code: 'source-missing' }] })
})

t.test('the grace follows the rules of the entries and the layout', async t => {
  const { output: _output, window: { outputGraceSeconds: _grace, ...window }, ...rest } = base
  const reading = spec({ ...rest, window })
  t.match(normaliseChange(granted(reading), { window: { durationSeconds: 4 * 3600, outputGraceSeconds: 1 } }, defaultLimits, later),
    { ok: false, findings: [{ code: 'option-without-write', pointer: '/window/outputGraceSeconds' }] })
  const guide = spec({ ...base, datasets: [{ bucket: 'acme-datasets' }], window, layout: 'guide' })
  t.match(normaliseChange(granted(guide), { window: { durationSeconds: 4 * 3600, outputGraceSeconds: 1 } }, defaultLimits, later),
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
