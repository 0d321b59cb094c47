import * as sdk from '@aws-sdk/client-iam'
import * as sts from '@aws-sdk/client-sts'
import { SignatureV4 } from '@smithy/signature-v4'
import { createHmac, createSecretKey, hash, type KeyObject } from 'node:crypto'
import { channel } from 'node:diagnostics_channel'
import type { Readable } from 'node:stream'
import type { Pacer } from './pace.ts'
import { retry, systemClock, timed } from './retry.ts'
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
  /** Null: RoleArn is not sent. */
  roleArn: string | null
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
  /** Of the files of the AWS SDK; default: AWS_PROFILE. */
  profile?: string
  /** A role that all calls are made with; it is assumed with these credentials. */
  role?: { arn: string, externalId?: string }
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
  onCall?: (call: { operation: string, outcome: 'ok' | IamError['kind'], ms: number, status?: number, roleArn?: string }) => void
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

/** A client of the SDK, with what its types leave out and its own middleware uses; and a class of its commands. */
interface SdkClient { config: any, middlewareStack: { add: (middleware: any, options: any) => void }, send: (command: any) => Promise<any> }
type CommandClass<Input, Output> =
  new (input: Input) => { input: Input, schema?: any, resolveMiddleware: (...args: any[]) => (args: any) => Promise<{ output: Output }> }

interface Page { IsTruncated?: boolean | undefined, Marker?: string | undefined }

