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
