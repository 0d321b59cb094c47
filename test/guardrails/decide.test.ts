import t from 'tap'
import { openCedar } from '../../src/guardrails/cedar.ts'
import { buildEngine, requestsFor } from '../../src/guardrails/engine.ts'
import { checks, loadGuardrails, maxQuestions, type Caller, type GuardrailDecision, type Guardrails } from '../../src/guardrails/guardrails.ts'
import type { Policy } from '../../src/guardrails/policies.ts'
import type { AccessSpec } from '../../src/domain/access-spec.ts'
import { asked, at, entry, nlp, now } from './sample.ts'

const everything = '@id("everything") permit (principal, action, resource);\n'
const loaded = new Map<string, Guardrails>()
const rules = (text: string): Guardrails => {
  const guardrails = loaded.get(text) ?? loadGuardrails(text, 'rules.cedar')
  loaded.set(text, guardrails)
  return guardrails
}
const decide = (text: string, request: AccessSpec = asked(), caller: Caller = nlp): GuardrailDecision =>
  rules(text).decide(caller, request, 'issue', at)
const on = (condition: string) => `${everything}
  @id("no") forbid (principal, action == JobAccess::Action::"read", resource) when { ${condition} };`

t.test('nothing is allowed that no policy permits', async t => {
  t.strictSame(decide(''), {
    allowed: false,
    findings: [{
      code: 'forbidden',
      pointer: '/job',
      detail: 'No policy permits a grant for job "j1" of team "nlp".',
      hint: 'Ask the operator of this service, or ask for less.'
    }],
    decidedBy: [checks.noPolicy],
    faults: []
  })
  const jobOnly = '@id("job") permit (principal, action == JobAccess::Action::"issue", resource);'
  t.match(decide(jobOnly), { findings: [{ pointer: '/access/0', detail: 'No policy permits reading "acmeco-data/".' }] })
  t.strictSame(decide(everything), { allowed: true, decidedBy: ['everything'] })
})

t.test('an entry needs each of its actions, and no other', async t => {
  const needs: Array<[what: string, part: Parameters<typeof entry>[0], actions: string[]]> = [
    ['read', { level: 'read' }, ['read']],
    ['write', { level: 'write' }, ['write']],
    ['write and list', { level: 'write', list: true }, ['read', 'write']],
    ['read and write', { level: 'read-write' }, ['read', 'write']],
    ['write and delete', { level: 'write', delete: true }, ['write', 'delete']],
    ['write and set ACLs', { level: 'write', acl: true }, ['write', 'setAcl']],
    ['all', { level: 'read-write', delete: true, acl: true }, ['read', 'write', 'delete', 'setAcl']],
    ['a canned ACL', { level: 'write', cannedAcl: 'private' }, ['write', 'setAcl']],
    ['versions', { level: 'read', versions: true }, ['read', 'readVersions']],
    ['tags and attributes', { level: 'read', tags: true, attributes: true }, ['read', 'tag']],
    ['restore', { level: 'read', restore: true }, ['read', 'restore']],
    ['all names', { level: 'read', prefix: 'a/', listNames: true }, ['read', 'listNames']],
    ['the directory’s own name, listed', { level: 'read', prefix: 'a/', bareName: true }, ['read', 'listNames']],
    ['the directory’s own name', { level: 'read', prefix: 'a/', bareName: true, list: false }, ['read']],
    ['uploads', { level: 'write', prefix: 'a/', uploads: true }, ['write', 'listUploads']],
    ['uploads of the whole bucket', { level: 'write', prefix: '', uploads: true }, ['write']]
  ]
  const permit = (actions: string[]) => `@id("job") permit (principal, action == JobAccess::Action::"issue", resource);
    ${actions.map(action => `@id("${action}") permit (principal, action == JobAccess::Action::"${action}", resource);`).join('\n')}`
  for (const [what, part, actions] of needs) {
    const request = asked({ entries: [entry(part)] })
    t.strictSame(decide(permit(actions), request), { allowed: true, decidedBy: ['job', ...actions] }, what)
    for (const missing of actions) {
      t.match(decide(permit(['read', 'write', 'delete', 'setAcl', 'readVersions', 'tag', 'restore', 'listNames', 'listUploads'].filter(action => action !== missing)), request),
        { allowed: false, findings: [{ pointer: '/access/0' }], decidedBy: [checks.noPolicy] }, `${what} without ${missing}`)
    }
  }
})

