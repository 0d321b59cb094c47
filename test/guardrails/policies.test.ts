import t from 'tap'
import { GuardrailsError, loadGuardrails } from '../../src/guardrails/guardrails.ts'

const findingsOf = (text: string): string[] => {
  try {
    loadGuardrails(text, 'rules.cedar')
    return []
  } catch (error) {
    if (!(error instanceof GuardrailsError)) throw error
    return error.message.split('\n')
  }
}

const read = 'permit (principal, action == JobAccess::Action::"read", resource)'

t.test('every fault has its file, line and column', async t => {
  const cases: Array<[what: string, text: string, expected: RegExp[]]> = [
    ['a syntax error', 'permit (principal, action, resource)\nwhen { true }', [/^rules\.cedar:2:14: unexpected end of input/]],
    ['a misspelt keyword', '\n\npermitt (principal, action, resource);', [/^rules\.cedar:3:1: .*permitt/]],
    ['an unknown attribute', `@id("a")\n${read}\nwhen { resource.buckt == "x" };`,
      [/^rules\.cedar:3:8: policy "a": attribute `buckt` on entity type `JobAccess::Access` not found; did you mean `bucket`\?$/]],
    ['an unknown action', '@id("a") permit (principal, action == JobAccess::Action::"raed", resource);',
      [/^rules\.cedar:1:39: policy "a": unrecognized action.*did you mean/]],
    ['an unknown type', `@id("a") ${read} when { principal in JobAccess::Taem::"x" };`,
      [/^rules\.cedar:1:\d+: policy "a": unrecognized entity type/]],
    ['a string compared with a number', `@id("a") ${read} when { resource.bucket == 5 };`,
      [/^rules\.cedar:1:83: the types Long and String are not compatible; policy "a": both operands/]],
    ['an optional attribute that may be missing', `@id("a") ${read} when { principal.namespace == "x" };`,
      [/^rules\.cedar:1:\d+: policy "a": unable to guarantee safety of access to optional attribute `namespace` on entity type/]],
    ['a tag that may be missing', `@id("a") ${read} when { principal.getTag("x") == "y" };`,
      [/^rules\.cedar:1:\d+: policy "a": .*unable to guarantee safety of access to tag/]],
    ['a context that the action does not have',
      '@id("a") permit (principal, action == JobAccess::Action::"view", resource) when { context.windowSeconds < 5 };',
      [/^rules\.cedar:1:\d+: policy "a": attribute `windowSeconds` in context.*not found/]],
    ['the same for two actions',
      '@id("a") permit (principal, action in [JobAccess::Action::"write", JobAccess::Action::"read"], resource)\n' +
        'when { context.profile == "x" };',
      [/^rules\.cedar:2:8: policy "a": unable to guarantee safety of access to optional attribute `profile` in context for read, write;/]],
    ['not an address', `@id("a") ${read} when { context has source && context.source.isInRange(ip("10.0.0.0/33")) };`,
      [/^rules\.cedar:1:\d+: policy "a": .*10\.0\.0\.0\/33/]],
    ['not an instant', `@id("a") ${read} when { context.now < datetime("2025-13-01") };`, [/^rules\.cedar:1:\d+: policy "a": /]],
    ['a rule that can never apply', `@id("ok") ${read};\n@id("never") forbid (principal, action, resource) when { false };`,
      [/^rules\.cedar:2:1: policy "never": policy is impossible/]],
    ['letters that only look Latin', `@id("a") ${read} when { resource.bucket == "аcmeco" };`,
      [/^rules\.cedar:1:\d+: policy "a": .*(script|confusable)/i]],
    ['text that reads backwards', `@id("a") ${read} when { resource.bucket == "\u202e" };`, [/^rules\.cedar:1:\d+: policy "a": .*BIDI/]],
    ['a template', '@id("a") permit (principal == ?principal, action, resource);', [/^rules\.cedar:1:1: .*template/]],
    ['a policy without a name', `@id("a") ${read};\n\n  // why\n  ${read};`, [/^rules\.cedar:4:3: a policy needs an @id/]],
    ['a name used twice', `@id("a") ${read};\n@id("a") ${read};`, [/^rules\.cedar:2:1: @id\("a"\) is used twice$/]],
    ['a name that is no word', `@id("a b") ${read};`, [/^rules\.cedar:1:1: @id takes/]],
    ['a name without a value', `@id ${read};`, [/^rules\.cedar:1:1: a policy needs an @id/]],
    ['an empty hint', `@id("a") @hint("") ${read};`, [/^rules\.cedar:1:1: @hint takes/]],
    ['a hint with a line break', `@id("a") @hint("x\\ny") ${read};`, [/^rules\.cedar:1:1: @hint takes/]],
    ['two faults', `@id("a") ${read} when { resource.x == 1 };\n@id("b") ${read} when { resource.y == 1 };`,
      [/^rules\.cedar:1:\d+: policy "a": /, /^rules\.cedar:2:\d+: policy "b": /]]
  ]
  for (const [what, text, expected] of cases) {
    const found = findingsOf(text)
    t.equal(found.length, expected.length, `${what}: ${found.join(' | ') || 'was taken'}`)
    for (const [index, pattern] of expected.entries()) t.match(found[index], pattern, what)
  }
})

