import { readFileSync } from 'node:fs'
import { availableParallelism, hostname } from 'node:os'
import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { ConfigError, configFaults, readConfigFile, type ConfigFault } from './config-file.ts'
import { abacTags, type AbacTag } from './iam/abac-tags.ts'
import type { Dialect } from './policy/dialect.ts'
import { contradictions } from './iam/dialects/conclusions.ts'
import { DialectFileSchema, dialectOf, enforceable, type DialectFile } from './iam/dialects/file.ts'
import { dialects } from './iam/dialects/index.ts'
import type { RoleProfile } from './iam/role-profile.ts'
import { defaultLimits, type Limits } from './policy/limits.ts'

/**
 * The service's configuration from environment variables: read and checked once, at start. Nothing else reads the environment.
 * docs/configuration.md is generated from this schema.
 */

const integer = (description: string, fallback: number, minimum: number, maximum: number) =>
  Type.Integer({ description, default: fallback, minimum, maximum })
const flag = (description: string) => Type.Boolean({ description, default: false })
const text = (description: string, options: object = {}) => Type.Optional(Type.String({ description, minLength: 1, ...options }))
const choice = <const T extends string>(description: string, values: readonly T[], fallback: T) =>
  Type.Unsafe<T>({ type: 'string', description, enum: [...values], default: fallback })

const exposures = [
  'generated-token', 'embedded-iam', 'no-boundary', 'open-guardrails', 'unenforced-window', 'unenforced-address', 'unenforced-prefix',
  'unenforced-deletion'
] as const
type Exposure = (typeof exposures)[number]

const postgresUrl = '^postgres(ql)?://'