t.test('a policy on directories decides about a key, and about the beginning of keys, as about their directory', async t => {
  const team = '@id("job") permit (principal, action == JobAccess::Action::"issue", resource);' +
    '@id("nlp") permit (principal, action == JobAccess::Action::"read", resource) when { resource.prefix like "nlp/*" };'
  const secret = on('resource.prefix like "secret/*" || resource.prefix == ""')
  const folder = on('resource.folder != "nlp"')
  const table: [prefix: string, exact: boolean, team: boolean, secret: boolean, folder: boolean][] = [
    ['nlp/', false, true, true, true],
    ['nlp/a.bin', true, true, true, true],
    ['nlp/train-', false, true, true, true],
    ['nlp/a/train-', false, true, true, true],
    // Everything below nlp/ begins with "nl", and so does much else.
    ['nl', false, false, false, false],
    ['nlp', false, false, false, false],
    ['nlp', true, false, false, false],
    ['secret/key.pem', true, false, false, false],
    ['secr', false, false, false, false]
  ]
  for (const [prefix, exact, ...expected] of table) {
    const request = asked({ entries: [entry({ prefix, level: 'read', ...(exact && { exact: true as const }) })] })
    t.strictSame([team, secret, folder].map(text => decide(text, request).allowed), expected, `${prefix} ${exact ? 'key' : ''}`)
  }
  const exact = asked({ entries: [entry({ prefix: 'nlp/a.bin', exact: true })] })
  t.match(decide(on('resource.kind == "key"'), exact), { allowed: false, findings: [{ detail: /reading "acmeco-data\/nlp\/a.bin"/ }] })
  t.match(decide(on('resource has key && resource.key like "*.bin"'), exact), { allowed: false })
  const begun = asked({ entries: [entry({ prefix: 'nlp/train-' })] })
  t.match(decide(on('resource has keyPrefix && resource.keyPrefix == "nlp/train-"'), begun),
    { allowed: false, findings: [{ detail: /reading "acmeco-data\/nlp\/train-\*"/ }] })
  t.match(decide(on('resource has key'), begun), { allowed: true })
})

t.test('in the guide’s layout a job also reads where it writes, so that must be allowed, too', async t => {
  const without = (action: string) => `${everything}@id("no") forbid (principal, action == JobAccess::Action::"${action}", resource);`
  const request = asked({ layout: 'guide', entries: [entry({ level: 'write', acl: true })] })
  for (const action of ['read', 'write', 'setAcl']) {
    t.match(decide(without(action), request), { allowed: false, findings: [{ pointer: '/access/0' }], decidedBy: ['no'] }, action)
  }
  t.match(decide(without('delete'), request), { allowed: true })
})

t.test('issue, extend and render are decided separately', async t => {
  for (const action of ['issue', 'extend', 'render'] as const) {
    const guardrails = rules(`@id("job") permit (principal, action == JobAccess::Action::"${action}", resource);
      @id("entries") permit (principal, action, resource is JobAccess::Access);`)
    for (const tried of ['issue', 'extend', 'render'] as const) {
      t.equal(guardrails.decide(nlp, asked(), tried, at).allowed, tried === action, `${tried} where ${action} is permitted`)
    }
  }
})