t.test('columns are characters, not bytes', async t => {
  t.match(findingsOf(`// ünïcödé 🦊 ünïcödé 🦊\n${read};`), [/^rules\.cedar:2:1: a policy needs/])
  const text = `@id("a") @note("äöü🦊") ${read} when { resource.x == 1 };`
  t.match(findingsOf(text),
    [new RegExp(`^rules\\.cedar:1:${[...text.slice(0, text.indexOf('resource.x'))].length + 1}: policy "a": attribute`)])
})

t.test('the eleventh policy is named, not the third in alphabetical order', async t => {
  const many = Array.from({ length: 12 }, (_, index) => `@id("p${index}") ${read}${index === 10 ? ' when { resource.x == 1 }' : ''};`)
  t.match(findingsOf(many.join('\n')), [/^rules\.cedar:11:\d+: policy "p10": /])
})

t.test('nesting too deep for the engine’s stack is a finding, and other files still work', async t => {
  const good = loadGuardrails('@id("a") permit (principal, action, resource);', 'good.cedar')
  for (const depth of [300, 20_000]) {
    t.match(findingsOf(`@id("a") ${read} when { ${'('.repeat(depth)}true${')'.repeat(depth)} };`),
      [/^rules\.cedar:1:1: Cedar cannot parse this; .*nested too deeply/])
  }
  const caller = { id: 'x', kind: 'token' as const, teams: ['nlp'], attributes: {} }
  t.match(good.decideOnTeam(caller, 'nlp', { now: new Date(0) }), { allowed: true }, 'the set in force still decides')
  t.strictSame(findingsOf(`@id("a") ${read};`), [], 'and the next file is read')
})

t.test('a chain that could not be evaluated is a finding', async t => {
  const chain = (length: number) => `@id("a") ${read} when { ${Array(length).fill('resource.bucket == "x"').join(' || ')} };`
  t.strictSame(findingsOf(chain(190)), [])
  for (const length of [210, 500, 1000]) {
    t.match(findingsOf(chain(length)), [/^rules\.cedar:1:1: a condition is nested \d+ deep, and 200 is the most/])
  }
})

t.test('text that is not a policy is skipped', async t => {
  const text = `// ";" in a comment; permit (principal, action, resource);
    @id("a") // in between ; "
    @hint("a \\"quoted; hint\\" // no comment")
    ${read} // after
    when { resource.prefix like "a;b//*" };
    // @id("off") ${read};
    @id("b")
    ${read};`
  const { policies } = loadGuardrails(text, 'rules.cedar')
  t.strictSame(policies.map(({ id, hint, line, effect }) => ({ id, hint, line, effect })), [
    { id: 'a', hint: 'a "quoted; hint" // no comment', line: 2, effect: 'permit' },
    { id: 'b', hint: null, line: 7, effect: 'permit' }
  ])
})

t.test('an empty file is a set that allows nothing', async t => {
  for (const text of ['', '\n', '// nothing yet\n']) t.strictSame(loadGuardrails(text, 'rules.cedar').policies, [])
})