export const createIam = (options: IamClientOptions): Iam => {
  const { now = systemClock.now, random = Math.random, sleep = systemClock.pause, attemptMs = 5_000, pacers, onCall } = options
  const own = {
    region: options.region,
    ...(options.credentials && { credentials: options.credentials }),
    ...(options.profile !== undefined && { profile: options.profile })
  }
  const assumed = options.role && { credentials: assuming(options.role, { ...own, ...atSts(options) }, attemptMs) }
  const shared = { ...own, maxAttempts: 1, sha256: Sha256, ...assumed }
  const iamConfig = { ...shared, ...(options.endpoint && { endpoint: options.endpoint }) }
  const stsConfig = { ...shared, ...atSts(options) }
  const iam = new sdk.IAMClient(iamConfig)
  const stsClient = new sts.STSClient(stsConfig)
  const [sendToIam, sendToSts] = [senderOf(iam, options.heard), senderOf(stsClient, options.heard)]

  const attempt = async <T>(
    named: Named, call: (abortSignal: AbortSignal) => Promise<T>, until: number, pacer: Pacer | undefined
  ): Promise<T> => {
    const { operation } = named
    const answered = await pacer?.take(until)
    if (pacer && !answered) throw deadlinePassed(operation)
    let throttled = false
    try {
      return await sent(named, call, until)
    } catch (error) {
      throttled = isIamError(error, 'throttled') && !wasNotSent(error)
      throw error
    } finally {
      answered?.(throttled)
    }
  }

  const sent = async <T>(named: Named, call: (abortSignal: AbortSignal) => Promise<T>, until: number): Promise<T> => {
    const { operation } = named
    const started = now()
    // After the deadline another replica may have taken over the grant: nothing is sent.
    if (started >= until) throw deadlinePassed(operation)
    try {
      const answer = await timed(Math.min(attemptMs, until - started), call)
      onCall?.({ ...named, outcome: 'ok', ms: now() - started })
      return answer
    } catch (cause) {
      const error = translate(operation, cause)
      const status = statusOf(cause)
      onCall?.({ ...named, outcome: error.kind, ms: now() - started, ...(status !== undefined && { status }) })
      throw error
    }
  }

  const send = async <Input, Output>(
    sender: Sender, Command: CommandClass<Input, Output>, input: Input, until: number, { idempotent = true, key, roleArn }: SendOptions = {}
  ): Promise<Output> => {
    const operation = operationName(Command)
    const named = { operation, ...(roleArn !== undefined && { roleArn }) }
    const pacer = sender === sendToSts ? pacers?.sts : pacers?.iam
    let lost = false
    const waitAfter = (error: unknown, failures: number) => {
      lost ||= isIamError(error, 'unavailable')
      // It would take the place of one that can still be done.
      if (wasNotSent(error)) return undefined
      // By the Date of a refusal the SDK corrects the time of later signatures (its systemClockOffset), so that calls go on, ends too.
      const again = isIamError(error, 'throttled', 'conflict') || (isIamError(error, 'skewed') && failures <= 2) ||
        (idempotent && isIamError(error, 'unavailable'))
      // Full jitter: AWS Architecture Blog, "Exponential Backoff And Jitter".
      return again ? random() * Math.min(maxBackoffMs, baseBackoffMs * 2 ** (failures - 1)) : undefined
    }
    try {
      const once = () => attempt(named, abortSignal => sender(Command, input, abortSignal, key), until, pacer)
      return await retry(once, { until, clock: { now, pause: sleep }, waitAfter })
    } catch (error) {
      // The answer to an earlier try was lost, so that this error does not prove that nothing was done.
      throw lost && isIamError(error) ? new IamError(error.kind, operation, error.providerCode, error, false, error.aheadMs) : error
    }
  }

  const ask = <Input, Output>(Command: CommandClass<Input, Output>, input: Input, until: number) => send(sendToIam, Command, input, until)

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
      const { AccessKey } = await send(sendToIam, sdk.CreateAccessKeyCommand, input, until, { idempotent: false })
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
      const { Credentials: keys } = await send(sendToSts, sts.AssumeRoleCommand, {
        RoleArn: session.roleArn ?? undefined,
        RoleSessionName: session.sessionName,
        Policy: session.policy,
        DurationSeconds: session.durationSeconds,
        Tags: tagList(session.tags),
        SourceIdentity: session.sourceIdentity,
        ...(session.externalId && { ExternalId: session.externalId })
      }, until, session.roleArn === null ? {} : { roleArn: session.roleArn })
      return {
        accessKeyId: present(keys?.AccessKeyId),
        secretAccessKey: present(keys?.SecretAccessKey),
        sessionToken: present(keys?.SessionToken),
        expiresAt: present(keys?.Expiration).getTime()
      }
    },
    callerIdentity: async (key, until) =>
      present((await send(sendToSts, sts.GetCallerIdentityCommand, {}, until, key && { key: bare(key) })).Arn),
    ownUser: async (key, until) => present((await send(sendToIam, sdk.GetUserCommand, {}, until, { key: bare(key) })).User?.Arn),
    close () {
      iam.destroy()
      stsClient.destroy()
    }
  }
}

const atSts = ({ stsEndpoint }: IamClientOptions) => ({ ...(stsEndpoint && { endpoint: stsEndpoint }) })

/**
 * The SDK keeps what this gives it, and asks again some minutes before its end. Meanwhile all calls wait for it, so that an STS that hangs
 * must not keep it: the next call asks again.
 */
const assuming = (
  { arn, externalId }: NonNullable<IamClientOptions['role']>, config: sts.STSClientConfig, withinMs: number
) => async () => {
  const client = new sts.STSClient(config)
  try {
    const { Credentials: keys } = await timed(withinMs, abortSignal => client.send(new sts.AssumeRoleCommand({
      RoleArn: arn, RoleSessionName: 'job-access', ...(externalId !== undefined && { ExternalId: externalId })
    }), { abortSignal }))
    return {
      accessKeyId: present(keys?.AccessKeyId),
      secretAccessKey: present(keys?.SecretAccessKey),
      sessionToken: present(keys?.SessionToken),
      expiration: present(keys?.Expiration)
    }
  } finally {
    client.destroy()
  }
}

const deadlinePassed = (operation: string) => new IamError('throttled', operation, 'DeadlinePassed', undefined)
const wasNotSent = (error: unknown) => isIamError(error) && error.providerCode === 'DeadlinePassed'