export const EnvSchema = Type.Object({
  HOST: Type.String({ description: 'Address to listen on.', default: '127.0.0.1', minLength: 1 }),
  PORT: integer('Port to listen on; 0: any free port.', 8080, 0, 65_535),
  JOB_ACCESS_PROCESSES: Type.String({
    description: 'Processes that answer requests on the port, on one ledger, beside a small one that starts them; `auto`: as many ' +
      'as this machine has cores; see docs/operating.md. 1: one process in all.',
    default: '1',
    pattern: '^(auto|[1-9]|[1-5][0-9]|6[0-4])$'
  }),
  JOB_ACCESS_DRAIN_SECONDS: integer(
    'Seconds after SIGTERM in which the service still answers, with `/readyz` at 503, until load balancers send it nothing more.', 0, 0, 600
  ),
  JOB_ACCESS_METRICS_PORT: integer(
    'Port of the metrics: `/metrics` in Prometheus’s format, without authentication; 0: no metrics.', 0, 0, 65_535
  ),
  JOB_ACCESS_METRICS_HOST: Type.String({ description: 'Address to listen on for the metrics.', default: '127.0.0.1', minLength: 1 }),
  LOG_LEVEL: choice('Lowest level that is logged.', ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
  JOB_ACCESS_TRUST_PROXY: text('Addresses or CIDRs of trusted proxies, separated by commas. Their X-Forwarded-For gives the client ' +
    'address in logs and audit, and the source `observed`; what is no address there is not believed. Name only proxies.'),
  JOB_ACCESS_ALLOW: Type.Array(Type.Unsafe<Exposure>({ type: 'string', enum: [...exposures] }), {
    description: 'Unsafe settings to allow, separated by commas: `generated-token`, `embedded-iam` or `open-guardrails` on an address ' +
      'that is not loopback, `no-boundary` on AWS, `unenforced-window`, `unenforced-address`, `unenforced-prefix` or ' +
      '`unenforced-deletion` (of keys) on a `custom` store that was not shown to enforce it.',
    default: []
  }),

  JOB_ACCESS_PROVIDER: choice(
    'Provider where users and keys are created. `embedded` is a simulated IAM in this process: its credentials give no access to ' +
      'anything. `custom` is the store of JOB_ACCESS_DIALECT_FILE.',
    ['embedded', 'aws', 'localstack', 'ceph', 'seaweedfs', 'versitygw', 'tigris', 'custom'], 'embedded'
  ),
  JOB_ACCESS_DIALECT_FILE: text('JSON file with the dialect of `custom`, as `npm run doctor -- --write FILE` writes it; see docs/stores.'),
  AWS_ENDPOINT_URL_IAM: text(
    'IAM endpoint of the provider. Required, here or as `AWS_ENDPOINT_URL`, except for `embedded` and `aws`.', { pattern: '^https?://' }
  ),
  AWS_ENDPOINT_URL_STS: text(
    'STS endpoint of the provider. Default, except for `aws`: AWS_ENDPOINT_URL, else AWS_ENDPOINT_URL_IAM, so that no call goes to AWS.',
    { pattern: '^https?://' }
  ),
  AWS_ENDPOINT_URL: text('Endpoint of both IAM and STS, unless the variable of one of them is set.', { pattern: '^https?://' }),
  AWS_REGION: Type.String({ description: 'Region of IAM and STS calls.', default: 'us-east-1', minLength: 1 }),
  JOB_ACCESS_PARTITION: choice('AWS partition of every ARN.', ['aws', 'aws-cn', 'aws-us-gov'], 'aws'),
  JOB_ACCESS_PATH: Type.String({
    description: 'IAM path of all users.', default: '/job-access/', pattern: '^/([\\w+=,.@-]+/)+$', maxLength: 400
  }),
  JOB_ACCESS_USER_PREFIX: Type.String({ description: 'Prefix of every user name.', default: 'ja', pattern: '^[a-z0-9]{1,12}$' }),
  JOB_ACCESS_BOUNDARY_ARN: text('Permissions boundary of every user. Required on AWS, unless `no-boundary` is allowed.',
    { pattern: '^arn:aws[a-z-]*:iam::[0-9]{12}:policy/' }),
  JOB_ACCESS_ABAC_TAGS: Type.Array(Type.Unsafe<AbacTag>({ type: 'string', enum: [...abacTags] }), {
    description: 'Tags for bucket policies that test `aws:PrincipalTag/team` or `aws:PrincipalTag/job`, separated by commas: `team`, ' +
      '`job`. Default: none, so that no such policy lets a job in.',
    default: []
  }),
  JOB_ACCESS_PROFILES: text('JSON file with the role profiles for attach `session`.'),
  JOB_ACCESS_ACCOUNTS_FILE: text('JSON file with several accounts of the provider, which share the grants among them; see ' +
    'docs/accounts.md. Default: one account, that of the other variables.'),
  JOB_ACCESS_S3_ENDPOINT: text('S3 endpoint for jobs, returned with the credentials.', { pattern: '^https?://[A-Za-z0-9/._:[\\]%-]+$' }),
  JOB_ACCESS_S3_REGION: text('S3 region for jobs, returned with the credentials.', { pattern: '^[A-Za-z0-9._-]+$' }),

  JOB_ACCESS_IDENTITY: text('JSON file with API tokens (hashes) and OIDC issuers; see docs/identity.md. Default: a token is generated at ' +
    'each start.'),
  JOB_ACCESS_GUARDRAILS: text('File with the Cedar guardrails. Default: every team may do everything within the ceilings.'),

  JOB_ACCESS_MAX_WINDOW_SECONDS: integer(
    'Ceiling: longest window, including the output grace.', defaultLimits.maxWindowSeconds, 60, 31_536_000
  ),
  JOB_ACCESS_MAX_LIFETIME_SECONDS: Type.Optional(Type.Integer({
    description: 'Ceiling: longest life of a grant from its issue to the end of its window, extensions included. Default: ' +
      'JOB_ACCESS_MAX_START_AHEAD_SECONDS and JOB_ACCESS_MAX_WINDOW_SECONDS together.',
    minimum: 60,
    maximum: 63_072_000
  })),
  JOB_ACCESS_MAX_START_AHEAD_SECONDS: integer(
    'Ceiling: latest start of a window, in seconds from now.', defaultLimits.maxStartAheadSeconds ?? 0, 0, 31_536_000
  ),
  JOB_ACCESS_MIN_PREFIX_V4: integer('Ceiling: shortest prefix length of an IPv4 CIDR.', defaultLimits.minPrefixV4, 1, 32),
  JOB_ACCESS_MIN_PREFIX_V6: integer('Ceiling: shortest prefix length of an IPv6 CIDR.', defaultLimits.minPrefixV6, 1, 128),
  JOB_ACCESS_ALLOWED_BUCKETS: Type.Array(Type.String({ pattern: '^[a-z0-9.*-]+$' }), {
    description: 'Ceiling: buckets that may be granted, with `*` as wildcard, separated by commas. Default: any bucket.',
    default: []
  }),
  JOB_ACCESS_ALLOWED_KMS_KEYS: Type.Array(Type.String({ pattern: '^arn:[a-z*-]+:kms:[a-z0-9*-]+:[0-9*]+:key/[A-Za-z0-9*-]+$' }), {
    description: 'Ceiling: ARNs of KMS keys whose use may be granted, with `*` as wildcard, separated by commas, e.g. ' +
      '`arn:aws:kms:eu-west-1:111122223333:key/*`. Default: any key, of any account.',
    default: []
  }),
  JOB_ACCESS_ALLOW_ANY_SOURCE: flag('Accept requests without a restriction to source addresses.'),
  JOB_ACCESS_ALLOW_PRIVATE_SOURCE_IPS: flag(
    'Accept private addresses in sourceIps, for a provider in the same private network as the jobs.'
  ),
  JOB_ACCESS_MAX_GRANTS: integer('Highest number of outstanding grants. IAM allows 5,000 users per account. With ' +
    'JOB_ACCESS_ACCOUNTS_FILE: of users in each account.', 4_000, 1, 1_000_000),
  JOB_ACCESS_MAX_MANAGED_POLICIES: Type.Optional(Type.Integer({
    description: 'Highest number of outstanding grants and workers whose policy is attached as managed. Default: 1,400 on AWS, which ' +
      'allows 1,500 customer managed policies per account unless the quota is raised; elsewhere no limit of its own. With ' +
      'JOB_ACCESS_ACCOUNTS_FILE: in each account.',
    minimum: 0,
    maximum: 1_000_000
  })),
  JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: integer('Highest number of outstanding grants of one identity.', 500, 1, 1_000_000),
  JOB_ACCESS_RATE_PER_MINUTE: integer('Highest number of requests per minute of one identity; then 429.', 600, 1, 10_000_000),
  JOB_ACCESS_REFUSALS_PER_MINUTE: integer('Highest number of refused tokens per minute from one address; then 429.', 120, 1, 10_000_000),

  DATABASE_URL: text('PostgreSQL URL of the ledger, `postgres://…`. Required for several replicas.', { pattern: postgresUrl }),
  DATABASE_URL_FILE: text('File with the URL, instead of `DATABASE_URL`: such as a mounted Secret.'),
  JOB_ACCESS_LEDGER: text('SQLite file of the ledger. Default: `job-access.sqlite`; with the embedded IAM, in memory.'),
  JOB_ACCESS_AUDIT: text('JSON file with the configuration of the audit; see docs/audit.md. Default: audit in `audit/audit.*.jsonl`; ' +
    'with the embedded IAM, no audit.'),
  JOB_ACCESS_INSTANCE: text('Name of this replica in the audit. Default: the host name.', { pattern: '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$' }),

  JOB_ACCESS_IAM_DEADLINE_MS: integer('Time limit for all IAM calls of one operation.', 15_000, 1_000, 60_000),
  JOB_ACCESS_MAX_CLOCK_SKEW_SECONDS: integer(
    'How far this machine’s clock may be from the provider’s. Beyond that this replica sweeps and issues nothing, and is not ready; ' +
    '0: the clocks are not compared.', 30, 0, 60
  ),
  JOB_ACCESS_SWEEP_SECONDS: integer('Seconds between two sweeps; 0: this replica does not sweep.', 5, 0, 3_600),
  JOB_ACCESS_SWEEP_PER_SECOND: integer('Highest number of grants per second that a sweep starts to work on.', 10, 1, 1_000),
  JOB_ACCESS_RECONCILE_SECONDS: integer(
    'Seconds between two reconciliations with the provider; 0: this replica does not reconcile.', 3_600, 0, 604_800
  ),
  JOB_ACCESS_RECONCILE_GRACE_SECONDS: integer('How long after its end a user that is not in the ledger is kept.', 3_600, 0, 604_800)
}, { additionalProperties: false })

type Env = Static<typeof EnvSchema>

export interface Config extends Env {
  /** How many answer requests. */
  processes: number
  limits: Limits
  dialect: Dialect
  /** Undefined: the endpoint of AWS, or of the AWS SDK’s configuration files. */
  iamEndpoint: string | undefined
  /** Undefined: where the AWS SDK looks, which is AWS in the end. */
  stsEndpoint: string | undefined
  ledgerUrl: string
  /** Whether an audit is written. */
  audited: boolean
  instance: string
  exposed: boolean
  /** The accounts of the pool; undefined: one account, that of the other settings. */
  accounts: AccountConfig[] | undefined
}

/** An account of the provider, with what the settings for all accounts say where its own say nothing. */
export interface AccountConfig {
  name: string
  closed: boolean
  earlier: boolean
  endpoint: string | undefined
  stsEndpoint: string | undefined
  region: string
  awsProfile: string | undefined
  role: { arn: string, externalId?: string } | undefined
  path: string
  userPrefix: string
  boundaryArn: string | undefined
  users: number
  managedPolicies: number | undefined
  profiles: Record<string, RoleProfile>
  s3: { endpoint?: string, region?: string }
}

const RoleProfilesSchema = Type.Array(Type.Object({
  name: Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' }),
  // In Ceph, the account is a tenant or empty (docs.ceph.com, radosgw/role).
  roleArn: Type.Optional(Type.String({ pattern: '^arn:aws[a-z-]*:iam::[A-Za-z0-9_-]*:role/' })),
  maxSessionSeconds: Type.Integer({ minimum: 900, maximum: 43_200 }),
  chained: Type.Boolean(),
  revocable: Type.Boolean(),
  externalId: Type.Optional(Type.String({ minLength: 2, maxLength: 1224 }))
}, { additionalProperties: false }), { maxItems: 100 })

/** docs/accounts.md says what each is for. */
export const AccountsSchema = Type.Array(Type.Object({
  name: Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,31}$' }),
  closed: Type.Optional(Type.Boolean()),
  earlier: Type.Optional(Type.Boolean()),
  endpoint: Type.Optional(Type.String({ pattern: '^https?://' })),
  region: Type.Optional(Type.String({ minLength: 1 })),
  awsProfile: Type.Optional(Type.String({ minLength: 1 })),
  roleArn: Type.Optional(Type.String({ pattern: '^arn:aws[a-z-]*:iam::[0-9]{12}:role/' })),
  externalId: Type.Optional(Type.String({ minLength: 2, maxLength: 1224 })),
  path: Type.Optional(EnvSchema.properties.JOB_ACCESS_PATH),
  userPrefix: Type.Optional(EnvSchema.properties.JOB_ACCESS_USER_PREFIX),
  boundaryArn: EnvSchema.properties.JOB_ACCESS_BOUNDARY_ARN,
  users: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
  managedPolicies: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
  profiles: Type.Optional(RoleProfilesSchema),
  s3Endpoint: EnvSchema.properties.JOB_ACCESS_S3_ENDPOINT,
  s3Region: EnvSchema.properties.JOB_ACCESS_S3_REGION
}, { additionalProperties: false }), { minItems: 1, maxItems: 100 })

