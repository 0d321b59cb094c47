import type { KeyObject } from 'node:crypto'
import type { Params, Tag } from './params.ts'
import { Refusal } from './refusal.ts'
import { SortedMap } from './sorted.ts'
import { element } from './xml.ts'

/** The account of this server, in memory. Names are unique without regard to case. */
export interface Account {
  readonly id: string
  readonly quotas: Quotas
  /** Clock of dates in answers and of session expiry. */
  readonly now: () => Date
  /** How long a new access key stays unknown, in ms. */
  readonly keyDelayMs: number
  readonly users: Map<string, User>
  /** By path and name, so that a PathPrefix is one range. */
  readonly usersByPath: SortedMap<User>
  /** By ARN, a few of AWS's own included. */
  readonly policies: Map<string, Policy>
  /** Lower-case names of the account's own policies. */
  readonly policyNames: Set<string>
  readonly policiesByPath: SortedMap<Policy>
  readonly roles: Map<string, Role>
  readonly keys: Map<string, Key>
}

export interface Quotas {
  users: number
  policies: number
  roles: number
}

/** @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
export const fixedQuotas = {
  keysPerUser: 2,
  policiesPerUser: 10,
  versionsPerPolicy: 5,
  userInlineSize: 2048,
  roleInlineSize: 10_240,
  policySize: 6144,
  trustSize: 2048
} as const

/** A user or a role: has inline policies, attached policies and a boundary. */
export interface Entity {
  kind: 'user' | 'role'
  name: string
  path: string
  id: string
  arn: string
  createdAt: Date
  tags: Map<string, Tag>
  boundary: Policy | null
  inline: Map<string, string>
}

export interface User extends Entity {
  kind: 'user'
  attached: Set<Policy>
  keys: Key[]
}

export interface Role extends Entity {
  kind: 'role'
  description: string | null
  trust: string
  trustStatements: Array<Record<string, unknown>>
  maxSessionSeconds: number
}

export interface Policy {
  name: string
  path: string
  id: string
  arn: string
  description: string | null
  createdAt: Date
  updatedAt: Date
  tags: Map<string, Tag>
  versions: PolicyVersion[]
  /** Version ids are never used twice. */
  nextVersion: number
  users: Set<User>
  bounds: Set<Entity>
  /** AWS's own policies: not listed as local, never changed. */
  aws: boolean
}

export interface PolicyVersion {
  id: string
  document: string
  isDefault: boolean
  createdAt: Date
}

/** An access key of a user, of the admin, or of a role session. Holds the secret. */
export interface Key {
  id: string
  secret: string
  active: boolean
  createdAt: Date
  /** Epoch ms from which the server accepts the key. */
  knownFrom: number
  lastUsed: { at: Date, service: string, region: string } | null
  owner: Owner
  /** Derived signing keys by date, region and service; they are as secret as the secret. */
  signing: Map<string, KeyObject>
}

export type Owner =
  | { kind: 'admin', arn: string, id: string }
  | { kind: 'user', user: User }
  | { kind: 'session', arn: string, id: string, roleArn: string, token: string, expiresAt: Date }

/** Who makes a call, once the signature is verified. */
export interface Caller {
  key: Key
  owner: Owner
  arn: string
  id: string
}

/** Does one action; the XML of its Result's content, null for actions without a Result. */
export type Action = (account: Account, params: Params, caller: Caller) => string | null

export interface AccountOptions {
  accountId?: string
  now?: () => Date
  keyDelayMs?: number
  maxUsers?: number
  maxPolicies?: number
}

export function createAccount (options: AccountOptions): Account {
  const id = options.accountId ?? '000000000000'
  if (!/^\d{12}$/.test(id)) throw new TypeError('accountId must be twelve digits.')
  return {
    id,
    quotas: { users: options.maxUsers ?? 5000, policies: options.maxPolicies ?? 1500, roles: 1000 },
    now: options.now ?? (() => new Date()),
    keyDelayMs: options.keyDelayMs ?? 0,
    users: new Map(),
    usersByPath: new SortedMap(),
    policies: new Map(),
    policyNames: new Set(),
    policiesByPath: new SortedMap(),
    roles: new Map(),
    keys: new Map()
  }
}

export function quotaExceeded (quota: string, value: number): Refusal {
  return new Refusal('LimitExceeded', `Cannot exceed quota for ${quota}: ${value}`)
}

export const accountActions: Record<string, Action> = {
  GetAccountSummary (account) {
    let keys = 0
    for (const user of account.users.values()) keys += user.keys.length
    const summary: Record<string, number> = {
      Users: account.users.size,
      UsersQuota: account.quotas.users,
      Groups: 0,
      Roles: account.roles.size,
      RolesQuota: account.quotas.roles,
      Policies: account.policyNames.size,
      PoliciesQuota: account.quotas.policies,
      AccessKeys: keys,
      AccessKeysPerUserQuota: fixedQuotas.keysPerUser,
      AttachedPoliciesPerUserQuota: fixedQuotas.policiesPerUser,
      VersionsPerPolicyQuota: fixedQuotas.versionsPerPolicy,
      UserPolicySizeQuota: fixedQuotas.userInlineSize,
      PolicySizeQuota: fixedQuotas.policySize
    }
    const entries = Object.entries(summary).map(([key, value]) => `<entry>${element('key', key)}${element('value', value)}</entry>`)
    return `<SummaryMap>${entries.join('')}</SummaryMap>`
  }
}