t.test('a forbid wins over every permit, and the denial names it', async t => {
  const text = `${everything}
    @id("also") permit (principal, action, resource);
    @id("no-payroll") @hint("Payroll is not for training.")
    forbid (principal, action == JobAccess::Action::"read", resource) when { resource.bucket == "acmeco-payroll" };
    @id("not-this") forbid (principal, action == JobAccess::Action::"read", resource) when { resource.prefix == "x/" };
    @id("never-reached") forbid (principal, action == JobAccess::Action::"write", resource);`
  const request = asked({
    entries: [entry(), entry({ bucket: 'acmeco-payroll' }), entry({ bucket: 'acmeco-payroll', prefix: 'x/' }), entry({ prefix: 'x/' })]
  })
  t.strictSame(decide(text, request), {
    allowed: false,
    findings: [
      {
        code: 'forbidden',
        pointer: '/access/1',
        detail: 'Policy "no-payroll" forbids reading "acmeco-payroll/".',
        hint: 'Payroll is not for training.'
      },
      {
        code: 'forbidden',
        pointer: '/access/2',
        detail: 'Policies "no-payroll", "not-this" forbid reading "acmeco-payroll/x/".',
        hint: 'Payroll is not for training.'
      },
      {
        code: 'forbidden',
        pointer: '/access/3',
        detail: 'Policy "not-this" forbids reading "acmeco-data/x/".',
        hint: 'Ask the operator of this service, or ask for less.'
      }
    ],
    decidedBy: ['no-payroll', 'not-this'],
    faults: []
  })
})

t.test('when the job is refused, its entries are not decided', async t => {
  const text = `${everything}@id("no-jobs") forbid (principal, action == JobAccess::Action::"issue", resource);
    @id("no-reads") forbid (principal, action == JobAccess::Action::"read", resource);`
  t.match(decide(text), { findings: [{ pointer: '/job' }], decidedBy: ['no-jobs'] })
  t.equal((decide(text) as { findings: unknown[] }).findings.length, 1)
})

t.test('no policy gives access to another team; the team "*" has access to all', async t => {
  const foreign = asked({ job: { id: 'j1', team: 'vision', labels: {} } })
  t.strictSame(decide(everything, foreign), {
    allowed: false,
    findings: [{
      code: 'forbidden',
      pointer: '/job/team',
      detail: 'This identity does not belong to team "vision".',
      hint: 'Name a team of this identity, or use an identity of that team.'
    }],
    decidedBy: [checks.team],
    faults: []
  })
  for (const [teams, allowed] of [
    [['vision'], true], [['nlp', 'vision'], true], [['*'], true],
    [[], false], [['Vision'], false], [['vision '], false], [['visio*'], false], [['**'], false], [['.*'], false], [[''], false]
  ] as const) {
    t.equal(decide(everything, foreign, { ...nlp, teams: [...teams] }).allowed, allowed, JSON.stringify(teams))
  }
})

