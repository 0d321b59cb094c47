import { hostname } from 'node:os'
import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { Ajv } from 'ajv'
import type { DialectName } from './policy/dialect.ts'
import { dialects } from './iam/dialects/index.ts'
import type { RoleProfile } from './iam/role-profile.ts'
import { defaultLimits, type Limits } from './policy/limits.ts'

/**
 * The service's configuration: environment variables, read once, checked all together, frozen. Nothing else reads the environment.
 * docs/configuration.md is generated from this schema.
 */

const integer = (description: string, fallback: number, minimum: number, maximum: number) =>
  Type.Integer({ description, default: fallback, minimum, maximum })
const flag = (description: string) => Type.Boolean({ description, default: false })
const text = (description: string, options: object = {}) => Type.Optional(Type.String({ description, minLength: 1, ...options }))
const choice = <const T extends string>(description: string, values: readonly T[], fallback: T) =>
  Type.Unsafe<T>({ type: 'string', description, enum: [...values], default: fallback })

export const exposures = ['generated-token', 'embedded-iam', 'no-boundary', 'open-guardrails'] as const
export type Exposure = (typeof exposures)[number]

export const EnvSchema = Type.Object({
  HOST: Type.String({ description: 'Address to listen on.', default: '127.0.0.1', minLength: 1 }),
  PORT: integer('Port to listen on; 0 takes a free one.', 8080, 0, 65_535),
  JOB_ACCESS_METRICS_PORT: integer('Port of the metrics, /metrics in Prometheus’s format, without authentication; 0: none.', 0, 0, 65_535),
  JOB_ACCESS_METRICS_HOST: Type.String({ description: 'Address of the metrics.', default: '127.0.0.1', minLength: 1 }),
  LOG_LEVEL: choice('Least level that is logged.', ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
  JOB_ACCESS_TRUST_PROXY: text('Addresses or CIDRs of proxies whose X-Forwarded-For is believed, for logs and audit, separated by commas.'),
  JOB_ACCESS_ALLOW: Type.Array(Type.Unsafe<Exposure>({ type: 'string', enum: [...exposures] }), {
    description: 'What is refused unless named here, separated by commas: `generated-token` and `embedded-iam` beyond loopback, ' +
      '`no-boundary` on AWS, `open-guardrails` beyond loopback.',
    default: []
  }),

  JOB_ACCESS_PROVIDER: choice('Where users and keys are made. `embedded` is a toy IAM in this process: its credentials open nothing.',
    ['embedded', 'aws', 'localstack', 'ceph', 'seaweedfs', 'tigris'], 'embedded'),
  AWS_ENDPOINT_URL_IAM: text('Endpoint of the provider’s IAM; required but at AWS. `AWS_ENDPOINT_URL` does, too.', { pattern: '^https?://' }),
  AWS_ENDPOINT_URL: text('Endpoint of IAM and STS alike, where neither has one of its own.', { pattern: '^https?://' }),
  AWS_REGION: Type.String({ description: 'Region of IAM and STS calls.', default: 'us-east-1', minLength: 1 }),
  JOB_ACCESS_PARTITION: choice('AWS partition of every ARN.', ['aws', 'aws-cn', 'aws-us-gov'], 'aws'),
  JOB_ACCESS_PATH: Type.String({ description: 'IAM path below which all users live.', default: '/job-access/', pattern: '^/([\\w+=,.@-]+/)+$', maxLength: 400 }),
  JOB_ACCESS_USER_PREFIX: Type.String({ description: 'Start of every user name.', default: 'ja', pattern: '^[a-z0-9]{1,12}$' }),
  JOB_ACCESS_BOUNDARY_ARN: text('Permissions boundary of every user. Required on AWS, unless `no-boundary` is allowed.',
    { pattern: '^arn:aws[a-z-]*:iam::[0-9]{12}:policy/' }),
  JOB_ACCESS_PROFILES: text('File with the role profiles of attach `session`, JSON.'),
  JOB_ACCESS_S3_ENDPOINT: text('S3 endpoint that jobs use; delivered with the credentials.', { pattern: '^https?://' }),
  JOB_ACCESS_S3_REGION: text('S3 region that jobs use; delivered with the credentials.'),

  JOB_ACCESS_IDENTITY: text('File with API tokens (hashes) and OIDC issuers, JSON. Without it a token for this one run is generated.'),
  JOB_ACCESS_GUARDRAILS: text('File with the Cedar guardrails. Without it every team may do everything within the ceilings.'),

  JOB_ACCESS_MAX_WINDOW_SECONDS: integer('Ceiling: longest window, grace included.', defaultLimits.maxWindowSeconds, 60, 31_536_000),
  JOB_ACCESS_MAX_START_AHEAD_SECONDS: integer('Ceiling: how far ahead a window may start.', defaultLimits.maxStartAheadSeconds ?? 0, 0, 31_536_000),
  JOB_ACCESS_MIN_PREFIX_V4: integer('Ceiling: widest IPv4 CIDR, as prefix length.', defaultLimits.minPrefixV4, 1, 32),
  JOB_ACCESS_MIN_PREFIX_V6: integer('Ceiling: widest IPv6 CIDR, as prefix length.', defaultLimits.minPrefixV6, 1, 128),
  JOB_ACCESS_ALLOWED_BUCKETS: Type.Array(Type.String({ pattern: '^[a-z0-9.*-]+$' }), {
    description: 'Ceiling: bucket names that may be granted, `*` as wildcard, separated by commas. Empty: any.',
    default: []
  }),
  JOB_ACCESS_ALLOW_ANY_SOURCE: flag('Accept requests that bind the access to no source address.'),
  JOB_ACCESS_ALLOW_PRIVATE_SOURCE_IPS: flag('Accept private addresses in sourceIps, for providers that jobs reach over a private network.'),
  JOB_ACCESS_MAX_GRANTS: integer('Outstanding grants in all. IAM holds 5,000 users an account.', 4_000, 1, 1_000_000),
  JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: integer('Outstanding grants of one identity.', 500, 1, 1_000_000),
  JOB_ACCESS_RATE_PER_MINUTE: integer('Requests per minute of one identity.', 600, 1, 10_000_000),
  JOB_ACCESS_REFUSALS_PER_MINUTE: integer('Refused tokens per minute from one address, before 429.', 120, 1, 10_000_000),

  DATABASE_URL: text('PostgreSQL of the ledger, `postgres://…`; for several replicas.', { pattern: '^postgres(ql)?://' }),
  JOB_ACCESS_LEDGER: text('SQLite file of the ledger. Default: `job-access.sqlite`; in memory with the embedded IAM.'),
  JOB_ACCESS_AUDIT: text('File with the audit’s configuration, JSON; see docs/audit.md. Default: `audit/audit.*.jsonl`; none with the embedded IAM.'),
  JOB_ACCESS_INSTANCE: text('Name of this replica in the audit. Default: the host name.', { pattern: '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$' }),

  JOB_ACCESS_IAM_DEADLINE_MS: integer('Longest time for the IAM calls of one operation.', 15_000, 1_000, 60_000),
  JOB_ACCESS_SWEEP_SECONDS: integer('Seconds between two sweeps; 0: this replica does not sweep.', 5, 0, 3_600),
  JOB_ACCESS_SWEEP_PER_SECOND: integer('Grants begun per second by a sweep.', 10, 1, 1_000),
  JOB_ACCESS_RECONCILE_SECONDS: integer('Seconds between two reconciliations with the provider; 0: none.', 3_600, 0, 604_800),
  JOB_ACCESS_RECONCILE_GRACE_SECONDS: integer('How long past its end an unknown user is left alone.', 3_600, 0, 604_800)
}, { additionalProperties: false })

export type Env = Static<typeof EnvSchema>

export interface Config extends Env {
  limits: Limits
  dialect: DialectName
  /** Undefined: AWS’s own, or what the AWS SDK finds in its files. */
  iamEndpoint: string | undefined
  ledgerUrl: string
  /** Whether there is an audit log at all. */
  audited: boolean
  instance: string
  exposed: boolean
}

export const RoleProfilesSchema = Type.Array(Type.Object({
  name: Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' }),
  // Ceph has a tenant there, or nothing (docs.ceph.com, radosgw/role).
  roleArn: Type.String({ pattern: '^arn:aws[a-z-]*:iam::[A-Za-z0-9_-]*:role/' }),
  maxSessionSeconds: Type.Integer({ minimum: 900, maximum: 43_200 }),
  chained: Type.Boolean(),
  revocable: Type.Boolean(),
  externalId: Type.Optional(Type.String({ minLength: 2, maxLength: 1224 }))
}, { additionalProperties: false }), { maxItems: 100 })

export class ConfigError extends Error {
  override name = 'ConfigError'
  readonly faults: string[]

  constructor (faults: string[]) {
    super(`The configuration is not valid:\n${faults.map(fault => `  ${fault}`).join('\n')}`)
    this.faults = faults
  }
}

/** @throws ConfigError with everything that is wrong, unknown JOB_ACCESS_ variables included: a typo must not lift a ceiling. */
export const readConfig = (env: Record<string, string | undefined>): Config => {
  const known = Object.keys(EnvSchema.properties)
  const faults = Object.keys(env)
    .filter(name => name.startsWith('JOB_ACCESS_') && !known.includes(name))
    .map(name => `${name}: unknown variable`)
  const values: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(EnvSchema.properties)) {
    const given = env[name]
    const value = given === undefined || given === '' ? schema.default : converted(given, schema)
    if (value !== undefined) values[name] = value
  }
  faults.push(...faultsOf(EnvSchema, values))
  if (faults.length > 0) throw new ConfigError(faults)
  const config = derived(values as Env)
  const conflicts = crossChecks(config)
  if (conflicts.length > 0) throw new ConfigError(conflicts)
  return Object.freeze(config)
}

