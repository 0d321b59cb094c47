import { Type, type Static } from '@sinclair/typebox'

/**
 * The job-access request: the one source of its type, its validation, its OpenAPI schema and its documentation.
 * policy/normalise.ts checks what a schema cannot: calendar, CIDRs, overlaps and limits.
 */

const strict = { additionalProperties: false }
const oneOf = <const T extends string>(values: readonly [T, ...T[]], options: object = {}) =>
  Type.Unsafe<T>({ type: 'string', enum: [...values], ...options })

const timestamp = (description: string) => Type.String({
  description: `${description} ISO 8601 with a zone, to the second; offsets are normalised to UTC.`,
  maxLength: 40,
  examples: ['2025-07-16T01:00:00Z']
})

// propertyNames, since OpenAPI has no patternProperties and @fastify/swagger would drop the pattern.
const LabelsSchema = Type.Unsafe<Record<string, string>>({
  type: 'object',
  propertyNames: { type: 'string', pattern: '^[A-Za-z0-9_.:/=+@-]{1,100}$' },
  additionalProperties: { type: 'string', maxLength: 256, pattern: '^[A-Za-z0-9 _.:/=+@-]*$' },
  maxProperties: 20,
  description: 'Free labels; they become tags of the IAM user (session tags with attach `session`), each named `job-label:` and the label.',
  examples: [{ experiment: 'lr-sweep-7' }]
})

export const JobSchema = Type.Object({
  id: Type.String({
    description: 'The orchestrator’s id of the job, as it is: `job[3]`, `1234_[1-10]`, `sky-jobs#17`. Printable ASCII, a letter or a ' +
      'digit first. With the team it names the grant in IAM tags and user name.',
    minLength: 1,
    maxLength: 128,
    examples: ['wiki-finetune-42']
  }),
  team: Type.String({
    description: 'The team that owns the job; callers see and change only grants of their own teams.',
    minLength: 1,
    maxLength: 63,
    pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$',
    examples: ['nlp']
  }),
  labels: Type.Optional(LabelsSchema)
}, strict)

// Plain strings, so that normalise() can answer with the S3 rule that was broken instead of a regular expression.
const bucket = Type.String({ description: 'Bucket name, by S3’s naming rules.', maxLength: 255, examples: ['acmeco-base-models'] })
const prefix = Type.String({
  description: 'Only keys below this directory; `runs/42` means `runs/42/`. Any characters up to U+00FF but `*`, `?`, `$`, `\\` and ' +
    'those that cannot be seen; up to 512 bytes. Of `prefix`, `key` and `keyPrefix` give one, or none for the whole bucket.',
  minLength: 1,
  maxLength: 512,
  examples: ['runs/42/']
})
const key = Type.String({
  description: 'Only the object of this key. The job may not list then, unless `list` is true. Instead of `prefix`.',
  minLength: 1,
  maxLength: 1024,
  examples: ['llama/model.safetensors']
})
const keyPrefix = Type.String({
  description: 'Only keys that begin with this text, which need not end with a slash: `shards/train-`. Instead of `prefix`.',
  minLength: 1,
  maxLength: 512,
  examples: ['shards/train-']
})
const sid = Type.String({
  description: 'Statement id in the policy; letters and digits. Entries with equal rights may have the same one: they share their ' +
    'statements then. Entries of one bucket without a sid do so by themselves.',
  pattern: '^[A-Za-z0-9]{1,64}$',
  examples: ['BaseModelsReadOnly']
})
const list = Type.Boolean({
  description: 'Whether the job may list keys (s3:ListBucket, bound to the prefix). Default: true where it reads, but not with `key`. ' +
    'Without it a missing key answers 403 instead of 404.'
})
const kmsKeyArns = Type.Array(Type.String({
  maxLength: 256, examples: ['arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab']
}), {
  description: 'KMS keys that encrypt this bucket: kms:Decrypt for reads, kms:GenerateDataKey too for writes, only through S3.',
  minItems: 1,
  maxItems: 10
})
const cannedAcls = ['private', 'bucket-owner-read', 'bucket-owner-full-control'] as const
const acl = Type.Unsafe<boolean | typeof cannedAcls[number]>({
  enum: [false, true, ...cannedAcls],
  description: 'Also s3:PutObjectAcl, only as the canned ACL that is named, for clients that send `x-amz-acl`. `true`: as any ACL; in a ' +
    'bucket with ACLs that can make objects public.',
  default: false
})
const option = (description: string) => Type.Optional(Type.Boolean({ description, default: false }))
const forAll = {
  tags: option('Also the tags of objects: s3:GetObjectTagging where it reads, s3:PutObjectTagging where it writes.'),
  listNames: option('List the names of the whole bucket, while objects stay bound to the prefix: s3:ListBucket without ' +
    's3:prefix. HeadBucket needs it, and so does a 404 instead of a 403 for a missing key.'),
  bareName: option('Also the directory’s own name, without its slash, as key and as prefix of a listing. A listing of it also shows ' +
    'names beside the directory that begin with it: `runs/420` for `runs/42/`.')
}
const forReads = {
  versions: option('Also earlier versions: s3:GetObjectVersion, s3:GetBucketVersioning, and s3:ListBucketVersions where it lists. ' +
    'They may be of deleted objects.'),
  attributes: option('Also s3:GetObjectAttributes: checksums and parts of the objects that it reads.'),
  restore: option('Also s3:RestoreObject: bring archived objects back, which costs.')
}
const forWrites = {
  uploads: option('Also s3:ListBucketMultipartUploads, to find uploads in progress. IAM cannot bind it to a prefix: the names of all ' +
    'uploads of the bucket can be listed.')
}
const del = Type.Boolean({ description: 'Also s3:DeleteObject.', default: false })
const level = oneOf(['read', 'write', 'read-write'], { description: 'What the job may do with the objects.' })