t.test('a policy sees the request as it is', async t => {
  const vpc = { kind: 'vpc' as const, vpcIds: ['vpc-1'], vpcEndpointIds: ['vpce-1', 'vpce-2'], cidrs: ['10.0.12.0/24'] }
  const oidc: Caller = {
    id: 'oidc:cluster#runner',
    kind: 'oidc',
    teams: ['nlp', 'vision'],
    attributes: {
      issuer: 'cluster',
      namespace: 'training',
      serviceAccount: 'runner',
      repository: 'a/b',
      ref: 'refs/heads/main',
      environment: 'prod',
      cluster: 'eu-1'
    }
  }
  const sees: Array<[condition: string, request?: AccessSpec, caller?: Caller]> = [
    ['resource.bucket == "acmeco-data" && resource.prefix == "" && resource.folder == ""'],
    ['resource.prefix == "nlp/runs/" && resource.folder == "nlp"', asked({ entries: [entry({ prefix: 'nlp/runs/' })] })],
    ['resource.list'],
    ['!resource.list', asked({ entries: [entry({ list: false })] })],
    ['resource.kmsKeyArns.isEmpty()'],
    ['resource.kmsKeyArns == ["arn:aws:kms:eu-west-1:111122223333:key/1"]',
      asked({ entries: [entry({ kmsKeyArns: ['arn:aws:kms:eu-west-1:111122223333:key/1'] })] })],
    ['context.windowSeconds == 10800'],
    ['context.windowSeconds == 11400', asked({ entries: [entry({ level: 'read-write' })] })],
    ['context.startsInSeconds == 0'],
    ['context.lifetimeSeconds == 10800'],
    ['context.start == datetime("2025-07-16T00:00:00Z") && context.end == datetime("2025-07-16T03:00:00Z")'],
    ['context.end == datetime("2025-07-16T03:10:00Z")', asked({ entries: [entry({ level: 'read-write' })] })],
    ['context.now == datetime("2025-07-16T00:00:00.000Z") && context.now.toTime() == duration("0s")'],
    ['context.attach == "session" && context.layout == "guarded"', asked({ attach: 'session', layout: 'guarded' })],
    ['context.team == "nlp" && context.jobId == "j1"'],
    ['!(context has profile)'],
    ['context has source && !(context has vpcSource) && !(context has vpcIds) && !(context has vpcEndpointIds)'],
    ['context has vpcSource && context.vpcSource == ip("10.0.12.0/24") && !(context has source)', asked({ source: vpc })],
    ['context has vpcIds && context.vpcIds == ["vpc-1"]', asked({ source: vpc })],
    ['context has vpcEndpointIds && context.vpcEndpointIds == ["vpce-2", "vpce-1"]', asked({ source: vpc })],
    ['!(context has vpcIds) && !(context has vpcSource)', asked({ source: { ...vpc, vpcIds: [], cidrs: [] } })],
    ['!(context has vpcArns)', asked({ source: vpc })],
    ['context has vpcArns && context.vpcArns == ["arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-1"]',
      asked({ source: { ...vpc, vpcArns: ['arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-1'] } })],
    ['!(context has source) && !(context has vpcSource)', asked({ source: { kind: 'any' } })],
    ['principal == JobAccess::Caller::"token:nlp" && principal.kind == "token" && principal.teams == ["nlp"]'],
    ['principal in JobAccess::Team::"nlp" && !(principal in JobAccess::Team::"vision")'],
    ['!(principal has issuer) && !(principal has namespace) && !principal.hasTag("cluster")'],
    ['principal in JobAccess::Team::"nlp" && principal in JobAccess::Team::"vision" && principal.teams.containsAll(["nlp", "vision"])',
      asked(), oidc],
    ['principal has issuer && principal.issuer == "cluster" && principal has serviceAccount && principal.serviceAccount == "runner"',
      asked(), oidc],
    ['principal has repository && principal.repository == "a/b" && principal has ref && principal has environment', asked(), oidc],
    ['principal has namespace && principal.namespace == "training"', asked(), oidc],
    ['principal.hasTag("cluster") && principal.getTag("cluster") == "eu-1" && !principal.hasTag("issuer")', asked(), oidc],
    ['resource == JobAccess::Access::"acmeco-data/"']
  ]
  for (const [condition, request = asked(), caller = nlp] of sees) {
    t.match(decide(on(condition), request, caller), { allowed: false, decidedBy: ['no'] }, condition)
    t.strictSame(decide(on(`!(${condition})`), request, caller), { allowed: true, decidedBy: ['everything'] }, `not: ${condition}`)
  }
})

t.test('a policy sees the job: owner, labels, and the longest window of its entries', async t => {
  const labelled = asked({
    job: { id: 'j1', team: 'nlp', labels: { tier: 'gold' } },
    entries: [entry(), entry({ level: 'write', prefix: 'o/' })]
  })
  for (const condition of [
    'resource.team == "nlp" && resource.jobId == "j1" && resource.owner == principal',
    'resource.hasTag("tier") && resource.getTag("tier") == "gold" && !resource.hasTag("cost")',
    'context.windowSeconds == 11400'
  ]) {
    const text = `${everything}@id("no") forbid (principal, action == JobAccess::Action::"issue", resource) when { ${condition} };`
    t.match(decide(text, labelled), { findings: [{ pointer: '/job' }], decidedBy: ['no'] }, condition)
  }
})