/** Strictly: `5.5`, `yes` and ` 5` stay strings, and so are refused, as is the empty item of `,`: no list would be a ceiling less. */
const converted = (given: string, schema: TSchema): unknown => {
  if (schema.type === 'integer') return /^\d{1,12}$/.test(given) ? Number(given) : given
  if (schema.type === 'boolean') return given === 'true' ? true : given === 'false' ? false : given
  if (schema.type === 'array') return given.split(',').map(item => item.trim())
  return given
}

const ajv = new Ajv({ allErrors: true, strict: false })

const faultsOf = (schema: TSchema, value: unknown, where = ''): string[] => {
  const validate = ajv.compile(schema)
  validate(value)
  return (validate.errors ?? []).map(({ instancePath, message, params }) => {
    const values = Array.isArray(params.allowedValues) ? `: ${params.allowedValues.join(', ')}` : ''
    return `${where}${where ? instancePath : instancePath.slice(1)}: ${message ?? 'is not valid'}${values}`
  })
}

const derived = (env: Env): Config => {
  const embedded = env.JOB_ACCESS_PROVIDER === 'embedded'
  return {
    ...env,
    limits: {
      partition: env.JOB_ACCESS_PARTITION,
      maxWindowSeconds: env.JOB_ACCESS_MAX_WINDOW_SECONDS,
      maxStartAheadSeconds: env.JOB_ACCESS_MAX_START_AHEAD_SECONDS,
      minPrefixV4: env.JOB_ACCESS_MIN_PREFIX_V4,
      minPrefixV6: env.JOB_ACCESS_MIN_PREFIX_V6,
      allowedBuckets: env.JOB_ACCESS_ALLOWED_BUCKETS,
      allowAnySource: env.JOB_ACCESS_ALLOW_ANY_SOURCE,
      allowPrivateSourceIps: env.JOB_ACCESS_ALLOW_PRIVATE_SOURCE_IPS
    },
    dialect: env.JOB_ACCESS_PROVIDER === 'embedded' ? 'aws' : env.JOB_ACCESS_PROVIDER,
    iamEndpoint: env.AWS_ENDPOINT_URL_IAM ?? env.AWS_ENDPOINT_URL,
    // The embedded IAM forgets everything at the end of the process; a ledger that outlived it would only tell of the lost.
    ledgerUrl: env.DATABASE_URL ?? env.JOB_ACCESS_LEDGER ?? (embedded ? ':memory:' : 'job-access.sqlite'),
    audited: !embedded || env.JOB_ACCESS_AUDIT !== undefined,
    instance: env.JOB_ACCESS_INSTANCE ?? (hostname().replace(/[^A-Za-z0-9_-]/g, '-').replace(/^[-_]+/, '').slice(0, 63) || 'service'),
    exposed: !['127.0.0.1', '::1', 'localhost'].includes(env.HOST)
  }
}