export const ClientSchema = oneOf([
  'boto3', 'awscli', 's3fs', 'pyarrow', 'datasets', 'dvc', 'mlflow', 'rclone', 'smart_open', 'zarr', 'cloudpathlib', 's3torchconnector'
], { description: 'An S3 client, by the name of docs/clients.md.' })
export type ClientName = Static<typeof ClientSchema>

const clients = (description: string) => Type.Array(ClientSchema, { description, maxItems: 20, examples: [['pyarrow', 's3fs']] })
const entryClients = clients('The clients that the job uses here, instead of those of the request; `[]`: none that needs more.')

const place = { bucket, prefix: Type.Optional(prefix), key: Type.Optional(key), keyPrefix: Type.Optional(keyPrefix) }

const ReadSchema = Type.Object({
  ...place,
  sid: Type.Optional(sid),
  list: Type.Optional(list),
  ...forAll,
  ...forReads,
  clients: Type.Optional(entryClients),
  kmsKeyArns: Type.Optional(kmsKeyArns)
}, strict)

const writing = {
  sid: Type.Optional(sid),
  list: Type.Optional(list),
  acl: Type.Optional(acl),
  delete: Type.Optional(del),
  ...forAll,
  ...forReads,
  ...forWrites,
  clients: Type.Optional(entryClients),
  kmsKeyArns: Type.Optional(kmsKeyArns)
}

const OutputSchema = Type.Object({
  ...place,
  level: Type.Optional(oneOf(['write', 'read-write'], {
    description: '`read-write` lets a job resume from its own checkpoints.',
    default: 'write'
  })),
  ...writing
}, strict)

const AccessSchema = Type.Object({
  ...place,
  level,
  ...writing
}, strict)

export const WindowSchema = Type.Object({
  notBefore: Type.Optional(timestamp('First instant of access. Default: issueAt, or now.')),
  notAfter: Type.Optional(timestamp('End of access, exclusive. Give this or durationSeconds.')),
  durationSeconds: Type.Optional(Type.Integer({
    description: 'Length of the window in seconds, counted from its start. Give this or notAfter.',
    minimum: 60,
    maximum: 31_536_000,
    examples: [10800]
  })),
  outputGraceSeconds: Type.Optional(Type.Integer({
    description: 'For how many seconds after notAfter the job may still write, for its last checkpoint.',
    minimum: 0,
    maximum: 86_400,
    default: 0
  }))
}, { ...strict, description: 'When the access works. It is part of the policy, so outside it the key allows nothing.' })

