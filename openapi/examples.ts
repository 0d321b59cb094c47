import { parse } from 'yaml'
import type { Grant } from '../src/domain/grant.ts'
import { deliver, deliveryView, grantView, iso, mediaTypes, renderedView, type S3Target } from '../src/http/delivery.ts'
import { verdict } from '../src/http/verdict.ts'
import { dialects } from '../src/iam/dialects/index.ts'
import { principalName, principalPath } from '../src/iam/names.ts'
import type { Credentials } from '../src/iam/provisioner.ts'
import { limitsOf, normaliseRequest, renderAccess } from '../src/lifecycle/access.ts'
import type { Deployment } from '../src/lifecycle/deps.ts'
import { explainPolicy } from '../src/policy/explain.ts'
import { defaultLimits } from '../src/policy/limits.ts'
import { normaliseChange } from '../src/policy/normalise.ts'
import { blastRadius } from '../src/policy/prove/blast-radius.ts'
import { guideRequest } from '../src/request.ts'
import type { OperationId } from './operations.ts'

/**
 * The examples of /docs. Each request works as it is against `npm start`. The functions of the service make the answers, for one job
 * that is issued, changed, rotated and completed; a test sends the same requests to the service and compares.
 */

interface Example { summary: string, value: unknown }

const bucketOf = {
  dataset: 'acmeco-training-datasets-wikipedia-2025-07-01', models: 'acmeco-base-models', output: 'acmeco-finetuned-models'
}

// Each is another job: one job holds one grant.
const jobs = {
  guide: { summary: 'The published guide’s training job', value: guideRequest },
  checkpoints: {
    summary: 'Prefixes, resuming from checkpoints, a grace for the last of them, Denies that beat a bucket policy',
    value: {
      job: { id: 'wiki-finetune-43', team: 'nlp', labels: { experiment: 'lr-sweep-7' } },
      datasets: [{ bucket: bucketOf.dataset, prefix: 'en/' }],
      baseModels: [{ bucket: bucketOf.models, prefix: 'llama/' }],
      output: { bucket: bucketOf.output, prefix: 'runs/43/', level: 'read-write' },
      window: { durationSeconds: 10800, outputGraceSeconds: 600 },
      sourceIps: ['203.0.113.0/24'],
      layout: 'guarded'
    }
  },
  vpc: {
    summary: 'From private addresses, through a VPC endpoint',
    value: {
      job: { id: 'wiki-finetune-44', team: 'nlp' },
      datasets: [{ bucket: bucketOf.dataset }],
      output: { bucket: bucketOf.output, prefix: 'runs/44/' },
      window: { durationSeconds: 10800 },
      vpc: { vpcEndpointIds: ['vpce-0123456789abcdef0'], sourceIps: ['10.0.12.0/24'] }
    }
  },
  workers: {
    summary: 'Many workers: each joins with its own source',
    value: {
      job: { id: 'wiki-finetune-45', team: 'nlp' },
      datasets: [{ bucket: bucketOf.dataset }],
      output: { bucket: bucketOf.output, prefix: 'runs/45/', level: 'read-write' },
      window: { durationSeconds: 10800 },
      workers: { max: 64 }
    }
  },
  twoWays: {
    summary: 'From a NAT address, or through the endpoint of a VPC',
    value: {
      job: { id: 'wiki-finetune-46', team: 'nlp' },
      datasets: [{ bucket: bucketOf.dataset }],
      output: { bucket: bucketOf.output, prefix: 'runs/46/' },
      window: { durationSeconds: 10800 },
      sourceIps: ['203.0.113.42'],
      vpc: { vpcArns: ['arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0123456789abcdef0'], sourceIps: ['10.0.12.0/24'] },
      layout: 'guarded'
    }
  }
} satisfies Record<string, Example>

// Sent twice it is a retry of the same start, which gets a key again. A job of workers has no key.
const starts = Object.fromEntries(Object.entries<Example & { value: object }>(jobs).map(([name, { summary, value }]) =>
  [name, { summary, value: 'workers' in value ? value : { ...value, attempt: '0' } }]))

const questions = {
  output: { action: 's3:PutObject', bucket: bucketOf.output, key: 'model.safetensors', sourceIp: '203.0.113.42' },
  models: { action: 's3:PutObject', bucket: bucketOf.models, key: 'model.safetensors', sourceIp: '203.0.113.42' }
}

const longer = { window: { durationSeconds: 14400 } }

