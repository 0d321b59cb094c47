import fc from 'fast-check'
import t from 'tap'
import { normalise } from '../../src/policy/normalise.ts'
import { prove } from '../../src/policy/prove/prove.ts'
import { render } from '../../src/policy/render.ts'
import { layouts, now, openLimits, request } from './arbitrary-requests.ts'

// Providers without s3:GetBucketLocation, such as Tigris: nobody asks for it there, and a policy that has it is not proven.

const everyRequest = fc.constantFrom(...layouts).chain(request)
const lacking = { ...openLimits, noBucketLocation: true }

t.test('without s3:GetBucketLocation nothing grants it, and nothing else changes', async t => {
  let seen = 0
  fc.assert(fc.property(everyRequest, request => {
    const normalised = normalise(request, lacking, now)
    const usual = normalise(request, openLimits, now)
    if (!normalised.ok || !usual.ok) return normalised.ok === usual.ok
    seen++
    const policy = render(normalised.spec)
    const without = (document: typeof policy) => document.Statement.map(statement => ({
      ...statement, Action: [statement.Action].flat().filter(action => action !== 's3:GetBucketLocation')
    }))
    const statements = without(policy)
    for (const [index, expected] of without(render(usual.spec)).entries()) {
      const { Resource, ...rest } = statements[index] ?? {}
      const { Resource: usualResource, ...usualRest } = expected
      if (JSON.stringify(rest) !== JSON.stringify(usualRest)) return false
      // The bucket's own ARN goes where nothing is left that is checked against it.
      if (![Resource ?? []].flat().every(arn => [usualResource ?? []].flat().includes(arn))) return false
    }
    return !JSON.stringify(policy).includes('GetBucketLocation') && prove(policy, normalised.spec).ok
  }), { numRuns: 200, seed: 4 })
  t.ok(seen > 50, `${seen} specs`)
})

t.test('a policy that grants it nevertheless is not proven, nor one without it where the spec has it', async t => {
  const asked = {
    job: { id: 'job-42', team: 'nlp' },
    datasets: [{ bucket: 'acme-data', prefix: 'runs/', list: false }],
    window: { durationSeconds: 3600 },
    sourceIps: ['203.0.113.42']
  }
  const normalised = normalise(asked, lacking, now)
  const usual = normalise(asked, openLimits, now)
  if (!normalised.ok || !usual.ok) return t.fail('has findings')
  t.strictSame(render(normalised.spec).Statement[0]?.Resource, ['arn:aws:s3:::acme-data/runs/*'], 'no bucket ARN without an action for it')
  t.match(prove(render(usual.spec), normalised.spec), { ok: false, reason: /what was not asked for/ })
  t.match(prove(render(normalised.spec), usual.spec), { ok: false, reason: /does not allow what was asked for/ })
})
