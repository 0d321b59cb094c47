import { sql, type Kysely } from 'kysely'
import { transitions, type GrantState } from '../domain/grant.ts'
import type { GrantFilter, Ledger } from './ledger.ts'
import type { GrantRow, Tables } from './rows.ts'

type Db = Kysely<Tables>
type Page = Parameters<Ledger['list']>[1]

/** One walk down one index. */
interface Branch { team?: string, state?: GrantState }

/** SQLite takes 500 branches of a union by default (sqlite.org/limits.html); planning them costs long before. */
const branchesAtMost = 100

const everyState = Object.keys(transitions).length

/**
 * One page of grants, newest first; costs the same however many grants there are.
 *
 * `team IN (…) AND state IN (…) ORDER BY id DESC LIMIT n` makes both databases either sort every grant of those teams or
 * walk the whole table for a rare state. Instead each (team, state) is walked down its own index for at most n ids, and the
 * n newest of all of them are fetched.
 */
export async function pageOf (db: Db, filter: GrantFilter, page: Page): Promise<GrantRow[]> {
  checkLimit(page.limit)
  // A list that names nothing matches nothing: a caller with no team sees no grant.
  if (filter.teams?.length === 0 || filter.states?.length === 0) return []

  const branches = filter.jobId === undefined ? branchesOf(filter) : undefined
  const [first, ...rest] = branches ?? []
  if (!first) return await filtered(db, filter, page)
  const ids = rest.reduce((union, branch) => union.unionAll(walk(db, branch, page)), walk(db, first, page))
  return await db.selectFrom('grants').selectAll()
    .where('id', 'in', db.selectFrom(ids.as('ids')).select('id').orderBy('id', 'desc').limit(page.limit))
    .orderBy('id', 'desc')
    .execute()
}

/** SQLite takes a negative limit for none. */
export function checkLimit (limit: number): void {
  if (!Number.isInteger(limit) || limit < 1) throw new RangeError('limit must be a positive integer')
}

/** Undefined when there would be too many. */
function branchesOf (filter: GrantFilter): Branch[] | undefined {
  const teams = new Set(filter.teams)
  const states = new Set(filter.states)
  if (states.size === everyState) states.clear()
  if (Math.max(teams.size, 1) * Math.max(states.size, 1) > branchesAtMost) return undefined
  const byTeam: Branch[] = teams.size === 0 ? [{}] : [...teams].map((team) => ({ team }))
  return states.size === 0 ? byTeam : byTeam.flatMap((branch) => [...states].map((state) => ({ ...branch, state })))
}

const walk = (db: Db, { team, state }: Branch, { after, limit }: Page) => {
  let ids = db.selectFrom('grants').select('id').orderBy('id', 'desc').limit(limit)
  if (team !== undefined) ids = ids.where('team', '=', team)
  if (state !== undefined) ids = ids.where('state', '=', state)
  if (after !== undefined) ids = ids.where('id', '<', after)
  // SQLite takes a limit inside a union only in a subquery
  return db.selectFrom(ids.as('branch')).select('id')
}

/**
 * For a job, whose grants are few, or for more teams than are worth a branch each: down the index of the job, or of all
 * grants, leaving out what does not match. The concatenations keep the planner from taking another index and sorting.
 */
const filtered = async (db: Db, { teams, states, jobId }: GrantFilter, { after, limit }: Page): Promise<GrantRow[]> => {
  let rows = db.selectFrom('grants').selectAll().orderBy('id', 'desc').limit(limit)
  if (jobId !== undefined) rows = rows.where('job_id', '=', jobId)
  if (teams !== undefined) rows = rows.where(sql<string>`team || ''`, 'in', teams)
  if (states !== undefined) rows = rows.where(sql<string>`state || ''`, 'in', states)
  if (after !== undefined) rows = rows.where('id', '<', after)
  return await rows.execute()
}
