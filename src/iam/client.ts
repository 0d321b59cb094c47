import * as sdk from '@aws-sdk/client-iam'
import * as sts from '@aws-sdk/client-sts'
import { IamError, isIamError, kindOf } from './errors.ts'

/**
 * The one file that speaks to the SDK: IAM and STS as a handful of plain functions.
 * Every call takes a deadline (epoch ms): throttling, ConcurrentModification, 5xx and lost answers are retried with
 * jitter until then; what is left rejects with IamError. The SDK's own retries are off, so that there is one policy.
 */
export interface Iam {
  createUser(user: { name: string, path: string, tags: Record<string, string>, permissionsBoundary?: string }, until: number): Promise<void>
  getUser(name: string, until: number): Promise<ListedUser>
  deleteUser(name: string, until: number): Promise<void>
  /** One page, at most 1,000 users. AWS does not return tags here. */
  listUsers(pathPrefix: string, marker: string | undefined, until: number): Promise<{ users: ListedUser[], marker?: string }>
  putUserPolicy(name: string, policyName: string, document: string, until: number): Promise<void>
  getUserPolicy(name: string, policyName: string, until: number): Promise<string>
  listUserPolicies(name: string, until: number): Promise<string[]>
  deleteUserPolicy(name: string, policyName: string, until: number): Promise<void>
  /** Not retried after an ambiguous failure: the lost answer may have held a live key. `name` undefined: a key without a user. */
  createAccessKey(name: string | undefined, until: number): Promise<{ accessKeyId: string, secretAccessKey: string }>
  listAccessKeys(name: string, until: number): Promise<string[]>
  deleteAccessKey(name: string | undefined, accessKeyId: string, until: number): Promise<void>
  createPolicy(policy: { name: string, path?: string, document: string }, until: number): Promise<string>
  createPolicyVersion(arn: string, document: string, until: number): Promise<void>
  listPolicyVersions(arn: string, until: number): Promise<{ id: string, isDefault: boolean }[]>
  deletePolicyVersion(arn: string, versionId: string, until: number): Promise<void>
  deletePolicy(arn: string, until: number): Promise<void>
  getPolicyDocument(arn: string, until: number): Promise<string>
  listPolicies(pathPrefix: string, marker: string | undefined, until: number): Promise<{ policies: { arn: string, name: string, path: string }[], marker?: string }>
  /** The users that a policy is attached to. */
  listEntitiesForPolicy(arn: string, until: number): Promise<string[]>
  attachUserPolicy(name: string, arn: string, until: number): Promise<void>
  detachUserPolicy(name: string, arn: string, until: number): Promise<void>
  listAttachedUserPolicies(name: string, until: number): Promise<string[]>
  putRolePolicy(roleName: string, policyName: string, document: string, until: number): Promise<void>
  listRolePolicies(roleName: string, until: number): Promise<string[]>
  deleteRolePolicy(roleName: string, policyName: string, until: number): Promise<void>
  assumeRole(session: SessionRequest, until: number): Promise<SessionKeys>
  /** Who a key is; our own credentials when none are given. */
  callerIdentity(key: Key | undefined, until: number): Promise<string>
  /** The ARN of the user that a key belongs to, by GetUser under it: for providers without STS. */
  ownUser(key: Key, until: number): Promise<string>
  close(): void
}

export interface Key { accessKeyId: string, secretAccessKey: string, sessionToken?: string }

export interface ListedUser { name: string, path: string, createdAt: number }

export interface SessionRequest {
  roleArn: string
  sessionName: string
  policy: string
  durationSeconds: number
  tags: Record<string, string>
  sourceIdentity: string
  externalId?: string
}

export interface SessionKeys { accessKeyId: string, secretAccessKey: string, sessionToken: string, expiresAt: number, packedPolicyPercent: number | null }

export interface IamClientOptions {
  region: string
  /** Endpoint override; undefined: the SDK's own chain, AWS_ENDPOINT_URL_IAM included. */
  endpoint?: string
  stsEndpoint?: string
  credentials?: { accessKeyId: string, secretAccessKey: string }
  /** Longest wait for one attempt, ms. */
  attemptMs?: number
  now?: () => number
  random?: () => number
  sleep?: (ms: number) => Promise<void>
  /** Told of every attempt, for metrics and logs. */
  onCall?: (call: { operation: string, outcome: 'ok' | IamError['kind'], ms: number }) => void
}

const baseBackoffMs = 50
const maxBackoffMs = 2_000

