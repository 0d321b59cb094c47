import { Type, type Static, type TSchema } from '@sinclair/typebox'
import {
  AttemptSchema, FormatSchema, JobSchema, LayoutSchema, PolicyRequestSchema, SourceIpsSchema, VpcSchema, WindowSchema, WorkerNameSchema
} from '../request.ts'

/**
 * The types of the answers and of the smaller requests. Only CredentialsSchema has a field for a secret:
 * Fastify does not serialise a field that the response schema does not name.
 */

const strict = { additionalProperties: false }
const nullable = <T extends TSchema>(schema: T, options: object = {}) => Type.Union([schema, Type.Null()], options)
const instant = (description: string) => Type.String({ description, format: 'date-time', examples: ['2025-07-16T01:00:00Z'] })

/** Named in OpenAPI's components, and referred to by `$ref`. */
export const ref = <T extends TSchema>(schema: T) => Type.Unsafe<Static<T>>({ $ref: `${schema.$id}#` })

const PolicySchema = Type.Object({
  Version: Type.String({ examples: ['2012-10-17'] }),
  Statement: Type.Array(Type.Object({}, { additionalProperties: true }), {
    description: 'Statements as IAM knows them: Sid, Effect, Action, Resource, Condition.'
  })
}, { $id: 'Policy', additionalProperties: true, description: 'An IAM policy document, in the order in which IAM gets it.' })

const StatesSchema = Type.Unsafe<'pending' | 'active' | 'revoking' | 'revoked' | 'expired' | 'failed'>({
  type: 'string',
  enum: ['pending', 'active', 'revoking', 'revoked', 'expired', 'failed'],
  description: '`pending`: being issued, or scheduled. `active`: issued. `revoking`: its key is being deleted. The rest: ended.'
})

const EndReasonSchema = Type.Unsafe<'completed' | 'revoked' | 'job-ended' | 'user-gone' | 'expired' | 'failed'>({
  type: 'string',
  enum: ['completed', 'revoked', 'job-ended', 'user-gone', 'expired', 'failed'],
  description: '`completed`: the job said that it is done. `revoked`: its access was taken away. `job-ended`: a worker, whose job was ' +
    'completed or revoked. `user-gone`: the provider does not know its user any more. `expired`: its window was over. `failed`: it was ' +
    'never issued.'
})

const MeasureSchema = Type.Object({
  characters: Type.Integer({ description: 'Number of characters without white space, as IAM counts.' }),
  limits: Type.Object({ inline: Type.Integer(), managed: Type.Integer() }, {
    description: 'The most characters that the provider allows, inline on the user and as a managed policy; ' +
        '0: it does not support that kind.'
  }),
  sha256: Type.String({ description: 'SHA-256 of the canonical JSON (RFC 8785), hex.' })
})

const WarningSchema = Type.Object({
  code: Type.String({ description: 'Stable, for programs.' }),
  detail: Type.String({ description: 'What the request allows that may be a mistake; nothing was refused.' })
})
const ExplanationSchema = Type.Object({
  sid: Type.String({ description: 'The statement’s Sid.' }),
  effect: Type.String({ enum: ['Allow', 'Deny'] }),
  text: Type.String({ description: 'One sentence, for someone who does not read IAM.' })
})

export const RenderedSchema = Type.Object({
  policy: ref(PolicySchema),
  size: MeasureSchema,
  attach: Type.String({ enum: ['inline', 'managed', 'session'], description: 'How a grant would attach it.' }),
  window: Type.Object({
    notBefore: instant('Start, inclusive.'), notAfter: instant('End of reads.'), outputNotAfter: instant('End of writes.')
  }),
  proof: nullable(Type.Object({
    probes: Type.Integer({ description: 'Number of test requests that the policy decided as the request asks.' })
  }), { description: 'With `preflight`; POST /v1/grants always proves.' }),
  explanation: Type.Array(ExplanationSchema, { description: 'One plain sentence per statement.' }),
  warnings: Type.Array(WarningSchema, { description: 'What is allowed and may be a mistake.' })
}, { $id: 'RenderedPolicy' })

const StateFilterSchema = Type.Unsafe<Static<typeof StatesSchema> | 'live'>({
  type: 'string',
  enum: ['live', ...StatesSchema.enum as string[]],
  description: 'Only those in this state. `live`: all that have not ended, i.e. `pending`, `active` and `revoking`.'
})

