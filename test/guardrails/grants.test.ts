import t from 'tap'
import { checks, loadGuardrails, type Caller } from '../../src/guardrails/guardrails.ts'
import { grantActions } from '../../src/guardrails/schema.ts'
import { at, nlp } from './sample.ts'

const grant = { team: 'nlp', jobId: 'j1', owner: 'token:nlp', labels: { tier: 'gold' } }
const everything = '@id("everything") permit (principal, action, resource);\n'

t.test('each action on a grant is decided separately', async t => {
  const empty = loadGuardrails('', 'rules.cedar')
  for (const permitted of grantActions) {
    const guardrails = loadGuardrails(`@id("one") permit (principal, action == JobAccess::Action::"${permitted}", resource);`,
      'rules.cedar')
    for (const action of grantActions) {
      t.strictSame(guardrails.decideOnGrant(nlp, grant, action, at).allowed, action === permitted,
        `${action} where ${permitted} is permitted`)
    }
    t.match(empty.decideOnGrant(nlp, grant, permitted, at),
      { allowed: false, decidedBy: [checks.noPolicy], findings: [{ code: 'forbidden', pointer: '' }] })
  }
})

t.test('a denial says what was refused', async t => {
  const guardrails = loadGuardrails(`${everything}@id("frozen") @hint("After the freeze.")
    forbid (principal, action in [JobAccess::Action::"collect", JobAccess::Action::"rotate", JobAccess::Action::"revoke",
      JobAccess::Action::"view"], resource);`, 'rules.cedar')
  for (const [action, words] of [
    ['collect', 'fetching the key of'], ['rotate', 'replacing the key of'], ['revoke', 'ending the grant of'],
    ['view', 'looking at the grant of']
  ] as const) {
    t.strictSame(guardrails.decideOnGrant(nlp, grant, action, at), {
      allowed: false,
      findings: [{
        code: 'forbidden',
        pointer: '',
        detail: `Policy "frozen" forbids ${words} job "j1" of team "nlp".`,
        hint: 'After the freeze.'
      }],
      decidedBy: ['frozen'],
      faults: []
    })
  }
})

t.test('a policy sees the grant: team, job, owner, labels, and the clock', async t => {
  for (const condition of [
    'resource.team == "nlp" && resource.jobId == "j1"',
    'resource.owner == principal',
    'resource.owner == JobAccess::Caller::"token:nlp"',
    'resource.hasTag("tier") && resource.getTag("tier") == "gold"',
    'context.now == datetime("2025-07-16")',
    'resource == JobAccess::Job::"j1"'
  ]) {
    const text = `@id("this") permit (principal, action == JobAccess::Action::"view", resource) when { ${condition} };`
    const guardrails = loadGuardrails(text, 'rules.cedar')
    t.equal(guardrails.decideOnGrant(nlp, grant, 'view', at).allowed, true, condition)
    t.equal(guardrails.decideOnGrant({ ...nlp, id: 'token:other' }, { ...grant, jobId: 'j2', labels: {}, owner: 'token:x' }, 'view',
      { now: new Date(0) }).allowed, false, `not: ${condition}`)
  }
})

t.test('no policy gives access to another team; the team "*" has access to all', async t => {
  const guardrails = loadGuardrails(everything, 'rules.cedar')
  const callers: Array<[Caller, boolean]> = [
    [nlp, true],
    [{ ...nlp, teams: ['vision'] }, false],
    [{ ...nlp, teams: [] }, false],
    [{ ...nlp, teams: ['*'] }, true],
    [{ ...nlp, teams: ['NLP'] }, false]
  ]
  for (const [caller, allowed] of callers) {
    for (const action of grantActions) {
      t.equal(guardrails.decideOnGrant(caller, grant, action, at).allowed, allowed,
      `${action} by ${caller.teams.join()}`)
    }
    t.equal(guardrails.decideOnTeam(caller, 'nlp', at).allowed, allowed, `list by ${caller.teams.join()}`)
    t.equal(guardrails.decideOnTeam(caller, '*', at).allowed, caller.teams.includes('*'), `list all by ${caller.teams.join()}`)
  }
  t.match(guardrails.decideOnGrant({ ...nlp, teams: ['vision'] }, grant, 'view', at),
    { decidedBy: [checks.team], findings: [{ pointer: '' }] })
})

t.test('listing is permitted by team', async t => {
  const guardrails = loadGuardrails(`
    @id("members") permit (principal, action == JobAccess::Action::"list", resource) when { principal in resource };
    @id("not-secret") forbid (principal, action == JobAccess::Action::"list", resource) when { resource.name == "secret" };`, 'rules.cedar')
  const caller = { ...nlp, teams: ['nlp', 'secret'] }
  t.strictSame(guardrails.decideOnTeam(caller, 'nlp', at), { allowed: true, decidedBy: ['members'] })
  t.match(guardrails.decideOnTeam(caller, 'secret', at), {
    allowed: false, decidedBy: ['not-secret'], findings: [{ detail: 'Policy "not-secret" forbids listing the grants of team "secret".' }]
  })
  t.match(guardrails.decideOnTeam({ ...nlp, teams: ['*'] }, 'nlp', at), { allowed: false, decidedBy: [checks.noPolicy] },
    'an administrator is in no team but "*"')
})