t.test('the caller that issues is the owner; the caller that extends may not be', async t => {
  const guardrails = rules(`@id("owners") permit (principal, action, resource is JobAccess::Job) when { resource.owner == principal };
    @id("entries") permit (principal, action, resource is JobAccess::Access);`)
  t.equal(guardrails.decide(nlp, asked(), 'issue', at).allowed, true)
  t.equal(guardrails.decide(nlp, asked(), 'render', at).allowed, true)
  t.equal(guardrails.decide(nlp, asked(), 'extend', { now, owner: nlp.id }).allowed, true)
  t.equal(guardrails.decide(nlp, asked(), 'extend', { now, owner: 'token:other' }).allowed, false)
  t.equal(guardrails.decide(nlp, asked(), 'extend', { now }).allowed, false)
  t.equal(guardrails.decide({ ...nlp, id: 'token:other' }, asked(), 'issue', { now, owner: nlp.id }).allowed, true,
    'issue takes no other owner')
})

t.test('the life of a grant counts from its first issue to the end of what the entry may do', async t => {
  const within = (seconds: number, name: 'issue' | 'extend' | 'render', firstIssuedAt?: Date, request = asked()) =>
    rules(`${everything}@id("no") forbid (principal, action == JobAccess::Action::"${name}", resource) when { context.lifetimeSeconds > ${seconds} };`)
      .decide(nlp, request, name, { now, owner: nlp.id, ...(firstIssuedAt && { firstIssuedAt }) }).allowed
  const dayBefore = new Date('2025-07-15T00:00:00Z')
  const writing = asked({ entries: [entry({ level: 'write' })] })
  for (const name of ['issue', 'render', 'extend'] as const) {
    t.same([within(10_800, name), within(10_799, name)], [true, false], `${name}: from now`)
  }
  t.same([within(97_200, 'extend', dayBefore), within(97_199, 'extend', dayBefore)], [true, false])
  t.same([within(97_800, 'extend', dayBefore, writing), within(97_799, 'extend', dayBefore, writing)], [true, false], 'with the grace')
  const half = new Date('2025-07-15T00:00:00.500Z')
  t.same([within(97_200, 'extend', half), within(97_199, 'extend', half)], [true, false], 'rounded up')
})

t.test('the profile and the clock are what the caller of decide() says', async t => {
  const profile = rules(on('context has profile && context.profile == "ci"'))
  t.equal(profile.decide(nlp, asked(), 'issue', { now, profile: 'ci' }).allowed, false)
  t.equal(profile.decide(nlp, asked(), 'issue', { now, profile: 'prod' }).allowed, true)
  const freeze = rules(on('context.now >= datetime("2025-12-24") || context.startsInSeconds < 0'))
  t.equal(freeze.decide(nlp, asked(), 'issue', { now: new Date('2025-12-24T00:00:00Z') }).allowed, false)
  t.equal(freeze.decide(nlp, asked(), 'issue', { now: new Date('2025-07-16T00:00:00.500Z') }).allowed, true,
    'half a second late is not yet one')
  t.equal(freeze.decide(nlp, asked(), 'issue', { now: new Date('2025-07-16T00:00:01Z') }).allowed, false)
})

