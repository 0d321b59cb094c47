import { createHash } from 'node:crypto'
import t from 'tap'
import type { AccessSpec, Entry } from '../../src/domain/access-spec.ts'
import type { PolicyDocument } from '../../src/domain/policy-document.ts'
import { awsSizes, canonicalJson, chooseAttachment, measure, tooLarge } from '../../src/policy/measure.ts'
import { render } from '../../src/policy/render.ts'
import { goldenCases } from './golden-cases.ts'

t.test('no white space around values is counted, but spaces in names and every byte of a letter', async t => {
  const sized = (key: string) => measure({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: `arn:aws:s3:::a/${key}` }] }).characters
  t.strictSame(['a b', 'aéb', 'a"b'].map(key => sized(key) - sized('ab')), [1, 2, 2])
  for (const { name, policy } of goldenCases()) {
    t.equal(measure(policy).characters, JSON.stringify(policy, null, 2).replaceAll(/\s/g, '').length, name)
  }
})

t.test('the hash is that of the canonical JSON, whatever the order of keys', async t => {
  const policy: PolicyDocument = {
    Version: '2012-10-17',
    Statement: [{
      Sid: 'A', Effect: 'Allow', Action: ['s3:GetObject'], Resource: ['b', 'a'], Condition: { B: { y: '2', x: ['1', '3'] }, A: { z: '0' } }
    }]
  }
  const canonical = '{"Statement":[{"Action":["s3:GetObject"],"Condition":{"A":{"z":"0"},"B":{"x":["1","3"],"y":"2"}},"Effect":"Allow",' +
    '"Resource":["b","a"],"Sid":"A"}],"Version":"2012-10-17"}'
  t.equal(canonicalJson(policy), canonical)
  t.equal(measure(policy).sha256, createHash('sha256').update(canonical).digest('hex'))
  const [statement] = policy.Statement
  const backwards = Object.fromEntries(Object.entries(statement ?? {}).reverse())
  const reordered = { Statement: [backwards], Version: '2012-10-17' } as unknown as PolicyDocument
  t.equal(measure(reordered).sha256, measure(policy).sha256)
  const relisted = { Version: '2012-10-17', Statement: [{ ...statement, Resource: ['a', 'b'] }] } as PolicyDocument
  t.not(measure(relisted).sha256, measure(policy).sha256, 'the order of a list counts')
})

t.test('canonicalJson: RFC 8785', async t => {
  t.equal(canonicalJson({ b: [1e21, 0.1, -0, null, true], a: '\u20ac\u0007"\\/', 10: 1, 9: 2, A: {} }),
    '{"10":1,"9":2,"A":{},"a":"€\\u0007\\"\\\\/","b":[1e+21,0.1,0,null,true]}')
  t.throws(() => canonicalJson(undefined), { name: 'TypeError' })
  t.throws(() => canonicalJson(NaN))
})

t.test('sizes at the limit', async t => {
  const sized = (characters: number): PolicyDocument => {
    const policy = {
      Version: '2012-10-17' as const, Statement: [{ Sid: '', Effect: 'Allow' as const, Action: 's3:GetObject', Resource: 'x' }]
    }
    policy.Statement[0]!.Sid = 'x'.repeat(characters - JSON.stringify(policy).length)
    return policy
  }
  t.match(measure(sized(2048)), { characters: 2048, fits: { inline: true, managed: true } })
  t.match(measure(sized(2049)), { characters: 2049, fits: { inline: false, managed: true } })
  t.match(measure(sized(6144)), { characters: 6144, fits: { inline: false, managed: true } })
  t.match(measure(sized(6145)), { characters: 6145, fits: { inline: false, managed: false } })
})

t.test('chooseAttachment', async t => {
  const table: [Parameters<typeof chooseAttachment>[0], number, ReturnType<typeof chooseAttachment>][] = [
    ['auto', 2048, 'inline'], ['auto', 2049, 'managed'], ['auto', 6144, 'managed'], ['auto', 6145, undefined],
    ['inline', 2048, 'inline'], ['inline', 2049, undefined],
    ['managed', 1, 'managed'], ['managed', 6144, 'managed'], ['managed', 6145, undefined],
    ['session', 2048, 'session'], ['session', 2049, undefined]
  ]
  for (const [attach, characters, chosen] of table) t.equal(chooseAttachment(attach, characters), chosen, `${attach} ${characters}`)
})

const spec = (
  entries: number, layout: AccessSpec['layout'], attach: AccessSpec['attach'], prefix = 'a-prefix-of-some-length/'
): AccessSpec => ({
  partition: 'aws',
  job: { id: 'job', team: 'nlp', labels: {} },
  entries: Array.from({ length: entries }, (_, index): Entry => ({
    pointer: `/access/${index}`,
    sid: `Access${index + 1}`,
    bucket: `acme-bucket-${index}`,
    prefix,
    level: 'read',
    list: true,
    acl: false,
    delete: false,
    kmsKeyArns: []
  })),
  window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z', outputNotAfter: '2025-07-16T04:00:00Z' },
  source: { kind: 'ip', cidrs: ['203.0.113.42/32'] },
  layout,
  attach
})

const withSource = (one: AccessSpec, count: number): AccessSpec =>
  ({ ...one, source: { kind: 'ip', cidrs: Array.from({ length: count }, (_, index) => `203.${index >> 8}.${index & 255}.42/32`) } })