/** @throws ConfigError with all faults. An unknown JOB_ACCESS_ variable is one: a misspelled ceiling would have no effect. */
export const readConfig = (env: Record<string, string | undefined>): Config => {
  const known = Object.keys(EnvSchema.properties)
  const faults = Object.keys(env)
    .filter(name => name.startsWith('JOB_ACCESS_') && !known.includes(name))
    .map(name => fault(name, 'is not a known variable'))
  const values: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(EnvSchema.properties)) {
    const given = env[name]
    const value = given === undefined || given === '' ? schema.default : converted(given, schema)
    if (value !== undefined) values[name] = value
  }
  faults.push(...configFaults(EnvSchema, values))
  if (faults.length > 0) throw new ConfigError(faults)
  const config = derived(withDatabaseUrl(values as Env))
  const conflicts = crossChecks(config)
  if (conflicts.length > 0) throw new ConfigError(conflicts)
  return Object.freeze(config)
}

/** What cannot be converted (`5.5`, `yes`, ` 5`) stays a string, which the schema then refuses. It also refuses an empty item of a list. */
const converted = (given: string, schema: TSchema): unknown => {
  if (schema.type === 'integer') return /^\d{1,12}$/.test(given) ? Number(given) : given
  if (schema.type === 'boolean') return given === 'true' ? true : given === 'false' ? false : given
  if (schema.type === 'array') return given.split(',').map(item => item.trim())
  return given
}