interface SendOptions { idempotent?: boolean, key?: Key, roleArn?: string }

/** `roleArn`: the role that a refusal is about, and not the account. */
interface Named { operation: string, roleArn?: string }

/** Sends one call, signed by `key` or, without one, by our own credentials. */
type Sender = <Input, Output>(Command: CommandClass<Input, Output>, input: Input, abortSignal: AbortSignal, key?: Key) => Promise<Output>

/** For traces: the name of each call, e.g. `IAM.CreateUser`, before it is sent. OpenTelemetry would look for the SDK's own `send`. */
const sending = channel('job-access:iam')

const operationName = (Command: { name: string }): string => Command.name.replace(/Command$/, '')

/**
 * The SDK's client without its middleware, which takes most of the time of a call and finds the same for each: endpoint, region, name of
 * the service in signatures, user agent. The first call asks the middleware for that, by a request that is not sent. The rest is done by
 * the same parts of the SDK as in its own `send`: they write the request, sign it, send it and read the answer.
 *
 * Holds every answer with status 200 to the form that IAM and STS document (IAM API Reference, e.g. "DeleteAccessKey", "Examples"): the SDK
 * takes nothing at all, a proxy's page and another call's answer for success, and an answer without a list for an empty list.
 * Tells the Date of the answers that IAM itself gave.
 */
const senderOf = (client: SdkClient, heard: IamClientOptions['heard']): Sender => {
  const { config } = client
  const notSent = (_next: unknown, { endpointV2 }: any) => async ({ request }: any) =>
    ({ output: { $metadata: {}, request, scheme: endpointV2?.properties?.authSchemes?.[0] } })
  client.middlewareStack.add(notSent, { step: 'finalizeRequest', priority: 'high' })

  const prepare = async (command: any): Promise<Prepared> => {
    const { request, scheme } = await client.send(command)
    const { protocol, hostname, port, path, query, username, password, headers } = request
    const signer = await config.signer(scheme)
    const signerOf = (key: Key) => new SignatureV4({
      // Set with the first signer.
      credentials: key, region: config.signingRegion, service: config.signingName, sha256: config.sha256
    })
    const alike = Object.fromEntries(['host', 'user-agent', 'x-amz-user-agent'].map(name => [name, headers[name]]))
    return { place: { protocol, hostname, port, path, query, username, password }, headers: alike, signer, signerOf }
  }

  let prepared: Promise<Prepared> | undefined
  const operations = new Map<unknown, Operation>()
  // As the SDK corrects the time of its signatures, so that calls go on, ends too, where our clock is wrong.
  let clockOffsetMs = 0

  return async (Command, input, abortSignal, key) => {
    prepared ??= prepare(new Command(input)).catch(error => {
      prepared = undefined
      throw error
    })
    const { place, headers, signer, signerOf } = await prepared
    let operation = operations.get(Command)
    if (!operation) operations.set(Command, operation = operationOf(operationName(Command), new Command(input).schema))
    const { schema, form, result } = operation

    const request = Object.assign(await config.protocol.serializeRequest(schema, input, nowhere), place)
    Object.assign(request.headers, headers, { 'content-length': String(Buffer.byteLength(request.body)) })
    const signed = await (key ? signerOf(key) : signer).sign(request, { signingDate: new Date(Date.now() + clockOffsetMs) })

    if (sending.hasSubscribers) sending.publish(`${config.serviceId}.${operationName(Command)}`)
    const askedAt = performance.now()
    const { response }: { response: HttpAnswer } = await config.requestHandler.handle(signed, { abortSignal })
    const { headers: { date, age }, statusCode } = response
    const theirs = Date.parse(date ?? '')
    // What a cache kept has the Date of then (RFC 9111 section 5.1).
    const isDated = !Number.isNaN(theirs) && age === undefined
    if (isDated) clockOffsetMs = theirs - Date.now()
    const hear = () => { if (isDated) heard?.push({ theirs, precisionMs: 1000, askedAt, heardAt: performance.now() }) }
    const bytes = await readAll(response.body)
    response.body = new Uint8Array(bytes)
    try {
      const answer = statusCode < 300 ? form.exec(bytes.toString()) : undefined
      if (answer === null || (answer && result && !result.test(answer[1] ?? ''))) {
        throw Object.assign(new Error('The answer is none of IAM’s.'), { name: 'NotAnAnswer' })
      }
      const output = answer && !result ? {} : await config.protocol.deserializeResponse(schema, config, response)
      hear()
      return output
    } catch (cause) {
      const error = cause as Error & SdkError
      if (isOwnError(error)) hear()
      // As the SDK's middleware does it.
      error.$metadata ??= { httpStatusCode: statusCode }
      throw Object.defineProperty(error, '$response', { value: response })
    }
  }
}