export const createIam = (options: IamClientOptions): Iam => {
  const { now = Date.now, random = Math.random, sleep = delay, attemptMs = 5_000, onCall } = options
  const shared = { region: options.region, maxAttempts: 1, ...(options.credentials && { credentials: options.credentials }) }
  const iamConfig = { ...shared, ...(options.endpoint && { endpoint: options.endpoint }) }
  const iam = new sdk.IAMClient(iamConfig)
  const stsConfig = { ...shared, ...(options.stsEndpoint && { endpoint: options.stsEndpoint }) }
  const stsClient = new sts.STSClient(stsConfig)

  const attempt = async <T>(operation: string, send: (signal: AbortSignal) => Promise<T>, until: number): Promise<T> => {
    const started = now()
    // Whoever was stalled past the deadline may have lost the grant to another: then nothing is sent.
    if (started >= until) throw new IamError('throttled', operation, 'DeadlinePassed', undefined)
    const signal = AbortSignal.timeout(Math.min(attemptMs, until - started))
    try {
      const answer = await send(signal)
      onCall?.({ operation, outcome: 'ok', ms: now() - started })
      return answer
    } catch (cause) {
      const error = translate(operation, cause)
      onCall?.({ operation, outcome: error.kind, ms: now() - started })
      throw error
    }
  }

  const retried = async <T>(operation: string, send: (signal: AbortSignal) => Promise<T>, until: number, idempotent = true): Promise<T> => {
    let lost = false
    for (let failures = 0; ; failures++) {
      try {
        return await attempt(operation, send, until)
      } catch (error) {
        lost ||= isIamError(error, 'unavailable')
        const again = isIamError(error, 'throttled', 'conflict') || (idempotent && isIamError(error, 'unavailable'))
        // Full jitter: AWS Architecture Blog, "Exponential Backoff And Jitter".
        const wait = random() * Math.min(maxBackoffMs, baseBackoffMs * 2 ** failures)
        if (!again || now() + wait >= until) {
          // An earlier try of this call was lost, so that this answer does not prove that nothing was done.
          throw lost && isIamError(error) ? new IamError(error.kind, operation, error.providerCode, error, false) : error
        }
        await sleep(wait)
      }
    }
  }

  const list = async <T>(page: (marker: string | undefined) => Promise<{ items: T[], marker?: string | undefined }>): Promise<T[]> => {
    const items: T[] = []
    let marker: string | undefined
    do {
      const answer = await page(marker)
      items.push(...answer.items)
      marker = answer.marker
    } while (marker)
    return items
  }

  return {
    async createUser ({ name, path, tags, permissionsBoundary }, until) {
      const command = () => new sdk.CreateUserCommand({
        UserName: name,
        Path: path,
        Tags: tagList(tags),
        ...(permissionsBoundary && { PermissionsBoundary: permissionsBoundary })
      })
      await retried('CreateUser', abortSignal => iam.send(command(), { abortSignal }), until)
    },
    async getUser (name, until) {
      const { User } = await retried('GetUser', abortSignal => iam.send(new sdk.GetUserCommand({ UserName: name }), { abortSignal }), until)
      return listed(User)
    },
    async deleteUser (name, until) {
      await retried('DeleteUser', abortSignal => iam.send(new sdk.DeleteUserCommand({ UserName: name }), { abortSignal }), until)
    },
    async listUsers (pathPrefix, marker, until) {
      const input = { PathPrefix: pathPrefix, MaxItems: 1000, ...(marker && { Marker: marker }) }
      const page = await retried('ListUsers', abortSignal => iam.send(new sdk.ListUsersCommand(input), { abortSignal }), until)
      return { users: (page.Users ?? []).map(listed), ...(page.IsTruncated && page.Marker && { marker: page.Marker }) }
    },
    async putUserPolicy (name, policyName, document, until) {
      const input = { UserName: name, PolicyName: policyName, PolicyDocument: document }
      await retried('PutUserPolicy', abortSignal => iam.send(new sdk.PutUserPolicyCommand(input), { abortSignal }), until)
    },
    async getUserPolicy (name, policyName, until) {
      const input = { UserName: name, PolicyName: policyName }
      const answer = await retried('GetUserPolicy', abortSignal => iam.send(new sdk.GetUserPolicyCommand(input), { abortSignal }), until)
      return documentOf(answer.PolicyDocument)
    },
    listUserPolicies: (name, until) => list(async Marker => {
      const input = { UserName: name, ...(Marker && { Marker }) }
      const page = await retried('ListUserPolicies', abortSignal => iam.send(new sdk.ListUserPoliciesCommand(input), { abortSignal }), until)
      return { items: page.PolicyNames ?? [], marker: page.IsTruncated ? page.Marker : undefined }
    }),
    async deleteUserPolicy (name, policyName, until) {
      const input = { UserName: name, PolicyName: policyName }
      await retried('DeleteUserPolicy', abortSignal => iam.send(new sdk.DeleteUserPolicyCommand(input), { abortSignal }), until)
    },
    async createAccessKey (name, until) {
      const input = name === undefined ? {} : { UserName: name }
      const { AccessKey } = await retried('CreateAccessKey',
        abortSignal => iam.send(new sdk.CreateAccessKeyCommand(input), { abortSignal }), until, false)
      return { accessKeyId: present(AccessKey?.AccessKeyId), secretAccessKey: present(AccessKey?.SecretAccessKey) }
    },
    listAccessKeys: (name, until) => list(async Marker => {
      const input = { UserName: name, ...(Marker && { Marker }) }
      const page = await retried('ListAccessKeys', abortSignal => iam.send(new sdk.ListAccessKeysCommand(input), { abortSignal }), until)
      return { items: (page.AccessKeyMetadata ?? []).map(key => present(key.AccessKeyId)), marker: page.IsTruncated ? page.Marker : undefined }
    }),
    async deleteAccessKey (name, accessKeyId, until) {
      const input = { AccessKeyId: accessKeyId, ...(name !== undefined && { UserName: name }) }
      await retried('DeleteAccessKey', abortSignal => iam.send(new sdk.DeleteAccessKeyCommand(input), { abortSignal }), until)
    },
    async createPolicy ({ name, path, document }, until) {
      const input = { PolicyName: name, PolicyDocument: document, ...(path && { Path: path }) }
      const { Policy } = await retried('CreatePolicy', abortSignal => iam.send(new sdk.CreatePolicyCommand(input), { abortSignal }), until)
      return present(Policy?.Arn)
    },
    async createPolicyVersion (arn, document, until) {
      const input = { PolicyArn: arn, PolicyDocument: document, SetAsDefault: true }
      await retried('CreatePolicyVersion', abortSignal => iam.send(new sdk.CreatePolicyVersionCommand(input), { abortSignal }), until)
    },
    listPolicyVersions: (arn, until) => list(async Marker => {
      const input = { PolicyArn: arn, ...(Marker && { Marker }) }
      const page = await retried('ListPolicyVersions', abortSignal => iam.send(new sdk.ListPolicyVersionsCommand(input), { abortSignal }), until)
      return {
        items: (page.Versions ?? []).map(version => ({ id: present(version.VersionId), isDefault: version.IsDefaultVersion === true })),
        marker: page.IsTruncated ? page.Marker : undefined
      }
    }),
    async deletePolicyVersion (arn, versionId, until) {
      const input = { PolicyArn: arn, VersionId: versionId }
      await retried('DeletePolicyVersion', abortSignal => iam.send(new sdk.DeletePolicyVersionCommand(input), { abortSignal }), until)
    },
    async deletePolicy (arn, until) {
      await retried('DeletePolicy', abortSignal => iam.send(new sdk.DeletePolicyCommand({ PolicyArn: arn }), { abortSignal }), until)
    },
    async getPolicyDocument (arn, until) {
      const { Policy } = await retried('GetPolicy', abortSignal => iam.send(new sdk.GetPolicyCommand({ PolicyArn: arn }), { abortSignal }), until)
      const input = { PolicyArn: arn, VersionId: present(Policy?.DefaultVersionId) }
      const { PolicyVersion } = await retried('GetPolicyVersion',
        abortSignal => iam.send(new sdk.GetPolicyVersionCommand(input), { abortSignal }), until)
      return documentOf(PolicyVersion?.Document)
    },
    async listPolicies (pathPrefix, marker, until) {
      // SeaweedFS refuses any PathPrefix, `/` too, which is what AWS takes for none.
      const narrowed = pathPrefix !== '/' && { PathPrefix: pathPrefix }
      const input = { Scope: 'Local' as const, ...narrowed, MaxItems: 1000, ...(marker && { Marker: marker }) }
      const page = await retried('ListPolicies', abortSignal => iam.send(new sdk.ListPoliciesCommand(input), { abortSignal }), until)
      const policies = (page.Policies ?? []).map(policy => ({ arn: present(policy.Arn), name: policy.PolicyName ?? '', path: policy.Path ?? '/' }))
      return { policies, ...(page.IsTruncated && page.Marker && { marker: page.Marker }) }
    },
    listEntitiesForPolicy: (arn, until) => list(async Marker => {
      const input = { PolicyArn: arn, ...(Marker && { Marker }) }
      const page = await retried('ListEntitiesForPolicy',
        abortSignal => iam.send(new sdk.ListEntitiesForPolicyCommand(input), { abortSignal }), until)
      return { items: (page.PolicyUsers ?? []).map(user => present(user.UserName)), marker: page.IsTruncated ? page.Marker : undefined }
    }),
    async attachUserPolicy (name, arn, until) {
      const input = { UserName: name, PolicyArn: arn }
      await retried('AttachUserPolicy', abortSignal => iam.send(new sdk.AttachUserPolicyCommand(input), { abortSignal }), until)
    },
    async detachUserPolicy (name, arn, until) {
      const input = { UserName: name, PolicyArn: arn }
      await retried('DetachUserPolicy', abortSignal => iam.send(new sdk.DetachUserPolicyCommand(input), { abortSignal }), until)
    },
    listAttachedUserPolicies: (name, until) => list(async Marker => {
      const input = { UserName: name, ...(Marker && { Marker }) }
      const page = await retried('ListAttachedUserPolicies',
        abortSignal => iam.send(new sdk.ListAttachedUserPoliciesCommand(input), { abortSignal }), until)
      return { items: (page.AttachedPolicies ?? []).map(policy => present(policy.PolicyArn)), marker: page.IsTruncated ? page.Marker : undefined }
    }),
    async putRolePolicy (roleName, policyName, document, until) {
      const input = { RoleName: roleName, PolicyName: policyName, PolicyDocument: document }
      await retried('PutRolePolicy', abortSignal => iam.send(new sdk.PutRolePolicyCommand(input), { abortSignal }), until)
    },
    listRolePolicies: (roleName, until) => list(async Marker => {
      const input = { RoleName: roleName, ...(Marker && { Marker }) }
      const page = await retried('ListRolePolicies', abortSignal => iam.send(new sdk.ListRolePoliciesCommand(input), { abortSignal }), until)
      return { items: page.PolicyNames ?? [], marker: page.IsTruncated ? page.Marker : undefined }
    }),
    async deleteRolePolicy (roleName, policyName, until) {
      const input = { RoleName: roleName, PolicyName: policyName }
      await retried('DeleteRolePolicy', abortSignal => iam.send(new sdk.DeleteRolePolicyCommand(input), { abortSignal }), until)
    },
    async assumeRole (session, until) {
      const command = () => new sts.AssumeRoleCommand({
        RoleArn: session.roleArn,
        RoleSessionName: session.sessionName,
        Policy: session.policy,
        DurationSeconds: session.durationSeconds,
        Tags: tagList(session.tags),
        SourceIdentity: session.sourceIdentity,
        ...(session.externalId && { ExternalId: session.externalId })
      })
      const answer = await retried('AssumeRole', abortSignal => stsClient.send(command(), { abortSignal }), until)
      const keys = answer.Credentials
      return {
        accessKeyId: present(keys?.AccessKeyId),
        secretAccessKey: present(keys?.SecretAccessKey),
        sessionToken: present(keys?.SessionToken),
        expiresAt: keys?.Expiration?.getTime() ?? 0,
        packedPolicyPercent: answer.PackedPolicySize ?? null
      }
    },
    async callerIdentity (key, until) {
      const client = key ? new sts.STSClient({ ...stsConfig, credentials: bare(key) }) : stsClient
      try {
        const { Arn } = await retried('GetCallerIdentity', abortSignal => client.send(new sts.GetCallerIdentityCommand({}), { abortSignal }), until)
        return present(Arn)
      } finally {
        if (client !== stsClient) client.destroy()
      }
    },
    async ownUser (key, until) {
      const client = new sdk.IAMClient({ ...iamConfig, credentials: bare(key) })
      try {
        const { User } = await retried('GetUser', abortSignal => client.send(new sdk.GetUserCommand({}), { abortSignal }), until)
        return present(User?.Arn)
      } finally {
        client.destroy()
      }
    },
    close () {
      iam.destroy()
      stsClient.destroy()
    }
  }
}

