import { AttachUserPolicyCommand, CreatePolicyCommand, CreateUserCommand, IAMClient, PutUserPolicyCommand } from '@aws-sdk/client-iam'
import t from 'tap'
import { startTestIam } from '../embedded-iam/levers/start.ts'
import { createIam, type Iam } from '../../src/iam/client.ts'
import { dialects } from '../../src/iam/dialects/index.ts'
import { principalName, principalPath } from '../../src/iam/names.ts'
import { IamError } from '../../src/iam/errors.ts'
import { settleMs, type PrincipalPlan } from '../../src/iam/provisioner.ts'
import { otherNameOf } from '../../src/iam/policy-swap.ts'
import { userProvisioner, type UserProvisionerOptions } from '../../src/iam/user-provisioner.ts'
import { defaultLimits } from '../../src/policy/limits.ts'
import { guideRequest } from '../../src/request.ts'
import type { Clock } from '../../src/iam/retry.ts'
import { accessOf } from '../harness.ts'

// Users at providers other than AWS: without paths, without policy versions, with keys that can create keys.
// Time passes when the code under test waits.

const now = Date.parse('2025-07-16T00:30:00Z')
const expiresAt = Date.parse('2025-07-16T03:30:00Z')
const policyFor = (change: object = {}) =>
  accessOf({ limits: defaultLimits, dialect: dialects.aws, profiles: {} }, { ...guideRequest, ...change }, now).policy
const longer = { window: { durationSeconds: 18_000 } }
const name = principalName('ja', 'job-42', expiresAt, '01k0000000000000000000000a')
let passed = 0
const waits: Clock = { now: () => now + passed, pause: async ms => { passed += Math.ceil(ms) } }
const soon = () => waits.now() + 5_000

const onNames: Partial<UserProvisionerOptions> = { policyVersions: false, identityProbe: 'iam', selfService: true }

const bench = async (
  t: { teardown: (end: () => unknown) => void }, change: Partial<UserProvisionerOptions> = onNames, wrap: (iam: Iam) => Iam = iam => iam
) => {
  const server = await startTestIam()
  const iam = createIam({ region: 'us-east-1', endpoint: server.url, stsEndpoint: server.url, credentials: server.admin, now: waits.now, sleep: waits.pause })
  const sdk = new IAMClient({ endpoint: server.url, region: 'us-east-1', credentials: server.admin })
  t.teardown(async () => {
    iam.close()
    sdk.destroy()
    await server.stop()
  })
  const shared = { iam: wrap(iam), tagged: false, now: () => now, clock: waits, ...change }
  const byName = userProvisioner({ ...shared, prefix: 'ja' } as UserProvisionerOptions)
  const byPath = userProvisioner({ ...shared, pathBase: '/job-access/' } as UserProvisionerOptions)
  return { server, iam, sdk, byName, byPath }
}
const planOf = (change: Partial<PrincipalPlan> = {}): PrincipalPlan => ({
  ref: { name, path: '/', policyArn: null, roleArn: null }, attachment: 'managed', policy: policyFor(), tags: {}, withKey: true, ...change
})
const listed = async (list: AsyncIterable<{ ref: { name: string }, expiresAt: number | undefined }>) => {
  const found: Array<[string, number | undefined]> = []
  for await (const { ref, expiresAt } of list) found.push([ref.name, expiresAt])
  return found
}

t.test('without paths the name tells whether a user is ours, and when it ends', async t => {
  const { sdk, byName, byPath } = await bench(t)
  await byName.create(planOf(), soon())
  for (const [UserName, Path] of [['admin', '/'], ['ja-somebody', '/'], ['jane-20250716t033000z-01k0000000000000000000000b', '/'], ['odd', '/job-access/odd/']]) {
    await sdk.send(new CreateUserCommand({ UserName, Path }))
  }
  t.strictSame(await listed(byName.list(soon)), [[name, expiresAt]], 'nobody else is ours, or reported')
  t.strictSame(await listed(byPath.list(soon)), [['odd', undefined]], 'below our path everybody is told')
  const path = principalPath('/job-access/', expiresAt)
  await byPath.create(planOf({ ref: { name: 'ja-below', path, policyArn: null, roleArn: null } }), soon())
  t.strictSame((await listed(byPath.list(soon))).find(([found]) => found === 'ja-below'), ['ja-below', expiresAt])
})

