import fc from 'fast-check'
import t from 'tap'
import { openCedar } from '../../src/guardrails/cedar.ts'
import { splitStatements } from '../../src/guardrails/policies.ts'

t.test('a file is split as Cedar splits it', async t => {
  const cedar = openCedar()
  const piece = fc.constantFrom(
    'permit (principal, action, resource);', 'permit(principal,action,resource)when{1/*2==2};', '@b permit (principal, action, resource);',
    'forbid (principal, action, resource) when { "a;b\\"//" == "x" };',
    '@id("a;\\\\") permit (principal, action, resource) // t;\n unless { context.a like "\\*;" };',
    'permit (principal, action, resource) when { resource["a;\\u{3b}"] };',
    '// c ; "\n', '// x\r', '\r\n', ' ', '\t', '\u00a0', '\u2028', '/', '"'
  )
  let parsed = 0
  fc.assert(fc.property(fc.array(piece, { maxLength: 8 }).map(pieces => pieces.join('')), text => {
    const theirs = cedar.policySetTextToParts(text)
    if (theirs.type === 'failure') return
    parsed += 1
    const ours = splitStatements(text)
    if (ours.some(({ text: statement, offset }) => !text.startsWith(statement, offset))) throw new Error('an offset is wrong')
    const [a, b] = [theirs.policies.toSorted(), ours.map(statement => statement.text).sort()].map(list => JSON.stringify(list))
    if (a !== b) throw new Error(`${a} by Cedar, ${b} by us`)
  }), { numRuns: 3000 })
  t.ok(parsed > 500, `${parsed} files were parsed`)
})