const fault = (variable: string, message: string): ConfigFault => ({ pointer: `/${variable}`, message })

/** The database's URL, which has a password, from its file. @throws ConfigError */
const withDatabaseUrl = (env: Env): Env => {
  const file = env.DATABASE_URL_FILE
  if (file === undefined) return env
  const refused = (why: string) => new ConfigError([fault('DATABASE_URL_FILE', why)])
  if (env.DATABASE_URL !== undefined) throw refused('DATABASE_URL is set too; set only one of them')
  let url
  try {
    url = readFileSync(file, 'utf8').trim()
  } catch {
    throw refused('the file cannot be read')
  }
  if (!new RegExp(postgresUrl).test(url)) throw refused('the file has no postgres:// URL')
  return { ...env, DATABASE_URL: url }
}

/** @throws ConfigError */
const dialectFor = ({ JOB_ACCESS_PROVIDER: provider, JOB_ACCESS_DIALECT_FILE: file, JOB_ACCESS_ALLOW: allowed }: Env): Dialect => {
  if (provider !== 'custom') {
    if (file !== undefined) {
      throw new ConfigError([fault('JOB_ACCESS_DIALECT_FILE', `has no effect with JOB_ACCESS_PROVIDER=${provider}; remove it`)])
    }
    return dialects[provider === 'embedded' ? 'aws' : provider]
  }
  if (file === undefined) throw new ConfigError([fault('JOB_ACCESS_DIALECT_FILE', 'is required with JOB_ACCESS_PROVIDER=custom')])
  return dialectOf(readConfigFile(file, DialectFileSchema, read => {
    const edited = contradictions(read)
    return edited.length > 0 ? edited : unenforced(read, allowed)
  }))
}

