import t from 'tap'
import { startTestIam } from '../embedded-iam/levers/start.ts'
import { createIam, type Iam } from '../../src/iam/client.ts'

// An answer with status 200 that does not say what IAM did, for each call that the service makes.

const server = await startTestIam()
// No try is followed by another one: the wait is too long.
const iam = createIam({ region: 'us-east-1', endpoint: server.url, stsEndpoint: server.url, credentials: server.admin, random: () => 1e9 })
t.teardown(async () => {
  iam.close()
  await server.stop()
})

const arn = 'arn:aws:iam::000000000000:policy/job'
const until = () => Date.now() + 60_000
const key = { accessKeyId: 'AKIA0000000000000000', secretAccessKey: 'x' }
/** By the action that is asked: what the service calls, and whether it reads more of the answer than that it is one. */
const calls: Record<string, { call: (iam: Iam) => Promise<unknown>, isRead?: true }> = {
  CreateUser: { call: iam => iam.createUser({ name: 'job', path: '/', tags: {} }, until()) },
  GetUser: { call: iam => iam.getUser('job', until()), isRead: true },
  DeleteUser: { call: iam => iam.deleteUser('job', until()) },
  ListUsers: { call: iam => iam.listUsers('/', undefined, until()), isRead: true },
  PutUserPolicy: { call: iam => iam.putUserPolicy('job', 'p', '{}', until()) },
  GetUserPolicy: { call: iam => iam.getUserPolicy('job', 'p', until()), isRead: true },
  ListUserPolicies: { call: iam => iam.listUserPolicies('job', until()), isRead: true },
  DeleteUserPolicy: { call: iam => iam.deleteUserPolicy('job', 'p', until()) },
  CreateAccessKey: { call: iam => iam.createAccessKey('job', until()), isRead: true },
  ListAccessKeys: { call: iam => iam.listAccessKeys('job', until()), isRead: true },
  DeleteAccessKey: { call: iam => iam.deleteAccessKey('job', 'AKIA0000000000000000', until()) },
  CreatePolicy: { call: iam => iam.createPolicy({ name: 'p', document: '{}' }, until()), isRead: true },
  CreatePolicyVersion: { call: iam => iam.createPolicyVersion(arn, '{}', until()) },
  ListPolicyVersions: { call: iam => iam.listPolicyVersions(arn, until()), isRead: true },
  DeletePolicyVersion: { call: iam => iam.deletePolicyVersion(arn, 'v1', until()) },
  DeletePolicy: { call: iam => iam.deletePolicy(arn, until()) },
  GetPolicy: { call: iam => iam.getPolicyDocument(arn, until()), isRead: true },
  ListPolicies: { call: iam => iam.listPolicies('/', undefined, until()), isRead: true },
  ListEntitiesForPolicy: { call: iam => iam.listEntitiesForPolicy(arn, until()), isRead: true },
  AttachUserPolicy: { call: iam => iam.attachUserPolicy('job', arn, until()) },
  DetachUserPolicy: { call: iam => iam.detachUserPolicy('job', arn, until()) },
  ListAttachedUserPolicies: { call: iam => iam.listAttachedUserPolicies('job', until()), isRead: true },
  PutRolePolicy: { call: iam => iam.putRolePolicy('jobs', 'p', '{}', until()) },
  ListRolePolicies: { call: iam => iam.listRolePolicies('jobs', until()), isRead: true },
  DeleteRolePolicy: { call: iam => iam.deleteRolePolicy('jobs', 'p', until()) },
  GetRole: { call: iam => iam.roleBoundary('jobs', until()), isRead: true },
  AssumeRole: {
    call: iam => iam.assumeRole({
      roleArn: 'arn:aws:iam::000000000000:role/jobs', sessionName: 'job', policy: '{}', durationSeconds: 900, tags: {}, sourceIdentity: 'job'
    }, until()),
    isRead: true
  },
  GetCallerIdentity: { call: iam => iam.callerIdentity(key, until()), isRead: true }
}

t.test('every call of the client is in this table', async t => {
  const names = new Set(Object.keys(calls).map(name => name.toLowerCase()))
  const others: Record<string, string> = { getPolicyDocument: 'GetPolicy', callerIdentity: 'GetCallerIdentity', roleBoundary: 'GetRole', ownUser: 'GetUser' }
  for (const name of Object.keys(iam).filter(name => name !== 'close')) t.ok(names.has((others[name] ?? name).toLowerCase()), name)
})

for (const [action, { call, isRead }] of Object.entries(calls)) {
  t.test(action, async t => {
    const answer = (inner: string) => `<${action}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/">${inner}</${action}Response>`
    const metadata = '<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>'
    const bodies: Record<string, string> = {
      'no body': '',
      blank: ' \n',
      'a web page': '<html><body>Sorry</body></html>',
      'XML of something else': '<FooResponse/>',
      'the answer to another call': `<ListGroupsResponse><ListGroupsResult><IsTruncated>false</IsTruncated></ListGroupsResult>${metadata}</ListGroupsResponse>`,
      'an error with the wrong status': '<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>',
      JSON: '{}',
      'a part': answer(metadata).slice(0, -8),
      'the answer within a page': `<html>${answer(metadata)}</html>`,
      ...(isRead && {
        'no result': answer(metadata),
        'an empty result': answer(`<${action}Result/>${metadata}`),
        'the result of another call': answer(`<FooResult><A>1</A></FooResult>${metadata}`)
      }),
      ...(action.startsWith('List') && {
        'a page that goes on, and not where': answer(`<${action}Result><IsTruncated>true</IsTruncated></${action}Result>${metadata}`)
      }),
      ...(isRead && !action.startsWith('List') && {
        'a result without what is asked for': answer(`<${action}Result><Foo>1</Foo></${action}Result>${metadata}`)
      })
    }
    for (const [name, body] of Object.entries(bodies)) {
      const fault = server.faults.on({ action }, { kind: 'answer', status: 200, type: 'text/xml', body })
      await t.rejects(call(iam), { name: 'IamError', kind: 'unavailable', definite: false }, name)
      fault.remove()
    }
    if (isRead) return
    const plural = action.replace(/Policy$/, 'Policies')
    // As Ceph 16 answers.
    const ofCeph = `<${plural}Response>${metadata}</${plural}Response>`
    for (const body of [answer(metadata), ofCeph, `<?xml version="1.0" encoding="UTF-8"?>\n${answer('')}\n`, `<${action}Response/>`]) {
      const fault = server.faults.on({ action }, { kind: 'answer', status: 200, type: 'text/xml', body })
      await t.resolves(call(iam), body)
      fault.remove()
    }
  })
}
