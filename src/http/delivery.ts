import { Type } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import { stringify } from 'yaml'
import type { Grant } from '../domain/grant.ts'
import type { Credentials } from '../iam/provisioner.ts'
import { endOfSession, sessionEnd } from '../iam/role-profile.ts'
import type { Rendered } from '../lifecycle/access.ts'
import type { Delivery } from '../lifecycle/provision.ts'
import { explainPolicy } from '../policy/explain.ts'
import { restate, type Warning } from '../policy/normalise.ts'
import { ProblemError } from '../problems.ts'
import type { Format } from '../request.ts'
import { DeliverySchema, ref, type GrantView } from './schemas.ts'

/**
 * Credentials in the forms that jobs take them. Pure: strings in, strings out; nothing is logged or kept.
 */

export interface S3Target { endpoint?: string, region?: string }

/** The media type of each format: what Accept may name, and what Content-Type answers. */
export const mediaTypes: Record<Exclude<Format, 'json'>, string> = {
  env: 'text/x-env',
  'aws-profile': 'text/x-aws-credentials',
  'credential-process': 'application/vnd.aws.credential-process+json',
  'kubernetes-secret': 'application/yaml'
}

/** The field wins over Accept. Accept without any type of ours, but with JSON or a wildcard, is JSON. */
export const chooseFormat = (format: Format | undefined, accept: string | undefined): Format => {
  if (format) return format
  for (const type of acceptedTypes(accept ?? '*/*')) {
    if (['application/json', 'application/*', '*/*', ''].includes(type)) return 'json'
    const found = Object.entries(mediaTypes).find(([, mediaType]) => mediaType === type)
    if (found) return found[0] as Format
  }
  throw new ProblemError('not-acceptable', { hint: `Accept one of application/json, ${Object.values(mediaTypes).join(', ')}.` })
}

/** The media types of an Accept header, the most wanted first, without those of weight 0 (RFC 9110 section 12.5.1). */
const acceptedTypes = (accept: string): string[] => accept.split(',')
  .map(part => {
    const [type = '', ...parameters] = part.split(';').map(text => text.trim().toLowerCase())
    const weight = parameters.find(text => text.startsWith('q='))
    return { type, weight: weight === undefined ? 1 : Number(weight.slice(2)) }
  })
  .filter(({ weight }) => weight > 0)
  .sort((a, b) => b.weight - a.weight)
  .map(({ type }) => type)

export const deliver = (
  format: Exclude<Format, 'json'>, credentials: Credentials, grant: Grant, target: S3Target, notice: string | null
): string => {
  const expires = isoSeconds(endOf(credentials, grant))
  switch (format) {
    case 'env': return [
      `# grant ${grant.id}, job ${grant.jobId}, ends ${expires}`,
      ...(notice ? [`# ${notice}`] : []),
      ...Object.entries(environment(credentials, target)).map(([name, value]) => `${name}=${value}`),
      ''
    ].join('\n')
    case 'aws-profile': return [
      `# grant ${grant.id}, job ${grant.jobId}, ends ${expires}`,
      ...(notice ? [`# ${notice}`] : []),
      '[default]',
      `aws_access_key_id = ${plain(credentials.accessKeyId)}`,
      `aws_secret_access_key = ${plain(credentials.secretAccessKey)}`,
      ...(credentials.sessionToken ? [`aws_session_token = ${plain(credentials.sessionToken)}`] : []),
      ...(endpointOf(target) ? [`endpoint_url = ${endpointOf(target)}`] : []),
      ...(target.region ? [`region = ${plain(target.region, 'region of the configuration')}`] : []),
      ''
    ].join('\n')
    // AWS SDKs and Tools Reference Guide, "Process credential provider".
    case 'credential-process': return JSON.stringify({
      Version: 1,
      AccessKeyId: credentials.accessKeyId,
      SecretAccessKey: credentials.secretAccessKey,
      ...(credentials.sessionToken && { SessionToken: credentials.sessionToken }),
      Expiration: expires
    })
    case 'kubernetes-secret': return stringify({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        name: secretName(grant),
        labels: { 'app.kubernetes.io/managed-by': 'job-access', 'job-access/grant': grant.id },
        annotations: { 'job-access/job': grant.jobId, 'job-access/expires': expires, ...(notice && { 'job-access/notice': notice }) }
      },
      type: 'Opaque',
      stringData: environment(credentials, target)
    }, forKubectl)
  }
}

/**
 * kubectl reads YAML 1.1 (sigs.k8s.io/yaml), where `yes`, `1_0`, `0b1` and `1e3` are no strings. Between quotes every string is one, in
 * every version.
 */
const forKubectl = { version: '1.1', defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'PLAIN', lineWidth: 0 } as const

const endpointOf = ({ endpoint }: S3Target): string | undefined => endpoint && plain(endpoint, 'endpoint of the configuration')

