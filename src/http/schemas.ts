import { Type, type Static, type TSchema } from '@sinclair/typebox'
import {
  FormatSchema, JobSchema, LayoutSchema, PolicyRequestSchema, SourceIpsSchema, VpcSchema, WindowSchema
} from '../request.ts'

/**
 * The wire types of the answers, and of the smaller requests. Only DeliverySchema has a place for a secret:
 * a field that a response schema does not name is not serialised.
 */

const strict = { additionalProperties: false }
const nullable = <T extends TSchema>(schema: T, options: object = {}) => Type.Union([schema, Type.Null()], options)
const instant = (description: string) => Type.String({ description, format: 'date-time', examples: ['2025-07-16T01:00:00Z'] })

/** Named in OpenAPI's components, and referred to by `$ref`. */
export const ref = <T extends TSchema>(schema: T) => Type.Unsafe<Static<T>>({ $ref: `${schema.$id}#` })

export const PolicySchema = Type.Object({
  Version: Type.String({ examples: ['2012-10-17'] }),
  Statement: Type.Array(Type.Object({}, { additionalProperties: true }), {
    description: 'Statements as IAM knows them: Sid, Effect, Action, Resource, Condition.'
  })
}, { $id: 'Policy', additionalProperties: true, description: 'An IAM policy document, in the order in which IAM gets it.' })

export const StatesSchema = Type.Unsafe<'pending' | 'active' | 'revoking' | 'revoked' | 'expired' | 'failed'>({
  type: 'string',
  enum: ['pending', 'active', 'revoking', 'revoked', 'expired', 'failed'],
  description: '`pending`: being issued, or scheduled. `active`: issued. `revoking`: its key is being deleted. The rest: ended.'
})

const MeasureSchema = Type.Object({
  characters: Type.Integer({ description: 'Without white space, as IAM counts.' }),
  limits: Type.Object({ inline: Type.Integer(), managed: Type.Integer() }, {
    description: 'The most characters that the provider takes on the user and as a managed policy; 0: it has no such way.'
  }),
  sha256: Type.String({ description: 'Of the canonical JSON (RFC 8785), hex.' })
})

const WarningSchema = Type.Object({
  code: Type.String({ description: 'Stable, for programs.' }),
  detail: Type.String({ description: 'What is worth knowing; nothing was refused.' })
})
const ExplanationSchema = Type.Object({
  sid: Type.String({ description: 'The statement’s Sid.' }),
  effect: Type.String({ enum: ['Allow', 'Deny'] }),
  text: Type.String({ description: 'One sentence, for someone who does not read IAM.' })
})

export const RenderedSchema = Type.Object({
  policy: ref(PolicySchema),
  size: MeasureSchema,
  attach: Type.String({ enum: ['inline', 'managed', 'session'], description: 'How a grant would carry it.' }),
  window: Type.Object({ notBefore: instant('Start, inclusive.'), notAfter: instant('End of reads.'), outputNotAfter: instant('End of writes.') }),
  proof: nullable(Type.Object({ probes: Type.Integer({ description: 'Requests evaluated against the policy; each was decided as asked for.' }) }),
    { description: 'With `preflight`; POST /v1/grants always proves.' }),
  explanation: Type.Array(ExplanationSchema, { description: 'One plain sentence per statement.' }),
  warnings: Type.Array(WarningSchema, { description: 'What is allowed, and may surprise.' })
}, { $id: 'RenderedPolicy' })

export const GrantSchema = Type.Object({
  id: Type.String({ description: 'A lower-case ULID: sorts by creation.', examples: ['01k10xkgf0mxv8rz3c8e9h5t2d'] }),
  state: StatesSchema,
  job: Type.Object({ id: Type.String(), team: Type.String(), labels: Type.Record(Type.String(), Type.String()) }, {
    description: 'As it was asked for.'
  }),
  owner: Type.String({ description: 'The identity that asked for it.', examples: ['token:ci'] }),
  user: Type.Object({
    name: Type.String({ description: 'Name of the IAM user; of the policy where the provider has no users; of the role session.' }),
    path: Type.String({ description: 'Its IAM path, which ends in the end of the window as epoch seconds.' }),
    roleArn: nullable(Type.String(), { description: 'The role, with attach `session`.' })
  }, { description: 'What carries the grant at the provider.' }),
  accessKeyId: nullable(Type.String(), { description: 'Id of the key that was delivered last. The secret is kept nowhere.' }),
  previousKey: nullable(Type.Object({ accessKeyId: Type.String(), diesAt: instant('When it is deleted.') }), {
    description: 'After a rotation with overlap: the key before.'
  }),
  window: Type.Object({ notBefore: instant('Start, inclusive.'), notAfter: instant('End of reads.'), outputNotAfter: instant('End of writes.') }),
  layout: LayoutSchema,
  attach: Type.String({ enum: ['inline', 'managed', 'session'], description: 'How the policy is attached.' }),
  policy: ref(PolicySchema),
  policyHash: Type.String({ description: 'SHA-256 of the policy’s canonical JSON (RFC 8785), hex.' }),
  createdAt: instant('When it was asked for.'),
  updatedAt: instant('When it last changed.'),
  issueAt: nullable(instant('When its key can be fetched.')),
  deliveredAt: nullable(instant('When credentials last left the service.')),
  notice: nullable(Type.String({ description: 'What the state alone does not say, e.g. that a session cannot be revoked and until when it works.' }))
}, { $id: 'Grant' })
export type GrantView = Static<typeof GrantSchema>

export const CredentialsSchema = Type.Object({
  accessKeyId: Type.String({ description: 'AWS_ACCESS_KEY_ID.' }),
  secretAccessKey: Type.String({ description: 'Shown once, here; the service does not keep it.' }),
  sessionToken: Type.Optional(Type.String({ description: 'AWS_SESSION_TOKEN, with attach `session`.' })),
  expiration: instant('When they stop to work by themselves.')
}, { $id: 'Credentials' })