/** What the SDK's signer takes for a hash, by Node's own. A derived key comes again with each call, so it is made ready once. */
class Sha256 {
  static readonly #keys = new WeakMap<object, KeyObject>()
  readonly #secret: unknown
  #data: Uint8Array = new Uint8Array()

  constructor (secret?: unknown) { this.#secret = secret }

  update (data: Uint8Array): void { this.#data = this.#data.length === 0 ? data : Buffer.concat([this.#data, data]) }

  async digest (): Promise<Uint8Array> {
    const secret = this.#secret
    if (secret === undefined) return hash('sha256', this.#data, 'buffer')
    return createHmac('sha256', typeof secret === 'string' ? secret : Sha256.#keyOf(secret as Uint8Array)).update(this.#data).digest()
  }

  reset (): void { this.#data = new Uint8Array() }

  static #keyOf (secret: Uint8Array): KeyObject {
    let key = Sha256.#keys.get(secret)
    if (!key) Sha256.#keys.set(secret, key = createSecretKey(secret))
    return key
  }
}

/** What is the same in all requests of a client. */
interface Prepared {
  place: object
  headers: Record<string, string>
  signer: SignatureV4
  signerOf: (key: Key) => SignatureV4
}

interface Operation {
  /** As the SDK's protocols take it; in a command it is a list. */
  schema: { namespace: unknown, name: unknown, traits: unknown, input: unknown, output: unknown }
  /** The form of an answer with status 200. */
  form: RegExp
  /** The form of what it holds, where that is read; no other answer is parsed. */
  result: RegExp | undefined
}

/** The calls whose answers are read. */
const withResult = /^(List|Get|AssumeRole$|CreateAccessKey$|CreatePolicy$)/

const operationOf = (operation: string, [, namespace, name, traits, input, output]: unknown[]): Operation => ({
  schema: { namespace, name, traits, input, output },
  // Ceph answers to DeleteUserPolicy and DeleteRolePolicy in the plural.
  form: new RegExp(`^\\s*(?:<\\?xml[^>]*>)?${element(`(?:${operation}|${operation.replace(/Policy$/, 'Policies')})Response`)}\\s*$`, 's'),
  result: withResult.test(operation) ? new RegExp(`^${element(`${operation}Result`, '\\s*<\\w.*')}`, 's') : undefined
})

/** An element that may be empty, and what it holds. */
const element = (name: string, inner?: string): string =>
  `\\s*<${name}(?:\\s[^>]*)?(?:${inner === undefined ? '/>|' : ''}>(${inner ?? '.*'})</${name}>)`

/** The place of a request is put in after it is written. */
const nowhere = { endpoint: async () => undefined }

const readAll = (body: Readable): Promise<Buffer> => new Promise((resolve, reject) => {
  const parts: Buffer[] = []
  body.on('data', (part: Buffer) => parts.push(part))
    .on('end', () => resolve(Buffer.concat(parts)))
    .on('error', reject)
    .on('close', () => reject(new Error('The answer was cut off.')))
})

interface HttpAnswer { statusCode: number, headers: Record<string, string>, body: any }

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