const environment = (credentials: Credentials, target: S3Target): Record<string, string> => {
  const endpoint = endpointOf(target)
  return {
    AWS_ACCESS_KEY_ID: plain(credentials.accessKeyId),
    AWS_SECRET_ACCESS_KEY: plain(credentials.secretAccessKey),
    ...(credentials.sessionToken && { AWS_SESSION_TOKEN: plain(credentials.sessionToken) }),
    // s5cmd reads the second name alone (its README, "Custom endpoint").
    ...(endpoint && { AWS_ENDPOINT_URL_S3: endpoint, S3_ENDPOINT_URL: endpoint }),
    ...(target.region && { AWS_REGION: plain(target.region, 'region of the configuration') })
  }
}

/** Values go into files that shells and docker --env-file read without quotes; one with other characters must not break them. */
const plain = (value: string, what = 'provider’s key'): string => {
  if (/^[A-Za-z0-9/+=._:[\]%-]+$/.test(value)) return value
  throw new ProblemError('internal', { detail: `The ${what} has characters that this format cannot carry.`, hint: 'Use format json.' })
}

/** A DNS label: 63 characters, lower case (Kubernetes, "Object Names and IDs"). The id keeps it unique. */
const secretName = (grant: Grant): string => {
  const job = grant.jobId.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 25).replace(/-+$/, '')
  return ['job-access', job, grant.id].filter(part => part !== '').join('-')
}

/** When credentials stop to open anything, epoch ms: with the window in the policy, or with the session where that is sooner. */
const endOf = ({ expiresAt }: Pick<Credentials, 'expiresAt'>, grant: Grant): number =>
  grant.attach === 'session' ? endOfSession(expiresAt ?? grant.expiresAt, grant) : Math.min(expiresAt ?? Infinity, grant.expiresAt)

export const isoSeconds = (epochMs: number): string => new Date(epochMs).toISOString().replace(/\.\d+Z/, 'Z')

/** What a caller sees of a grant: everything but what only the lifecycle needs. */
export const grantView = (grant: Grant): GrantView => ({
  id: grant.id,
  state: grant.state,
  endReason: endReasonOf(grant),
  job: grant.spec.job,
  owner: grant.owner,
  account: grant.principal.account ?? null,
  user: userOf(grant.principal),
  accessKeyId: grant.accessKeyId,
  // The end of a grant deletes it too, however long the overlap was to be.
  previousKey: grant.state === 'active' && grant.previousKeyId && grant.previousKeyDiesAt !== null
    ? { accessKeyId: grant.previousKeyId, diesAt: iso(grant.previousKeyDiesAt) }
    : null,
  window: grant.spec.window,
  source: sourceOf(grant.spec),
  workers: grant.maxWorkers === null ? null : { max: grant.maxWorkers },
  worker: grant.parentId === null ? null : { name: grant.worker ?? '', grantId: grant.parentId },
  attempt: grant.attempt,
  layout: grant.spec.layout,
  attach: grant.attach,
  policy: grant.policy,
  policyHash: grant.policyHash,
  createdAt: iso(grant.createdAt),
  updatedAt: iso(grant.updatedAt),
  issueAt: grant.issueAt === null ? null : iso(grant.issueAt),
  deliveredAt: grant.deliveredAt === null ? null : iso(grant.deliveredAt),
  sessionsEndAt: grant.attach === 'session' && sessionEnd(grant) > 0 ? iso(sessionEnd(grant)) : null,
  notice: noticeOf(grant)
})

const endReasonOf = ({ state, ending, endReason }: Grant): GrantView['endReason'] => {
  const end = ending ?? state
  if (end === 'pending' || end === 'active' || end === 'revoking') return null
  if (end !== 'revoked') return end
  if (endReason === 'completed') return endReason
  if (endReason === 'the job has ended') return 'job-ended'
  return endReason === 'the principal is gone' ? 'user-gone' : end
}

const userOf = ({ name, path, roleArn, policyArn }: Grant['principal']): GrantView['user'] => ({ name, path, roleArn, policyArn })

const sourceOf = (spec: Grant['spec']): GrantView['source'] => {
  const { sourceIps, vpc } = restate(spec)
  return { ...(sourceIps && { sourceIps }), ...(vpc && { vpc }) }
}

/** A page, of grants of which one more was read than it has room for. */
export const pageView = (grants: Grant[], limit: number) => {
  const page = grants.slice(0, limit)
  return { grants: page.map(grantView), next: grants.length > limit ? page.at(-1)?.id ?? null : null }
}

/** Some workers have their earlier window still, or keys that are being deleted. */
export const leavesWorkers = ({ maxWorkers, state, dueAt, expiresAt }: Grant): boolean =>
  maxWorkers !== null && state === 'active' && dueAt !== null && dueAt < expiresAt