const crossChecks = (config: Config): string[] => {
  const allow = (exposure: Exposure) => config.JOB_ACCESS_ALLOW.includes(exposure)
  const faults: string[] = []
  if (config.exposed && config.JOB_ACCESS_PROVIDER === 'embedded' && !allow('embedded-iam')) {
    faults.push('HOST: beyond loopback with the embedded IAM; set JOB_ACCESS_PROVIDER, or JOB_ACCESS_ALLOW=embedded-iam')
  }
  if (config.exposed && !config.JOB_ACCESS_IDENTITY && !allow('generated-token')) {
    faults.push('HOST: beyond loopback with a generated token; set JOB_ACCESS_IDENTITY, or JOB_ACCESS_ALLOW=generated-token')
  }
  if (config.exposed && !config.JOB_ACCESS_GUARDRAILS && !allow('open-guardrails')) {
    faults.push('HOST: beyond loopback without guardrails; set JOB_ACCESS_GUARDRAILS, or JOB_ACCESS_ALLOW=open-guardrails')
  }
  if (config.JOB_ACCESS_PROVIDER === 'aws' && !config.JOB_ACCESS_BOUNDARY_ARN && !allow('no-boundary')) {
    faults.push('JOB_ACCESS_BOUNDARY_ARN: required on AWS; set it, or JOB_ACCESS_ALLOW=no-boundary')
  }
  // The service's own policy lets it change every policy below its path (iam/own-policies.ts).
  if (config.JOB_ACCESS_BOUNDARY_ARN?.includes(`:policy${config.JOB_ACCESS_PATH}`)) {
    faults.push(`JOB_ACCESS_BOUNDARY_ARN: lies below JOB_ACCESS_PATH, where the service may rewrite it; keep it outside of ${config.JOB_ACCESS_PATH}`)
  }
  if (config.JOB_ACCESS_BOUNDARY_ARN && !dialects[config.dialect].tagged) {
    faults.push(`JOB_ACCESS_BOUNDARY_ARN: ${config.dialect} has none, so that nothing would be bounded; leave it out`)
  }
  // Or a service configured for another provider would make users at AWS, by rules that are not AWS's.
  if (!['embedded', 'aws'].includes(config.JOB_ACCESS_PROVIDER) && !config.iamEndpoint) {
    faults.push(`AWS_ENDPOINT_URL_IAM: required with JOB_ACCESS_PROVIDER=${config.JOB_ACCESS_PROVIDER}`)
  }
  if (config.DATABASE_URL && config.JOB_ACCESS_LEDGER) faults.push('JOB_ACCESS_LEDGER: DATABASE_URL is set too; give one of them')
  if (config.JOB_ACCESS_MAX_GRANTS_PER_IDENTITY > config.JOB_ACCESS_MAX_GRANTS) {
    faults.push('JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: is more than JOB_ACCESS_MAX_GRANTS')
  }
  return faults
}

/** @throws ConfigError */
export const readProfiles = (text: string, file: string): Record<string, RoleProfile> => {
  let profiles: unknown
  try {
    profiles = JSON.parse(text)
  } catch {
    throw new ConfigError([`${file}: is not JSON`])
  }
  const faults = faultsOf(RoleProfilesSchema, profiles, file)
  if (faults.length > 0) throw new ConfigError(faults)
  const list = profiles as Static<typeof RoleProfilesSchema>
  const names = list.map(({ name }) => name)
  const twice = names.filter((name, index) => names.indexOf(name) !== index)
  if (twice.length > 0) throw new ConfigError(twice.map(name => `${file}: profile ${name} is given twice`))
  const rivals = list.flatMap(({ name, roleArn, externalId, revocable }) => {
    const first = list.find(other => other.roleArn === roleArn)
    if (!first || (first.externalId === externalId && first.revocable === revocable)) return []
    return [`${file}: profile ${name} has the role of ${first.name}, and another externalId or revocable`]
  })
  if (rivals.length > 0) throw new ConfigError(rivals)
  return Object.fromEntries(list.map(profile => [profile.name, profile]))
}