t.test('without policy versions a second policy takes over', async t => {
  const { server, byName } = await bench(t)
  const { ref, credentials } = await byName.create(planOf(), soon())
  const policies = () => server.state.policies.filter(policy => policy.name.startsWith('ja-')).map(policy => [policy.name, policy.attachedTo])
  const second = await byName.replacePolicy(ref, 'managed', policyFor(longer), soon())
  t.strictSame(policies(), [[otherNameOf(name), [name]]])
  t.equal(second.policyArn, otherNameOf(ref.policyArn ?? ''))
  t.equal(await byName.policyEnd(second, soon()), now + 18_000_000)
  t.strictSame(server.state.user(name)?.keys.map(key => key.id), [credentials?.accessKeyId], 'the key stays')
  const third = await byName.replacePolicy(second, 'managed', policyFor(), soon())
  t.strictSame(policies(), [[name, [name]]], 'and back')
  t.equal(await byName.teardown({ ref: third, attachment: 'managed', keyIds: [credentials?.accessKeyId ?? ''], others: false, mintedAt: now }, soon()), 'gone')
  t.strictSame(policies(), [])
  t.equal(server.state.userCount, 0)
})

t.test('an interrupted change leaves two policies; the teardown removes both', async t => {
  for (const attach of [true, false]) {
    const { server, sdk, byName } = await bench(t)
    const { ref, credentials } = await byName.create(planOf(), soon())
    const { Policy } = await sdk.send(
      new CreatePolicyCommand({ PolicyName: otherNameOf(name), PolicyDocument: JSON.stringify(policyFor(longer)) })
    )
    if (attach) await sdk.send(new AttachUserPolicyCommand({ UserName: name, PolicyArn: Policy?.Arn }))
    t.equal(await byName.policyEnd(ref, soon()), attach ? now + 18_000_000 : expiresAt, 'the later end of those that count')
    t.equal(await byName.teardown({ ref, attachment: 'managed', keyIds: [credentials?.accessKeyId ?? ''], others: false, mintedAt: now }, soon()), 'gone')
    t.strictSame(server.state.policies.filter(policy => policy.name.startsWith('ja-')), [])
  }
})

t.test('a policy of an interrupted creation is found by its name', async t => {
  for (const [what, attach] of [['never attached', false], ['attached', true]] as const) {
    for (const policy of [name, otherNameOf(name)]) {
      const { server, sdk, byName } = await bench(t)
      await sdk.send(new CreateUserCommand({ UserName: name }))
      const { Policy } = await sdk.send(new CreatePolicyCommand({ PolicyName: policy, PolicyDocument: JSON.stringify(policyFor()) }))
      if (attach) await sdk.send(new AttachUserPolicyCommand({ UserName: name, PolicyArn: Policy?.Arn }))
      t.equal(await byName.teardown({ ref: planOf().ref, attachment: 'managed', keyIds: [], others: true, mintedAt: now }, soon()), 'gone')
      t.equal(server.state.userCount, 0)
      t.strictSame(server.state.policies.filter(({ name }) => name.startsWith('ja-')), [], `${what}, ${policy}`)
    }
  }
})

t.test('a creation that finds its policy already there replaces the text', async t => {
  for (const policyVersions of [true, false]) {
    const { server, byName, sdk } = await bench(t, { policyVersions })
    await sdk.send(new CreatePolicyCommand({ PolicyName: name, PolicyDocument: JSON.stringify(policyFor(longer)) }))
    const { ref } = await byName.create(planOf(), soon())
    const own = server.state.policies.filter(policy => policy.name.startsWith('ja-'))
    t.equal(own.length, 1)
    t.equal(own[0]?.arn, ref.policyArn)
    t.strictSame(own[0]?.attachedTo, [name])
    t.strictSame(JSON.parse(own[0]?.versions[own[0].defaultVersion] ?? ''), policyFor())
  }
})