const unenforced = ({ enforces }: DialectFile, allowed: Exposure[]): ConfigFault[] => enforceable
  .filter(what => !enforces[what] && !allowed.includes(`unenforced-${what}`))
  .map(what => ({
    pointer: `/enforces/${what}`,
    message: 'the store was not shown to enforce it, so that grants would not be what they say; ' +
      `JOB_ACCESS_ALLOW=unenforced-${what} issues them all the same`
  }))

const derived = (env: Env): Config => {
  const embedded = env.JOB_ACCESS_PROVIDER === 'embedded'
  return {
    ...env,
    processes: env.JOB_ACCESS_PROCESSES === 'auto' ? Math.min(64, availableParallelism()) : Number(env.JOB_ACCESS_PROCESSES),
    limits: {
      partition: env.JOB_ACCESS_PARTITION,
      maxWindowSeconds: env.JOB_ACCESS_MAX_WINDOW_SECONDS,
      // The default refuses nothing at issue that the other two ceilings accept.
      maxLifetimeSeconds: env.JOB_ACCESS_MAX_LIFETIME_SECONDS ?? env.JOB_ACCESS_MAX_START_AHEAD_SECONDS + env.JOB_ACCESS_MAX_WINDOW_SECONDS,
      maxStartAheadSeconds: env.JOB_ACCESS_MAX_START_AHEAD_SECONDS,
      minPrefixV4: env.JOB_ACCESS_MIN_PREFIX_V4,
      minPrefixV6: env.JOB_ACCESS_MIN_PREFIX_V6,
      allowedBuckets: env.JOB_ACCESS_ALLOWED_BUCKETS,
      allowedKmsKeys: env.JOB_ACCESS_ALLOWED_KMS_KEYS,
      allowAnySource: env.JOB_ACCESS_ALLOW_ANY_SOURCE,
      allowPrivateSourceIps: env.JOB_ACCESS_ALLOW_PRIVATE_SOURCE_IPS
    },
    dialect: dialectFor(env),
    iamEndpoint: env.AWS_ENDPOINT_URL_IAM ?? env.AWS_ENDPOINT_URL,
    // Else the SDK would send calls to AWS that are signed with the keys of another store.
    stsEndpoint: env.AWS_ENDPOINT_URL_STS ?? env.AWS_ENDPOINT_URL ??
      (env.JOB_ACCESS_PROVIDER === 'aws' ? undefined : env.AWS_ENDPOINT_URL_IAM),
    // The embedded IAM loses everything when the process ends, so its ledger need not be kept either.
    ledgerUrl: env.DATABASE_URL ?? env.JOB_ACCESS_LEDGER ?? (embedded ? ':memory:' : 'job-access.sqlite'),
    audited: !embedded || env.JOB_ACCESS_AUDIT !== undefined,
    instance: env.JOB_ACCESS_INSTANCE ?? (hostname().replace(/[^A-Za-z0-9_-]/g, '-').replace(/^[-_]+/, '').slice(0, 63) || 'service'),
    exposed: !['127.0.0.1', '::1', 'localhost'].includes(env.HOST),
    accounts: env.JOB_ACCESS_ACCOUNTS_FILE === undefined ? undefined : accountsOf(env, env.JOB_ACCESS_ACCOUNTS_FILE)
  }
}

