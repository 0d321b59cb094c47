import type { PolicyAttachment } from '../domain/access-spec.ts'
import type { GrantEvent } from '../domain/events.ts'
import type { EndReason, Ending, Grant, GrantState } from '../domain/grant.ts'
import type { NewEvent } from './ledger.ts'

export type Dialect = 'sqlite' | 'postgres'

export type Value = string | number | null

/** A statement or a part of one, with a `?` for each of its values. A class, so that nothing that a caller sent can look like one. */
export class Sql {
  readonly text: string
  readonly values: Value[]

  constructor (text: string, values: Value[] = []) {
    this.text = text
    this.values = values
  }
}

/** Runs one statement and resolves with its rows. */
export type Query = <Row>(statement: Sql) => Promise<Row[]>

/** What is put in is a value, and never becomes text of the statement; only what was made here before is a part of it. */
export function sql (texts: TemplateStringsArray, ...parts: Array<Value | Sql>): Sql {
  let text = texts[0] ?? ''
  const values: Value[] = []
  parts.forEach((part, index) => {
    if (part instanceof Sql) {
      text += part.text
      values.push(...part.values)
    } else {
      text += '?'
      values.push(part)
    }
    text += texts[index + 1]
  })
  return new Sql(text, values)
}

/** Text of this folder, such as the name of a column. Never anything that a caller sent. */
export const raw = (text: string): Sql => new Sql(text)

export const list = (values: Value[]): Sql => new Sql(values.map(() => '?').join(', '), values)

export const joined = (parts: Sql[], between: string): Sql =>
  new Sql(parts.map(({ text }) => text).join(between), parts.flatMap(({ values }) => values))

/**
 * The tables, the mapping between a row and a grant, and the writing of a grant with its event and the counts.
 * Instants are epoch milliseconds. Structures are stored as JSON text, never as jsonb: it would reorder the keys of a policy,
 * and policyHash is the hash of its text.
 */
export interface GrantRow {
  id: string
  state: GrantState
  ending: Ending | null
  end_reason: EndReason | null
  owner: string
  team: string
  job_id: string
  idempotency_key: string | null
  attempt: string | null
  max_workers: number | null
  parent_id: string | null
  worker: string | null
  /** Grant.spec. Renaming the column would need a migration. */
  admitted: string
  policy: string
  policy_hash: string
  attach: PolicyAttachment
  principal_name: string
  principal_path: string
  principal_policy_arn: string | null
  principal_role_arn: string | null
  /** Of the principal; '': none has a name. */
  account: string
  access_key_id: string | null
  previous_key_id: string | null
  previous_key_dies_at: number | null
  dying_keys: string
  issue_at: number | null
  minted_at: number | null
  delivered_at: number | null
  sessions_end_at: number | null
  not_before: number
  expires_at: number
  created_at: number
  updated_at: number
  due_at: number | null
  attempts: number
  claimed_until: number | null
  version: number
}

/** An event is numbered by the version that its grant had after it: unique, in order, and without a sequence to maintain. */
export interface EventRow {
  grant_id: string
  version: number
  at: number
  actor: string
  action: string
  request_id: string | null
  policy_hash: string | null
  detail: string
}

/** The number of outstanding grants of each owner, changed in the same transaction as the grants. */
export interface CountRow {
  owner: string
  outstanding: number
}

/** The owner in grant_counts whose row is the total of all owners. */
export const allOwners = ''

/** The same, as SQL. */
export const everyone = raw(`'${allOwners}'`)

/** The owner in grant_counts whose row is the number of managed policies, of an account of the pool: no identity has a blank in its id. */
export const managedPolicies = (account = ''): string => account === '' ? 'managed policies' : `managed policies of ${account}`

/** The same for what else a grant has in an account of the pool. A job of workers has no principal. */
export const inAccount = ({ attach, maxWorkers }: Pick<Grant, 'attach' | 'maxWorkers'>, account = ''): string | null =>
  account === '' || maxWorkers !== null ? null : `${attach === 'session' ? 'sessions' : 'users'} of ${account}`

/** The same names of a row, as SQL. */
export const countNames = {
  managed: raw("case account when '' then 'managed policies' else 'managed policies of ' || account end"),
  hasManaged: raw("(attach = 'managed' and (max_workers is null or minted_at is not null))"),
  inAccount: raw("case attach when 'session' then 'sessions of ' else 'users of ' end || account"),
  hasPlace: raw("(account <> '' and max_workers is null)")
}