export const SourceIpsSchema = Type.Array(Type.String({ maxLength: 64, examples: ['203.0.113.42'] }), {
  description: 'Public IPv4/IPv6 addresses or CIDRs that S3 sees the job come from (aws:SourceIp): the node, or its NAT address. ' +
    'For jobs that reach S3 through a VPC endpoint use `vpc`; give both where a job reaches one bucket so and another one so.',
  minItems: 1,
  maxItems: 50
})

export const VpcSchema = Type.Object({
  vpcIds: Type.Optional(
    Type.Array(Type.String({ pattern: '^vpc-[0-9a-f]{8,17}$', examples: ['vpc-0123456789abcdef0'] }), { minItems: 1, maxItems: 10 })
  ),
  vpcArns: Type.Optional(Type.Array(Type.String({
    maxLength: 256,
    pattern: '^arn:aws(-cn|-us-gov)?:ec2:[a-z0-9-]{1,32}:[0-9]{12}:vpc/vpc-[0-9a-f]{8,17}$',
    examples: ['arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0123456789abcdef0']
  }), {
    description: 'The VPC by its ARN (aws:SourceVpcArn). AWS recommends it over vpcIds: an id is unique in its Region alone.',
    minItems: 1,
    maxItems: 10
  })),
  vpcEndpointIds: Type.Optional(
    Type.Array(Type.String({ pattern: '^vpce-[0-9a-f]{8,17}$', examples: ['vpce-0123456789abcdef0'] }), { minItems: 1, maxItems: 10 })
  ),
  sourceIps: Type.Optional(Type.Array(Type.String({ maxLength: 64, examples: ['10.0.12.0/24'] }), { minItems: 1, maxItems: 50 }))
}, {
  ...strict,
  description: 'The job reaches S3 through a VPC endpoint, where aws:SourceIp does not exist: the VPC (aws:SourceVpc or ' +
    'aws:SourceVpcArn) or its endpoint (aws:SourceVpce), and the private addresses in it (aws:VpcSourceIp). A request must fit all ' +
    'that are given. With sourceIps beside it, the two are alternatives.'
})

export const LayoutSchema = oneOf(['everywhere', 'guarded', 'guide'], {
  description: '`everywhere`: window and source on every Allow. `guarded`: in explicit Denies, which also beat a bucket policy; ' +
    'shorter when a job has many entries. `guide`: exactly the published training-job guide, which restricts only the write.',
  default: 'everywhere'
})

const AttachSchema = oneOf(['auto', 'inline', 'managed', 'session'], {
  description: '`inline`: 2,048 characters on the user. `managed`: a managed policy, 6,144; where the provider can change one, the ' +
    'workers of a job share it. `auto`: inline, else managed. ' +
    '`session`: no user, a role session with this policy; where the window is longer, POST /v1/grants/:id/rotate gives the next one.',
  default: 'auto'
})

/** What POST /v1/policies takes, and every part of it that shapes the policy. */
const policyFields = {
  job: JobSchema,
  datasets: Type.Optional(Type.Array(ReadSchema, { description: 'Read-only datasets.', minItems: 1, maxItems: 30 })),
  baseModels: Type.Optional(Type.Array(ReadSchema, { description: 'Read-only base models.', minItems: 1, maxItems: 30 })),
  output: Type.Optional(OutputSchema),
  access: Type.Optional(Type.Array(AccessSchema, { description: 'Any other bucket, with its level.', minItems: 1, maxItems: 50 })),
  clients: Type.Optional(clients('The S3 clients that the job uses. Some ask S3 for more than they read or write: each entry is ' +
    'widened by what they need there, and a warning says what that costs. See docs/clients.md.')),
  window: WindowSchema,
  sourceIps: Type.Optional(SourceIpsSchema),
  vpc: Type.Optional(VpcSchema),
  workers: Type.Optional(Type.Object({
    max: Type.Integer({ description: 'How many workers may hold a key at once.', minimum: 1, maximum: 10_000, examples: [64] })
  }, {
    ...strict,
    description: 'The job has many workers. The grant then has no key and no source of its own: each worker joins it by name, with ' +
      'its own source, and gets a key that works from there alone.'
  })),
  layout: Type.Optional(LayoutSchema),
  attach: Type.Optional(AttachSchema)
}