t.test('every source range must be allowed, whole', async t => {
  const text = `${everything}@id("nat") forbid (principal, action in [JobAccess::Action::"read", JobAccess::Action::"write"], resource)
    unless { context has source && (context.source.isInRange(ip("203.0.113.0/24")) || context.source.isInRange(ip("2001:db8:42::/48"))) };`
  const from: Array<[cidrs: string[], refused: string | null]> = [
    [['203.0.113.42/32'], null],
    [['203.0.113.0/24'], null],
    [['203.0.113.0/25', '203.0.113.128/25'], null],
    [['203.0.112.0/23'], '203.0.112.0/23'],
    [['0.0.0.0/0'], '0.0.0.0/0'],
    [['203.0.113.42/32', '198.51.100.7/32', '198.51.100.9/32'], '198.51.100.7/32'],
    [['2001:db8:42::/48'], null],
    [['2001:db8:42:ffff::1/128'], null],
    [['2001:db8:42::/47'], '2001:db8:42::/47'],
    [['2001:db8:43::1/128'], '2001:db8:43::1/128'],
    [['203.0.113.42/32', '::/0'], '::/0']
  ]
  for (const [cidrs, refused] of from) {
    const decision = decide(text, asked({ source: { kind: 'ip', cidrs } }))
    if (refused === null) t.strictSame(decision, { allowed: true, decidedBy: ['everything'] }, cidrs.join())
    else {
      t.match(decision,
        { findings: [{ pointer: '/access/0', detail: `Policy "nat" forbids reading "acmeco-data/" from ${refused}.` }] }, cidrs.join())
    }
  }
  t.match(decide(text, asked({ source: { kind: 'any' } })), { findings: [{ detail: 'Policy "nat" forbids reading "acmeco-data/".' }] })
})

t.test('two alternatives are allowed when each of them is', async t => {
  const ip = { kind: 'ip' as const, cidrs: ['203.0.113.42/32', '198.51.100.7/32'] }
  const vpc = { kind: 'vpc' as const, vpcIds: ['vpc-1'], vpcArns: ['arn-1'], vpcEndpointIds: ['vpce-1'], cidrs: ['10.0.12.0/24', '10.0.13.0/24'] }
  const bare = { ...vpc, vpcArns: undefined as never, cidrs: [] }
  const conditions = [
    'context has source', 'context has vpcSource', 'context has vpcIds', 'context has vpcArns', '!(context has source)',
    '!(context has vpcSource)', '!(context has vpcEndpointIds && context.vpcEndpointIds == ["vpce-1"])',
    'context has source && context.source == ip("198.51.100.7/32")', 'context has vpcSource && context.vpcSource == ip("10.0.13.0/24")',
    'context has source && context has vpcIds', 'context has vpcIds && context.vpcIds == ["vpc-2"]'
  ]
  const allows = (condition: string, source: AccessSpec['source']) => decide(on(condition), asked({ source })).allowed
  for (const condition of conditions) {
    for (const endpoint of [vpc, bare]) {
      const each = allows(condition, ip) && allows(condition, endpoint)
      t.equal(allows(condition, { kind: 'either', ip, vpc: endpoint }), each, condition)
    }
  }
  const either = asked({ source: { kind: 'either', ip, vpc } })
  const questions = rules(on('context has source || context has vpcSource')).trace(nlp, either, 'issue', at)
  t.same(questions.filter(({ action }) => action === 'read').map(({ source }) => source), [...ip.cidrs, ...vpc.cidrs])
  const refusals: [string, RegExp][] = [
    ['context has vpcSource && context.vpcSource == ip("10.0.13.0/24")', /from 10\.0\.13\.0\/24\.$/],
    ['context has vpcIds', /from the VPC\.$/], ['!(context has vpcIds)', /from sourceIps\.$/]
  ]
  for (const [condition, detail] of refusals) t.match(decide(on(condition), either), { findings: [{ detail }] }, condition)
})

