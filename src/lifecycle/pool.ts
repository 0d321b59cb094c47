import type { Grant } from '../domain/grant.ts'
import { IamError } from '../iam/errors.ts'
import type { RoleProfile } from '../iam/role-profile.ts'
import type { AccountUse, OutstandingLimits } from '../ledger/ledger.ts'
import { toIso } from '../policy/window.ts'
import { ProblemError } from '../problems.ts'
import type { ProvenAccess } from './access.ts'
import type { Account, GrantDeps } from './deps.ts'

/**
 * Several accounts of the provider. The account of a grant is chosen when it is issued, and is committed before the first call to it.
 * Everything after that goes to that account. So a grant is never in two accounts, and what a failed issue left is looked for in one.
 */

/** The account of the intent had no room at the commit: another grant came first. */
export class AccountFullError extends Error {}

export const isFull = ({ principal: { account } }: Pick<Grant, 'principal'>, limit: string): boolean =>
  account !== undefined && (account === nowhere ? limit === 'total' : limit === 'users' || limit === 'managed')

/** Where nothing can be issued, but a request still finds the grant that it has. No account has this name. */
const nowhere = ''

/** The ceilings that hold for a new grant: the quota is that of its account. */
export const limitsIn = (
  { outstanding, pool }: GrantDeps, { principal, attach }: Pick<Grant, 'principal' | 'attach'>
): OutstandingLimits => {
  if (principal.account === nowhere) return { ...outstanding, total: 0 }
  const account = pool?.accounts.find(({ name }) => name === principal.account)
  if (!account) return outstanding
  const { users, managed } = account.quota
  return { ...outstanding, managed, ...(attach !== 'session' && { users }) }
}

/** The role profile that a grant in this account has for the one that was asked for. */
export const profileIn = (
  { pool }: GrantDeps, { principal: { account = pool?.earlier } }: Pick<Grant, 'principal'>, profile: RoleProfile | null
): RoleProfile | null => {
  if (!pool || !profile) return profile
  return pool.accounts.find(({ name }) => name === account)?.profiles[profile.name] ?? null
}

/**
 * Does the work in the account with the most room, and in the next one where it turns out to be full or refuses before it made anything.
 * After any other failure the caller gets the error: something may be there, and its removal goes on.
 */
export const inFirstAccount = async <T>(
  deps: GrantDeps, access: ProvenAccess, work: (account: Account | undefined) => Promise<T>
): Promise<T> => {
  const { accounts = [] } = access
  const need = needOf(access)
  // A job whose workers share nothing has no principal, so it needs no account.
  if (need === 'nothing') return work(undefined)
  const names = accounts.map(({ name }) => name)
  const uses = new Map((await deps.ledger.accounts(names)).map(use => [use.account, use]))
  const withRoom = inOrder(accounts, need, uses, access.profile?.name)
  const [first] = deps.pool?.accounts ?? []
  let refusal: ProblemError | undefined
  for (const account of withRoom.length > 0 || !first ? withRoom : [{ ...first, name: nowhere }]) {
    try {
      return await work(account)
    } catch (error) {
      if (error instanceof AccountFullError) continue
      if (!isUntouched(error, need)) throw error
      deps.log.warn({ account: account.name, err: error }, 'the account refused a grant; trying the next one')
      refusal = error
    }
  }
  throw refusal ?? await full(deps, accounts, need, uses)
}

/** What a grant takes of the quota of its account. */
type Need = 'user' | 'user and policy' | 'policy' | 'session' | 'nothing'

const needOf = ({ attachment, workers, spec }: Pick<ProvenAccess, 'attachment' | 'workers' | 'spec'>): Need => {
  if (workers !== undefined) return spec.shared ? 'policy' : attachment === 'session' ? 'session' : 'nothing'
  if (attachment === 'managed') return 'user and policy'
  return attachment === 'session' ? 'session' : 'user'
}

/** The accounts with room: first those that are well, of these the one with the most room, then by name. */
export const inOrder = (
  accounts: Account[], need: Need, uses: ReadonlyMap<string, AccountUse>, profile?: string
): Account[] => {
  const roleOf = ({ profiles }: Account) => profile === undefined ? undefined : profiles[profile]?.roleArn
  const withRoom = accounts
    .map(account => ({ account, room: roomOf(account, need, uses.get(account.name)), isWell: account.isWell(roleOf(account)) }))
    .filter(({ room }) => room > 0)
  // Those that are not well are asked whether they are again: by the next grant they may be.
  for (const { account } of withRoom.filter(({ isWell }) => !isWell)) account.ping().catch(() => {})
  return withRoom
    .sort((a, b) => Number(b.isWell) - Number(a.isWell) || b.room - a.room || (a.account.name < b.account.name ? -1 : 1))
    .map(({ account }) => account)
}

const leftOf = ({ quota: { users, managed = Infinity } }: Account, use: AccountUse | undefined) =>
  ({ users: users - (use?.users ?? 0), managed: managed - (use?.managed ?? 0) })

const roomOf = (account: Account, need: Need, use: AccountUse | undefined): number => {
  const left = leftOf(account, use)
  switch (need) {
    case 'user': return left.users
    case 'user and policy': return Math.min(left.users, left.managed)
    case 'policy': return left.managed
    // IAM counts no sessions: they are spread.
    case 'session': case 'nothing': return Number.MAX_SAFE_INTEGER - (use?.sessions ?? 0)
  }
}

/** The account refused, for a reason of its own, the first call that makes something. */
const isUntouched = (error: unknown, need: Need): error is ProblemError => {
  const cause = error instanceof ProblemError ? error.cause : undefined
  const first = need === 'policy' ? 'CreatePolicy' : need === 'session' ? 'AssumeRole' : 'CreateUser'
  return cause instanceof IamError && cause.definite && cause.operation === first && ['limit', 'denied', 'credentials'].includes(cause.kind)
}

const full = async (
  { ledger, now }: GrantDeps, accounts: Account[], need: Need, uses: ReadonlyMap<string, AccountUse>
): Promise<ProblemError> => {
  const names = accounts.map(({ name }) => name)
  if (names.length === 0) {
    return new ProblemError('too-many-grants', {
      detail: 'No account takes new grants with this request.',
      hint: 'Ask the operator of the service, whose accounts are closed.'
    })
  }
  const isManaged = need === 'policy' ||
    (need === 'user and policy' && accounts.some(account => leftOf(account, uses.get(account.name)).users > 0))
  const end = await ledger.firstEnd(names, isManaged ? 'managed' : 'users')
  const when = end === null ? '' : ` The next place is free at ${toIso(end)}, or when a job completes before that.`
  return new ProblemError(isManaged ? 'too-many-managed-policies' : 'too-many-grants', {
    detail: `No account has room: ${names.join(', ')}.${when}`,
    hint: isManaged
      ? 'Ask for a policy that fits inline, or send the request again after Retry-After.'
      : 'Complete the grants of jobs that have ended, or send the request again after Retry-After.',
    retryAfterSeconds: end === null ? 60 : Math.min(60, Math.max(1, Math.ceil((end - now()) / 1000)))
  })
}
