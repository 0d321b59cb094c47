import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import t from 'tap'
import { defaultLimits } from '../../src/policy/limits.ts'
import { normalise } from '../../src/policy/normalise.ts'
import { render } from '../../src/policy/render.ts'
import { guideRequest, PolicyRequestSchema } from '../../src/request.ts'
import { goldenCases } from './golden-cases.ts'

const cases = goldenCases()
const fitsSchema = new Ajv({ strict: false }).compile(PolicyRequestSchema)

t.test('golden policies', async t => {
  t.ok(cases.length >= 45, `${cases.length} cases`)
  for (const { name, title, request, limits, now, policy } of cases) {
    t.test(`${name}: ${title}`, async t => {
      t.ok(fitsSchema(request), 'the API would take the request')
      const normalised = normalise(request, limits, now)
      if (!normalised.ok) return t.fail('has findings', { findings: normalised.findings })
      const rendered = render(normalised.spec)
      t.strictSame(rendered, policy)
      t.equal(JSON.stringify(rendered), JSON.stringify(policy), 'order of keys included')
    })
  }
})

t.test('the guide’s job gives exactly the published policy', async t => {
  const published = JSON.parse(readFileSync(new URL('guide-policy.json', import.meta.url), 'utf8'))
  const request = {
    ...guideRequest, window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' }, layout: 'guide' as const
  }
  const normalised = normalise(request, defaultLimits, new Date('2025-07-16T00:00:00Z'))
  if (!normalised.ok) return t.fail('has findings', { findings: normalised.findings })
  t.strictSame(render(normalised.spec), published)
  t.equal(JSON.stringify(render(normalised.spec)), JSON.stringify(published))
})

t.test('the cases cover every combination that renders differently', async t => {
  const seen = new Set(cases.flatMap(({ request, limits }) => {
    const layout = request.layout ?? 'everywhere'
    const { datasets = [], baseModels = [], access = [], output } = request
    const entries = [...datasets, ...baseModels, ...access, ...output ? [output] : []]
    return [
      limits.partition,
      request.vpc && request.sourceIps ? 'either' : request.vpc ? 'vpc' : request.sourceIps ? 'ip' : 'any',
      ...request.vpc?.vpcArns ? ['vpc-arn'] : [],
      ...entries.some(entry => entry.prefix) ? ['prefix'] : [],
      ...entries.some(entry => entry.kmsKeyArns) ? ['kms'] : [],
      ...request.window.outputGraceSeconds ? ['grace'] : [],
      ...request.sourceIps?.some(ip => ip.includes(':')) ? ['v6'] : []
    ].map(trait => `${layout} ${trait}`)
  }))
  const traits = ['aws', 'aws-cn', 'ip', 'vpc', 'any', 'v6']
  const bound = ['aws-us-gov', 'prefix', 'kms', 'grace', 'either', 'vpc-arn']
  const wanted = [
    ...traits.map(trait => `guide ${trait}`),
    ...['everywhere', 'guarded'].flatMap(layout => [...traits, ...bound].map(trait => `${layout} ${trait}`))
  ]
  t.strictSame(wanted.filter(combination => !seen.has(combination)), [])
})