t.test('what cannot be evaluated is refused, and only the operator is told why', async t => {
  // Cedar would skip the forbid and allow.
  const overflow = on('context.windowSeconds * 9223372036854775807 > 0')
  const decision = decide(overflow)
  t.match(decision, {
    allowed: false,
    findings: [{ pointer: '/access/0', detail: 'The guardrails could not be evaluated for reading "acmeco-data/", so it is refused.' }],
    decidedBy: [checks.fault],
    faults: [/^policy "no": .*overflow/]
  })
  t.notMatch(JSON.stringify((decision as { findings: unknown }).findings), /overflow/)
  const window = { notBefore: '2025-07-16T00:00:00Z', notAfter: '2025-07-16T00:00:01Z', outputNotAfter: '2025-07-16T00:00:01Z' }
  t.match(decide(overflow, asked({ window })), { allowed: false, decidedBy: ['no'] }, 'without the overflow the forbid applies')
  const bad = decide(on('context has source && context.source.isLoopback()'), asked({ source: { kind: 'ip', cidrs: ['::ffff:10.0.0.1'] } }))
  t.match(bad, { allowed: false, decidedBy: [checks.fault], faults: [/IP address/] }, 'a request that Cedar does not take')
  t.match(decide(`${everything}@id("n") forbid (principal, action, resource is JobAccess::Access) when { resource.bucket == "x" };`,
    asked({ entries: [entry({ bucket: '\ud800' })] })),
  { allowed: false, decidedBy: [checks.fault] }, 'half a character')
})

t.test('a trap in the engine refuses one request, not the next ones', async t => {
  const cedar = openCedar()
  const policy = (id: string, text: string): Policy => {
    const answer = cedar.policyToJson(text)
    if (answer.type === 'failure') throw new Error(answer.errors[0]?.message)
    return { id, text, hint: null, effect: answer.json.effect, line: 1, json: answer.json }
  }
  // Deeper than parsePolicies() accepts.
  const chain = Array(1000).fill('resource.bucket == "x"').join(' || ')
  const engine = buildEngine([
    policy('deep', `forbid (principal, action == JobAccess::Action::"read", resource) when { ${chain} };`),
    policy('all', 'permit (principal, action, resource);')
  ])
  const questions = requestsFor(engine.mentions, nlp, asked(), at)
  const nowhere = { from: { kind: 'any' as const }, range: null }
  for (let round = 0; round < 2; round += 1) {
    t.match(engine.ask(questions.access('read', entry(), nowhere)), { allowed: false, policies: [], faults: [/^Cedar failed: /] })
    t.match(engine.ask(questions.access('write', entry(), nowhere)), { allowed: true, policies: [{ id: 'all' }], faults: [] })
  }
})

t.test('entries that differ only in what no policy looks at are evaluated once', async t => {
  const guardrails = rules(on('resource.bucket == "x"'))
  const request = asked({ entries: [entry({ prefix: 'a/' }), entry({ prefix: 'b/' }), entry({ bucket: 'other' })] })
  const [, first, second, third] = guardrails.trace(nlp, request, 'issue', at).map(({ answer }) => answer)
  t.equal(first, second)
  t.not(first, third)
})