/** Whether the grant has a managed policy of its own. A job of workers has one at the provider only where they share it. */
export const hasManagedPolicy = ({ attach, maxWorkers, mintedAt }: Pick<Grant, 'attach' | 'maxWorkers' | 'mintedAt'>): boolean =>
  attach === 'managed' && (maxWorkers === null || mintedAt !== null)

const plainColumns = {
  id: 'id',
  state: 'state',
  ending: 'ending',
  endReason: 'end_reason',
  owner: 'owner',
  team: 'team',
  jobId: 'job_id',
  idempotencyKey: 'idempotency_key',
  attempt: 'attempt',
  maxWorkers: 'max_workers',
  parentId: 'parent_id',
  worker: 'worker',
  policyHash: 'policy_hash',
  attach: 'attach',
  accessKeyId: 'access_key_id',
  previousKeyId: 'previous_key_id',
  previousKeyDiesAt: 'previous_key_dies_at',
  issueAt: 'issue_at',
  mintedAt: 'minted_at',
  deliveredAt: 'delivered_at',
  sessionsEndAt: 'sessions_end_at',
  notBefore: 'not_before',
  expiresAt: 'expires_at',
  createdAt: 'created_at',
  updatedAt: 'updated_at',
  dueAt: 'due_at',
  attempts: 'attempts',
  claimedUntil: 'claimed_until',
  version: 'version'
} as const satisfies Record<Exclude<keyof Grant, 'spec' | 'policy' | 'principal' | 'dyingKeys'>, keyof GrantRow>

/**
 * The columns for some fields of a grant. Throws TypeError on an unknown field or an undefined value, since neither may be
 * ignored silently.
 */
export function columnsOf<P extends Partial<Grant>> (part: P): Partial<GrantRow> {
  const row: Record<string, unknown> = {}
  for (const [field, value] of Object.entries(part)) {
    if (value === undefined) throw new TypeError(`Grant field ${field} is undefined`)
    if (field === 'policy') row.policy = JSON.stringify(value)
    else if (field === 'dyingKeys') row.dying_keys = JSON.stringify(value)
    else if (field === 'spec') row.admitted = JSON.stringify(value)
    else if (field === 'principal') Object.assign(row, principalColumns(value as Grant['principal']))
    else if (Object.hasOwn(plainColumns, field)) row[plainColumns[field as keyof typeof plainColumns]] = value
    else throw new TypeError(`A grant has no field ${field}`)
  }
  return row
}

const principalColumns = (principal: Grant['principal']) => ({
  principal_name: principal.name,
  principal_path: principal.path,
  principal_policy_arn: principal.policyArn,
  principal_role_arn: principal.roleArn,
  account: principal.account ?? ''
})

export const grantOf = (row: GrantRow): Grant => ({
  id: row.id,
  state: row.state,
  ending: row.ending,
  endReason: row.end_reason,
  owner: row.owner,
  team: row.team,
  jobId: row.job_id,
  idempotencyKey: row.idempotency_key,
  attempt: row.attempt,
  maxWorkers: row.max_workers,
  parentId: row.parent_id,
  worker: row.worker,
  spec: JSON.parse(row.admitted),
  policy: JSON.parse(row.policy),
  policyHash: row.policy_hash,
  attach: row.attach,
  principal: {
    name: row.principal_name,
    path: row.principal_path,
    policyArn: row.principal_policy_arn,
    roleArn: row.principal_role_arn,
    ...(row.account !== '' && { account: row.account })
  },
  accessKeyId: row.access_key_id,
  previousKeyId: row.previous_key_id,
  previousKeyDiesAt: row.previous_key_dies_at,
  dyingKeys: JSON.parse(row.dying_keys),
  issueAt: row.issue_at,
  mintedAt: row.minted_at,
  deliveredAt: row.delivered_at,
  sessionsEndAt: row.sessions_end_at,
  notBefore: row.not_before,
  expiresAt: row.expires_at,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  dueAt: row.due_at,
  attempts: row.attempts,
  claimedUntil: row.claimed_until,
  version: row.version
})

export const eventOf = (row: EventRow): GrantEvent => ({
  grantId: row.grant_id,
  at: row.at,
  actor: row.actor,
  action: row.action,
  requestId: row.request_id,
  policyHash: row.policy_hash,
  detail: JSON.parse(row.detail)
})

/** Outstanding grants of one owner and of all; those with a managed policy, and with a user or session, where the grant has one itself. */
export interface Counts { own: number, all: number, managed: number | null, placed: number | null }