/** The states of the ledger that a filter names. */
export const statesOf = (state: Static<typeof StateFilterSchema>): Static<typeof StatesSchema>[] =>
  state === 'live' ? ['pending', 'active', 'revoking'] : [state]

export const GrantSchema = Type.Object({
  id: Type.String({ description: 'A lower-case ULID: sorts by creation.', examples: ['01k10xkgf0mxv8rz3c8e9h5t2d'] }),
  state: StatesSchema,
  endReason: nullable(EndReasonSchema, { description: 'Why it has ended, or is being ended. null: it goes on.' }),
  job: Type.Object({ id: Type.String(), team: Type.String(), labels: Type.Record(Type.String(), Type.String()) }, {
    description: 'As in the request.'
  }),
  owner: Type.String({ description: 'The identity that asked for it.', examples: ['token:ci'] }),
  account: nullable(Type.String(), {
    description: 'Name of the account where its user, policy or session is. null: the service has one account, or the grant has no key ' +
      'of its own.'
  }),
  user: Type.Object({
    name: Type.String({ description: 'Name of the IAM user; of the policy where the provider has no users; of the role session.' }),
    path: Type.String({ description: 'Its IAM path, whose last part is the end of the window in epoch seconds.' }),
    roleArn: nullable(Type.String(), { description: 'The role, with attach `session`.' }),
    policyArn: nullable(Type.String(), {
      description: 'The managed policy that holds. With attach `inline` it is the one that the workers of a job share, and the ' +
        'inline policy takes away what does not come from this worker’s source; `policy` is both together.'
    })
  }, { description: 'The user, policy or session of the grant at the provider.' }),
  accessKeyId: nullable(Type.String(), { description: 'Id of the key that was delivered last. The service does not keep its secret.' }),
  previousKey: nullable(Type.Object({ accessKeyId: Type.String(), diesAt: instant('When it is deleted.') }), {
    description: 'After a rotation with overlap: the previous key.'
  }),
  window: Type.Object({
    notBefore: instant('Start, inclusive.'), notAfter: instant('End of reads.'), outputNotAfter: instant('End of writes.')
  }),
  source: Type.Object({ sourceIps: Type.Optional(SourceIpsSchema), vpc: Type.Optional(VpcSchema) }, {
    description: 'From where its key works; empty: from every address, or a job of workers, each of which has its own.'
  }),
  workers: nullable(Type.Object({ max: Type.Integer({ description: 'How many may hold a key at once.' }) }), {
    description: 'A job of workers; it has no key of its own. null: it has one.'
  }),
  worker: nullable(Type.Object({
    name: WorkerNameSchema,
    grantId: Type.String({ description: 'The grant of its job.' })
  }), { description: 'The grant of a worker. null: it is a job’s.' }),
  attempt: nullable(Type.String(), { description: 'Which start asked for the key, as in its request.' }),
  layout: LayoutSchema,
  attach: Type.String({ enum: ['inline', 'managed', 'session'], description: 'How the policy is attached.' }),
  policy: ref(PolicySchema),
  policyHash: Type.String({ description: 'SHA-256 of the policy’s canonical JSON (RFC 8785), hex.' }),
  createdAt: instant('When it was requested.'),
  updatedAt: instant('When it last changed.'),
  issueAt: nullable(instant('When its key can be fetched.')),
  deliveredAt: nullable(instant('When credentials last left the service.')),
  sessionsEndAt: nullable(instant('With attach `session`: until when a session of this grant may work, at the latest.')),
  notice: nullable(
    Type.String({ description: 'What the state does not tell, e.g. that a session cannot be revoked, and until when it works.' })
  )
}, { $id: 'Grant' })
export type GrantView = Static<typeof GrantSchema>

const CredentialsSchema = Type.Object({
  accessKeyId: Type.String({ description: 'AWS_ACCESS_KEY_ID.' }),
  secretAccessKey: Type.String({ description: 'Shown only in this answer; the service does not keep it.' }),
  sessionToken: Type.Optional(Type.String({ description: 'AWS_SESSION_TOKEN, with attach `session`.' })),
  expiration: instant('When they expire.')
}, { $id: 'Credentials' })