/** `revoking` until its end is how a session is kept that nobody can end early. */
const noticeOf = (grant: Grant): string | null => {
  if (leavesWorkers(grant)) return 'Some workers still have the window before this one; the service goes on by itself.'
  if (grant.maxWorkers !== null && grant.state === 'revoking') return 'Some workers have not ended yet; the service goes on by itself.'
  const irrevocable = grant.state === 'revoking' && grant.attach === 'session' && grant.dueAt === sessionEnd(grant)
  return irrevocable
    ? `This session cannot be revoked: its keys work until ${isoSeconds(grant.dueAt ?? 0)}, when they end by themselves.`
    : null
}

/** What a change did not reach: a session keeps the policy that it was given. */
export const changedView = (grant: Grant, now: number): GrantView => {
  const lives = grant.attach === 'session' && sessionEnd(grant) > now
  return lives
    ? {
        ...grantView(grant),
        notice: 'The next session has the new window and source: POST /v1/grants/:id/rotate gives it. Those before it keep theirs, ' +
          `the last until ${isoSeconds(sessionEnd(grant))}.`
      }
    : grantView(grant)
}

/** What a delivery warns of besides its policy. */
interface LifecycleWarning { code: 'session-ends-first' | 'session-lives-on', detail: string }

/** What the holder of a session must know: when to fetch the next, and, whatever overlap was requested, what the one before still does. */
export const sessionWarnings = ({ grant, credentials, previousUntil = 0 }: Delivery, now: number): LifecycleWarning[] => {
  if (grant.attach !== 'session' || !credentials) return []
  const end = endOf(credentials, grant)
  const warnings: LifecycleWarning[] = []
  if (end < grant.expiresAt) {
    warnings.push({
      code: 'session-ends-first',
      detail: `This session ends at ${isoSeconds(end)}, before the window ${end <= grant.notBefore ? 'starts' : 'ends'}: fetch the next ` +
        'one before then with POST /v1/grants/:id/rotate, as job-access agent and exec do.'
    })
  }
  if (previousUntil > now) {
    warnings.push({
      code: 'session-lives-on',
      detail: `The session before this one works on until ${isoSeconds(previousUntil)}; if it leaked, revoke the grant and ask for another.`
    })
  }
  return warnings
}

export const deliveryView = (
  { grant, credentials }: Delivery, notice: string | null, extra: { warnings: Array<Warning | LifecycleWarning>, ready?: boolean }
) => ({
  grant: grantView(grant),
  credentials: credentials && {
    accessKeyId: credentials.accessKeyId,
    secretAccessKey: credentials.secretAccessKey,
    ...(credentials.sessionToken && { sessionToken: credentials.sessionToken }),
    expiration: isoSeconds(endOf(credentials, grant))
  },
  ...(extra.ready !== undefined && { ready: extra.ready }),
  warnings: extra.warnings,
  notice
})

export const renderedView = (
  { policy, measure, attachment, spec, warnings, probes }: Rendered & { probes?: number }, sizes: { inline?: number, managed?: number }
) => ({
  policy,
  size: { characters: measure.characters, limits: { inline: sizes.inline ?? 0, managed: sizes.managed ?? 0 }, sha256: measure.sha256 },
  attach: attachment,
  window: spec.window,
  proof: probes === undefined ? null : { probes },
  explanation: explainPolicy(policy),
  warnings
})

export const iso = (epochMs: number): string => new Date(epochMs).toISOString()

// --- the answer ---

/** Sends a delivery in the format that was asked for. 201: the grant was made by this request. */
export const sender = ({ notice, s3, accounts, deps }: {
  notice: string | null, s3: S3Target, accounts?: Array<{ name: string, s3: S3Target }>, deps: { now: () => number }
}) => async (
  reply: FastifyReply, format: Format, delivery: Delivery & { created?: boolean, ready?: boolean, warnings?: Warning[] }
) => {
  const { grant, credentials, ready, warnings = [] } = delivery
  const targetOf = ({ principal: { account } }: Grant) => accounts?.find(({ name }) => name === account)?.s3 ?? s3
  const ofSession = delivery.grant.attach === 'session' ? sessionWarnings(delivery, deps.now()) : []
  const extra = { warnings: [...warnings, ...ofSession], ...(ready !== undefined && { ready }) }
  reply.code(delivery.created ? 201 : 200).header('location', `/v1/grants/${grant.id}`).header('job-access-grant', grant.id)
  if (format === 'json' || !credentials) return reply.send(deliveryView(delivery, notice, extra))
  if (ready !== undefined) reply.header('job-access-ready', String(ready))
  return reply.type(mediaTypes[format]).send(deliver(format, credentials, grant, targetOf(grant), notice))
}

/** The same answer in each format, by media type. */
export const deliveries = (...statuses: number[]) => Object.fromEntries(statuses.map(status => [status, {
  content: {
    'application/json': { schema: ref(DeliverySchema) },
    ...Object.fromEntries(
      Object.values(mediaTypes).map(type => [type, { schema: type.startsWith('text/') ? Type.String() : Type.Object({}) }])
    )
  }
}]))
