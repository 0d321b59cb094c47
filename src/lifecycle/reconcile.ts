import type { Listed, PrincipalProvisioner } from '../iam/provisioner.ts'
import { settleMs } from '../iam/provisioner.ts'
import { grantIdOf } from '../iam/names.ts'
import { ignoring } from '../iam/retry.ts'
import type { Grant, PrincipalRef } from '../domain/grant.ts'
import type { GrantFilter } from '../ledger/ledger.ts'
import { requireClock } from './clock.ts'
import type { Account, Actor, GrantDeps } from './deps.ts'
import { dying, keyIdsOf } from './dying-keys.ts'
import { finish, startEnding } from './end.ts'
import { assertLease, commit, deadline, dueAfter, event, release } from './lease.ts'
import { paced } from './sweep.ts'

export interface ReconcileOptions {
  /** Reports what would be done, and changes nothing. */
  dryRun: boolean
  /** How long past its end a principal that the ledger does not know is left alone, ms. */
  graceMs: number
  concurrency: number
  perSecond: number
  /** Only this account of the pool. Default: each, all at the same time. */
  account?: string
}

/** Where provider and ledger differ. `account`: in the pool. */
export type Discrepancy = { account?: string } & Difference
type Difference =
  | { kind: 'stray', name: string, expiresAt: string, done: boolean }
  | { kind: 'foreign', name: string }
  | { kind: 'lost', grantId: string, name: string, done: boolean }
  | { kind: 'key', grantId: string, name: string, accessKeyId: string, done: boolean }

export interface ReconcileReport { seen: number, findings: Discrepancy[], failed: number }

const actor: Actor = { id: 'reconcile', requestId: null }

/**
 * Compares the provider with the ledger, in both directions. A principal that the ledger does not know is removed after the end that
 * its path or name states: so nothing stays for ever after the loss of the database. If its grant has ended in the ledger, it is removed
 * at once. A grant whose principal is gone is closed, and a key that its grant does not know is deleted.
 */
export const reconcile = async (deps: GrantDeps, options: ReconcileOptions): Promise<ReconcileReport> => {
  requireClock(deps)
  const { pool } = deps
  if (!pool) return reconcileAccount(deps, options, [undefined])
  const reconciled = async ({ name, provisioners }: Account): Promise<ReconcileReport> => {
    const report = await reconcileAccount({ ...deps, provisioners }, options, pool.earlier === name ? [name, ''] : [name])
    return { ...report, findings: report.findings.map(finding => ({ ...finding, account: name })) }
  }
  const chosen = pool.accounts.find(({ name }) => name === options.account)
  if (chosen) return reconciled(chosen)
  const reports = await Promise.all(pool.accounts.map(account => reconciled(account).catch(err => {
    deps.log.error({ account: account.name, err }, 'an account could not be compared with the ledger')
    return { seen: 0, findings: [], failed: 1 }
  })))
  const sum = (what: 'seen' | 'failed') => reports.reduce((total, report) => total + report[what], 0)
  return { seen: sum('seen'), failed: sum('failed'), findings: reports.flatMap(({ findings }) => findings) }
}

/** @param names what the account's grants say of their account; undefined: there is no pool */
const reconcileAccount = async (deps: GrantDeps, options: ReconcileOptions, names: Array<string | undefined>): Promise<ReconcileReport> => {
  const report: ReconcileReport = { seen: 0, findings: [], failed: 0 }
  const startedAt = deps.now()
  const seen = new Set<string>()
  // `inline` and `managed` have the same provisioner: list its users once.
  for (const provisioner of new Set(Object.values(deps.provisioners))) {
    for await (const page of pages(provisioner.list(() => deadline(deps)))) {
      for (const { ref } of page) seen.add(ref.name)
      await removeStrays(deps, provisioner, page, options, report)
    }
  }
  for (const account of names) await compareGrants(deps, { startedAt, seen, account }, options, report)
  await removeStrayPolicies(deps, seen, options, report)
  return { ...report, seen: seen.size }
}

