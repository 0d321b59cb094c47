import { allDone } from '../iam/retry.ts'
import { documentOf, keyOf, verdictOf, type Context, type Judged, type Lane } from './context.ts'
import { everything, wholeBucket } from './questions.ts'
import { removePolicy, removeRole, removeUser, rolePolicy } from './scratch.ts'
import type { Way } from '../iam/dialects/file.ts'

/** Ways to attach a policy: users with inline or managed policies, and sessions of a role. Each has several lanes, for speed. */

export const openLanes = async (context: Context, way: Way, callerArn: string | null): Promise<Lane[]> => {
  const has = (id: string) => context.found.findings.some(finding => finding.id === id && finding.verdict === 'yes')
  if (way === 'session') return openSessions(context, callerArn)
  if (!has('keys') || !has(way)) return []
  const lanes = await allDone(Array.from({ length: context.lanes }, (_, index) => openUser(context, way, index)))
  return lanes.filter(lane => lane !== null)
}

export const openUser = async (
  { store, scratch, scene }: Pick<Context, 'store' | 'scratch' | 'scene'>, way: 'inline' | 'managed', index: number
): Promise<Lane | null> => {
  const UserName = scratch.name(`-${way}-${index}`)
  const { call } = store
  const user = { UserName, Path: scratch.path, ...(scene.tagged && { Tags: [{ Key: 'doctor', Value: 'job-access' }] }) }
  const made = await scratch.make('CreateUser', user, () => removeUser(scratch.store, UserName))
  const minted = made.ok ? await call('CreateAccessKey', { UserName }) : made
  if (!minted.ok) return null
  const key = keyOf(minted.output.AccessKey)
  if (way === 'inline') {
    return { way, key, last: null, attach: PolicyDocument => call('PutUserPolicy', { UserName, PolicyName: 'job-access', PolicyDocument }) }
  }
  let number = 0
  let old: { name: string, arn: string } | null = null
  return {
    way,
    key,
    last: null,
    async attach (PolicyDocument) {
      const name = `${UserName}-${++number}`
      const policy = await scratch.make('CreatePolicy', { PolicyName: name, Path: scratch.path, PolicyDocument },
        output => removePolicy(scratch.store, name, output?.Policy?.Arn, UserName))
      if (!policy.ok) return policy
      const arn: string = policy.output.Policy?.Arn ?? ''
      const attached = await call('AttachUserPolicy', { UserName, PolicyArn: arn })
      if (!attached.ok) return attached
      if (old) {
        await removePolicy(store, old.name, old.arn, UserName)
      }
      old = { name, arn }
      return attached
    }
  }
}

const openSessions = async (context: Context, callerArn: string | null): Promise<Lane[]> => {
  const { store, note } = context
  const asks = 'AssumeRole with a session policy, tags and a source identity'
  const role = await roleOf(context, callerArn)
  if (role !== null && typeof role !== 'string') {
    note({ id: 'session', asks, ...role })
    return []
  }
  const as = { ...(role !== null && { RoleArn: role }), RoleSessionName: 'ja-doctor', DurationSeconds: 900 }
  const assume = (Policy: string, more = {}) => store.call('AssumeRole', { ...as, Policy, ...more })
  // As the service does. Tags take room of the policy: later they are left out.
  const asService = { Tags: [{ Key: 'doctor', Value: 'job-access' }], SourceIdentity: 'ja-doctor' }
  // A new role is known to STS after a while.
  let first = await assume(documentOf(...everything(context.scene)), asService)
  const patienceMs = role === null ? 0 : context.patienceMs
  for (const until = context.now() + patienceMs; !first.ok && first.code === 'AccessDenied' && context.now() < until;) {
    await context.pause(1_000)
    first = await assume(documentOf(...everything(context.scene)), asService)
  }
  note({ id: 'session', asks, ...verdictOf(first) })
  if (role === null) note({ id: 'no-role', asks: 'AssumeRole needs no RoleArn', ...verdictOf(first) })
  if (!first.ok) return []
  return Array.from({ length: context.lanes }, () => {
    const lane: Lane = {
      way: 'session',
      key: { accessKeyId: '', secretAccessKey: '' },
      last: null,
      async attach (policy) {
        const assumed = await assume(policy)
        if (assumed.ok) lane.key = keyOf(assumed.output.Credentials)
        return assumed
      }
    }
    return lane
  })
}

