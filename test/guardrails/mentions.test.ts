import fc from 'fast-check'
import t from 'tap'
import type { EntityJson } from '@cedar-policy/cedar-wasm/nodejs'
import { openCedar } from '../../src/guardrails/cedar.ts'
import { buildEngine, grantRequest, mentionsOf, requestsFor, teamRequest, type Mentions } from '../../src/guardrails/engine.ts'
import type { Caller } from '../../src/guardrails/guardrails.ts'
import { parsePolicies } from '../../src/guardrails/policies.ts'
import { actions, schemaText, type AccessAction, type Action } from '../../src/guardrails/schema.ts'
import type { AccessSpec } from '../../src/domain/access-spec.ts'
import { asked, entry } from './sample.ts'

/*
 * The engine leaves out what no policy mentions, takes only the policies whose scope fits, and does not check requests against
 * the schema. Here Cedar itself, with everything and all of it checked, must say the same.
 */

const conditions = {
  Access: [
    'resource.bucket == "a"', 'resource.prefix like "nlp/*"', 'resource.folder == context.team', 'resource.list', 'resource has kmsKeyArns',
    '["k1", "k2"].containsAll(resource.kmsKeyArns)', 'resource == JobAccess::Access::"a/nlp/"',
    'resource.kind == "keyPrefix"', 'resource has key && resource.key == "nlp/x"', 'resource has keyPrefix',
    'resource is JobAccess::Access && context.jobId == "j"'
  ],
  Job: ['resource.team == "nlp"', 'resource.owner == principal', 'resource.hasTag("tier") && resource.getTag("tier") == "x"',
    'resource == JobAccess::Job::"j"'],
  Team: ['resource.name == "nlp"', 'principal in resource', 'principal.teams.contains(resource.name)'],
  principal: [
    'principal.kind == "oidc"', 'principal.teams.contains("vision")', 'principal in JobAccess::Team::"nlp"',
    'principal in [JobAccess::Team::"*", JobAccess::Team::"vision"]',
    'principal has namespace', 'principal has issuer && principal.issuer == "c"', 'principal.hasTag("team")',
    'principal.hasTag("kind") && principal.getTag("kind") == "x"',
    'principal == JobAccess::Caller::"u"', 'principal is JobAccess::Caller in JobAccess::Team::"nlp"',
    '[principal].contains(JobAccess::Caller::"u")',
    'principal has issuer && principal has namespace && principal.hasTag(principal.namespace)'
  ],
  context: [
    'context.windowSeconds > 3600', 'context.lifetimeSeconds > 100000', 'context.startsInSeconds <= 0', 'context.now.toDate() == context.start.toDate()',
    'context.end < datetime("2025-07-16T02:00:00Z")',
    'context has source && context.source.isIpv4()', 'context has source && context.source.isInRange(ip("10.0.0.0/8"))',
    'context has vpcSource',
    'context has vpcArns && context.vpcArns.contains("arn-1")',
    'context has vpcIds && context.vpcIds.contains("vpc-1")', 'context has vpcEndpointIds',
    'context.attach == "session" || context.layout == "guide"',
    'context has profile && context.profile == "ci"', 'if context.team == "nlp" then context.jobId == "j" else context has source',
    '{ team: context.team, left: context.attach }.left == "auto"', '{ entity_type: context.layout }.entity_type == "guide"',
    '[context.team, "x"].contains("nlp")',
    '{ "Var": "context", "all": context }.all.layout == "guide"', '{ ".": { "left": context } }["."].left.team == "nlp"'
  ]
}

const accessActions: AccessAction[] = ['read', 'write', 'delete', 'setAcl']
const requestScope = (names: readonly Action[]) => `action in [${names.map(name => `JobAccess::Action::"${name}"`).join(', ')}]`
const condition = (...values: string[][]) => fc.oneof(...values.map(list => fc.constantFrom(...list)))
const both = (texts: fc.Arbitrary<string>) => fc.tuple(texts, texts, fc.constantFrom('&&', '||'), fc.boolean())
  .map(([a, b, operator, not]) => `${not ? '!' : ''}((${a}) ${operator} (${b}))`)
