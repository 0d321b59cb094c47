import { transitions, type GrantState } from '../domain/grant.ts'
import type { GrantFilter, Ledger } from './ledger.ts'
import { joined, list, raw, sql, type GrantRow, type Query, type Sql } from './rows.ts'

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
export async function pageOf (query: Query, filter: GrantFilter, page: Page): Promise<GrantRow[]> {
  checkLimit(page.limit)
  // An empty list matches nothing: a caller without a team sees no grant.
  if (filter.teams?.length === 0 || filter.states?.length === 0) return []

  const { jobId, parentId, teams } = filter
  const byIndex = jobId === undefined && (parentId === null || (parentId === undefined && teams === undefined))
  const found = byIndex
    ? sql`id in (select id from (${joined(branchesOf(filter).map((branch) => newestIds(branch, filter, page)), ' union all ')}) as ids
        order by id desc limit ${page.limit})`
    : filtered(filter, page)
  return query(sql`select * from grants where ${found} order by id desc limit ${page.limit}`)
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

/** Inside a union, SQLite allows a limit only in a subquery. */
const newestIds = ({ team, teams, state }: Branch, { parentId, account }: GrantFilter, { after, limit }: Page): Sql =>
  sql`select id from (select id from grants where ${all([
    team !== undefined && sql`team = ${team}`,
    // The concatenation keeps the planner from choosing an index of teams, and sorting.
    teams !== undefined && sql`team || '' in (${list(teams)})`,
    state !== undefined && sql`state = ${state}`,
    parentId === null && raw('parent_id is null'),
    account !== undefined && sql`account = ${account}`,
    after !== undefined && sql`id < ${after}`
  ])} order by id desc limit ${limit}) as branch`

/**
 * For a job or its workers, which are few grants: reads their index, and filters.
 * The concatenations keep the planner from choosing another index and sorting.
 */
const filtered = ({ teams, states, jobId, parentId, worker, account }: GrantFilter, { after }: Page): Sql => all([
  jobId !== undefined && sql`job_id = ${jobId}`,
  parentId !== undefined && (parentId === null ? raw('parent_id is null') : sql`parent_id = ${parentId}`),
  worker !== undefined && sql`worker = ${worker}`,
  account !== undefined && sql`account = ${account}`,
  teams !== undefined && sql`team || '' in (${list(teams)})`,
  states !== undefined && sql`state || '' in (${list(states)})`,
  after !== undefined && sql`id < ${after}`
])

const all = (conditions: Array<Sql | false>): Sql => {
  const given = conditions.filter((condition) => condition !== false)
  return given.length === 0 ? raw('true') : joined(given, ' and ')
}