t.test('a policy that somebody else attached is detached, and not deleted', async t => {
  const { server, sdk, byName } = await bench(t, { policyVersions: true })
  const { ref } = await byName.create(planOf({ attachment: 'inline' }), soon())
  const { Policy } = await sdk.send(new CreatePolicyCommand({ PolicyName: `x-${name}`, PolicyDocument: JSON.stringify(policyFor()) }))
  await sdk.send(new AttachUserPolicyCommand({ UserName: name, PolicyArn: Policy?.Arn }))
  t.equal(await byName.teardown({ ref, attachment: 'inline', keyIds: [], others: true, mintedAt: now }, soon()), 'gone')
  t.strictSame(server.state.policies.filter(policy => policy.name.endsWith(name)).map(policy => policy.name), [`x-${name}`])
})

t.test('without managed policies nothing asks for them', async t => {
  const unsupported = async (): Promise<never> => { throw new IamError('unsupported', 'test', 'InvalidAction', undefined) }
  const { server, sdk, byPath } = await bench(t, { managedPolicies: false }, iam =>
    ({
      ...iam,
      createPolicy: unsupported,
      listPolicies: unsupported,
      listAttachedUserPolicies: unsupported,
      attachUserPolicy: unsupported,
      detachUserPolicy: unsupported
    }))
  const nothing = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Deny', Action: '*', Resource: '*' }] })
  const path = principalPath('/job-access/', expiresAt)
  const plan = planOf({ ref: { name, path, policyArn: null, roleArn: null }, attachment: 'inline' })
  const { ref } = await byPath.create(plan, soon())
  t.equal(await byPath.policyEnd(ref, soon()), expiresAt)
  await byPath.discard(ref, soon())
  t.strictSame([...server.state.users], [], 'a stray is removed with key and policy')

  await byPath.create(plan, soon())
  await sdk.send(new PutUserPolicyCommand({ UserName: name, PolicyName: 'by-somebody', PolicyDocument: nothing }))
  const target = { ref, attachment: 'inline' as const, keyIds: [], others: true, mintedAt: now }
  t.equal(await byPath.teardown(target, soon()), 'gone', 'also what somebody else has put on it')
  t.strictSame([...server.state.users], [])
  t.equal(await byPath.teardown({ ...target, mintedAt: now - settleMs }, soon()), 'gone')
})

t.test('where a key can create keys, keys are deleted until none is left', async t => {
  let makes = 3
  const { server, byName, iam } = await bench(t, onNames, iam => ({
    ...iam,
    async deleteAccessKey (user, id, until) {
      await iam.deleteAccessKey(user, id, until)
      // Whoever held it had made another one just before.
      if (makes-- > 0) await iam.createAccessKey(user, until)
    }
  }))
  const { ref, credentials } = await byName.create(planOf(), soon())
  const fresh = await iam.createAccessKey(name, soon())
  await byName.deleteKey(ref, credentials?.accessKeyId ?? '', [fresh.accessKeyId], soon())
  t.strictSame(server.state.user(name)?.keys.map(key => key.id), [fresh.accessKeyId])
  t.ok(makes < 0, 'three of them')
})

t.test('where a key cannot create keys, one call deletes it', async t => {
  const { server, byName } = await bench(t, {})
  const { ref, credentials } = await byName.create(planOf(), soon())
  const before = server.calls.length
  await byName.deleteKey(ref, credentials?.accessKeyId ?? '', [], soon())
  t.strictSame(server.calls.slice(before).map(call => call.action), ['DeleteAccessKey'])
})

