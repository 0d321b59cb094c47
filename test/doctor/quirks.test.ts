import t from 'tap'
import { complaints } from '../../src/doctor/verdict.ts'
import type { PolicyDocument, Statement } from '../../src/domain/policy-document.ts'
import { embeddedStore, examined, leftIn, type Quirks } from './embedded-store.ts'

const each = (change: (statement: Statement) => Statement | null) => ({ Version, Statement }: PolicyDocument): PolicyDocument =>
  ({ Version, Statement: Statement.flatMap(statement => change(statement) ?? []) })
const without = (pattern: RegExp) => (statement: Statement): Statement => ({
  ...statement,
  Condition: Object.fromEntries(Object.entries(statement.Condition ?? {}).filter(([operator]) => !pattern.test(operator)))
})

t.test('what a store does not enforce is found, and nothing else', async t => {
  const cases: Array<[what: string, quirks: Quirks, enforces: [window: boolean, address: boolean, prefix: boolean]]> = [
    ['it allows everything', { decides: 'always', anySecret: true }, [false, false, false]],
    ['it denies everything', { decides: 'never' }, [false, false, false]],
    ['it drops dates', { reads: each(without(/^Date/)) }, [false, true, true]],
    ['it drops Denies by date, as an engine does that never finds the key', {
      reads: each(statement => statement.Effect === 'Deny' && /Date/.test(JSON.stringify(statement)) ? null : statement)
    }, [false, true, true]],
    ['it drops addresses in Allows', { reads: each(statement => statement.Effect === 'Allow' ? without(/IpAddress/)(statement) : statement) }, [true, false, true]],
    ['it believes X-Forwarded-For', { forwarded: true }, [true, false, true]],
    ['it drops prefixes of objects', { reads: each(statement => statement.Effect === 'Allow' ? { ...statement, Resource: [statement.Resource ?? []].flat().flatMap(arn => [arn, arn.replace('/mine/*', '/theirs/*'), arn.replace('/mine/*', '/mine*')]) } : statement) }, [true, true, false]],
    ['it drops Denies', { reads: each(statement => statement.Effect === 'Deny' ? null : statement) }, [false, false, false]],
    ['it checks no secret', { anySecret: true }, [false, false, false]],
    ['a key may change its own policy', { anyKeyMay: 'PutUserPolicy' }, [false, false, false]]
  ]
  for (const [what, quirks, [window, address, prefix]] of cases) {
    const store = await embeddedStore(t, { ...quirks, inline: true })
    const found = await examined(store)
    t.strictSame(found.enforces, { window, address, prefix, deletion: quirks.decides !== 'never' }, what)
    t.strictSame(leftIn(store), [], `${what}: nothing stays`)
    t.not(complaints(found).length, 0, what)
  }
})

t.test('a deleted key that works on is found', async t => {
  const found = await examined(await embeddedStore(t, { deadKeysWork: true, inline: true }))
  t.strictSame(found.enforces, { window: true, address: true, prefix: true, deletion: false })
  t.strictSame(complaints(found), ['deletion: not shown to be enforced', 'no: a deleted key is dead (inline)'])
})