export const DeliverySchema = Type.Object({
  grant: ref(GrantSchema),
  credentials: nullable(ref(CredentialsSchema), { description: 'null: a scheduled grant; fetch them later.' }),
  ready: Type.Optional(Type.Boolean({
    description: 'With waitUntilReady: whether the provider accepted the new key in time. The policy may still take some seconds to apply.'
  })),
  warnings: Type.Array(WarningSchema, { description: 'What is allowed and may be a mistake.' }),
  notice: nullable(Type.String({ description: 'A note about the provider, e.g. that keys of the embedded IAM give no access.' }))
}, { $id: 'Delivery' })

export const GrantPageSchema = Type.Object({
  grants: Type.Array(ref(GrantSchema)),
  next: nullable(Type.String({ description: 'Give it as `after` for the next page; null: this is the last page.' }))
}, { $id: 'GrantPage' })

export const EventsSchema = Type.Object({
  events: Type.Array(Type.Object({
    at: instant('When.'),
    actor: Type.String({ description: 'The identity, or the part of the service: `sweeper`, `scheduler`, `reconcile`, `service`.' }),
    action: Type.String({ description: 'What happened, e.g. `active`, `rotated`, `extended`, `revoking`, `revoked`, `attempt-failed`.' }),
    requestId: nullable(Type.String(), { description: 'The request that did it, as in log and audit.' }),
    policyHash: nullable(Type.String(), { description: 'SHA-256 of the policy, where the event is about one.' }),
    detail: Type.Record(Type.String(), Type.Unknown(), { description: 'Key ids, reasons and error codes; never a secret.' })
  }))
}, { $id: 'GrantEvents' })

export const PolicyExplanationSchema = Type.Object({
  explanation: Type.Array(ExplanationSchema, { description: 'One plain sentence per statement, in the order of the policy.' })
}, { $id: 'PolicyExplanation' })

export const RotateSchema = Type.Object({
  overlapSeconds: Type.Optional(Type.Integer({
    description: 'For how long the old key still works; 0: it is deleted before the answer.',
    minimum: 0,
    maximum: 86_400,
    default: 0
  })),
  format: Type.Optional(FormatSchema)
}, strict)

export const ChangeSchema = Type.Object({
  window: Type.Optional(WindowSchema),
  sourceIps: Type.Optional(SourceIpsSchema),
  vpc: Type.Optional(VpcSchema)
}, {
  ...strict,
  minProperties: 1,
  description: 'What changes. notBefore and the grace keep their value unless given. ' +
    'sourceIps or vpc replaces the whole source: give both to keep two alternatives. ' +
    'A window that has started cannot be moved ahead of now.'
})

export const QuestionSchema = Type.Object({
  action: Type.String({
    description: 'An IAM action, or an operation of S3 such as s3:CopyObject: then every action that it needs is asked.',
    pattern: '^([a-z0-9-]+:)?[A-Za-z0-9]+$',
    maxLength: 128,
    examples: ['s3:PutObject']
  }),
  bucket: Type.String({ description: 'Name of the bucket.', minLength: 1, maxLength: 255, examples: ['acmeco-finetuned-models'] }),
  key: Type.Optional(
    Type.String({ description: 'Object key, for object actions.', minLength: 1, maxLength: 1024, examples: ['runs/42/model.safetensors'] })
  ),
  prefix: Type.Optional(Type.String({ description: 'The prefix parameter of s3:ListBucket.', maxLength: 1024 })),
  copySource: Type.Optional(Type.String({ description: 'What CopyObject or UploadPartCopy reads: `bucket/key`.', maxLength: 1100 })),
  kmsKeyArn: Type.Optional(Type.String({
    description: 'ARN of the KMS key that encrypts the object: its actions are needed, too. For kms: actions: that key.', maxLength: 256
  })),
  acl: Type.Optional(Type.String({ description: 'The canned ACL that the request sends (s3:x-amz-acl).', maxLength: 64 })),
  sourceIp: Type.Optional(Type.String({ description: 'Address that S3 sees (aws:SourceIp).', maxLength: 64, examples: ['203.0.113.42'] })),
  at: Type.Optional(Type.String({ description: 'Time of the request; default: now.', maxLength: 40 })),
  vpcId: Type.Optional(Type.String({ description: 'VPC that the request comes from (aws:SourceVpc).', maxLength: 64 })),
  vpcArn: Type.Optional(Type.String({ description: 'ARN of that VPC (aws:SourceVpcArn).', maxLength: 256 })),
  vpcEndpointId: Type.Optional(
    Type.String({ description: 'VPC endpoint that the request comes through (aws:SourceVpce).', maxLength: 64 })
  ),
  vpcSourceIp: Type.Optional(Type.String({ description: 'Private address in the VPC (aws:VpcSourceIp).', maxLength: 64 }))
}, { ...strict, $id: 'Question', description: 'Would this request be allowed?' })