/** IAM User Guide, "IAM and AWS STS quotas": 1,500 customer managed policies per account by default. Others may be in use. */
export const managedPoliciesOf = (env: Pick<Env, 'JOB_ACCESS_PROVIDER' | 'JOB_ACCESS_MAX_MANAGED_POLICIES'>): number | undefined =>
  env.JOB_ACCESS_MAX_MANAGED_POLICIES ?? (env.JOB_ACCESS_PROVIDER === 'aws' ? 1_400 : undefined)

/** What is wrong with the accounts of a file at AWS. */
export const accountsFaults = (accounts: unknown): ConfigFault[] => {
  const env = readConfig({ JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_ALLOW: 'no-boundary' })
  return configFaults(AccountsSchema, accounts, read => furtherAccountFaults(env, read))
}

/** The ceilings of the accounts, and of outstanding grants in all. */
export const ceilingsOf = (config: Config): { total: number, accounts: Array<{ account?: string, users?: number, managed?: number }> } =>
  config.accounts
    ? {
        total: config.accounts.reduce((sum, { users }) => sum + users, 0),
        accounts: config.accounts.map(({ name, users, managedPolicies: managed }) =>
          ({ account: name, users, ...(managed !== undefined && { managed }) }))
      }
    : {
        total: config.JOB_ACCESS_MAX_GRANTS,
        accounts: [managedPoliciesOf(config)].map(managed => managed === undefined ? {} : { managed })
      }

/** The accounts of a file. @throws ConfigError */
const accountsOf = (env: Env, file: string): AccountConfig[] => {
  return readConfigFile(file, AccountsSchema, read => furtherAccountFaults(env, read)).map(account => ({
    name: account.name,
    closed: account.closed ?? false,
    earlier: account.earlier ?? false,
    endpoint: account.endpoint,
    stsEndpoint: account.endpoint,
    region: account.region ?? env.AWS_REGION,
    awsProfile: account.awsProfile,
    role: account.roleArn === undefined
      ? undefined
      : { arn: account.roleArn, ...(account.externalId !== undefined && { externalId: account.externalId }) },
    path: account.path ?? env.JOB_ACCESS_PATH,
    userPrefix: account.userPrefix ?? env.JOB_ACCESS_USER_PREFIX,
    boundaryArn: account.boundaryArn,
    users: account.users ?? env.JOB_ACCESS_MAX_GRANTS,
    managedPolicies: account.managedPolicies ?? managedPoliciesOf(env),
    profiles: profilesOf(account.profiles ?? []),
    s3: s3Of(account.s3Endpoint ?? env.JOB_ACCESS_S3_ENDPOINT, account.s3Region ?? env.JOB_ACCESS_S3_REGION)
  }))
}

export const s3Of = (endpoint: string | undefined, region: string | undefined): AccountConfig['s3'] =>
  ({ ...(endpoint !== undefined && { endpoint }), ...(region !== undefined && { region }) })

const furtherAccountFaults = (env: Env, accounts: Static<typeof AccountsSchema>): ConfigFault[] =>
  accounts.flatMap((account, index) => accountFaults(env, accounts, account, index))