const statement = fc.tuple(fc.constantFrom('permit', 'permit', 'forbid'), fc.oneof(
  fc.tuple(fc.constantFrom(requestScope(accessActions), requestScope(['read']), requestScope(['write', 'setAcl']),
    'action == JobAccess::Action::"read"'),
  both(condition(conditions.Access, conditions.principal, conditions.context)),
  fc.constantFrom('resource', 'resource is JobAccess::Access')),
  fc.tuple(fc.constantFrom(requestScope(['issue', 'extend', 'render']), requestScope(['issue'])),
    both(condition(conditions.Job, conditions.principal, conditions.context)), fc.constant('resource')),
  fc.tuple(fc.constant(requestScope(['collect', 'rotate', 'revoke', 'view'])), both(condition(conditions.Job, conditions.principal)),
    fc.constant('resource')),
  fc.tuple(fc.constant('action == JobAccess::Action::"list"'), both(condition(conditions.Team, conditions.principal)),
    fc.constant('resource')),
  fc.tuple(fc.constant('action'), both(condition(conditions.principal)),
    fc.constantFrom('resource', 'resource is JobAccess::Job', 'resource is JobAccess::Access'))
)).map(([effect, [action, when, resource]]) => `${effect} (principal, ${action}, ${resource}) when { ${when} };`)
const texts = fc.array(statement,
  { minLength: 1, maxLength: 8 }).map(list => list.map((text, index) => `@id("p${index}") ${text}`).join('\n'))

const caller: fc.Arbitrary<Caller> = fc.record({
  id: fc.constantFrom('u', 'oidc:c#x'),
  kind: fc.constantFrom('token' as const, 'oidc' as const),
  teams: fc.subarray(['nlp', 'vision', '*']),
  attributes: fc.dictionary(fc.constantFrom('namespace', 'issuer', 'team', 'kind', 'x', '__proto__'), fc.constantFrom('c', 'x', 'team'))
})
const request: fc.Arbitrary<AccessSpec> = fc.record({
  job: fc.record({
    id: fc.constantFrom('j', 'i'),
    team: fc.constantFrom('nlp',
      'vision'),
    labels: fc.dictionary(fc.constantFrom('tier', 'cost'), fc.constantFrom('x', 'y'))
  }),
  entries: fc.array(fc.record({
    bucket: fc.constantFrom('a', 'b'),
    prefix: fc.constantFrom('', 'nlp/', 'nlp/x/', 'vision/', 'nlp/x', 'nl'),
    list: fc.boolean(),
    level: fc.constantFrom('read' as const, 'write' as const),
    kmsKeyArns: fc.subarray(['k1', 'k3']),
    exact: fc.constantFrom(undefined, true as const)
  }).map(({ exact, ...rest }) => entry({ ...rest, ...(exact && { exact }) })), { minLength: 1, maxLength: 2 }),
  window: fc.record({
    notBefore: fc.constantFrom('2025-07-16T00:00:00Z', '2025-07-17T00:00:00Z'),
    notAfter: fc.constant('2025-07-17T01:00:00Z'),
    outputNotAfter: fc.constantFrom('2025-07-17T01:00:00Z', '2025-07-17T02:00:00Z')
  }),
  source: fc.constantFrom<AccessSpec['source']>(
    { kind: 'any' }, { kind: 'ip', cidrs: ['10.1.0.0/16'] }, { kind: 'ip', cidrs: ['2001:db8::/48'] },
    { kind: 'vpc', vpcIds: ['vpc-1'], vpcEndpointIds: [], cidrs: ['10.0.0.1/32'] },
    { kind: 'vpc', vpcIds: [], vpcArns: ['arn-1'], vpcEndpointIds: ['vpce-1'], cidrs: [] }),
  layout: fc.constantFrom('everywhere' as const, 'guide' as const),
  attach: fc.constantFrom('auto' as const, 'session' as const)
}).map(asked)
const at = fc.record({
  now: fc.constantFrom(new Date('2025-07-16T00:00:00Z'),
    new Date('2025-07-18T12:30:00.250Z')),
  profile: fc.constantFrom('ci', 'x'),
  firstIssuedAt: fc.constantFrom(new Date('2025-07-15T12:00:00Z'), new Date('2025-07-16T00:00:00.250Z'))
}, { requiredKeys: ['now'] })

const whole: Mentions = { has: () => true }
const allWhole = Object.fromEntries(actions.map(action => [action, whole])) as Record<Action, Mentions>

