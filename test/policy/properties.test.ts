import fc from 'fast-check'
import t from 'tap'
import { normalise, normaliseChange, restate } from '../../src/policy/normalise.ts'
import type { AccessSpec } from '../../src/domain/access-spec.ts'
import type { PolicyDocument, Statement } from '../../src/domain/policy-document.ts'
import { explainPolicy } from '../../src/policy/explain.ts'
import { canonicalJson, canonicalPolicy, measure } from '../../src/policy/measure.ts'
import { prove } from '../../src/policy/prove/prove.ts'
import { ownPart, render } from '../../src/policy/render.ts'
import type { PolicyRequest } from '../../src/request.ts'
import { access, acceptable, layouts, now, openLimits, request } from './arbitrary-requests.ts'

const runs = { numRuns: 400 }
const text = (value: unknown): string => JSON.stringify(value)
const must = (condition: boolean, what: () => string): void => { if (!condition) throw new Error(what()) }

t.test('every layout is drawn often enough for the tests below', async t => {
  for (const layout of layouts) {
    const drawn = fc.sample(request(layout), { numRuns: 200, seed: 1 })
    const spec = drawn.filter(one => normalise(one, openLimits, now).ok)
    t.ok(spec.length > 40, `${layout}: ${spec.length} of 200 are spec`)
  }
})

t.test('every ARN names a requested bucket, and no more of it than was requested', async t => {
  fc.assert(fc.property(acceptable, ({ spec }) => {
    const policy = render(spec)
    const buckets = new Set(spec.entries.map(({ bucket }) => `arn:aws:s3:::${bucket}`))
    const objects = new Set(spec.entries.map(({ bucket, prefix, exact }) => `arn:aws:s3:::${bucket}/${prefix}${exact ? '' : '*'}`))
    const keys = new Set(spec.entries.flatMap(entry => entry.kmsKeyArns))
    for (const statement of policy.Statement) {
      for (const arn of [...[statement.Resource ?? []].flat(), ...[statement.NotResource ?? []].flat()]) {
        if (statement.Effect === 'Deny' && arn === '*') continue
        must(buckets.has(arn) || objects.has(arn) || keys.has(arn), () => `${arn} in ${text(spec)}`)
      }
    }
  }), runs)
})

t.test('another entry widens no other statement', async t => {
  fc.assert(fc.property(acceptable, access, ({ request, spec }, more) => {
    // Explicit Sids keep the statements of the others under their names.
    const asked = restate(spec)
    const extended: PolicyRequest = { ...asked, access: [...asked.access ?? [], { ...more, sid: 'Added' }] }
    const normalised = normalise(extended, openLimits, now)
    if (!normalised.ok) return
    const before = render(spec)
    const after = new Map(render(normalised.spec).Statement.map(statement => [statement.Sid, statement]))
    for (const statement of before.Statement) {
      const other = after.get(statement.Sid)
      must(other !== undefined && narrowerOrSame(statement, other, normalised.spec), () =>
        `${text(statement)} became ${text(other)} by ${text(more)} in ${text(request)}`)
    }
    const added = [...after.values()].filter(({ Sid, Effect }) => !before.Statement.some(one => one.Sid === Sid) && Effect === 'Allow')
    must(added.every(({ Sid }) => /^Added(Name)?((List|Names|Acl)?(Vpc)?|Keys\d*)$/.test(Sid ?? '')), () => `more than the entry was added: ${text(added)}`)
  }), runs)
})

/** The same, but that an Allow may gain a condition, and NotResource of the Deny may name what was added. */
const narrowerOrSame = (before: Statement, after: Statement, spec: AccessSpec): boolean => {
  const { Condition: was, NotResource: wasNot, ...rest } = before
  const { Condition: is, NotResource: isNot, ...others } = after
  if (text(rest) !== text(others)) return false
  if (before.Effect === 'Deny') {
    const added = spec.entries.find(entry => entry.sid === 'Added')
    const arns = new Set([...[wasNot ?? []].flat(), `arn:aws:s3:::${added?.bucket}`, `arn:aws:s3:::${added?.bucket}/${added?.prefix}${added?.exact ? '' : '*'}`])
    return text(was) === text(is) && [isNot ?? []].flat().every(arn => arns.has(arn)) && (added?.level !== 'read' || text(wasNot) === text(isNot))
  }
  return wasNot === undefined && isNot === undefined &&
    Object.entries(was ?? {}).every(([operator, keys]) => text(is?.[operator]) === text(keys))
}