const translate = (operation: string, cause: unknown): IamError => {
  // A bug of ours is none of the provider's failures: it must not be retried.
  if (cause instanceof TypeError || cause instanceof RangeError) return new IamError('other', operation, cause.name, cause)
  const name = cause instanceof Error ? cause.name : 'Unknown'
  const metadata = (cause as { $metadata?: { httpStatusCode?: number } } | undefined)?.$metadata
  return new IamError(kindOf(name, metadata?.httpStatusCode), operation, name, cause)
}

/** The key and nothing that a caller's object has besides: the SDK reads more fields than these. */
const bare = ({ accessKeyId, secretAccessKey, sessionToken }: Key): Key =>
  ({ accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) })

const present = (value: string | undefined): string => {
  if (!value) throw new IamError('other', 'answer', 'Incomplete', undefined)
  return value
}

/** AWS percent-encodes the documents that it returns (RFC 3986, per API_GetPolicyVersion); LocalStack and SeaweedFS not all. */
const documentOf = (text = ''): string => text.startsWith('{') ? text : decodeURIComponent(text)

const listed = (user: sdk.User | undefined): ListedUser =>
  ({ name: present(user?.UserName), path: user?.Path ?? '/', createdAt: user?.CreateDate?.getTime() ?? 0 })

const tagList = (tags: Record<string, string>) => Object.entries(tags).map(([Key, Value]) => ({ Key, Value }))

const delay = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))