t.test('what is left out changes no decision, and every request fits the schema', async t => {
  const cedar = openCedar()
  cedar.preparseSchema('schema', schemaText)
  let allowed = 0
  let asking = 0
  fc.assert(fc.property(texts, fc.array(fc.tuple(caller, request, at), { minLength: 8, maxLength: 8 }), (text, cases) => {
    let policies
    try {
      policies = parsePolicies(cedar, text, 'p')
    } catch (error) {
      // A policy with two conditions that exclude each other is refused.
      fc.pre(!/impossible/.test(String(error)))
      throw error
    }
    const engine = buildEngine(policies)
    cedar.preparsePolicySet('all', { staticPolicies: Object.fromEntries(policies.map(policy => [policy.id, policy.text])) })
    for (const [who, what, when] of cases) {
      // Two alternatives are asked about one by one: see decide.test.ts.
      if (what.source.kind === 'either') throw new Error('not drawn')
      const origin = { from: what.source, range: what.source.kind === 'any' ? null : what.source.cidrs[0] ?? null }
      const pruned = requestsFor(engine.mentions, who, what, when)
      const full = requestsFor(allWhole, who, what, when)
      const grant = { team: what.job.team, jobId: what.job.id, owner: 'u', labels: what.job.labels }
      const pairs = [
        ...accessActions.flatMap(action => what.entries.map(item => [pruned.access(action, item, origin),
          full.access(action, item, origin)] as const)),
        ...(['issue', 'render'] as const).map(action => [pruned.job(action, origin), full.job(action, origin)] as const),
        [grantRequest(engine.mentions.view, who, grant, 'view', when), grantRequest(whole, who, grant, 'view', when)] as const,
        [teamRequest(engine.mentions.list, who, 'nlp', when), teamRequest(whole, who, 'nlp', when)] as const
      ]
      for (const [question, inFull] of pairs) {
        const answer = cedar.statefulIsAuthorized({
          ...inFull,
          action: { type: 'JobAccess::Action', id: inFull.action },
          preparsedPolicySetId: 'all',
          preparsedSchemaName: 'schema',
          validateRequest: true
        })
        if (answer.type === 'failure') throw new Error(answer.errors.map(({ message }) => message).join('; '))
        if (answer.response.diagnostics.errors.length > 0) throw new Error(JSON.stringify(answer.response.diagnostics.errors))
        const ours = engine.ask(question)
        if (ours.faults.length > 0) throw new Error(ours.faults.join('; '))
        const [expected, got] = [[answer.response.decision === 'allow', answer.response.diagnostics.reason.toSorted()],
          [ours.allowed, ours.policies.map(({ id }) => id).sort()]]
        if (JSON.stringify(expected) !== JSON.stringify(got)) throw new Error(JSON.stringify({ expected, got, question }))
        asking += 1
        if (ours.allowed) allowed += 1
      }
    }
  }), { numRuns: 60 })
  t.ok(allowed > asking / 50 && allowed < asking * 49 / 50, `${allowed} of ${asking} were allowed`)
})

t.test('what no policy mentions is left out', async t => {
  const cedar = openCedar()
  const engine = buildEngine(parsePolicies(cedar,
    '@id("a") permit (principal, action == JobAccess::Action::"read", resource is JobAccess::Access) when { resource.bucket == "a" };',
    'p'))
  const who = { id: 'u', kind: 'token' as const, teams: ['nlp'], attributes: { namespace: 'n', x: 'y' } }
  const question = requestsFor(engine.mentions, who, asked(), { now: new Date(0) })
    .access('read', entry({ bucket: 'a' }), { from: { kind: 'ip', cidrs: [] }, range: '10.0.0.0/8' })
  t.strictSame(question.context, {})
  t.strictSame(question.entities, [
    { uid: { type: 'JobAccess::Caller', id: 'u' }, attrs: {}, parents: [] },
    { uid: { type: 'JobAccess::Access', id: '' }, attrs: { bucket: 'a' }, parents: [] }
  ] satisfies EntityJson[])
})

t.test('a policy that uses the whole context mentions everything', async t => {
  const policy = (body: string) => {
    const answer = openCedar().policyToJson(`permit (principal, action, resource) when { ${body} };`)
    if (answer.type === 'failure') throw new Error(answer.errors[0]?.message)
    return mentionsOf([answer.json])
  }
  t.equal(policy('context.team == "x"').has('jobId'), false)
  t.equal(policy('context has team').has('jobId'), false)
  t.equal(policy('context == { team: "x" }').has('jobId'), true)
  t.equal(policy('[context].isEmpty()').has('jobId'), true)
  t.equal(policy('{ left: context }.left.team == "x"').has('jobId'), true)
  t.equal(policy('{ ".": context }["."].team == "x"').has('jobId'), true)
})