export const CheckRequestSchema = Type.Object({
  request: PolicyRequestSchema,
  question: ref(QuestionSchema)
}, strict)

export const VerdictSchema = Type.Object({
  allowed: Type.Boolean(),
  decision: Type.String({
    enum: ['allow', 'explicit-deny', 'implicit-deny'], description: '`explicit-deny`: a Deny matches. `implicit-deny`: no Allow does.'
  }),
  statements: Type.Array(Type.Object({ sid: Type.String(), effect: Type.String() }), { description: 'The statements that decided.' }),
  because: Type.String({ description: 'Why, in words.' }),
  needs: Type.Optional(Type.Array(Type.Object({ action: Type.String(), resource: Type.String(), allowed: Type.Boolean() }), {
    description: 'Each action of an operation that needs several; it is allowed when all are.'
  }))
}, { $id: 'Verdict' })

export const BlastRadiusSchema = Type.Object({
  at: instant('The time for which the policy was evaluated: now, or `issueAt` of a scheduled grant, which has no key before.'),
  words: Type.Array(Type.String(), { description: 'In plain words. Where no key works, the first says so.' }),
  data: Type.Unknown({
    description: 'The same for programs: what is allowed per bucket and prefix, from the source and from other addresses, and until when.'
  })
}, { $id: 'BlastRadius' })

export const HealthSchema = Type.Object({ status: Type.String() }, { $id: 'Health' })
export const ReadinessSchema = Type.Object({
  status: Type.String({ enum: ['ready', 'not-ready'] }),
  checks: Type.Record(Type.String(), Type.String())
}, { $id: 'Readiness' })

// Parameters have no examples: Swagger UI would fill them in, and ask for a grant that does not exist.
const parameter = <T extends TSchema>({ examples, ...schema }: T, description: string): T => ({ ...schema, description }) as unknown as T

export const IdParamsSchema = Type.Object({
  id: Type.String({
    pattern: '^[0-9a-hjkmnp-tv-z]{26}$',
    description: 'Id of a grant: `grant.id` in the answer of POST /v1/grants; GET /v1/grants lists them.'
  })
})

export const WorkerParamsSchema = Type.Object({ ...IdParamsSchema.properties, name: parameter(WorkerNameSchema, 'Name of the worker.') })

export const WorkersQuerySchema = Type.Object({
  state: Type.Optional(StateFilterSchema),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50, description: 'Workers per page.' })),
  after: Type.Optional(Type.String({ pattern: '^[0-9a-hjkmnp-tv-z]{26}$', description: '`next` of the page before.' }))
}, strict)

export const EndWorkerQuerySchema = Type.Object({
  attempt: Type.Optional(parameter(AttemptSchema, 'Only if this start of the worker has its key. When another one has it, the answer is ' +
    '409 `worker-replaced`, and nothing is ended. Default: whichever start it is.'))
}, strict)

export const ListQuerySchema = Type.Object({
  state: Type.Optional(StateFilterSchema),
  team: Type.Optional(parameter(JobSchema.properties.team, 'Only grants of this team.')),
  job: Type.Optional(Type.String({ ...parameter(JobSchema.properties.id, 'Only grants of the job with this id.'), pattern: '^[ -~]+$' })),
  account: Type.Optional(Type.String({
    pattern: '^[a-z0-9][a-z0-9-]{0,31}$',
    description: 'Only grants whose `account` this is. A job whose workers have the keys has none, wherever these are.'
  })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50, description: 'Grants per page.' })),
  after: Type.Optional(Type.String({ pattern: '^[0-9a-hjkmnp-tv-z]{26}$', description: '`next` of the page before.' }))
}, strict)

export const shared = [
  PolicySchema, RenderedSchema, GrantSchema, CredentialsSchema, DeliverySchema, GrantPageSchema, EventsSchema,
  PolicyExplanationSchema, QuestionSchema,
  VerdictSchema, BlastRadiusSchema, HealthSchema, ReadinessSchema
]
