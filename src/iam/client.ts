import * as sdk from '@aws-sdk/client-iam'
import * as sts from '@aws-sdk/client-sts'
import { buffer } from 'node:stream/consumers'
import type { Pacer } from './pace.ts'
import { retry, systemClock } from './retry.ts'
import { IamError, isIamError, isNamed, kindOf, statusOf } from './errors.ts'

/**
 * The only file that uses the SDK: IAM and STS as plain functions.
 * Every call has a deadline (`until`, epoch ms). Throttling, ConcurrentModification, 5xx and lost answers are retried with jitter
 * until then; after that the call rejects with IamError. The SDK's own retries are off, so that only these count.
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
  /** Not retried after a lost answer, which may have held a live key. `name` undefined: a key without a user. */
  createAccessKey(name: string | undefined, until: number): Promise<{ accessKeyId: string, secretAccessKey: string }>
  listAccessKeys(name: string, until: number): Promise<string[]>
  deleteAccessKey(name: string | undefined, accessKeyId: string, until: number): Promise<void>
  createPolicy(policy: { name: string, path?: string, document: string }, until: number): Promise<string>
  createPolicyVersion(arn: string, document: string, until: number): Promise<void>
  listPolicyVersions(arn: string, until: number): Promise<{ id: string, isDefault: boolean }[]>
  deletePolicyVersion(arn: string, versionId: string, until: number): Promise<void>
  deletePolicy(arn: string, until: number): Promise<void>
  getPolicyDocument(arn: string, until: number): Promise<string>
  listPolicies(
    pathPrefix: string, marker: string | undefined, until: number
  ): Promise<{ policies: { arn: string, name: string, path: string }[], marker?: string }>
  /** The users that a policy is attached to. */
  listEntitiesForPolicy(arn: string, until: number): Promise<string[]>
  attachUserPolicy(name: string, arn: string, until: number): Promise<void>
  detachUserPolicy(name: string, arn: string, until: number): Promise<void>
  listAttachedUserPolicies(name: string, until: number): Promise<string[]>
  putRolePolicy(roleName: string, policyName: string, document: string, until: number): Promise<void>
  listRolePolicies(roleName: string, until: number): Promise<string[]>
  deleteRolePolicy(roleName: string, policyName: string, until: number): Promise<void>
  /** The ARN of the role's permissions boundary; null: it has none. */
  roleBoundary(roleName: string, until: number): Promise<string | null>
  assumeRole(session: SessionRequest, until: number): Promise<SessionKeys>
  /** The ARN that a key belongs to; without a key, that of our own credentials. */
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

export interface SessionKeys { accessKeyId: string, secretAccessKey: string, sessionToken: string, expiresAt: number }

export interface IamClientOptions {
  region: string
  /** Endpoint override; undefined: the SDK's own chain, AWS_ENDPOINT_URL_IAM included. */
  endpoint?: string
  stsEndpoint?: string
  credentials?: { accessKeyId: string, secretAccessKey: string }
  /** Longest wait for one attempt, ms. */
  attemptMs?: number
  /** The clock of deadlines. */
  now?: () => number
  random?: () => number
  sleep?: (ms: number) => Promise<void>
  /** Of the calls to IAM, and of those to STS, which have a limit of their own. Default: none. */
  pacers?: { iam: Pacer, sts: Pacer }
  /** Gets the Date of each answer of IAM's or STS's own: see lifecycle/clock.ts. */
  heard?: { push: (answer: DatedAnswer) => unknown }
  /** Called after every attempt, for metrics. */
  onCall?: (call: { operation: string, outcome: 'ok' | IamError['kind'], ms: number, status?: number }) => void
}

/** What the clock of another machine said, and when we asked and heard it, in ms of performance.now(). */
export interface DatedAnswer {
  /** Epoch ms. */
  theirs: number
  /** What they leave out of it, ms. */
  precisionMs: number
  askedAt: number
  heardAt: number
}

const baseBackoffMs = 50
const maxBackoffMs = 2_000

/** A client of the SDK and a class of its commands, as far as a call needs them. */
interface SdkClient { send: (command: any, options: { abortSignal: AbortSignal }) => Promise<any> }
type CommandClass<Input, Output> =
  new (input: Input) => { input: Input, resolveMiddleware: (...args: any[]) => (args: any) => Promise<{ output: Output }> }

interface Page { IsTruncated?: boolean | undefined, Marker?: string | undefined }