t.test('rendering is deterministic, changes nothing, and does not depend on the order of keys', async t => {
  fc.assert(fc.property(acceptable, ({ request, spec }) => {
    const first = text(render(freeze(spec)))
    must(first === text(render(structuredClone(spec))), () => first)
    const again = normalise(reversed(request), openLimits, now)
    must(again.ok && text(render(again.spec)) === first, () => text(request))
  }), runs)
})

t.test('normalising a restated spec changes nothing', async t => {
  fc.assert(fc.property(acceptable, ({ request, spec }) => {
    const again = normalise(restate(spec), openLimits, now)
    must(again.ok, () => text(again))
    if (!again.ok) return
    const entries = again.spec.entries.map((entry, index) => ({ ...entry, pointer: spec.entries[index]?.pointer }))
    must(text({ ...again.spec, entries }) === text(spec), () => `${text(again.spec)} is not ${text(spec)}`)
    must(text(render(again.spec)) === text(render(spec)), () => text(request))
    const unchanged = normaliseChange({ spec, firstIssuedAt: now, active: true }, {}, openLimits, now)
    must(unchanged.ok && text(unchanged.spec) === text(spec), () => text(unchanged))
  }), runs)
})

t.test('the keys of documents and statements always have the same order', async t => {
  fc.assert(fc.property(acceptable, ({ spec }) => {
    const policy = render(spec)
    must(Object.keys(policy).join() === 'Version,Statement', () => text(policy))
    for (const statement of policy.Statement) {
      must(/^Sid,Effect,Action,(Not)?Resource(,Condition)?$/.test(Object.keys(statement).join()), () => text(statement))
      must(statement.Condition === undefined || Object.keys(statement.Condition).length > 0, () => 'an empty condition')
      must(Array.isArray(statement.Action) === (statement.Effect === 'Allow') && [statement.Action].flat().length > 0, () => text(statement))
      for (const values of Object.values(statement.Condition ?? {}).flatMap(Object.values)) {
        must(typeof values === 'string' || values.length > 1, () => `a list of one: ${text(statement)}`)
      }
    }
    const sids = policy.Statement.map(statement => statement.Sid)
    must(new Set(sids).size === sids.length && sids.every(sid => /^[A-Za-z0-9]+$/.test(sid ?? '')), () => text(sids))
  }), runs)
})

t.test('every Allow of `everywhere` has window and source; the Denies of `guarded` cover what its Allows leave open', async t => {
  fc.assert(fc.property(acceptable, ({ spec }) => {
    const { Statement } = render(spec)
    const has = (statement: Statement | undefined, ...operators: string[]): boolean =>
      operators.every(operator => statement?.Condition?.[operator] !== undefined)
    const unsourced = spec.source.kind === 'any'
    for (const statement of Statement.filter(({ Effect }) => Effect === 'Allow')) {
      const kms = [statement.Action].flat().some(action => action.startsWith('kms:'))
      const timed = has(statement, 'DateGreaterThanEquals', 'DateLessThan')
      if (kms) must(timed && has(statement, 'StringEquals') && !has(statement, 'IpAddress'), () => text(statement))
      if (spec.layout !== 'everywhere') continue
      must(timed, () => text(statement))
      must(kms || unsourced || ['IpAddress', 'StringEquals', 'ArnEquals'].some(operator => has(statement, operator)), () => text(statement))
    }
    if (spec.layout !== 'guarded') return
    const denies = Statement.filter(({ Effect }) => Effect === 'Deny')
    must(denies.every(({ Action }) => Action === 's3:*'), () => text(denies))
    must(denies.some(deny => has(deny, 'DateLessThan')) && denies.some(deny => has(deny, 'DateGreaterThanEquals')), () => text(denies))
    must(unsourced || denies.some(deny => ['NotIpAddress', 'StringNotEquals', 'ArnNotEquals'].some(operator => has(deny, operator))), () => text(denies))
    const keysOf = ({ Condition }: Statement): string[] => Object.values(Condition ?? {}).flatMap(Object.keys)
    // Two keys of a Deny are ANDed: only the address beside a key of the endpoint, where either alternative is enough.
    const { kind } = spec.source
    must(denies.map(keysOf).every(([key, other]) => key === 'aws:CurrentTime' || kind !== 'either'
      ? other === undefined
      : key === 'aws:SourceIp' && other !== undefined), () => text(denies))
    must(denies.every(deny => keysOf(deny).length <= 2), () => text(denies))
  }), runs)
})

