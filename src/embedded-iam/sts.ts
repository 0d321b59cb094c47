import type { Account, Action, Caller, Key, Owner, Role } from './account.ts'
import * as identifiers from './identifiers.ts'
import type { Params, Tag } from './params.ts'
import { arn, constraint, documentOf, members, sessionName, tags, wholeNumber } from './params.ts'
import { checkDocument, countedSize } from './policy-document.ts'
import { Refusal } from './refusal.ts'
import { element, instant, optional } from './xml.ts'

/** Plain-text limit of a session policy with its ARNs, and what is taken here for AWS's undocumented packed limit. */
const sessionPolicySize = 2048
const longestChained = 3600

export const stsActions: Record<string, Action> = {
  GetCallerIdentity (account, params, caller) {
    return element('Arn', caller.arn) + element('UserId', caller.id) + element('Account', account.id)
  },

  AssumeRole (account, params, caller) {
    const roleArn = arn(params, 'RoleArn')
    const name = sessionName(params, 'RoleSessionName')
    const seconds = wholeNumber(params, 'DurationSeconds', 900, 43_200)
    const sourceIdentity = params.SourceIdentity === undefined ? null : sessionName(params, 'SourceIdentity')
    if (sourceIdentity?.startsWith('aws:')) throw new Refusal('ValidationError', 'SourceIdentity cannot begin with aws:')
    const policy = params.Policy === undefined ? null : documentOf(params, 'Policy', sessionPolicySize)
    if (policy !== null) checkDocument(policy, 'identity')
    const given = tags(params)

    const role = Array.from(account.roles.values()).find((candidate) => candidate.arn === roleArn)
    // AWS gives the same answer for a missing role and for one that does not trust the caller.
    const needs = ['sts:AssumeRole']
    if (given.length > 0) needs.push('sts:TagSession')
    if (sourceIdentity !== null) needs.push('sts:SetSourceIdentity')
    for (const action of needs) {
      if (!role || !trusts(account, role, caller, action)) {
        throw new Refusal('AccessDenied', `User: ${caller.arn} is not authorized to perform: ${action} on resource: ${roleArn}`)
      }
    }
    if (!role) throw new Refusal('InternalFailure', 'Unreachable.')
    checkDuration(role, seconds, caller)
    const packed = packedPercent(account, params, policy, given)

    const now = account.now()
    const expiresAt = new Date(now.getTime() + (seconds ?? 3600) * 1000)
    const session = sessionOf(account, role, name, expiresAt)
    const key = openSession(account, session, now)
    return `<Credentials>${element('AccessKeyId', key.id)}${element('SecretAccessKey', key.secret)}${
      element('SessionToken', session.token)}${instant('Expiration', expiresAt)}</Credentials>` +
      `<AssumedRoleUser>${element('AssumedRoleId', session.id)}${element('Arn', session.arn)}</AssumedRoleUser>` +
      optional('PackedPolicySize', packed) + optional('SourceIdentity', sourceIdentity)
  }
}

function checkDuration (role: Role, seconds: number | null, caller: Caller): void {
  if (caller.owner.kind === 'session' && (seconds ?? 3600) > longestChained) {
    throw new Refusal('ValidationError', 'The requested DurationSeconds exceeds the 1 hour session limit ' +
      'for roles assumed by role chaining')
  }
  if ((seconds ?? 3600) > role.maxSessionSeconds) {
    throw new Refusal('ValidationError', 'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.')
  }
}

/**
 * Whether the role's trust policy lets the caller do this. The account's root in it hands the decision to the caller's
 * own policies: the admin's allow everything, nobody else's here allow anything of STS.
 */
function trusts (account: Account, role: Role, caller: Caller, action: string): boolean {
  let allowed = false
  for (const { Effect, Principal, Action } of role.trustStatements) {
    if (!strings(Action).some((each) => each === action || each === 'sts:*' || each === '*')) continue
    const principals = Principal === '*' ? ['*'] : strings((Principal as Record<string, unknown>).AWS)
    const named = principals.some((principal) => principal === '*' || isCaller(account, principal, caller))
    if (!named) continue
    if (Effect === 'Deny') return false
    allowed = true
  }
  return allowed
}

function isCaller (account: Account, principal: string, caller: Caller): boolean {
  if (principal === caller.arn) return true
  const { owner } = caller
  if (owner.kind === 'session') return principal === owner.roleArn
  return owner.kind === 'admin' && (principal === account.id || principal === `arn:aws:iam::${account.id}:root`)
}

/**
 * Share of the packed limit used, in percent; null without policy and tags. How AWS packs is not documented: here it is
 * the counted characters of policy, ARNs and tags, so that many tags refuse a policy which alone would fit.
 */
function packedPercent (account: Account, params: Params, policy: string | null, given: Tag[]): number | null {
  const arns = members(params, 'PolicyArns', '.arn')
  for (const each of arns) {
    if (!account.policies.has(each)) throw new Refusal('NoSuchEntity', `Policy ${each} was not found.`)
  }
  if (arns.length > 10) throw constraint('PolicyArns', 'Member must have length less than or equal to 10')
  const plain = (policy?.length ?? 0) + arns.join('').length
  if (plain > sessionPolicySize) {
    throw new Refusal('ValidationError', `The plaintext of the session policies must be at most ${sessionPolicySize} characters.`)
  }
  const transitive = members(params, 'TransitiveTagKeys')
  if (transitive.some((key) => !given.some((tag) => tag.key === key))) {
    throw new Refusal('ValidationError', 'The specified transitive tag key must be included in the requested tags.')
  }
  if (policy === null && arns.length === 0 && given.length === 0) return null
  const tagSize = given.reduce((sum, { key, value }) => sum + key.length + value.length, 0)
  const size = countedSize(policy ?? '') + arns.join('').length + tagSize
  const percent = Math.ceil(100 * size / sessionPolicySize)
  if (percent > 100) {
    throw new Refusal('PackedPolicyTooLarge', `Packed policy consumes ${percent}% of allotted space, please use smaller policy.`)
  }
  return percent
}

type Session = Owner & { kind: 'session' }

function sessionOf (account: Account, role: Role, name: string, expiresAt: Date): Session {
  return {
    kind: 'session',
    arn: `arn:aws:sts::${account.id}:assumed-role/${role.name}/${name}`,
    id: `${role.id}:${name}`,
    roleArn: role.arn,
    token: identifiers.sessionToken(),
    expiresAt
  }
}

function openSession (account: Account, session: Session, now: Date): Key {
  forgetExpired(account, now)
  const key: Key = {
    id: identifiers.accessKeyId('ASIA', (id) => account.keys.has(id)),
    secret: identifiers.secretAccessKey(),
    active: true,
    createdAt: now,
    knownFrom: now.getTime(),
    lastUsed: null,
    owner: session,
    signing: new Map()
  }
  account.keys.set(key.id, key)
  return key
}

/** Sessions end by themselves. They go from memory a day later, so that ExpiredToken stays the answer for a while. */
function forgetExpired (account: Account, now: Date): void {
  if (account.keys.size % 256 !== 0) return
  for (const [id, { owner }] of account.keys) {
    if (owner.kind === 'session' && owner.expiresAt.getTime() < now.getTime() - 86_400_000) account.keys.delete(id)
  }
}

function strings (value: unknown): string[] {
  return (Array.isArray(value) ? value : [value]).filter((each) => typeof each === 'string')
}
