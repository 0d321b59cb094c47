import { sql, type Kysely } from 'kysely'
import { transitions, type GrantState } from '../domain/grant.ts'
import type { GrantFilter, Ledger } from './ledger.ts'
import type { GrantRow, Tables } from './rows.ts'

type Db = Kysely<Tables>
type Page = Parameters<Ledger['list']>[1]

/** A part of the union: the grants of one team, of one state, or of both, which one index has in order. `teams` filters them. */
interface Branch { team?: string, teams?: string[], state?: GrantState }

/** SQLite allows 500 branches of a union by default (sqlite.org/limits.html), but planning is slow long before that. */
const maxBranches = 100

const everyState = Object.keys(transitions) as GrantState[]

/**
 * One page of grants, newest first. Its cost does not grow with the number of grants, nor with that of their workers.
 *
 * For `team IN (…) AND state IN (…) ORDER BY id DESC LIMIT n`, both databases either sort all grants of those teams, or scan
 * the whole table for a rare state. Instead the n newest ids of each (team, state) are read from its index, and the n newest
 * of all these are fetched.
 */
export async function pageOf (db: Db, filter: GrantFilter, page: Page): Promise<GrantRow[]> {
  checkLimit(page.limit)
  // An empty list matches nothing: a caller without a team sees no grant.
  if (filter.teams?.length === 0 || filter.states?.length === 0) return []

  const { jobId, parentId, teams } = filter
  const byIndex = jobId === undefined && (parentId === null || (parentId === undefined && teams === undefined))
  const [first, ...rest] = byIndex ? branchesOf(filter) : []
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

/** One for each team and state, or, for too many teams, one for each state. */
function branchesOf ({ parentId, ...filter }: GrantFilter): Branch[] {
  const states = new Set(filter.states)
  if (states.size === everyState.length) states.clear()
  const teams = new Set(filter.teams)
  const byTeam: Branch[] = teams.size > 0 && teams.size * Math.max(states.size, 1) <= maxBranches
    ? [...teams].map((team) => ({ team }))
    : [{ ...(filter.teams && { teams: filter.teams }) }]
  // SQLite would read all grants by their ids, and pass over the workers, rather than an index of ids that has only jobs.
  const byState = states.size > 0 ? [...states] : parentId === null && byTeam[0]?.team === undefined ? everyState : []
  return byState.length === 0 ? byTeam : byTeam.flatMap((branch) => byState.map((state) => ({ ...branch, state })))
}

const newestIds = (db: Db, { team, teams, state }: Branch, { parentId, account }: GrantFilter, { after, limit }: Page) => {
  let ids = db.selectFrom('grants').select('id').orderBy('id', 'desc').limit(limit)
  if (team !== undefined) ids = ids.where('team', '=', team)
  // The concatenation keeps the planner from choosing an index of teams, and sorting.
  if (teams !== undefined) ids = ids.where(sql<string>`team || ''`, 'in', teams)
  if (state !== undefined) ids = ids.where('state', '=', state)
  if (parentId === null) ids = ids.where('parent_id', 'is', null)
  if (account !== undefined) ids = ids.where('account', '=', account)
  if (after !== undefined) ids = ids.where('id', '<', after)
  // Inside a union, SQLite allows a limit only in a subquery.
  return db.selectFrom(ids.as('branch')).select('id')
}

/**
 * For a job or its workers, which are few grants: reads their index, and filters.
 * The concatenations keep the planner from choosing another index and sorting.
 */
const filteredPage = async (
  db: Db, { teams, states, jobId, parentId, worker, account }: GrantFilter, { after, limit }: Page
): Promise<GrantRow[]> => {
  let rows = db.selectFrom('grants').selectAll().orderBy('id', 'desc').limit(limit)
  if (jobId !== undefined) rows = rows.where('job_id', '=', jobId)
  if (parentId !== undefined) rows = parentId === null ? rows.where('parent_id', 'is', null) : rows.where('parent_id', '=', parentId)
  if (worker !== undefined) rows = rows.where('worker', '=', worker)
  if (account !== undefined) rows = rows.where('account', '=', account)
  if (teams !== undefined) rows = rows.where(sql<string>`team || ''`, 'in', teams)
  if (states !== undefined) rows = rows.where(sql<string>`state || ''`, 'in', states)
  if (after !== undefined) rows = rows.where('id', '<', after)
  return rows.execute()
}