/** What the event and the counts need of the grant. */
const writtenColumns = ['id', 'version', 'owner', 'attach', 'account', 'max_workers', 'minted_at'] as const
type WrittenRow = Pick<GrantRow, typeof writtenColumns[number]>
const returning = raw(`returning ${writtenColumns.join(', ')}`)

/** A change of a grant as a statement that returns nothing, with the event that records it. */
interface GrantWrite {
  statement: Sql
  event: NewEvent
  at: number
  /** 1: the grant becomes outstanding. -1: it ends. Undefined: the counts stay. */
  countChange: 1 | -1 | undefined
}

type Written = { counts: Counts | undefined } | undefined

/**
 * Writes a grant, its event and the counts. Undefined, and nothing is written, when the statement matches no row.
 * The counts come last, since their lock makes every other begin() wait until the commit.
 */
export const writeGrant = (query: Query, dialect: Dialect, write: GrantWrite): Promise<Written> =>
  dialect === 'postgres' ? writeInOneStatement(query, write) : writeStepByStep(query, write)

async function writeStepByStep (query: Query, { statement, event, at, countChange }: GrantWrite): Promise<Written> {
  const [row] = await query<WrittenRow>(sql`${statement} ${returning}`)
  if (!row) return undefined
  await query(sql`
    insert into grant_events (grant_id, version, at, actor, action, request_id, policy_hash, detail)
    values (${row.id}, ${row.version}, ${at}, ${event.actor}, ${event.action}, ${event.requestId}, ${event.policyHash},
      ${JSON.stringify(event.detail)})`)
  return { counts: countChange && await changeCounts(query, row, countChange) }
}

/**
 * Changes the counts and returns them. Their rows stay locked until the transaction ends, so that no two transactions pass the
 * same limit. The rows are always locked in this order, so that no two transactions wait for each other.
 */
async function changeCounts (query: Query, grant: WrittenRow, change: 1 | -1): Promise<Counts> {
  const { owner, attach, account, max_workers: maxWorkers, minted_at: mintedAt } = grant
  const withPolicy = hasManagedPolicy({ attach, maxWorkers, mintedAt }) ? managedPolicies(account) : null
  const place = inAccount({ attach, maxWorkers }, account)
  const counted = [allOwners, owner, withPolicy, place].filter((name) => name !== null)
  const rows = await query<CountRow>(sql`
    insert into grant_counts (owner, outstanding) values ${joined(counted.map((name) => sql`(${name}, ${change})`), ', ')}
    on conflict (owner) do update set outstanding = grant_counts.outstanding + excluded.outstanding
    returning owner, outstanding`)
  const countOf = (name: string) => rows.find((row) => row.owner === name)?.outstanding ?? Infinity
  return {
    own: countOf(owner),
    all: countOf(allOwners),
    managed: withPolicy === null ? null : countOf(withPolicy),
    placed: place === null ? null : countOf(place)
  }
}

/** PostgreSQL can do all of it in one statement, SQLite cannot. This saves one to three round trips to the server. */
async function writeInOneStatement (query: Query, { statement, event, at, countChange }: GrantWrite): Promise<Written> {
  const change = raw(String(countChange ?? 0))
  const counted = sql`
    insert into grant_counts (owner, outstanding)
    select ${everyone}, ${change} from written union all select owner, ${change} from written
    union all select ${countNames.managed}, ${change} from written where ${countNames.hasManaged}
    union all select ${countNames.inAccount}, ${change} from written where ${countNames.hasPlace}
    on conflict (owner) do update set outstanding = grant_counts.outstanding + excluded.outstanding
    returning owner, outstanding`
  const [row] = await query<Record<keyof Counts, number | null>>(sql`
    with written as (${statement} ${returning}),
    noted as (
      insert into grant_events (grant_id, version, at, actor, action, request_id, policy_hash, detail)
      select id, version, cast(${at} as bigint), ${event.actor}, ${event.action}, ${event.requestId}, ${event.policyHash},
        ${JSON.stringify(event.detail)}
      from written
    ),
    counted as (${countChange ? counted : raw('select owner, null as outstanding from written')})
    select
      (select outstanding from counted where counted.owner = written.owner) as own,
      (select outstanding from counted where counted.owner = ${everyone}) as all,
      (select outstanding from counted where counted.owner = ${countNames.managed}) as managed,
      (select outstanding from counted where counted.owner = ${countNames.inAccount}) as placed
    from written`)
  if (!row) return undefined
  return { counts: countChange && { own: row.own ?? Infinity, all: row.all ?? Infinity, managed: row.managed, placed: row.placed } }
}
