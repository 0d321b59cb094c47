import { randomBytes } from 'node:crypto'
import { chown, rm } from 'node:fs/promises'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from 'pg'
import { freePort, missing, run, serverEnv, startDaemon, temporaryDir } from './daemon.ts'

export interface Postgres {
  url: string
  stop (): Promise<void>
}

export interface Database {
  url: string
  drop (): Promise<void>
}

const debianRoot = '/usr/lib/postgresql'
const account = 'postgres'

/** A throw-away cluster on 127.0.0.1, or the server that TEST_DATABASE_URL names. */
export async function startPostgres (): Promise<Postgres> {
  const given = process.env.TEST_DATABASE_URL
  if (given) return { url: given, stop: async () => {} }

  const bin = binDir()
  const port = await freePort('127.0.0.1')
  const url = `postgres://${account}@127.0.0.1:${port}/postgres`
  const dir = await temporaryDir('postgres')
  const data = join(dir, 'data')
  const [command, prefix] = await asUnprivileged(dir)
  try {
    await run(command, [...prefix, join(bin, 'initdb'), ...initdbArgs(data)], { cwd: dir })
  } catch (error) {
    await rm(dir, { recursive: true, force: true })
    throw error
  }
  const daemon = await startDaemon({
    name: 'PostgreSQL',
    command,
    args: [...prefix, join(bin, 'postgres'), '-D', data, ...settings(port, dir)],
    dir,
    env: serverEnv(),
    // Immediate shutdown: the data is thrown away, and open connections must not delay the end.
    signal: 'QUIT',
    ready: () => accepts(url)
  })
  return { url, stop: daemon.stop }
}

/** A database of its own on that server, so that test files do not see each other's rows. */
export async function freshDatabase (url: string): Promise<Database> {
  const name = `test_${randomBytes(8).toString('hex')}`
  await execute(url, `CREATE DATABASE ${name} TEMPLATE template0`)
  const own = new URL(url)
  own.pathname = `/${name}`
  return {
    url: own.toString(),
    drop: () => execute(url, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  }
}

function binDir (): string {
  const versions = existsSync(debianRoot) ? readdirSync(debianRoot) : []
  const newest = versions
    .filter((version) => existsSync(join(debianRoot, version, 'bin', 'initdb')))
    .sort((a, b) => Number(b) - Number(a))[0]
  if (!newest) throw missing(`PostgreSQL's server below ${debianRoot}`, 'postgres')
  return join(debianRoot, newest, 'bin')
}

// PostgreSQL refuses to run as root. setpriv replaces itself with the server, so signals reach the server directly.
async function asUnprivileged (dir: string): Promise<[command: string, args: string[]]> {
  if (process.getuid?.() !== 0) return ['env', []]
  const id = async (flag: string): Promise<number> => Number((await run('id', [flag, account])).stdout)
  await chown(dir, await id('-u'), await id('-g'))
  return ['setpriv', [`--reuid=${account}`, `--regid=${account}`, '--init-groups']]
}

function initdbArgs (data: string): string[] {
  return [
    '--pgdata', data, '--username', account, '--auth', 'trust', '--encoding', 'UTF8', '--locale', 'C', '--no-sync'
  ]
}

function settings (port: number, dir: string): string[] {
  const values = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: dir,
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    autovacuum: 'off',
    max_connections: 200
  }
  return Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

async function accepts (url: string): Promise<boolean> {
  await execute(url, 'SELECT 1')
  return true
}

async function execute (url: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}