const removeStrays = async (
  deps: GrantDeps, provisioner: PrincipalProvisioner, page: Listed[], options: ReconcileOptions, report: ReconcileReport
) => {
  const known = await deps.ledger.known(page.map(({ ref }) => ref.name))
  const principals: Kind = {
    field: 'user',
    found: 'principal that belongs to no grant of the ledger',
    failed: 'a stray principal could not be removed',
    statedEnd: ref => provisioner.policyEnd(ref, deadline(deps)),
    remove: ref => provisioner.discard(ref, deadline(deps))
  }
  const unknown = page.filter(({ ref }) => !known.has(ref.name))
  for (const { ref, expiresAt } of unknown) {
    if (expiresAt === undefined) report.findings.push({ kind: 'foreign', name: ref.name })
  }
  await removeEach(deps, principals, unknown.flatMap(strayOf), options, report)
}

/** Managed policies that no user of their name has: those that workers shared. They come after the users that may have them. */
const removeStrayPolicies = async (
  deps: GrantDeps, seen: Set<string>, options: ReconcileOptions, report: ReconcileReport
) => {
  const { shared } = deps.provisioners.managed
  if (!shared) return
  const policies: Kind = {
    field: 'policy',
    found: 'policy that belongs to no grant of the ledger',
    failed: 'a stray policy could not be removed',
    statedEnd: ref => shared.end(ref, deadline(deps)),
    remove: ref => shared.remove(ref, 0, deadline(deps))
  }
  for await (const page of pages(shared.list(() => deadline(deps)))) {
    const ofNoUser = page.filter(({ ref }) => !seen.has(ref.name))
    const known = await deps.ledger.known(ofNoUser.map(({ ref }) => ref.name))
    await removeEach(deps, policies, ofNoUser.filter(({ ref }) => !known.has(ref.name)).flatMap(strayOf), options, report)
  }
}

/** What a stray may be: what the log says of it, in whole sentences that one can search for, and how it is asked and removed. */
interface Kind {
  field: string
  found: string
  failed: string
  statedEnd: (ref: PrincipalRef) => Promise<number | undefined>
  remove: (ref: PrincipalRef) => Promise<unknown>
}

interface Stray { ref: PrincipalRef, expiresAt: number }

/** What states no end is not ours. */
const strayOf = ({ ref, expiresAt }: Pick<Listed, 'ref' | 'expiresAt'>): Stray[] => expiresAt === undefined ? [] : [{ ref, expiresAt }]

/** Only what is asked or removed takes a turn: most that a service without its database finds has not reached its end. */
const removeEach = async (
  deps: GrantDeps, kind: Kind, strays: Stray[], options: ReconcileOptions, report: ReconcileReport
): Promise<void> => {
  const { field, found, failed, statedEnd, remove } = kind
  const over = (end: number) => deps.now() - end >= options.graceMs
  const guarded = <T extends Stray>(work: (stray: T) => Promise<void>) => async (stray: T) => {
    try {
      await work(stray)
    } catch (error) {
      report.failed++
      deps.log.error({ [field]: stray.ref.name, err: error }, failed)
    }
  }
  const due: Array<Stray & { ended: boolean }> = []
  await paced(strays, { ...options, perSecond: Infinity }, guarded(async stray => {
    requireClock(deps)
    const ended = await hasEnded(deps, stray.ref)
    if (ended || over(stray.expiresAt)) due.push({ ...stray, ended })
  }))
  await paced(due, options, guarded(async ({ ref, expiresAt, ended }) => {
    requireClock(deps)
    // The policy of an extended grant states its true end: after the loss of the database its job must not lose its key.
    const stated = ended ? undefined : await statedEnd(ref)
    if (stated !== undefined && !over(stated)) return
    if (!options.dryRun) await remove(ref)
    report.findings.push({ kind: 'stray', name: ref.name, expiresAt: new Date(expiresAt).toISOString(), done: !options.dryRun })
    deps.log.warn({ [field]: ref.name, dryRun: options.dryRun }, found)
  }))
}

/**
 * The ledger knows its grant, and that it is over: a call took effect after the teardown. Not so the revocation of a session, which must
 * stay until the session is over.
 */
const hasEnded = async (deps: GrantDeps, { name, roleArn }: PrincipalRef): Promise<boolean> => {
  if (roleArn !== null) return false
  const grant = await deps.ledger.get(grantIdOf(name))
  return grant !== undefined && grant.dueAt === null && grant.principal.name === name
}