t.test('ready: the key is known, and is the user’s', async t => {
  for (const [probe, asked] of [['sts', 'GetCallerIdentity'], ['iam', 'GetUser']] as const) {
    const { server, byName } = await bench(t, { identityProbe: probe }, iam => ({
      ...iam, ownUser: async () => `arn:aws:iam::000000000000:user/${name}`
    }))
    const { ref, credentials } = await byName.create(planOf(), soon())
    if (!credentials) return t.fail('no key')
    t.equal(await byName.ready(ref, credentials, soon()), true, probe)
    t.equal(await byName.ready({ ...ref, name: 'somebody-else' }, credentials, soon()), false, 'another’s')
    if (probe === 'sts') t.ok(server.calls.some(call => call.action === asked))
  }
  const { byName, server } = await bench(t, { identityProbe: null })
  const { ref, credentials } = await byName.create(planOf(), soon())
  const before = server.calls.length
  t.equal(credentials && await byName.ready(ref, credentials, soon()), false, 'nothing to ask')
  t.equal(server.calls.length, before)
})

t.test('ping asks for one small answer', async t => {
  const { server, byName, byPath } = await bench(t)
  await byName.ping(soon())
  await byPath.ping(soon())
  t.match(server.calls, [
    { action: 'GetUser', params: { UserName: 'ja-ping' }, status: 404 }, { action: 'ListUsers', params: { PathPrefix: '/job-access/0/' }, status: 200 }
  ])
  await server.stop()
  t.match(await byName.ping(soon()).catch((error: unknown) => error), { kind: 'unavailable' })
})

t.test('both policies of a grant are removed, also when the list has two pages', async t => {
  const { iam, server, byName } = await bench(t, onNames, iam => ({
    ...iam,
    async listPolicies (path, marker, until) {
      const [first, ...others] = (await iam.listPolicies(path, undefined, until)).policies
      return marker ? { policies: others } : { policies: first ? [first] : [], marker: 'more' }
    }
  }))
  const { ref, credentials } = await byName.create(planOf(), soon())
  await iam.createPolicy({ name: otherNameOf(name), document: JSON.stringify(policyFor(longer)) }, soon())
  const keyIds = [credentials?.accessKeyId ?? '']
  const target = { ref: { ...ref, policyArn: null }, attachment: 'managed' as const, keyIds, others: false, mintedAt: now }
  t.equal(await byName.teardown(target, soon()), 'gone')
  t.same(server.state.policies, [])
})

t.test('a key that the provider does not list yet dies by its id', async t => {
  const { server, byName } = await bench(t, onNames, iam => ({ ...iam, listAccessKeys: async () => [] }))
  const { ref, credentials } = await byName.create(planOf({ attachment: 'inline' }), soon())
  const target = { ref, attachment: 'inline' as const, keyIds: [credentials?.accessKeyId ?? ''], others: true, mintedAt: now }
  t.equal(await byName.teardown(target, soon()), 'gone')
  t.same([server.state.keyCount, server.state.userCount], [0, 0])
})

t.test('where IAM denies to show a user, the list says whether there is one', async t => {
  const { byName } = await bench(t, onNames, iam => ({
    ...iam, getUser: () => Promise.reject(new IamError('denied', 'GetUser', 'AccessDenied', undefined))
  }))
  const { ref } = await byName.create(planOf(), soon())
  t.equal(await byName.exists(ref, soon()), true)
  t.equal(await byName.exists({ ...ref, name: 'nobody' }, soon()), false)
})

t.test('the end that another policy on the user states does not count', async t => {
  const { iam, byName } = await bench(t)
  const { ref } = await byName.create(planOf(), soon())
  const other = await iam.createPolicy({ name: 'of-somebody-else', document: JSON.stringify(policyFor(longer)) }, soon())
  await iam.attachUserPolicy(name, other, soon())
  t.equal(await byName.policyEnd(ref, soon()), expiresAt)
})

t.test('a creation that fails ends when its key is made, so that the key can be found', async t => {
  const made: string[] = []
  const { byName } = await bench(t, onNames, iam => ({
    ...iam,
    createPolicy: () => Promise.reject(new IamError('malformed', 'CreatePolicy', 'MalformedPolicyDocument', undefined)),
    async createAccessKey (...given) {
      const key = await iam.createAccessKey(...given)
      made.push(key.accessKeyId)
      return key
    }
  }))
  await t.rejects(byName.create(planOf(), soon()), { name: 'IamError', operation: 'CreatePolicy' })
  t.equal(made.length, 1)
})