const accountFaults = (
  env: Env, accounts: Static<typeof AccountsSchema>, account: Static<typeof AccountsSchema>[number], index: number
): ConfigFault[] => {
  const { name, earlier, endpoint, awsProfile, roleArn, externalId, boundaryArn, path = env.JOB_ACCESS_PATH, profiles = [] } = account
  const { JOB_ACCESS_PROVIDER: provider } = env
  // A session without a role does not say which account it is of.
  const faults: ConfigFault[] = [...furtherProfileFaults(profiles), ...roleFaults(profiles, {})]
    .map(({ pointer, message }) => ({ pointer: `/profiles${pointer}`, message }))
  const add = (field: string, message: string) => { faults.push({ pointer: `/${field}`, message }) }
  const before = accounts.slice(0, index)
  if (before.some(other => other.name === name)) add('name', `account ${name} is given twice`)
  if (earlier && before.some(other => other.earlier)) add('earlier', 'another account has it: the grants from before are in one')
  const place = (other: typeof account) => [other.endpoint, other.awsProfile, other.roleArn].join(' ')
  const twin = before.find(other => place(other) === place(account))
  // Two names for one account would count its quota twice.
  if (twin && provider !== 'embedded') add('name', `has endpoint, awsProfile and roleArn of ${twin.name}: it is the same account`)
  for (const [field, given] of Object.entries({ endpoint, awsProfile, roleArn })) {
    if (provider === 'embedded' && given !== undefined) add(field, 'has no effect with JOB_ACCESS_PROVIDER=embedded; remove it')
  }
  if (!['embedded', 'aws'].includes(provider) && endpoint === undefined) add('endpoint', `is required with JOB_ACCESS_PROVIDER=${provider}`)
  if (externalId !== undefined && roleArn === undefined) add('externalId', 'is for roleArn, which is missing')
  if (provider === 'aws' && boundaryArn === undefined && !env.JOB_ACCESS_ALLOW.includes('no-boundary')) {
    add('boundaryArn', 'is required on AWS; set it, or JOB_ACCESS_ALLOW=no-boundary')
  }
  if (boundaryArn?.includes(`:policy${path}`)) add('boundaryArn', `is below ${path}, where the service itself may change it`)
  for (const [at, { chained }] of profiles.entries()) {
    // STS API, AssumeRole, "role chaining".
    if (roleArn !== undefined && !chained) add(`profiles/${at}/chained`, 'must be true: the service assumes roleArn first')
  }
  return faults.map(({ pointer, message }) => ({ pointer: `/${index}${pointer}`, message }))
}

const crossChecks = (config: Config): ConfigFault[] => {
  const allow = (exposure: Exposure) => config.JOB_ACCESS_ALLOW.includes(exposure)
  const faults: ConfigFault[] = []
  if (config.exposed && config.JOB_ACCESS_PROVIDER === 'embedded' && !allow('embedded-iam')) {
    faults.push(
      fault('HOST', 'is not loopback, and the IAM is the embedded one; set JOB_ACCESS_PROVIDER, or JOB_ACCESS_ALLOW=embedded-iam')
    )
  }
  if (config.exposed && !config.JOB_ACCESS_IDENTITY && !allow('generated-token')) {
    faults.push(
      fault('HOST', 'is not loopback, and the token is a generated one; set JOB_ACCESS_IDENTITY, or JOB_ACCESS_ALLOW=generated-token')
    )
  }
  if (config.exposed && !config.JOB_ACCESS_GUARDRAILS && !allow('open-guardrails')) {
    faults.push(
      fault('HOST', 'is not loopback, and there are no guardrails; set JOB_ACCESS_GUARDRAILS, or JOB_ACCESS_ALLOW=open-guardrails')
    )
  }
  if (config.JOB_ACCESS_PROVIDER === 'aws' && !config.JOB_ACCESS_BOUNDARY_ARN && !config.accounts && !allow('no-boundary')) {
    faults.push(fault('JOB_ACCESS_BOUNDARY_ARN', 'is required on AWS; set it, or JOB_ACCESS_ALLOW=no-boundary'))
  }
  // The service's own IAM policy lets it change every policy below its path (iam/own-policies.ts).
  if (config.JOB_ACCESS_BOUNDARY_ARN?.includes(`:policy${config.JOB_ACCESS_PATH}`)) {
    faults.push(fault('JOB_ACCESS_BOUNDARY_ARN',
      `is below JOB_ACCESS_PATH, where the service itself may change it; use a policy outside of ${config.JOB_ACCESS_PATH}`))
  }
  for (const name of ['JOB_ACCESS_BOUNDARY_ARN', 'JOB_ACCESS_PROFILES', 'AWS_ENDPOINT_URL_IAM', 'AWS_ENDPOINT_URL'] as const) {
    if (!config.accounts || !config[name]) continue
    faults.push(fault(name, 'has no effect with JOB_ACCESS_ACCOUNTS_FILE; state it of each account there'))
  }
  if (config.accounts?.some(({ boundaryArn }) => boundaryArn) && !config.dialect.bounded) {
    faults.push(fault('JOB_ACCESS_ACCOUNTS_FILE', `${config.dialect.name} has no permissions boundaries; remove boundaryArn`))
  }
  if (config.JOB_ACCESS_BOUNDARY_ARN && !config.dialect.bounded) {
    faults.push(fault('JOB_ACCESS_BOUNDARY_ARN', `${config.dialect.name} has no permissions boundaries; remove it`))
  }
  if (config.JOB_ACCESS_ABAC_TAGS.length > 0 && !config.dialect.tagged) {
    faults.push(fault('JOB_ACCESS_ABAC_TAGS', `${config.dialect.name} keeps no tags of users; remove it`))
  }
  // Otherwise the service would create users at AWS, with the rules of another provider.
  if (!['embedded', 'aws'].includes(config.JOB_ACCESS_PROVIDER) && !config.iamEndpoint && !config.accounts) {
    faults.push(fault('AWS_ENDPOINT_URL_IAM', `is required with JOB_ACCESS_PROVIDER=${config.JOB_ACCESS_PROVIDER}`))
  }
  if (config.DATABASE_URL && config.JOB_ACCESS_LEDGER) {
    faults.push(fault('JOB_ACCESS_LEDGER', 'DATABASE_URL is set too; set only one of them'))
  }
  if (config.limits.maxLifetimeSeconds < config.JOB_ACCESS_MAX_WINDOW_SECONDS) {
    faults.push(fault('JOB_ACCESS_MAX_LIFETIME_SECONDS', 'is lower than JOB_ACCESS_MAX_WINDOW_SECONDS'))
  }
  if (config.JOB_ACCESS_MAX_GRANTS_PER_IDENTITY > config.JOB_ACCESS_MAX_GRANTS) {
    faults.push(fault('JOB_ACCESS_MAX_GRANTS_PER_IDENTITY', 'is higher than JOB_ACCESS_MAX_GRANTS'))
  }
  return faults
}

