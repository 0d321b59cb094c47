import { sql, type Kysely } from 'kysely'
import { transitions, type GrantState } from '../domain/grant.ts'
import type { GrantFilter, Ledger } from './ledger.ts'
import type { GrantRow, Tables } from './rows.ts'

type Db = Kysely<Tables>
type Page = Parameters<Ledger['list']>[1]

/** A part of the union: the grants of one team, of one state, or of both, which one index has in order. */
interface Branch { team?: string, state?: GrantState }

/** SQLite allows 500 branches of a union by default (sqlite.org/limits.html), but planning is slow long before that. */
const maxBranches = 100

const everyState = Object.keys(transitions).length

/**
 * One page of grants, newest first. Its cost does not grow with the number of grants.
 *
 * For `team IN (…) AND state IN (…) ORDER BY id DESC LIMIT n`, both databases either sort all grants of those teams, or scan
 * the whole table for a rare state. Instead the n newest ids of each (team, state) are read from its index, and the n newest
 * of all these are fetched.
 */
export async function pageOf (db: Db, filter: GrantFilter, page: Page): Promise<GrantRow[]> {
  checkLimit(page.limit)
  // An empty list matches nothing: a caller without a team sees no grant.
  if (filter.teams?.length === 0 || filter.states?.length === 0) return []

  const byIndex = filter.jobId === undefined && typeof filter.parentId !== 'string'
  const branches = byIndex ? branchesOf(filter) : undefined
  const [first, ...rest] = branches ?? []
  if (!first) return filteredPage(db, filter, page)
  const ids = rest.reduce((union, branch) => union.unionAll(newestIds(db, branch, filter, page)), newestIds(db, first, filter, page))
  return db.selectFrom('grants').selectAll()
    .where('id', 'in', db.selectFrom(ids.as('ids')).select('id').orderBy('id', 'desc').limit(page.limit))
    .orderBy('id', 'desc')
    .execute()
}

/** For SQLite, a negative limit means no limit. */
export function checkLimit (limit: number): void {
  if (!Number.isInteger(limit) || limit < 1) throw new RangeError('limit must be a positive integer')
}

/** Undefined when there would be more than maxBranches. */
function branchesOf (filter: GrantFilter): Branch[] | undefined {
  const teams = new Set(filter.teams)
  const states = new Set(filter.states)
  if (states.size === everyState) states.clear()
  if (Math.max(teams.size, 1) * Math.max(states.size, 1) > maxBranches) return undefined
  const byTeam: Branch[] = teams.size === 0 ? [{}] : [...teams].map((team) => ({ team }))
  return states.size === 0 ? byTeam : byTeam.flatMap((branch) => [...states].map((state) => ({ ...branch, state })))
}

const newestIds = (db: Db, { team, state }: Branch, { parentId }: GrantFilter, { after, limit }: Page) => {
  let ids = db.selectFrom('grants').select('id').orderBy('id', 'desc').limit(limit)
  if (team !== undefined) ids = ids.where('team', '=', team)
  if (state !== undefined) ids = ids.where('state', '=', state)
  if (parentId === null) ids = ids.where('parent_id', 'is', null)
  if (after !== undefined) ids = ids.where('id', '<', after)
  // Inside a union, SQLite allows a limit only in a subquery.
  return db.selectFrom(ids.as('branch')).select('id')
}

/**
 * For a job or its workers, which are few grants, or for too many teams: reads the index of the job, or of all grants, and filters.
 * The concatenations keep the planner from choosing another index and sorting.
 */
const filteredPage = async (
  db: Db, { teams, states, jobId, parentId, worker }: GrantFilter, { after, limit }: Page
): Promise<GrantRow[]> => {
  let rows = db.selectFrom('grants').selectAll().orderBy('id', 'desc').limit(limit)
  if (jobId !== undefined) rows = rows.where('job_id', '=', jobId)
  if (parentId !== undefined) rows = parentId === null ? rows.where('parent_id', 'is', null) : rows.where('parent_id', '=', parentId)
  if (worker !== undefined) rows = rows.where('worker', '=', worker)
  if (teams !== undefined) rows = rows.where(sql<string>`team || ''`, 'in', teams)
  if (states !== undefined) rows = rows.where(sql<string>`state || ''`, 'in', states)
  if (after !== undefined) rows = rows.where('id', '<', after)
  return rows.execute()
}