export const PolicyRequestSchema = Type.Object(policyFields, { ...strict, title: 'PolicyRequest' })
export type PolicyRequest = Static<typeof PolicyRequestSchema>

export const FormatSchema = oneOf(['json', 'env', 'aws-profile', 'credential-process', 'kubernetes-secret'], {
  description: 'Form of the credentials. It takes precedence over the Accept header.',
  default: 'json'
})
export type Format = Static<typeof FormatSchema>

export const AttemptSchema = Type.String({
  description: 'Which start asks, e.g. the pod’s UID or the restart count. Another one than before says that the process before is ' +
    'gone: its key is deleted, and this one gets a fresh key. The same one is a retry. One that another start has followed is refused.',
  minLength: 1,
  maxLength: 128,
  pattern: '^[\\x21-\\x7e]+$',
  examples: ['1']
})

/** The same for a job's grant and for a worker that joins it. */
const startFields = {
  source: Type.Optional(oneOf(['observed'], {
    description: '`observed`: the address from which this request came, instead of sourceIps. It is right where the storage sees the ' +
      'address that this service sees. X-Forwarded-For counts only from trusted proxies.'
  })),
  attempt: Type.Optional(AttemptSchema),
  replace: Type.Optional(Type.Boolean({
    description: 'Delete the key that was delivered before, whoever uses it, and deliver a fresh one.', default: false
  })),
  waitUntilReady: Type.Optional(Type.Boolean({
    description: 'Wait until the provider accepts the new key (GetCallerIdentity with it), for a limited time; the answer has `ready`.',
    default: false
  })),
  format: Type.Optional(FormatSchema)
}

export const GrantRequestSchema = Type.Object({
  ...policyFields,
  ...startFields,
  profile: Type.Optional(Type.String({
    description: 'Name of the role profile for attach `session`.',
    pattern: '^[A-Za-z0-9_-]{1,64}$'
  })),
  issueAt: Type.Optional(timestamp('Make the key only at this time; the owner fetches it once with POST /v1/grants/:id/credentials.'))
}, { ...strict, title: 'GrantRequest' })
export type GrantRequest = Static<typeof GrantRequestSchema>

export const WorkerNameSchema = Type.String({
  description: 'Name of the worker within its job: the pod, the rank, the Slurm node.',
  minLength: 1,
  maxLength: 253,
  pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$',
  examples: ['trainer-0']
})

export const JoinRequestSchema = Type.Object({
  name: WorkerNameSchema,
  sourceIps: Type.Optional(SourceIpsSchema),
  vpc: Type.Optional(VpcSchema),
  ...startFields
}, { ...strict, title: 'JoinRequest' })
export type JoinRequest = Static<typeof JoinRequestSchema>

/** Name of the role profile that a request names; undefined: it asks for no session. */
export const profileNameOf = ({ attach, profile = 'default' }: GrantRequest): string | undefined =>
  attach === 'session' ? profile : undefined

export type ReadRequest = Static<typeof ReadSchema>
export type OutputRequest = Static<typeof OutputSchema>
export type AccessRequest = Static<typeof AccessSchema>
export type WindowRequest = Static<typeof WindowSchema>
export type VpcRequest = Static<typeof VpcSchema>

/** The guide's training job as a person would ask for it; every example in OpenAPI and README starts from it. */
export const guideRequest = {
  job: { id: 'wiki-finetune-42', team: 'nlp' },
  datasets: [{ bucket: 'acmeco-training-datasets-wikipedia-2025-07-01', sid: 'WikipediaReadOnly' }],
  baseModels: [{ bucket: 'acmeco-base-models', sid: 'BaseModelsReadOnly' }],
  output: { bucket: 'acmeco-finetuned-models', sid: 'FinetunedModelsWrite' },
  window: { durationSeconds: 10800 },
  sourceIps: ['203.0.113.42']
} satisfies PolicyRequest