t.test('too large: the size, the limit, and what would fit', async t => {
  const inline = /an inline policy has at most 2048/
  const managed = /a managed policy has at most 6144/
  const shared = 'One `sid` for all entries with equal rights would fit, with \\d+ characters\\.'
  const cases: [string, AccessSpec, RegExp, RegExp][] = [
    ['inline, and the compact layout fits', spec(4, 'everywhere', 'inline'), inline,
      new RegExp(`^Attach \`managed\` or \`auto\` would fit, with \\d+ characters\\. ${shared} Layout \`guarded\` would fit, with \\d+ characters\\.$`)],
    ['inline, and the compact layout does not fit', spec(8, 'guarded', 'inline'), inline,
      new RegExp(`^Attach \`managed\` or \`auto\` would fit, with \\d+ characters\\. ${shared}$`)],
    ['session', spec(4, 'everywhere', 'session'), /a session policy has at most 2048/,
      /^A user instead of a session, by attach `managed` or `auto` would fit, .* Layout `guarded` would fit, with \d+ characters\.$/],
    ['managed, and the compact layout fits', spec(12, 'everywhere', 'managed'), managed,
      new RegExp(`^${shared} Layout \`guarded\` would fit, with \\d+ characters\\.$`)],
    ['auto, likewise', spec(12, 'everywhere', 'auto'), managed, new RegExp(`^${shared} Layout \`guarded\` would fit, with \\d+ characters\\.$`)],
    ['only sharing fits', spec(30, 'everywhere', 'auto'), managed, new RegExp(`^${shared}$`)],
    ['only two changes together fit', withSource(spec(38, 'everywhere', 'auto'), 50), managed,
      /^Layout `guarded` with one `sid` for all entries with equal rights would fit, with \d+ characters\.$/],
    ['nothing fits', spec(120, 'everywhere', 'auto'), managed,
      /^No other layout fits\. The first \d+ of the 120 entries would, with (layout `guarded` with )?one `sid` for all entries with equal rights: ask for fewer entries, /],
    ['nothing fits, inline', spec(120, 'guarded', 'inline'), inline,
      /^No other layout fits\. The first \d+ of the 120 entries would, with .*attach `managed` or `auto`: ask for fewer entries, /],
    ['one fits as it is', withSource(spec(2, 'guarded', 'auto', 'x'.repeat(600)), 200), managed,
      /^No other layout fits\. The first 1 of the 2 entries would: ask for fewer entries, /],
    ['not even one fits', withSource(spec(1, 'everywhere', 'auto'), 800), managed, /^No other layout fits\. Not even the first entry alone would: /]
  ]
  for (const [name, one, detail, hint] of cases) {
    const characters = measure(render(one)).characters
    t.equal(chooseAttachment(one.attach, characters), undefined, `${name}: it is too large`)
    const finding = tooLarge(one, one.attach)
    t.match(finding, { code: 'policy-too-large', pointer: '', detail, hint }, name)
    t.match(finding.detail, `has ${characters} characters`, name)
    for (const [, what = '', characters = ''] of finding.hint.matchAll(/(\S[^.]*) would fit, with (\d+) characters/g)) {
      const entries = /one `sid`/i.test(what) ? one.entries.map(entry => ({ ...entry, sid: 'Access1' })) : one.entries
      const layout = /ayout `(\w+)`/.exec(what)?.[1] as AccessSpec['layout'] | undefined
      const { characters: used } = measure(render({ ...one, entries, ...(layout && { layout }) }))
      t.equal(used, Number(characters), `${name}: ${what}: measured`)
      t.not(chooseAttachment(/attach/i.test(what) ? 'auto' : one.attach, used), undefined, `${name}: ${what}: it holds`)
    }
    const [, count] = /^No other layout fits\. The first (\d+)/.exec(finding.hint) ?? []
    if (count === undefined) continue
    const best = (entries: number) => Math.min(...(['everywhere', 'guarded'] as const).map(layout => measure(render({
      ...one, layout, entries: one.entries.slice(0, entries).map(entry => ({ ...entry, sid: 'Access1' }))
    })).characters))
    t.ok(best(Number(count)) <= 6144 && best(Number(count) + 1) > 6144, `${name}: ${count}`)
    const how = finding.hint.replace(/: ask .*/, '')
    const some = one.entries.slice(0, Number(count)).map(entry => how.includes('one `sid`') ? { ...entry, sid: 'Access1' } : entry)
    const layout = /layout `(\w+)`/.exec(how)?.[1] as AccessSpec['layout'] | undefined
    const { characters: ofThose } = measure(render({ ...one, entries: some, ...(layout && { layout }) }))
    t.not(chooseAttachment(how.includes('attach') ? 'auto' : one.attach, ofThose), undefined, `${name}: they fit so`)
  }
})

t.test('what the provider cannot express is not suggested', async t => {
  const one = spec(12, 'everywhere', 'auto')
  const denies = (policy: PolicyDocument) => policy.Statement.some(({ Effect }) => Effect === 'Deny')
  t.notMatch(tooLarge(one, 'auto', awsSizes, policy => !denies(policy)).hint, /guarded/)
})

t.test('the guide’s layout is never suggested, though it would be shorter', async t => {
  const one = spec(12, 'everywhere', 'inline', '')
  t.ok(measure(render({ ...one, layout: 'guide' })).characters < measure(render({ ...one, layout: 'guarded' })).characters)
  t.notMatch(tooLarge(one, 'inline').hint, /guide/)
})

t.test('the sizes are those that AWS publishes', async t => {
  t.strictSame(awsSizes, { inline: 2048, managed: 6144, session: 2048 })
})