// Wildcards, variables, escapes, look-alikes and ARN separators, alone and inside what would otherwise be fine.
const fragments = [
  // eslint-disable-next-line no-template-curly-in-string -- an IAM policy variable, as an attacker would write it
  '*', '?', '$', '${', '}', '${aws:username}', '${*}', '/*', '/..', '../', ':', '"', '\\', '\\u002a', '%2a', '\u0000', '\n', ' ',
  '＊', '∗', 'arn:aws:s3:::', 'acme'
]
const piece = fc.oneof(
  fc.constantFrom(...fragments), fc.constantFrom('a', 'acme-data', 'runs/42/'), fc.string({ unit: 'binary', maxLength: 3 })
)
const hostile = fc.array(piece, { minLength: 1, maxLength: 4 }).map(parts => parts.join(''))

const fields = [
  'job.id', 'job.team', 'job.labels.a', 'datasets.0.bucket', 'datasets.0.prefix', 'datasets.1.key', 'datasets.2.keyPrefix', 'datasets.0.sid', 'datasets.0.kmsKeyArns.0',
  'output.bucket', 'output.prefix', 'output.sid', 'access.0.bucket', 'access.0.prefix', 'access.0.sid', 'window.notBefore', 'window.notAfter',
  'sourceIps.0', 'vpc.vpcIds.0', 'vpc.vpcArns.0', 'vpc.vpcEndpointIds.0', 'vpc.sourceIps.0'
]

const key = `arn:aws:kms:eu-west-1:111122223333:key/mrk-${'a'.repeat(32)}`

const place = (source: 'sourceIps' | 'vpc') => ({
  job: { id: 'job-42', team: 'nlp', labels: { a: 'b' } },
  datasets: [
    { bucket: 'acme-data', prefix: 'wiki/', sid: 'Wiki', kmsKeyArns: [key] },
    { bucket: 'acme-data', key: 'wiki.json', list: true }, { bucket: 'acme-data', keyPrefix: 'wiki-' }
  ],
  output: { bucket: 'acme-output', prefix: 'runs/42/', sid: 'Out' },
  access: [{ bucket: 'acme-models', prefix: 'llama/', level: 'read' as const, sid: 'Models' }],
  window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' },
  ...(source === 'vpc'
    ? {
        vpc: {
          vpcIds: ['vpc-01234567'],
          vpcArns: ['arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-01234567'],
          vpcEndpointIds: ['vpce-01234567'],
          sourceIps: ['10.0.0.0/24']
        }
      }
    : { sourceIps: ['203.0.113.42'] })
})

t.test('`*`, `?` and `${` of a request never reach the policy, whatever field they are in', async t => {
  let spec = 0
  for (const field of fields) {
    const path = field.split('.')
    for (const layout of ['everywhere', 'guarded'] as const) {
      fc.assert(fc.property(hostile, text => {
        const request: PolicyRequest = { ...place(field.startsWith('vpc') ? 'vpc' : 'sourceIps'), layout }
        set(request, path, text)
        const normalised = normalise(request, openLimits, now)
        if (!normalised.ok) return
        spec++
        checkSafe(render(normalised.spec))
      }), { numRuns: 100, examples: fragments.map(fragment => [fragment]) })
    }
  }
  t.ok(spec > 0, `${spec} of them were harmless enough to be spec`)
})

// Printable characters up to U+00FF; a wildcard only at the end; no escape.
const keyCharacter = '[ !"#%-)+-.0->@-[\\]-~\\u00a1-\\u00ac\\u00ae-\\u00ff]'
const safeS3 = new RegExp(`^arn:aws:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(${keyCharacter}+/)*(${keyCharacter}*\\*?))?$`)
const safeKey = /^arn:aws:kms:[a-z0-9-]+:\d{12}:key\/[0-9a-z-]+$/

