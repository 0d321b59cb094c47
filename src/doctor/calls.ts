import { absent, documentOf, keyOf, kept, verdictOf, type Context } from './context.ts'
import { everything } from './questions.ts'
import { removePolicy, removeUser } from './scratch.ts'
import type { Called } from './store.ts'

/** Which calls of IAM there are, and whether they keep what they are given. */

const decoded = (text: string): string => text.startsWith('{') ? text : decodeURIComponent(text)

const versioned = 'CreatePolicyVersion with a Deny, which becomes the default'

/** Notes which calls there are. The ARN of the admin, for the trust policy of a role. */
export const askCalls = async (context: Context): Promise<string | null> => {
  const { store: { call }, scratch, scene, note } = context
  const UserName = scratch.name('-calls')
  const Path = scratch.path
  const tag = { Tags: [{ Key: 'doctor', Value: 'job-access' }] }
  const create = (extra: object) => scratch.make('CreateUser', { UserName, Path, ...extra }, () => removeUser(scratch.store, UserName))
  const withTag = await create(tag)
  const user = withTag.ok ? withTag : await create({})
  note({ id: 'users', asks: 'CreateUser', ...verdictOf(user) })
  const caller = await call('GetCallerIdentity', {})
  const self = await call('GetUser', {})
  const callerArn: string | null = (caller.ok && caller.output.Arn) || (self.ok && self.output.User?.Arn) || null

  const document = documentOf(...everything(scene))
  const PolicyName = scratch.name('-calls')
  const policy = await scratch.make('CreatePolicy', { PolicyName, Path, PolicyDocument: document },
    output => removePolicy(scratch.store, PolicyName, output?.Policy?.Arn))
  const arn: string = (policy.ok && policy.output.Policy?.Arn) || `arn:${scene.partition}:iam::aws:policy/AmazonS3ReadOnlyAccess`
  note({ id: 'managed', asks: 'CreatePolicy', ...verdictOf(policy) })
  if (policy.ok) {
    const deny = documentOf({ Effect: 'Deny', Action: 's3:*', Resource: '*' })
    const changed = await call('CreatePolicyVersion', { PolicyArn: arn, PolicyDocument: deny, SetAsDefault: true })
    const got = await call('GetPolicy', { PolicyArn: arn })
    const version = changed.ok && got.ok
      ? await call('GetPolicyVersion', { PolicyArn: arn, VersionId: got.output.Policy?.DefaultVersionId })
      : changed
    const same = version.ok && decoded(version.output.PolicyVersion?.Document ?? '{}').includes('Deny')
    note({ id: 'versions', asks: versioned, ...(version.ok ? kept(same) : verdictOf(version)) })
  } else {
    note({ id: 'versions', asks: versioned, verdict: 'no', detail: 'no CreatePolicy' })
  }
  if (!user.ok) return callerArn

  const got = await call('GetUser', { UserName })
  const tags = await call('ListUserTags', { UserName })
  const has = (list: any): boolean => Array.isArray(list) && list.some(({ Key, Value }) => Key === 'doctor' && Value === 'job-access')
  const tagged = withTag.ok && ((got.ok && has(got.output.User?.Tags)) || (tags.ok && has(tags.output.Tags)))
  Object.assign(scene, { tagged })
  const pathed = await call('ListUsers', { PathPrefix: Path })
  const elsewhere = await call('ListUsers', { PathPrefix: '/job-access-doctor/nobody/' })
  const listed = (called: Called) => called.ok && (called.output.Users ?? []).some((each: any) => each.UserName === UserName)
  const byPath = pathed.ok ? kept(listed(pathed) && !listed(elsewhere)) : verdictOf(pathed)
  note({ id: 'paths', asks: 'users have a path, and are listed by it', ...byPath })
  note({ id: 'tags', asks: 'users keep tags', ...(withTag.ok ? kept(tagged) : verdictOf(withTag)) })

  const boundedName = scratch.name('-bounded')
  const bounded = await scratch.make('CreateUser', { UserName: boundedName, Path, PermissionsBoundary: arn },
    () => removeUser(scratch.store, boundedName))
  const boundary = await call('GetUser', { UserName: boundedName })
  note({
    id: 'boundaries',
    asks: 'users keep a permissions boundary',
    ...(bounded.ok ? kept(boundary.ok && boundary.output.User?.PermissionsBoundary?.PermissionsBoundaryArn === arn) : verdictOf(bounded))
  })

  const put = await call('PutUserPolicy', { UserName, PolicyName: 'job-access', PolicyDocument: document })
  note({ id: 'inline', asks: 'PutUserPolicy', ...verdictOf(put) })
  if (policy.ok) {
    const attached = await call('AttachUserPolicy', { UserName, PolicyArn: arn })
    const list = await call('ListAttachedUserPolicies', { UserName })
    const has = list.ok && (list.output.AttachedPolicies ?? []).some((each: any) => each.PolicyArn === arn)
    const both = attached.ok && list.ok ? kept(has) : verdictOf(attached.ok ? list : attached)
    note({ id: 'attached', asks: 'AttachUserPolicy, ListAttachedUserPolicies', ...both })
    await call('DetachUserPolicy', { UserName, PolicyArn: arn })
  }
  await askIdentity(context, UserName)
  return callerArn
}

/** The key of a user without a policy that says anything of IAM: does a call tell whose it is? */
const askIdentity = async (context: Context, UserName: string): Promise<void> => {
  const { store: { call }, note } = context
  const made = await call('CreateAccessKey', { UserName })
  note({ id: 'keys', asks: 'CreateAccessKey', ...verdictOf(made) })
  if (!made.ok) return
  const key = keyOf(made.output.AccessKey)
  let sts = await call('GetCallerIdentity', {}, key)
  const knows = () => sts.ok && String(sts.output.Arn).endsWith(`/${UserName}`)
  for (const until = context.now() + context.patienceMs; !knows() && !absent(sts) && context.now() < until;) {
    await context.pause(500)
    sts = await call('GetCallerIdentity', {}, key)
  }
  const own = await call('GetUser', {}, key)
  note({ id: 'identity-sts', asks: 'GetCallerIdentity tells whose a new key is', ...(sts.ok ? kept(knows()) : verdictOf(sts)) })
  const itself = own.ok ? kept(own.output.User?.UserName === UserName) : verdictOf(own)
  note({ id: 'identity-iam', asks: 'GetUser tells whose a new key is', ...itself })
}