/**
 * The ARN of the role that was given, or of one of the doctor's own; null: there are no users either, so AssumeRole is asked without one,
 * as MinIO documents it (docs/sts/assume-role.md); else why there is none.
 */
const roleOf = async (
  { store, scratch, scene, note, roleArn, found }: Context, callerArn: string | null
): Promise<string | Judged | null> => {
  const RoleName = scratch.name('-role')
  const users = found.findings.some(({ id, verdict }) => id === 'users' && verdict === 'yes')
  const without = (why: Judged) => users ? why : null
  const asks = 'CreateRole, PutRolePolicy'
  const trust = JSON.stringify({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Principal: { AWS: callerArn }, Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity'] }]
  })
  if (callerArn === null) {
    note({ id: 'roles', asks, verdict: 'untried', detail: 'no call tells who the admin is, for a trust policy' })
    return roleArn ?? without({ verdict: 'untried', detail: 'give a role with --role' })
  }
  const role = await scratch.make('CreateRole', { RoleName, Path: scratch.path, AssumeRolePolicyDocument: trust },
    () => removeRole(scratch.store, RoleName))
  const put = role.ok
    ? await store.call('PutRolePolicy', { RoleName, PolicyName: rolePolicy, PolicyDocument: documentOf(...wholeBucket(scene)) })
    : role
  note({ id: 'roles', asks, ...verdictOf(put) })
  if (roleArn !== undefined) return roleArn
  return role.ok && put.ok ? role.output.Role?.Arn ?? '' : without({ verdict: 'untried', detail: 'there is no role: give one with --role' })
}

/** The longest policy of many Resources that is taken, up to a limit that no grant needs. */
export const sizeOf = async ({ scene, scratch, store, note }: Context, way: Way, [lane]: Lane[]): Promise<void> => {
  if (!lane) return
  const ofLength = (length: number): string => {
    const arn = (pad: number) => `arn:${scene.partition}:s3:::${scene.bucket}/${'x'.repeat(pad)}`
    const policy = (...Resource: string[]) => documentOf({ Effect: 'Allow', Action: 's3:GetObject', Resource })
    const Resource: string[] = []
    while (policy(...Resource, arn(60), arn(10)).length <= length) Resource.push(arn(60))
    return policy(...Resource, arn(length - policy(...Resource, arn(0)).length))
  }
  const name = scratch.name('-size')
  const takes = async (document: string): Promise<boolean> => {
    if (way !== 'managed') return (await lane.attach(document)).ok
    const made = await scratch.make('CreatePolicy', { PolicyName: name, Path: scratch.path, PolicyDocument: document },
      output => removePolicy(scratch.store, name, output?.Policy?.Arn))
    if (made.ok) await removePolicy(store, name, made.output.Policy?.Arn)
    return made.ok
  }
  let [low, high] = [512, 1024]
  while (high <= longest && await takes(ofLength(high))) [low, high] = [high, high * 2]
  if (low < longest) {
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if (await takes(ofLength(middle))) low = middle
      else high = middle
    }
  }
  const counted = low < longest && !await takes(ofLength(low).replace('{', '{ '))
  // The number is read again by src/iam/dialects/conclusions.ts.
  const detail = low === longest ? `${longest} characters or more` : `${low} characters, white space ${counted ? '' : 'not '}counted`
  note({ id: 'size', way, asks: `the longest ${way} policy`, verdict: 'yes', detail })
}

const longest = 16_384
