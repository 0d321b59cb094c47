import { readFileSync } from 'node:fs'
import t from 'tap'
import { loadGuardrails } from '../../src/guardrails/guardrails.ts'
import { callerNamed } from '../harness.ts'

const guardrails = loadGuardrails(readFileSync(new URL('../../guardrails/open.cedar', import.meta.url), 'utf8'), 'open.cedar')
const grant = { team: 'nlp', jobId: 'job', owner: 'token:nlp', labels: {} }
const at = { now: new Date('2025-07-16T00:00:00Z') }

t.test('the open set: everybody of the team may look and end, only the owner gets a key', async t => {
  for (const action of ['collect', 'rotate', 'revoke', 'view'] as const) {
    t.ok(guardrails.decideOnGrant(callerNamed('token:nlp', ['nlp']), grant, action, at).allowed, `the owner: ${action}`)
    for (const other of [callerNamed('token:mate', ['nlp']), callerNamed('token:admin', ['*'])]) {
      t.equal(guardrails.decideOnGrant(other, grant, action, at).allowed, ['revoke', 'view'].includes(action), `${other.id}: ${action}`)
    }
  }
})

t.test('a set decides the same where Cedar need not be asked', async t => {
  const everything = '@id("all") permit (principal, action, resource);'
  const sets: [string, string, boolean, string[]][] = [
    ['a permit of everything', everything, true, ['all']],
    ['a permit of the action on jobs', '@id("jobs") permit (principal, action == JobAccess::Action::"view", resource is JobAccess::Job);', true, ['jobs']],
    ['two permits', `${everything} @id("again") permit (principal, action, resource);`, true, ['all', 'again']],
    ['a forbid', `${everything} @id("none") forbid (principal, action, resource);`, false, ['none']],
    ['a forbid alone', '@id("none") forbid (principal, action, resource);', false, ['none']],
    ['a forbid of another action', `${everything} @id("none") forbid (principal, action == JobAccess::Action::"revoke", resource);`, true, ['all']],
    ['a permit of another action', '@id("else") permit (principal, action == JobAccess::Action::"revoke", resource);', false, ['no policy']],
    ['a condition', '@id("ci") permit (principal, action, resource is JobAccess::Job) when { resource.owner == principal };', false, ['no policy']],
    ['a condition beside', `${everything} @id("ci") permit (principal, action, resource is JobAccess::Job) when { resource.owner == principal };`, true, ['all']],
    ['one principal', '@id("one") permit (principal == JobAccess::Caller::"token:nlp", action, resource);', false, ['no policy']],
    ['principals of a type', '@id("type") permit (principal is JobAccess::Caller, action, resource);', true, ['type']],
    ['one job', '@id("one") permit (principal, action, resource == JobAccess::Job::"other");', false, ['no policy']],
    ['nothing', '', false, ['no policy']]
  ]
  for (const [name, text, allowed, decidedBy] of sets) {
    const decision = loadGuardrails(text, 'test.cedar').decideOnGrant(callerNamed('token:mate', ['nlp']), grant, 'view', at)
    t.match(decision, { allowed, decidedBy }, name)
    t.equal(decision.decidedBy.length, decidedBy.length, name)
  }
})
