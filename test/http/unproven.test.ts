import { pino } from 'pino'
import t from 'tap'
import { logOptions } from '../../src/log.ts'
import type { AccessSpec } from '../../src/domain/access-spec.ts'
import { appOf, bearer, bench, guideJob } from '../harness.ts'

/** The alarm of a renderer that is wrong, at the service: what the proof itself finds is test/policy/prove's. */

const changes: Array<[string, (spec: AccessSpec) => void]> = [
  ['allows what was not asked', ({ window }) => { window.outputNotAfter = window.notAfter = '2025-07-16T01:00:00Z' }],
  ['does not allow what was asked', ({ entries: [entry] }) => { if (entry) entry.delete = true }]
]

for (const [what, change] of changes) {
  t.test(`a policy that ${what}: 500, an alarm, and no key`, async t => {
    const b = await bench(t)
    // What was asked is changed behind the renderer's back: the guardrails are asked between rendering and proof.
    const { deps } = b
    const guardrails = deps.guardrails.current
    deps.guardrails = {
      current: {
        ...guardrails,
        decide (...question) {
          const decision = guardrails.decide(...question)
          change(question[1])
          return decision
        }
      }
    }

    const lines: string[] = []
    const app = await appOf(t, b, pino(logOptions('error'), { write: line => { lines.push(line) } }))
    for (const url of ['/v1/grants', '/v1/policies?preflight=true']) {
      lines.length = 0
      const answer = await app.inject({ method: 'POST', url, headers: bearer(b.tokens.nlp), payload: guideJob() })
      t.equal(answer.statusCode, 500, url)
      t.match(answer.json(), { code: 'policy-unproven' })
      t.notMatch(answer.body, /counterexample|aws:|arn:/, 'the caller is not told where')
      t.match(lines.join(''), /"code":"policy-unproven".*what was (not )?asked/s, 'the operator is')
    }
    t.strictSame(b.iam.calls, [], 'IAM was never asked')
    t.strictSame(await b.ledger.list({}, { limit: 10 }), [])
  })
}
