import t from 'tap'
import { fuzzRender } from '../../fuzz/fuzz-render.ts'

// `npm run fuzz` does the same for 100,000.
t.test('every spec renders to a policy that is proven', async t => {
  const findings = fuzzRender(42, 1500)
  t.same(findings.failures, [])
  t.ok(findings.spec > 700, `${findings.spec} spec`)
  t.same(Object.keys(findings.layouts).sort(), ['everywhere', 'guarded', 'guide'])
  t.ok(findings.allowed > 400, `${findings.allowed} of ${findings.asked} single requests allowed`)
  t.ok(findings.mutantsRefused > 30, `${findings.mutantsRefused} mutants refused`)
})

t.test('the same seed gives the same requests', async t => {
  t.same(fuzzRender(3, 60), fuzzRender(3, 60))
  t.not(JSON.stringify(fuzzRender(3, 60)), JSON.stringify(fuzzRender(4, 60)))
})