export const createIam = (options: IamClientOptions): Iam => {
  const { now = systemClock.now, random = Math.random, sleep = systemClock.pause, attemptMs = 5_000, pacers, onCall } = options
  const shared = { region: options.region, maxAttempts: 1, ...(options.credentials && { credentials: options.credentials }) }
  const iamConfig = { ...shared, ...(options.endpoint && { endpoint: options.endpoint }) }
  const stsConfig = { ...shared, ...(options.stsEndpoint && { endpoint: options.stsEndpoint }) }
  const listening = <Client extends { middlewareStack: { use: (pluggable: any) => void } }>(client: Client): Client => {
    client.middlewareStack.use(answersOf(options.heard))
    return client
  }
  const iam = listening(new sdk.IAMClient(iamConfig))
  const stsClient = listening(new sts.STSClient(stsConfig))

  const attempt = async <T>(
    operation: string, call: (abortSignal: AbortSignal) => Promise<T>, until: number, pacer: Pacer | undefined
  ): Promise<T> => {
    const answered = await pacer?.take(until)
    if (pacer && !answered) throw new IamError('throttled', operation, 'DeadlinePassed', undefined)
    let throttled = false
    try {
      return await sent(operation, call, until)
    } catch (error) {
      throttled = isIamError(error, 'throttled') && error.cause !== undefined
      throw error
    } finally {
      answered?.(throttled)
    }
  }

  const sent = async <T>(operation: string, call: (abortSignal: AbortSignal) => Promise<T>, until: number): Promise<T> => {
    const started = now()
    // After the deadline another replica may have taken over the grant: nothing is sent.
    if (started >= until) throw new IamError('throttled', operation, 'DeadlinePassed', undefined)
    const signal = AbortSignal.timeout(Math.min(attemptMs, until - started))
    try {
      const answer = await call(signal)
      onCall?.({ operation, outcome: 'ok', ms: now() - started })
      return answer
    } catch (cause) {
      const error = translate(operation, cause)
      const status = statusOf(cause)
      onCall?.({ operation, outcome: error.kind, ms: now() - started, ...(status !== undefined && { status }) })
      throw error
    }
  }

  const send = async <Input, Output>(
    client: SdkClient, Command: CommandClass<Input, Output>, input: Input, until: number, { idempotent = true } = {}
  ): Promise<Output> => {
    const operation = Command.name.replace(/Command$/, '')
    const pacer = operation === 'AssumeRole' || operation === 'GetCallerIdentity' ? pacers?.sts : pacers?.iam
    let lost = false
    const waitAfter = (error: unknown, failures: number) => {
      lost ||= isIamError(error, 'unavailable')
      // By the Date of a refusal the SDK corrects the time of later signatures (its systemClockOffset), so that calls go on, ends too.
      const again = isIamError(error, 'throttled', 'conflict') || (isIamError(error, 'skewed') && failures <= 2) ||
        (idempotent && isIamError(error, 'unavailable'))
      // Full jitter: AWS Architecture Blog, "Exponential Backoff And Jitter".
      return again ? random() * Math.min(maxBackoffMs, baseBackoffMs * 2 ** (failures - 1)) : undefined
    }
    try {
      const once = () => attempt<Output>(operation, abortSignal => client.send(new Command(input), { abortSignal }), until, pacer)
      return await retry(once, { until, clock: { now, pause: sleep }, waitAfter })
    } catch (error) {
      // The answer to an earlier try was lost, so that this error does not prove that nothing was done.
      throw lost && isIamError(error) ? new IamError(error.kind, operation, error.providerCode, error, false, error.aheadMs) : error
    }
  }

  const ask = <Input, Output>(Command: CommandClass<Input, Output>, input: Input, until: number) => send(iam, Command, input, until)

  const run = async <Input>(Command: CommandClass<Input, unknown>, input: Input, until: number): Promise<void> => {
    await ask(Command, input, until)
  }

  /** One page: the items, and the marker of the next page if there is one. */
  const page = async <Input extends { Marker?: string | undefined }, Output extends Page, Item>(
    Command: CommandClass<Input, Output>, input: Input, itemsOf: (answer: Output) => Item[] | undefined,
    marker: string | undefined, until: number
  ): Promise<{ items: Item[], marker?: string }> => {
    const answer = await ask(Command, { ...input, ...(marker && { Marker: marker }) }, until)
    // A list that says that it goes on, and not where, is no whole list.
    return { items: itemsOf(answer) ?? [], ...(answer.IsTruncated && { marker: present(answer.Marker) }) }
  }

  const all = async <Input extends { Marker?: string | undefined }, Output extends Page, Item>(
    Command: CommandClass<Input, Output>, input: Input, itemsOf: (answer: Output) => Item[] | undefined, until: number
  ): Promise<Item[]> => {
    const found: Item[] = []
    let marker: string | undefined
    do {
      const next = await page(Command, input, itemsOf, marker, until)
      found.push(...next.items)
      marker = next.marker
    } while (marker)
    return found
  }

  return {
    createUser: ({ name, path, tags, permissionsBoundary }, until) => run(sdk.CreateUserCommand, {
      UserName: name,
      Path: path,
      Tags: tagList(tags),
      ...(permissionsBoundary && { PermissionsBoundary: permissionsBoundary })
    }, until),
    getUser: async (UserName, until) => listed((await ask(sdk.GetUserCommand, { UserName }, until)).User),
    deleteUser: (UserName, until) => run(sdk.DeleteUserCommand, { UserName }, until),
    async listUsers (PathPrefix, marker, until) {
      const { items, ...next } = await page(
        sdk.ListUsersCommand, { PathPrefix, MaxItems: 1000 }, answer => answer.Users?.map(listed), marker, until
      )
      return { users: items, ...next }
    },

    putUserPolicy: (UserName, PolicyName, PolicyDocument, until) =>
      run(sdk.PutUserPolicyCommand, { UserName, PolicyName, PolicyDocument }, until),
    getUserPolicy: async (UserName, PolicyName, until) =>
      documentOf(present((await ask(sdk.GetUserPolicyCommand, { UserName, PolicyName }, until)).PolicyDocument)),
    listUserPolicies: (UserName, until) => all(sdk.ListUserPoliciesCommand, { UserName }, answer => answer.PolicyNames, until),
    deleteUserPolicy: (UserName, PolicyName, until) => run(sdk.DeleteUserPolicyCommand, { UserName, PolicyName }, until),

    async createAccessKey (name, until) {
      const input = name === undefined ? {} : { UserName: name }
      const { AccessKey } = await send(iam, sdk.CreateAccessKeyCommand, input, until, { idempotent: false })
      return { accessKeyId: present(AccessKey?.AccessKeyId), secretAccessKey: present(AccessKey?.SecretAccessKey) }
    },
    listAccessKeys: (UserName, until) =>
      all(sdk.ListAccessKeysCommand, { UserName }, answer => answer.AccessKeyMetadata?.map(key => present(key.AccessKeyId)), until),
    deleteAccessKey: (name, AccessKeyId, until) =>
      run(sdk.DeleteAccessKeyCommand, { AccessKeyId, ...(name !== undefined && { UserName: name }) }, until),

    async createPolicy ({ name, path, document }, until) {
      const input = { PolicyName: name, PolicyDocument: document, ...(path && { Path: path }) }
      return present((await ask(sdk.CreatePolicyCommand, input, until)).Policy?.Arn)
    },
    createPolicyVersion: (PolicyArn, PolicyDocument, until) =>
      run(sdk.CreatePolicyVersionCommand, { PolicyArn, PolicyDocument, SetAsDefault: true }, until),
    listPolicyVersions: (PolicyArn, until) => all(sdk.ListPolicyVersionsCommand, { PolicyArn },
      answer => answer.Versions?.map(version => ({ id: present(version.VersionId), isDefault: version.IsDefaultVersion === true })), until),
    deletePolicyVersion: (PolicyArn, VersionId, until) => run(sdk.DeletePolicyVersionCommand, { PolicyArn, VersionId }, until),
    deletePolicy: (PolicyArn, until) => run(sdk.DeletePolicyCommand, { PolicyArn }, until),
    async getPolicyDocument (PolicyArn, until) {
      const { Policy } = await ask(sdk.GetPolicyCommand, { PolicyArn }, until)
      const VersionId = present(Policy?.DefaultVersionId)
      return documentOf(present((await ask(sdk.GetPolicyVersionCommand, { PolicyArn, VersionId }, until)).PolicyVersion?.Document))
    },
    async listPolicies (pathPrefix, marker, until) {
      // SeaweedFS refuses any PathPrefix, even `/`, which means no prefix to AWS.
      const input = { Scope: 'Local' as const, ...(pathPrefix !== '/' && { PathPrefix: pathPrefix }), MaxItems: 1000 }
      const { items, ...next } = await page(sdk.ListPoliciesCommand, input, answer => answer.Policies, marker, until)
      return {
        policies: items.map(({ Arn, PolicyName = '', Path = '/' }) => ({ arn: present(Arn), name: PolicyName, path: Path })),
        ...next
      }
    },
    listEntitiesForPolicy: (PolicyArn, until) =>
      all(sdk.ListEntitiesForPolicyCommand, { PolicyArn }, answer => answer.PolicyUsers?.map(user => present(user.UserName)), until),
    attachUserPolicy: (UserName, PolicyArn, until) => run(sdk.AttachUserPolicyCommand, { UserName, PolicyArn }, until),
    detachUserPolicy: (UserName, PolicyArn, until) => run(sdk.DetachUserPolicyCommand, { UserName, PolicyArn }, until),
    listAttachedUserPolicies: (UserName, until) => all(sdk.ListAttachedUserPoliciesCommand, { UserName },
      answer => answer.AttachedPolicies?.map(policy => present(policy.PolicyArn)), until),

    putRolePolicy: (RoleName, PolicyName, PolicyDocument, until) =>
      run(sdk.PutRolePolicyCommand, { RoleName, PolicyName, PolicyDocument }, until),
    listRolePolicies: (RoleName, until) => all(sdk.ListRolePoliciesCommand, { RoleName }, answer => answer.PolicyNames, until),
    deleteRolePolicy: (RoleName, PolicyName, until) => run(sdk.DeleteRolePolicyCommand, { RoleName, PolicyName }, until),

    async roleBoundary (RoleName, until) {
      const { Role } = await ask(sdk.GetRoleCommand, { RoleName }, until)
      present(Role?.RoleName)
      return Role?.PermissionsBoundary?.PermissionsBoundaryArn ?? null
    },

    async assumeRole (session, until) {
      const { Credentials: keys } = await send(stsClient, sts.AssumeRoleCommand, {
        RoleArn: session.roleArn,
        RoleSessionName: session.sessionName,
        Policy: session.policy,
        DurationSeconds: session.durationSeconds,
        Tags: tagList(session.tags),
        SourceIdentity: session.sourceIdentity,
        ...(session.externalId && { ExternalId: session.externalId })
      }, until)
      return {
        accessKeyId: present(keys?.AccessKeyId),
        secretAccessKey: present(keys?.SecretAccessKey),
        sessionToken: present(keys?.SessionToken),
        expiresAt: present(keys?.Expiration).getTime()
      }
    },
    async callerIdentity (key, until) {
      const client = key ? listening(new sts.STSClient({ ...stsConfig, credentials: bare(key) })) : stsClient
      try {
        return present((await send(client, sts.GetCallerIdentityCommand, {}, until)).Arn)
      } finally {
        if (client !== stsClient) client.destroy()
      }
    },
    async ownUser (key, until) {
      const client = listening(new sdk.IAMClient({ ...iamConfig, credentials: bare(key) }))
      try {
        return present((await send(client, sdk.GetUserCommand, {}, until)).User?.Arn)
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

/**
 * Holds every answer with status 200 to the form that IAM and STS document (IAM API Reference, e.g. "DeleteAccessKey", "Examples"): the SDK
 * takes nothing at all, a proxy's page and another call's answer for success, and an answer without a list for an empty list.
 * Tells the Date of the answers that IAM itself gave.
 */
const answersOf = (heard: IamClientOptions['heard']): Parameters<sdk.IAMClient['middlewareStack']['use']>[0] => ({
  applyToStack (stack) {
    stack.add((next, { commandName = '' }) => async args => {
      const result = await next(args)
      const response = result.response as HttpAnswer
      if (response.statusCode >= 300) return result
      const bytes = await buffer(response.body)
      if (!isAnswerTo(commandName.replace(/Command$/, ''), bytes.toString())) {
        const $metadata = { httpStatusCode: response.statusCode }
        throw Object.assign(new Error('The answer is none of IAM’s.'), { name: 'NotAnAnswer', $metadata })
      }
      response.body = new Uint8Array(bytes)
      return result
    }, { step: 'deserialize', priority: 'low' })
    if (!heard) return
    stack.add(next => async args => {
      const askedAt = performance.now()
      const hear = ({ headers: { date, age } = {} }: Partial<HttpAnswer> = {}) => {
        const theirs = Date.parse(date ?? '')
        // What a cache kept has the Date of then (RFC 9111 section 5.1).
        if (!Number.isNaN(theirs) && age === undefined) heard.push({ theirs, precisionMs: 1000, askedAt, heardAt: performance.now() })
      }
      try {
        const result = await next(args)
        hear(result.response as HttpAnswer)
        return result
      } catch (error) {
        if (isOwnError(error)) hear((error as SdkError).$response)
        throw error
      }
    }, { step: 'deserialize', priority: 'high' })
  }
})

interface HttpAnswer { statusCode: number, headers: Record<string, string>, body: any }

/** The calls whose answers are read. */
const withResult = /^(List|Get|AssumeRole$|CreateAccessKey$|CreatePolicy$)/

const isAnswerTo = (operation: string, text: string): boolean => {
  // Ceph answers to DeleteUserPolicy and DeleteRolePolicy in the plural.
  const inner = within(`(?:${operation}|${operation.replace(/Policy$/, 'Policies')})Response`, text.trim().replace(/^<\?xml[^>]*>\s*/, ''), '$')
  return inner !== undefined && (!withResult.test(operation) || /^\s*<\w/.test(within(`${operation}Result`, inner) ?? ''))
}

/** What the element holds with which a text begins. */
const within = (element: string, text: string, end = ''): string | undefined => {
  const [found, inner = ''] = new RegExp(`^\\s*<${element}(?:\\s[^>]*)?(?:/>|>(.*)</${element}>)${end}`, 's').exec(text) ?? []
  return found === undefined ? undefined : inner
}

interface SdkError {
  /** The name of the error in IAM's own answer. */
  Code?: unknown
  $metadata?: { httpStatusCode?: number }
  /** The SDK hangs the answer on its errors. */
  $response?: Partial<HttpAnswer>
}

const translate = (operation: string, cause: unknown): IamError => {
  const { $metadata, $response } = (cause ?? {}) as SdkError
  const status = $metadata?.httpStatusCode
  // A bug of ours is not the provider's failure: it must not be retried.
  if (status === undefined && (cause instanceof TypeError || cause instanceof RangeError)) {
    return new IamError('other', operation, cause.name, cause)
  }
  const name = cause instanceof Error ? cause.name : 'Unknown'
  const named = isOwnError(cause)
  // An answer that cannot be read, or a web page: whoever wrote it, it does not say what IAM did.
  const parsed = cause instanceof sdk.IAMServiceException || cause instanceof sts.STSServiceException
  const unread = status !== undefined && !named && (!parsed || /html/i.test($response?.headers?.['content-type'] ?? ''))
  const kind = unread ? 'unavailable' : isSkew(cause) ? 'skewed' : kindOf(name, status)
  const theirs = Date.parse($response?.headers?.date ?? '')
  // The SDK signs by this machine's clock, so that one is compared.
  return new IamError(kind, operation, name, cause, named, kind === 'skewed' && theirs ? Date.now() - theirs : undefined)
}

/** AWS gives a time that is too far off the name of a wrong secret: "Signature expired: …", "Signature not yet current: …". */
const isSkew = (cause: unknown): boolean =>
  cause instanceof Error && cause.name === 'SignatureDoesNotMatch' && /^Signature (expired|not yet current)/.test(cause.message)

/** IAM itself named it. */
const isOwnError = (error: unknown): boolean =>
  (error instanceof Error && isNamed(error.name)) || typeof (error as SdkError | undefined)?.Code === 'string'

/** The key alone: the SDK would also read other fields of the caller's object. */
const bare = ({ accessKeyId, secretAccessKey, sessionToken }: Key): Key =>
  ({ accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) })

/** An answer that lacks what it must have does not say what IAM did. */
const present = <T extends string | Date>(value: T | undefined): T => {
  if (!value) throw new IamError('unavailable', 'answer', 'Incomplete', undefined)
  return value
}

/** AWS percent-encodes the documents that it returns (RFC 3986, API_GetPolicyVersion). LocalStack and SeaweedFS do so only for some. */
const documentOf = (text: string): string => text.startsWith('{') ? text : decodeURIComponent(text)

const listed = (user: sdk.User | undefined): ListedUser =>
  ({ name: present(user?.UserName), path: user?.Path ?? '/', createdAt: user?.CreateDate?.getTime() ?? 0 })

const tagList = (tags: Record<string, string>) => Object.entries(tags).map(([Key, Value]) => ({ Key, Value }))