const compareGrants = async (
  deps: GrantDeps, { startedAt, seen, account }: { startedAt: number, seen: Set<string>, account: string | undefined },
  options: ReconcileOptions, report: ReconcileReport
) => {
  const filter: GrantFilter = { states: ['active'], ...(account !== undefined && { account }) }
  let after: string | undefined
  do {
    const page: Grant[] = await deps.ledger.list(filter, { limit: 200, ...(after && { after }) })
    after = page.length === 200 ? page.at(-1)?.id : undefined
    const old = page.filter(grant => grant.attach !== 'session' && grant.maxWorkers === null && !seen.has(grant.principal.name) &&
      grant.mintedAt !== null && startedAt - grant.mintedAt >= settleMs)
    await paced(old, options, async grant => {
      try {
        const finding = { kind: 'lost', grantId: grant.id, name: grant.principal.name, done: !options.dryRun } as const
        const exists = () => deps.provisioners[grant.attach].exists(grant.principal, deadline(deps))
        if (options.dryRun) {
          if (!(await exists())) report.findings.push(finding)
          return
        }
        // Claim the grant before the provider is asked: a retry by its owner would make the principal again.
        const now = deps.now()
        const claimed = await deps.ledger.claim(grant.id, now, now + deps.leaseMs)
        if (!claimed) return
        if (claimed.state !== 'active' || await exists()) {
          await release(deps, claimed)
          return
        }
        report.findings.push(finding)
        await finish(deps, actor, await startEnding(deps, actor, claimed, 'revoked', 'the principal is gone'))
      } catch (error) {
        report.failed++
        deps.log.error({ grantId: grant.id, err: error }, 'a lost grant could not be closed')
      }
    })
    await paced(page.filter(grant => grant.attach !== 'session' && seen.has(grant.principal.name)), options, async grant => {
      try {
        await removeUnknownKeys(deps, grant, options, report)
      } catch (error) {
        report.failed++
        deps.log.error({ grantId: grant.id, err: error }, 'the keys of a grant could not be compared')
      }
    })
  } while (after)
}

/** Also a key that came after all looks of the sweeper, or that somebody made by hand: no grant knows it, so nothing would end it. */
const removeUnknownKeys = async (deps: GrantDeps, grant: Grant, { dryRun }: ReconcileOptions, report: ReconcileReport): Promise<void> => {
  const provisioner = deps.provisioners[grant.attach]
  const unknownTo = async ({ principal, ...known }: Grant) =>
    (await ignoring('gone', provisioner.keys(principal, deadline(deps))) ?? []).filter(id => !keyIdsOf(known).includes(id))
  const found = (ids: string[]) => {
    for (const accessKeyId of ids) {
      report.findings.push({ kind: 'key', grantId: grant.id, name: grant.principal.name, accessKeyId, done: !dryRun })
      deps.log.warn({ grantId: grant.id, accessKeyId, dryRun }, 'key that its grant does not know')
    }
  }
  const seen = await unknownTo(grant)
  if (seen.length === 0) return
  // Only under a claim is it certain that no operation has just made it.
  const now = deps.now()
  const claimed = await deps.ledger.claim(grant.id, now, now + deps.leaseMs)
  if (!claimed) return
  const unknown = claimed.state === 'active' ? await unknownTo(claimed) : []
  found(unknown)
  if (dryRun || unknown.length === 0) {
    await release(deps, claimed)
    return
  }
  const toDie = [...claimed.dyingKeys, ...dying(unknown, now)]
  const keep = [claimed.accessKeyId, claimed.previousKeyId].filter(id => id !== null)
  const deleted = await provisioner.pruneKeys(claimed.principal, { keep, known: unknown }, assertLease(deps, claimed))
  const dyingKeys = toDie.filter(({ id }) => id === null || !deleted.includes(id))
  await commit(deps, claimed, { dyingKeys, dueAt: dueAfter(claimed, { ...claimed, dyingKeys }), claimedUntil: null },
    event(actor, 'repaired', { deletedKeys: deleted.join(' ') }))
}

const pageSize = 500

async function * pages<T> (items: AsyncIterable<T>): AsyncIterable<T[]> {
  let page: T[] = []
  for await (const item of items) {
    page.push(item)
    if (page.length === pageSize) {
      yield page
      page = []
    }
  }
  if (page.length > 0) yield page
}
