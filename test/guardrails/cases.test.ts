import t from 'tap'
import { parseCases, runCases } from '../../src/guardrails/cases.ts'
import { loadGuardrails } from '../../src/guardrails/guardrails.ts'

const guardrails = loadGuardrails(`
@id("all") permit (principal, action, resource);
@id("no-payroll") forbid (principal, action, resource is JobAccess::Access) when { resource.bucket == "acmeco-payroll" };
@id("here") forbid (principal, action, resource is JobAccess::Access) when { context has account && context.account != "eu-1" };
@id("no-views") forbid (principal, action == JobAccess::Action::"view", resource);`, 'rules.cedar')

const head = `
now: 2025-07-16T00:00:00Z
callers: { nlp: { kind: token, teams: [nlp] } }
requests:
  data: &data
    job: { id: j1, team: nlp }
    datasets: [{ bucket: acmeco-data }]
    window: { durationSeconds: 3600 }
    sourceIps: [203.0.113.42]
  payroll: { <<: *data, datasets: [{ bucket: acmeco-payroll }] }
cases:
`
const outcome = (test: string) => runCases(guardrails, parseCases(`${head}  - { name: one, ${test} }`, 'cases.yaml'))[0]?.wrong

t.test('a case is as expected, or says what was decided instead', async t => {
  const grant = 'grant: { team: nlp, jobId: j1, owner: x }'
  const outcomes: Array<[test: string, wrong: RegExp | null]> = [
    ['caller: nlp, request: data, expect: allow', null],
    ['caller: nlp, request: data, expect: allow, by: all', null],
    ['caller: nlp, request: data, action: extend, expect: allow, by: [all]', null],
    ['caller: nlp, request: payroll, expect: deny', null],
    ['caller: nlp, request: payroll, expect: deny, by: no-payroll, at: /datasets/0', null],
    ['caller: { kind: oidc, teams: [vision] }, request: data, expect: deny, by: team isolation, at: /job/team', null],
    [`caller: nlp, action: view, ${grant}, expect: deny, by: no-views`, null],
    [`caller: nlp, action: rotate, ${grant}, expect: allow`, null],
    ['caller: nlp, action: list, team: nlp, expect: allow', null],
    ['caller: nlp, request: data, account: eu-1, expect: allow', null],
    ['caller: nlp, request: data, account: eu-2, expect: deny, by: here', null],
    ['caller: nlp, action: list, team: nlp, account: eu-2, expect: allow', /^list has no account$/],
    ['caller: nlp, action: extend, request: data, grant: { team: nlp, jobId: j1, owner: x, issuedAt: 2025-06-20T00:00:00Z }, expect: allow', null],
    ['caller: nlp, action: extend, request: data, grant: { team: nlp, jobId: j1, owner: x, issuedAt: 2025-06-09T00:00:00Z }, expect: allow',
      /^the request is refused before the guardrails are asked: lifetime-too-long at \/window\/durationSeconds/],
    ['caller: nlp, action: extend, request: data, grant: { team: nlp, jobId: j1, owner: x, issuedAt: soon }, expect: allow', /^issuedAt is not an instant$/],
    ['caller: nlp, request: { <<: *data, issueAt: soon }, expect: allow', /^issueAt is not an instant$/],
    ['caller: nlp, request: data, expect: deny', /^expected deny, got allow by all$/],
    ['caller: nlp, request: payroll, expect: allow', /^expected allow, got deny by no-payroll at \/datasets\/0$/],
    ['caller: nlp, request: payroll, expect: deny, by: other', /^expected deny by other, got deny by no-payroll at \/datasets\/0$/],
    ['caller: nlp, request: payroll, expect: deny, by: [no-payroll, other]', /^expected deny by no-payroll, other, got/],
    ['caller: nlp, request: payroll, expect: deny, at: /output', /^expected deny at \/output, got/],
    [`caller: nlp, action: view, ${grant}, expect: deny, at: /job`, /got deny by no-views at \/$/],
    ['caller: nobody, request: data, expect: deny', /^there is no caller "nobody"$/],
    ['caller: constructor, request: data, expect: deny', /^there is no caller "constructor"$/],
    ['caller: nlp, request: nothing, expect: deny', /^there is no request "nothing"$/],
    ['caller: nlp, expect: deny', /^issue needs a request$/],
    ['caller: nlp, action: view, expect: deny', /^view needs a grant$/],
    ['caller: nlp, action: list, expect: deny', /^list needs a team$/],
    ['caller: nlp, request: { <<: *data, layuot: guide }, expect: deny', /^request: \/ must NOT have additional properties \(layuot\)$/],
    ['caller: nlp, request: { <<: *data, sourceIps: [203.0.113.42/24] }, expect: deny',
      /^the request is refused before the guardrails are asked: ip-host-bits at \/sourceIps\/0/]
  ]
  for (const [test, wrong] of outcomes) {
    if (wrong === null) t.equal(outcome(test), null, test)
    else t.match(outcome(test), wrong, test)
  }
})

t.test('a file that is not valid is refused as a whole', async t => {
  const refused: Array<[text: string, message: RegExp]> = [
    [`${head}  - { name: one, caller: nlp, request: data, expects: deny }`, /^cases\.yaml: \/cases\/0 must/],
    [`${head}  - { name: one, caller: nlp, request: data, expect: denied }`, /^cases\.yaml: \/cases\/0\/expect must/],
    [`${head}  - { name: one, caller: nlp, request: data, expect: deny, b: x }`,
      /^cases\.yaml: \/cases\/0 must NOT have additional properties \(b\)$/],
    [`${head}  - { name: one, caller: nlp`, /^cases\.yaml:1\d:\d+: /],
    [`${head}  - { name: one, name: two, caller: nlp, request: data, expect: deny }`, /^cases\.yaml:12:\d+: Map keys must be unique/],
    [`${head}  - { name: one, caller: *gone, expect: deny }`, /^cases\.yaml: Unresolved alias .*gone/],
    [head, /^cases\.yaml: \/cases must be array$/],
    ['', /^cases\.yaml: \/ must be object$/],
    [head.replace('2025-07-16T00:00:00Z', 'yesterday') + '  - { name: one, caller: nlp, request: data, expect: deny }',
      /^cases\.yaml: \/now is not an instant$/],
    [`limits: { maxWindow: 5 }${head}  - { name: one, caller: nlp, request: data, expect: deny }`,
      /^cases\.yaml: \/limits\/maxWindow is not a limit$/]
  ]
  for (const [text, message] of refused) t.throws(() => parseCases(text, 'cases.yaml'), { name: 'CasesError', message }, String(message))
})

t.test('a file’s limits apply', async t => {
  const text = `limits: { maxWindowSeconds: 600 }${head}  - { name: one, caller: nlp, request: data, expect: allow }`
  t.match(runCases(guardrails, parseCases(text, 'cases.yaml'))[0]?.wrong, /window-too-long/)
})
