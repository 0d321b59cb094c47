import { Client, DatabaseError, Pool, types, type ClientConfig, type PoolConfig } from 'pg'
import { LedgerUrlError } from './ledger.ts'
import { prepareLedger } from './migrations.ts'
import { sql, type Query } from './rows.ts'
import type { Store } from './sql.ts'

/**
 * In ms. The server's timeouts come first, so that its error gives the reason. The client's own (`answer`) is for a network that does not
 * answer.
 */
const timeouts = { connect: 5_000, lock: 3_000, statement: 5_000, idleInTransaction: 5_000, answer: 7_000, idle: 30_000 }

/** While this replica waits for the lock, another one may be building indexes on a large table. */
const migrationTimeoutMs = 10 * 60_000

/**
 * A store with an up-to-date schema, on PostgreSQL 12 or newer. The URL may have libpq's parameters: sslmode, sslrootcert, ...
 * @param poolSize the highest number of connections
 * @param mustExist whether to refuse a database without a ledger, instead of making one
 */
export async function openPostgres (url: string, poolSize: number, mustExist = false): Promise<Store> {
  const connection = connectionOf(url)
  await migrateOnOwnConnection(connection, mustExist)
  const pool = withErrorListeners(new Pool({
    ...connection,
    max: poolSize,
    idleTimeoutMillis: timeouts.idle,
    statement_timeout: timeouts.statement,
    lock_timeout: timeouts.lock,
    idle_in_transaction_session_timeout: timeouts.idleInTransaction,
    query_timeout: timeouts.answer
  }))
  const query: Query = (statement) => onConnection(pool, (query) => query(statement))
  return {
    dialect: 'postgres',
    query,
    statement: (work) => work(query),
    write: (work) => inTransaction(pool, work),
    async time () {
      const [row] = await query<{ now: number }>(sql`select (extract(epoch from clock_timestamp()) * 1000)::float8 as now`)
      return row?.now ?? NaN
    },
    close: () => pool.end()
  }
}

/** A migration needs longer timeouts, so it has its own connection. */
async function migrateOnOwnConnection (connection: PoolConfig, mustExist: boolean): Promise<void> {
  const pool = withErrorListeners(new Pool({
    ...connection, max: 1, statement_timeout: migrationTimeoutMs, query_timeout: migrationTimeoutMs
  }))
  try {
    await inTransaction(pool, (tx) => prepareLedger(tx, 'postgres', mustExist))
  } finally {
    await pool.end()
  }
}

function connectionOf (url: string): ClientConfig {
  const config: ClientConfig = {
    connectionString: url,
    application_name: 'job-access',
    connectionTimeoutMillis: timeouts.connect,
    keepAlive: true,
    // A committed intent must survive a power failure, whatever the server's default is.
    options: '-c synchronous_commit=on',
    types: { getTypeParser }
  }
  try {
    // Parses the URL and reads the certificate files that it names. Does not connect.
    new Client(config) // eslint-disable-line no-new
  } catch (error) {
    throw new LedgerUrlError(`The ledger’s database URL cannot be used: ${reasonFor(error)}`)
  }
  return config
}

/** Not the error itself: when a URL does not parse, the error's `input` is the whole URL with its password. */
function reasonFor (error: unknown): string {
  if (error instanceof Error && 'path' in error && 'code' in error) return `${error.code} ${error.path}`
  return 'it does not parse. Special characters in user and password must be percent-encoded.'
}

/** Reads int8 as a number, in this pool only: its values here (epoch ms, versions, counts) are far below 2^53. */
const getTypeParser: typeof types.getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  oid === types.builtins.INT8 ? Number : types.getTypeParser(oid, format)

/** Without a listener, a broken connection would end the process. A query that runs on it rejects anyway. */
function withErrorListeners (pool: Pool): Pool {
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

/** An unusable connection is closed, instead of going back to the pool. */
async function onConnection<T> (pool: Pool, work: (query: Query) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  const query: Query = async ({ text, values }) => {
    // A query after one that got no answer would wait for that answer. So the rollback fails at once.
    if (broken) throw broken
    try {
      return (await client.query(numbered(text), values)).rows
    } catch (error) {
      if (isUnusable(error)) broken = error
      throw error
    }
  }
  try {
    return await work(query)
  } finally {
    client.release(broken)
  }
}

const inTransaction = <T>(pool: Pool, work: (tx: Query) => Promise<T>): Promise<T> => onConnection(pool, async (query) => {
  await query(sql`begin`)
  try {
    const value = await work(query)
    await query(sql`commit`)
    return value
  } catch (error) {
    await query(sql`rollback`).catch(() => {})
    throw error
  }
})

/** PostgreSQL numbers what stands for the values. No text of this folder has another question mark. */
const numbered = (text: string): string => {
  let number = 0
  return text.replace(/\?/g, () => `$${++number}`)
}

/**
 * True when the error did not come from the server, so that the connection itself failed. Also true when the server has become a
 * standby: a new connection may reach the new primary.
 */
const isUnusable = (error: unknown): error is Error =>
  error instanceof DatabaseError ? error.code === readOnlyTransaction : error instanceof Error

/** Source: PostgreSQL documentation, appendix A. */
const readOnlyTransaction = '25006'