const checkSafe = (policy: PolicyDocument): void => {
  must(!/[?$]|\\(?!")/.test(text(policy)), () => text(policy))
  for (const statement of policy.Statement) {
    for (const arn of [...[statement.Resource ?? []].flat(), ...[statement.NotResource ?? []].flat()]) {
      must(safeS3.test(arn) || safeKey.test(arn) || (statement.Effect === 'Deny' && arn === '*'), () => arn)
    }
    for (const [operator, keys] of Object.entries(statement.Condition ?? {})) {
      for (const value of Object.values(keys).flat()) {
        must(operator === 'StringLike' ? /^[^*]+\*?$/.test(value) : !value.includes('*'), () => value)
      }
    }
  }
}

t.test('measure: the canonical text, the count and the hash of any policy', async t => {
  fc.assert(fc.property(acceptable, ({ spec }) => {
    const policy = render(spec)
    must(canonicalPolicy(policy) === canonicalJson(policy), () => canonicalPolicy(policy))
    must(measure(policy).characters === Buffer.byteLength(text(policy)), () => text(policy))
    must(measure(policy).sha256 === measure(JSON.parse(canonicalJson(policy))).sha256, () => 'the hash depends on the order of keys')
  }), runs)
})

t.test('explain: a sentence per statement that names its buckets, times and sources', async t => {
  fc.assert(fc.property(acceptable, ({ spec }) => {
    const policy = render(spec)
    const sentences = explainPolicy(policy)
    must(sentences.length === policy.Statement.length, () => text(sentences))
    for (const [index, { sid, effect, text: sentence }] of sentences.entries()) {
      const statement = policy.Statement[index]
      must(sid === statement?.Sid && effect === statement.Effect && sentence.endsWith('.'), () => text(sentences))
      must(!/aws:|s3:prefix|kms:ViaService|\b(Date|Ip|String|NotIp)[A-Z]|arn:aws:s3/
        .test(sentence.replace(/arn:aws:(kms|ec2):\S+/g, '')), () => `words of IAM: ${sentence}`)
      for (const [key, value] of Object.values(statement?.Condition ?? {}).flatMap(Object.entries)) {
        const values = [value as string | string[]].flat()
        const shown = key === 's3:prefix' ? values.map(one => one.replace(/\*$/, '')) : values.map(one => one.replace(/\/(32|128)$/, ''))
        must(shown.every(one => sentence.includes(one)), () => `${text(shown)} in ${sentence}`)
      }
    }
  }), runs)
})

const freeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null) {
    Object.freeze(value)
    Object.values(value).forEach(freeze)
  }
  return value
}

const reversed = <T>(value: T): T => {
  if (Array.isArray(value)) return value.map(reversed) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).reverse().map(([key, inner]) => [key, reversed(inner)])) as T
}

const set = (target: object, path: string[], value: string): void => {
  const [key = '', ...rest] = path
  const record = target as Record<string, unknown>
  if (rest.length === 0) record[key] = value
  else set(record[key] as object, rest, value)
}

t.test('a worker that shares the policy of its job has the job’s access from its own source alone', async t => {
  const shareable = acceptable.filter(({ spec }) => spec.layout !== 'guide' && spec.source.kind !== 'any')
  fc.assert(fc.property(shareable, ({ spec }) => {
    const policy = render({ ...spec, shared: true })
    const proof = prove(policy, spec)
    must(proof.ok, () => `${text(proof)} of ${text(spec)}`)
    const own = ownPart(policy)
    const job = render({ ...spec, source: { kind: 'any' } })
    must(own.Statement.length > 0 && own.Statement.every(({ Effect }) => Effect === 'Deny'), () => 'what is its own only takes away')
    must(text([...job.Statement, ...own.Statement]) === text(policy.Statement), () => 'the rest is the policy of the job, whatever the source')
    // So a change of the window is a change of the job's policy alone.
    const longer = { ...spec.window, outputNotAfter: '2030-01-01T00:00:00Z' }
    must(text(ownPart(render({ ...spec, shared: true, window: longer }))) === text(own), () => 'nothing of its own is about the window')
    must(!prove(job, spec).ok, () => 'without its own part it is another access')
  }), runs)
})
