import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parseCases, runCases } from '../../src/guardrails/cases.ts'
import { loadGuardrails } from '../../src/guardrails/guardrails.ts'
import { defaultLimits } from '../../src/policy/limits.ts'
import { normalise } from '../../src/policy/normalise.ts'
import { guideRequest } from '../../src/request.ts'
import { at, nlp, now } from './sample.ts'

const read = (name: string) => readFile(new URL(`../../guardrails/${name}`, import.meta.url), 'utf8')
const text = await read('example.cedar')
const cases = parseCases(await read('example.tests.yaml'), 'example.tests.yaml')

t.test('the shipped example answers every case of its tests', async t => {
  const outcomes = runCases(loadGuardrails(text, 'example.cedar'), cases)
  for (const { name, wrong } of outcomes) t.equal(wrong, null, name)
  t.ok(outcomes.length >= 25)
  t.ok(cases.cases.filter(({ expect }) => expect === 'deny').length > outcomes.length / 2, 'most of them denials')
})

t.test('every policy of the example has a test that fails without it', async t => {
  const { policies } = loadGuardrails(text, 'example.cedar')
  for (const policy of policies) {
    const rest = policies.filter(other => other !== policy).map(other => other.text).join('\n')
    const outcomes = runCases(loadGuardrails(rest, 'rest.cedar'), cases)
    t.ok(outcomes.some(({ wrong }) => wrong !== null), policy.id)
  }
})

t.test('the open set keeps team isolation, and gives a scheduled key to its owner alone', async t => {
  const guardrails = loadGuardrails(await read('open.cedar'), 'open.cedar')
  const normalised = normalise(guideRequest, defaultLimits, now)
  if (!normalised.ok) throw new Error('the guide’s request is acceptable')
  t.match(guardrails.decide(nlp, normalised.spec, 'issue', at), { allowed: true })
  t.match(guardrails.decide({ ...nlp, teams: ['vision'] }, normalised.spec, 'issue', at),
    { allowed: false, decidedBy: ['team isolation'] })
  const resource = { team: 'nlp', jobId: 'job', owner: nlp.id, labels: {} }
  t.match(guardrails.decideOnGrant(nlp, resource, 'collect', at), { allowed: true })
  const colleague = { ...nlp, id: 'token:colleague' }
  t.match(guardrails.decideOnGrant(colleague, resource, 'collect', at), { allowed: false, decidedBy: ['owners-fetch-their-keys'] })
  t.match(guardrails.decideOnGrant(colleague, resource, 'revoke', at), { allowed: true }, 'whoever of the team sees a leak may end it')
})