/** The role profiles of a file, by name. @throws ConfigError */
export const readProfiles = (file: string, dialect: Pick<Dialect, 'roleless'> = {}): Record<string, RoleProfile> =>
  profilesOf(readConfigFile(file, RoleProfilesSchema, read => [...furtherProfileFaults(read), ...roleFaults(read, dialect)]))

const profilesOf = (profiles: Static<typeof RoleProfilesSchema>): Record<string, RoleProfile> =>
  Object.fromEntries(profiles.map(profile => [profile.name, { ...profile, roleArn: profile.roleArn ?? null }]))

/** A session without a role is as good as the store was shown to make it, and its end is the one that STS gave it. */
const roleFaults = (profiles: Static<typeof RoleProfilesSchema>, { roleless }: Pick<Dialect, 'roleless'>): ConfigFault[] =>
  profiles.flatMap(({ name, roleArn, revocable }, index) => [
    ...(roleArn === undefined && !roleless
      ? [{
          pointer: `/${index}/roleArn`,
          message: `profile ${name} has none; only a single store whose dialect file shows that AssumeRole works without one can do that`
        }]
      : []),
    ...(revocable && (roleless || roleArn === undefined)
      ? [{
          pointer: `/${index}/revocable`,
          message: `profile ${name} cannot be revocable: the store has no role whose policy could end a session; set it to false`
        }]
      : [])
  ])

export const profileFaults = (profiles: unknown): ConfigFault[] => configFaults(RoleProfilesSchema, profiles, furtherProfileFaults)

const furtherProfileFaults = (profiles: Static<typeof RoleProfilesSchema>): ConfigFault[] =>
  profiles.flatMap(({ name, roleArn, externalId, revocable }, index) => {
    const sameName = profiles.findIndex(other => other.name === name)
    const sameRole = profiles.find(other => other.roleArn === roleArn)
    return [
      ...(sameName === index ? [] : [{ pointer: `/${index}/name`, message: `profile ${name} is given twice` }]),
      ...(!sameRole || (sameRole.externalId === externalId && sameRole.revocable === revocable)
        ? []
        : [{ pointer: `/${index}`, message: `profile ${name} has the same role as ${sameRole.name}, but another externalId or revocable` }])
    ]
  })
