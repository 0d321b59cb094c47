import type { Listed, PrincipalProvisioner } from '../iam/provisioner.ts'
import { settleMs } from '../iam/provisioner.ts'
import type { Grant } from '../domain/grant.ts'
import type { Actor, GrantDeps } from './deps.ts'
import { finish, startEnding } from './end.ts'
import { deadline, release } from './lease.ts'
import { paced } from './sweep.ts'

export interface ReconcileOptions {
  /** Reports what would be done, and changes nothing. */
  dryRun: boolean
  /** How long past its end a principal that the ledger does not know is left alone, ms. */
  graceMs: number
  concurrency: number
  perSecond: number
}

/** Where provider and ledger differ. */
export type Discrepancy =
  | { kind: 'stray', name: string, expiresAt: string, done: boolean }
  | { kind: 'foreign', name: string }
  | { kind: 'lost', grantId: string, name: string, done: boolean }

export interface ReconcileReport { seen: number, findings: Discrepancy[], failed: number }

const actor: Actor = { id: 'reconcile', requestId: null }

/**
 * Compares the provider with the ledger, in both directions. A principal that the ledger does not know is removed after the end that
 * its path or name states: so nothing stays for ever after the loss of the database. A grant whose principal is gone is closed.
 */
export const reconcile = async (deps: GrantDeps, options: ReconcileOptions): Promise<ReconcileReport> => {
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
  await closeLost(deps, { startedAt, seen }, options, report)
  return { ...report, seen: seen.size }
}

const removeStrays = async (
  deps: GrantDeps, provisioner: PrincipalProvisioner, page: Listed[], options: ReconcileOptions, report: ReconcileReport
) => {
  const known = await deps.ledger.known(page.map(({ ref }) => ref.name))
  const unknown = page.filter(({ ref }) => !known.has(ref.name))
  await paced(unknown, options, async ({ ref, expiresAt }) => {
    if (expiresAt === undefined) {
      report.findings.push({ kind: 'foreign', name: ref.name })
      return
    }
    try {
      const overBy = (end: number) => deps.now() - end - options.graceMs
      if (overBy(expiresAt) < 0) return
      // The policy of an extended grant states its true end. After the loss of the database its job must not lose its key.
      const stated = await provisioner.policyEnd(ref, deadline(deps))
      if (stated !== undefined && overBy(stated) < 0) return
      if (!options.dryRun) await provisioner.discard(ref, deadline(deps))
      report.findings.push({ kind: 'stray', name: ref.name, expiresAt: new Date(expiresAt).toISOString(), done: !options.dryRun })
      deps.log.warn({ user: ref.name, dryRun: options.dryRun }, 'principal unknown to the ledger, past its end')
    } catch (error) {
      report.failed++
      deps.log.error({ user: ref.name, err: error }, 'a stray principal could not be removed')
    }
  })
}

const closeLost = async (
  deps: GrantDeps, { startedAt, seen }: { startedAt: number, seen: Set<string> }, options: ReconcileOptions, report: ReconcileReport
) => {
  let after: string | undefined
  do {
    const page: Grant[] = await deps.ledger.list({ states: ['active'] }, { limit: 200, ...(after && { after }) })
    after = page.length === 200 ? page.at(-1)?.id : undefined
    const old = page.filter(grant => grant.attach !== 'session' && !seen.has(grant.principal.name) &&
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
        if (claimed.state !== 'active' || await exists()) return await release(deps, claimed)
        report.findings.push(finding)
        await finish(deps, actor, await startEnding(deps, actor, claimed, 'revoked', 'the principal is gone'))
      } catch (error) {
        report.failed++
        deps.log.error({ grantId: grant.id, err: error }, 'a lost grant could not be closed')
      }
    })
  } while (after)
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