export const DeliverySchema = Type.Object({
  grant: ref(GrantSchema),
  credentials: nullable(ref(CredentialsSchema), { description: 'null: a scheduled grant; fetch them later.' }),
  ready: Type.Optional(Type.Boolean({
    description: 'With waitUntilReady: whether the provider knew the new key in time. It proves the key, not that its policy has spread.'
  })),
  warnings: Type.Array(WarningSchema, { description: 'What is allowed, and may surprise.' }),
  notice: nullable(Type.String({ description: 'What to know about the provider, e.g. that the embedded IAM’s keys open nothing.' }))
}, { $id: 'Delivery' })

export const GrantPageSchema = Type.Object({
  grants: Type.Array(ref(GrantSchema)),
  next: nullable(Type.String({ description: 'Give it as `after` for the next page; null: this was the last.' }))
}, { $id: 'GrantPage' })

export const EventsSchema = Type.Object({
  events: Type.Array(Type.Object({
    at: instant('When.'),
    actor: Type.String({ description: 'The identity, or the part of the service: `sweeper`, `scheduler`, `reconcile`, `service`.' }),
    action: Type.String({ description: 'What happened, e.g. `active`, `rotated`, `extended`, `revoking`, `revoked`, `attempt-failed`.' }),
    requestId: nullable(Type.String(), { description: 'The request that did it, as in log and audit.' }),
    policyHash: nullable(Type.String(), { description: 'The policy that it is about, where it is about one.' }),
    detail: Type.Record(Type.String(), Type.Unknown(), { description: 'Key ids, reasons, error codes; never a secret.' })
  }))
}, { $id: 'GrantEvents' })

export const PolicyExplanationSchema = Type.Object({
  explanation: Type.Array(ExplanationSchema, { description: 'One plain sentence per statement, in the order of the policy.' })
}, { $id: 'PolicyExplanation' })

export const RotateSchema = Type.Object({
  overlapSeconds: Type.Optional(Type.Integer({
    description: 'How long the old key still works; 0: it is dead before the answer.',
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
}, { ...strict, minProperties: 1, description: 'What changes. notBefore and the grace keep their value unless given.' })

export const QuestionSchema = Type.Object({
  action: Type.String({
    description: 'An IAM action, or an operation of S3.', pattern: '^[a-z0-9-]+:[A-Za-z0-9]+$', maxLength: 128, examples: ['s3:PutObject']
  }),
  bucket: Type.String({ description: 'Name of the bucket.', minLength: 1, maxLength: 255, examples: ['acmeco-finetuned-models'] }),
  key: Type.Optional(Type.String({ description: 'Object key, for object actions.', minLength: 1, maxLength: 1024, examples: ['runs/42/model.safetensors'] })),
  prefix: Type.Optional(Type.String({ description: 'The prefix parameter of s3:ListBucket.', maxLength: 1024 })),
  sourceIp: Type.Optional(Type.String({ description: 'Address that S3 sees (aws:SourceIp).', maxLength: 64, examples: ['203.0.113.42'] })),
  at: Type.Optional(Type.String({ description: 'Instant of the request; default: now.', maxLength: 40 })),
  vpcId: Type.Optional(Type.String({ description: 'VPC of the endpoint that it comes through (aws:SourceVpc).', maxLength: 64 })),
  vpcEndpointId: Type.Optional(Type.String({ description: 'That endpoint (aws:SourceVpce).', maxLength: 64 })),
  vpcSourceIp: Type.Optional(Type.String({ description: 'Private address behind it (aws:VpcSourceIp).', maxLength: 64 }))
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
  because: Type.String({ description: 'Why, in words.' })
}, { $id: 'Verdict' })

export const BlastRadiusSchema = Type.Object({
  at: instant('The instant that was looked at.'),
  words: Type.Array(Type.String(), { description: 'In plain words.' }),
  data: Type.Unknown({
    description: 'The same for programs: what is open, per bucket and prefix, from the source and from elsewhere, and until when.'
  })
}, { $id: 'BlastRadius' })

export const HealthSchema = Type.Object({ status: Type.String() }, { $id: 'Health' })
export const ReadinessSchema = Type.Object({
  status: Type.String({ enum: ['ready', 'not-ready'] }),
  checks: Type.Record(Type.String(), Type.String())
}, { $id: 'Readiness' })

// Parameters have no examples: Swagger UI fills them in, and would ask for a grant that is not there.
const parameter = <T extends TSchema>({ examples, ...schema }: T, description: string): T => ({ ...schema, description }) as unknown as T

export const IdParamsSchema = Type.Object({
  id: Type.String({
    pattern: '^[0-9a-hjkmnp-tv-z]{26}$',
    description: 'Id of a grant: `grant.id` in the answer of POST /v1/grants; GET /v1/grants lists them.'
  })
})

export const ListQuerySchema = Type.Object({
  state: Type.Optional(StatesSchema),
  team: Type.Optional(parameter(JobSchema.properties.team, 'Only grants of this team.')),
  job: Type.Optional(parameter(JobSchema.properties.id, 'Only grants of the job with this id.')),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50, description: 'Grants per page.' })),
  after: Type.Optional(Type.String({ pattern: '^[0-9a-hjkmnp-tv-z]{26}$', description: '`next` of the page before.' }))
}, strict)

export const shared = [
  PolicySchema, RenderedSchema, GrantSchema, CredentialsSchema, DeliverySchema, GrantPageSchema, EventsSchema, PolicyExplanationSchema, QuestionSchema,
  VerdictSchema, BlastRadiusSchema, HealthSchema, ReadinessSchema
]