t.test('no value becomes part of a policy, whatever it looks like', async t => {
  const hostile = [
    '"; permit (principal, action, resource); //', '"', '\\', '\\"', '\n', '\u0000', '\u202e', '*', '$' + '{aws:username}',
    '{"__entity":{"type":"JobAccess::Team","id":"*"}}',
    '__entity', '__extn', '__expr', '__proto__', 'constructor', 'JobAccess::Team::"*"', 'ip("0.0.0.0/0")', '🦊', 'a'.repeat(10_000)
  ]
  const text = `@id("job") permit (principal, action == JobAccess::Action::"issue", resource);
    @id("own") permit (principal, action,
      resource is JobAccess::Access) when { resource.bucket == "acmeco-data" && resource.folder == context.team };
    @id("admins") permit (principal in JobAccess::Team::"*", action, resource);
    @id("tags") permit (principal, action,
      resource is JobAccess::Access) when { principal.hasTag("admin") && principal.getTag("admin") == "yes" };
    @id("named") permit (principal == JobAccess::Caller::"root", action, resource);
    @id("labels") permit (principal, action, resource is JobAccess::Job) when { resource.hasTag("admin") };
    @id("nat") forbid (principal, action, resource) when { context has source && !context.source.isInRange(ip("203.0.113.0/24")) };`
    .replace('forbid (principal, action, resource)',
      'forbid (principal, action in [JobAccess::Action::"read", JobAccess::Action::"issue"], resource)')
  const guardrails = rules(text)
  for (const value of hostile) {
    const name = JSON.stringify(value).slice(0, 60)
    t.match(guardrails.decide(nlp, asked({ entries: [entry({ bucket: value, prefix: 'nlp/' })] }), 'issue', at),
      { allowed: false, decidedBy: [checks.noPolicy] }, `bucket ${name}`)
    t.match(guardrails.decide(nlp, asked({ entries: [entry({ prefix: `${value}/` })] }), 'issue', at),
      { allowed: false, decidedBy: [checks.noPolicy] }, `prefix ${name}`)
    t.match(guardrails.decide({ ...nlp, id: value }, asked({ entries: [entry({ bucket: 'other' })] }), 'issue', at),
      { allowed: false, decidedBy: [checks.noPolicy] }, `caller ${name}`)
    t.match(guardrails.decide({ ...nlp, attributes: { [value]: 'yes', x: value } }, asked({ entries: [entry({ bucket: 'other' })] }),
      'issue', at),
    { allowed: false, decidedBy: [checks.noPolicy] }, `attribute ${name}`)
    if (value !== '*') {
      const theirs = { ...nlp, teams: [value] }
      const mine = asked({ job: { id: value, team: value, labels: { [value]: value } }, entries: [entry({ bucket: 'other' })] })
      t.match(guardrails.decide(theirs, mine, 'issue', at), { allowed: false, decidedBy: [checks.noPolicy] }, `team ${name}`)
      t.match(guardrails.decide(nlp, mine, 'issue', at), { allowed: false, decidedBy: [checks.team] }, `another's team ${name}`)
    }
  }
  t.equal(guardrails.decide({ ...nlp, attributes: { admin: 'yes' } }, asked({ entries: [entry({ bucket: 'other' })] }), 'issue',
    at).allowed, true, 'the rules do permit something')
})

t.test('a request with too many questions is refused without asking them', async t => {
  const cidrs = Array.from({ length: 50 }, (_, index) => `203.0.113.${index}/32`)
  const entries = (count: number) => Array.from({ length: count }, (_, index) => entry({ prefix: `p${index}/` }))
  const looks = on('context has source && context.source.isLoopback()')
  t.equal(decide(looks, asked({ entries: entries(3), source: { kind: 'ip', cidrs } })).allowed, true)
  t.match(decide(looks, asked({ entries: entries(40), source: { kind: 'ip', cidrs } })), {
    allowed: false,
    findings: [{
      code: 'forbidden',
      pointer: '',
      detail: `2001 decisions would be needed, one per access entry and source range; the limit is ${maxQuestions}.`
    }],
    decidedBy: [checks.questions]
  })
  t.equal(decide(everything, asked({ entries: entries(40), source: { kind: 'ip', cidrs } })).allowed, true,
    'where no policy looks at the source, it is not asked per range')
})

t.test('the trace has every question with the policies that decided', async t => {
  const guardrails = rules(`${everything}@id("nat") forbid (principal, action == JobAccess::Action::"write", resource)
    when { context has source && context.source.isIpv6() };`)
  const request = asked({
    entries: [entry(), entry({ level: 'write', prefix: 'o/' })],
    source: { kind: 'ip', cidrs: ['203.0.113.1/32', '2001:db8::/64'] }
  })
  t.strictSame(guardrails.trace(nlp, request, 'issue',
    at).map(({ pointer, action, source, answer }) => [pointer, action, source, answer.allowed, ...answer.policies.map(({ id }) => id)]), [
    ['/job', 'issue', null, true, 'everything'],
    ['/access/0', 'read', null, true, 'everything'],
    ['/access/1', 'write', '203.0.113.1/32', true, 'everything'],
    ['/access/1', 'write', '2001:db8::/64', false, 'nat']
  ])
})