export const requests: Partial<Record<OperationId, Record<string, Example>>> = {
  renderPolicy: jobs,
  issueGrant: starts,
  checkPolicy: {
    refused: { summary: 'May the job change the base model?', value: { request: guideRequest, question: questions.models } },
    allowed: { summary: 'May it write its own?', value: { request: guideRequest, question: questions.output } }
  },
  checkGrant: {
    allowed: { summary: 'May the job write its model?', value: questions.output },
    refused: { summary: 'May it change the base model?', value: questions.models }
  },
  joinGrant: {
    worker: { summary: 'A pod with its own address', value: { name: 'trainer-0', attempt: '0', sourceIps: ['203.0.113.42'] } },
    restarted: { summary: 'It comes back on another node', value: { name: 'trainer-0', attempt: '1', sourceIps: ['203.0.113.77'] } }
  },
  changeGrant: {
    longer: { summary: 'The job runs longer', value: longer },
    moved: { summary: 'It runs on another node', value: { sourceIps: ['203.0.113.77'] } }
  },
  rotateGrant: {
    overlap: { summary: 'The old key works for another minute', value: { overlapSeconds: 60 } },
    leaked: { summary: 'The old key is dead before the answer', value: {} }
  },
  fetchCredentials: {
    json: { summary: 'As JSON', value: {} },
    env: { summary: 'As an env block', value: { format: 'env' } }
  }
}

// Two ceilings are lower than the default, so that an example can be refused for its bucket, and one for its life.
export const exampleRules: Deployment = { limits: { ...defaultLimits, allowedBuckets: ['acmeco-*'], allowedKmsKeys: ['arn:aws:kms:*:111122223333:key/*'], maxLifetimeSeconds: 30 * 86_400 }, dialect: dialects.aws, profiles: {} }
export const exampleTarget: S3Target = { endpoint: 'https://s3.eu-west-1.amazonaws.com', region: 'eu-west-1' }
export const exampleIssuedAt = Date.parse('2025-07-16T00:30:00Z')

const minute = 60_000
// The keys are the ones that AWS's own documentation shows.
const firstKey: Credentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', expiresAt: null
}
const secondKey: Credentials = {
  accessKeyId: 'AKIAI44QH8DHBEXAMPLE', secretAccessKey: 'je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY', expiresAt: null
}
const id = '01k08a6rt0mxv8rz3c8e9h5t2d'
const workersId = '01k08a6rt0mxv8rz3c8e9h5t2c'

type Answers = Record<string, Record<string, unknown>>

/** By operation, status and media type. */
export const answers = (): Record<OperationId, Answers> => {
  const rendered = renderAccess(exampleRules, normaliseRequest(exampleRules, guideRequest, exampleIssuedAt))
  const { spec, policy, measure, warnings, firstIssuedAt } = rendered
  const expiresAt = Date.parse(spec.window.outputNotAfter)
  const issued: Grant = {
    id,
    state: 'active',
    ending: null,
    endReason: null,
    owner: 'token:nlp',
    team: spec.job.team,
    jobId: spec.job.id,
    idempotencyKey: null,
    attempt: '0',
    maxWorkers: null,
    parentId: null,
    worker: null,
    spec,
    policy,
    policyHash: measure.sha256,
    attach: 'inline',
    principal: {
      name: principalName('ja', spec.job.id, expiresAt, id), path: principalPath('/job-access/', expiresAt), policyArn: null, roleArn: null
    },
    accessKeyId: firstKey.accessKeyId,
    previousKeyId: null,
    previousKeyDiesAt: null,
    dyingKeys: [],
    issueAt: null,
    mintedAt: exampleIssuedAt,
    deliveredAt: exampleIssuedAt,
    sessionsEndAt: null,
    notBefore: exampleIssuedAt,
    expiresAt,
    createdAt: exampleIssuedAt,
    updatedAt: exampleIssuedAt,
    dueAt: expiresAt,
    attempts: 0,
    claimedUntil: null,
    version: 1
  }
  const jobOfWorkers: Grant = {
    ...issued,
    id: workersId,
    jobId: jobs.workers.value.job.id,
    maxWorkers: 64,
    attempt: null,
    accessKeyId: null,
    deliveredAt: null,
    mintedAt: null
  }
  const worker: Grant = { ...issued, parentId: workersId, worker: 'trainer-0', attempt: '0' }
  const changedAt = exampleIssuedAt + 30 * minute
  const admission = normaliseChange({ spec, firstIssuedAt, active: true }, longer, limitsOf(exampleRules), new Date(changedAt))
  if (!admission.ok) throw new Error('the example’s change is refused')
  const change = renderAccess(exampleRules, { ...admission, profileName: undefined, firstIssuedAt })
  const changed: Grant = {
    ...issued,
    spec: change.spec,
    policy: change.policy,
    policyHash: change.measure.sha256,
    expiresAt: Date.parse(change.spec.window.outputNotAfter),
    updatedAt: changedAt
  }
  const rotatedAt = exampleIssuedAt + 90 * minute
  const rotated: Grant = {
    ...changed,
    accessKeyId: secondKey.accessKeyId,
    previousKeyId: firstKey.accessKeyId,
    previousKeyDiesAt: rotatedAt + minute,
    deliveredAt: rotatedAt,
    updatedAt: rotatedAt
  }
  const endedAt = exampleIssuedAt + 170 * minute
  const completed = { state: 'revoked', ending: 'revoked', endReason: 'completed' } as const
  const ended: Grant = { ...rotated, ...completed, previousKeyId: null, previousKeyDiesAt: null, updatedAt: endedAt }
  const fetchedAt = exampleIssuedAt + minute
  const scheduled: Grant = { ...issued, issueAt: fetchedAt, mintedAt: fetchedAt, deliveredAt: fetchedAt, updatedAt: fetchedAt }
  const event = { actor: issued.owner, requestId: exampleRequestId, policyHash: issued.policyHash }
  const endedAs = (end: Partial<Grant>) =>
    ({ 200: answer(grantView({ ...ended, ...end })), 202: answer(grantView({ ...ended, ...end, state: 'revoking' })) })
  const now = new Date(exampleIssuedAt)
  return {
    renderPolicy: { 200: answer(renderedView(rendered, exampleRules.dialect.sizes)) },
    checkPolicy: { 200: answer(verdict(policy, questions.models, now, '')) },
    issueGrant: { 200: delivery(issued, firstKey, warnings), 201: delivery(issued, firstKey, warnings) },
    listGrants: { 200: answer({ grants: [grantView(issued)], next: null }) },
    getGrant: { 200: answer(grantView(issued)) },
    listGrantEvents: {
      200: answer({
        events: [
          { at: iso(exampleIssuedAt), ...event, action: 'pending', detail: { attach: issued.attach, attempt: '0', idempotency: 'job' } },
          { at: iso(exampleIssuedAt), ...event, action: 'active', detail: { accessKeyId: issued.accessKeyId, attempt: '0', user: issued.principal.name } }
        ]
      })
    },
    explainGrant: { 200: answer({ explanation: explainPolicy(policy) }) },
    getBlastRadius: { 200: answer({ at: iso(exampleIssuedAt), ...blastRadius(policy, now) }) },
    checkGrant: { 200: answer(verdict(policy, questions.output, now, '')) },
    joinGrant: { 200: delivery(worker, firstKey, warnings), 201: delivery(worker, firstKey, warnings) },
    listWorkers: { 200: answer({ grants: [grantView(worker)], next: null }) },
    getWorker: { 200: answer(grantView(worker)) },
    endWorker: {
      200: answer(grantView({ ...worker, ...completed, dueAt: null })), 202: answer(grantView({ ...worker, ...completed, state: 'revoking' }))
    },
    changeGrant: {
      200: answer(grantView(changed)), 202: answer(grantView({ ...jobOfWorkers, dueAt: exampleIssuedAt + 5000 }))
    },
    rotateGrant: { 200: delivery(rotated, secondKey, []) },
    fetchCredentials: { 200: delivery(scheduled, firstKey, []) },
    completeGrant: endedAs({}),
    revokeGrant: endedAs({ endReason: 'revoked' }),
    getHealth: { 200: answer({ status: 'ok' }) },
    getReadiness: {
      200: answer({ status: 'ready', checks: { iam: 'ok', ledger: 'ok', clock: 'ok' } }),
      503: answer({ status: 'not-ready', checks: { iam: 'failed', ledger: 'ok', clock: 'ok' } })
    }
  }
}

export const exampleRequestId = '0d8f4c5e-6b1a-4f0e-9d57-2f6c1c9f7b3a'

const answer = (value: unknown) => ({ 'application/json': value })

/** A delivery in every form. */
const delivery = (grant: Grant, credentials: Credentials, warnings: Parameters<typeof deliveryView>[2]['warnings']) => ({
  ...answer(deliveryView({ grant, credentials }, null, { warnings })),
  ...Object.fromEntries(Object.entries(mediaTypes).map(([format, type]) => {
    const text = deliver(format as keyof typeof mediaTypes, credentials, grant, exampleTarget, null)
    // An example of JSON or YAML is the value, which readers of the document write in that form.
    return [type, type.startsWith('text/') ? text : parse(text)]
  }))
})
