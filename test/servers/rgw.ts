import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { answers, freePort, here, missing, run, serverEnv, startDaemon, temporaryDir } from './daemon.ts'

export interface RgwKeys {
  accessKeyId: string
  secretAccessKey: string
}

export interface Rgw {
  /** S3, IAM and STS; the source address of a request sent here is 127.0.0.1. */
  endpoint: string
  /** The same gateway; the source address of a request sent here is ::1. */
  endpointV6: string
  /** A user that may change other users' policies and roles. */
  admin: RgwKeys
  /** A plain user: no capabilities, no policy. */
  createUser (uid: string): Promise<RgwKeys>
  stop (): Promise<void>
}

/** A Ceph RADOS Gateway of its own, which enforces what the policies say, Date and IpAddress included. */
export async function startRgw (): Promise<Rgw> {
  await requireCeph()
  const monPort = await freePort('127.0.0.1')
  const port = await freePort('127.0.0.1', '::1')
  const endpoint = `http://127.0.0.1:${port}`
  const dir = await temporaryDir('rgw')
  const daemon = await startDaemon({
    name: 'Ceph RGW',
    command: 'bash',
    args: [join(here, 'rgw', 'up.sh')],
    dir,
    env: serverEnv({ RGW_DIR: dir, RGW_PORT: `${port}`, RGW_MON_PORT: `${monPort}`, RGW_FOREGROUND: '1' }),
    signal: 'KILL',
    ready: () => answers(endpoint),
    timeoutMs: 90_000
  })

  const createUser = (uid: string, caps?: string): Promise<RgwKeys> => addUser(dir, uid, caps)
  try {
    const admin = await createUser('admin', 'user-policy=*;roles=*')
    return {
      endpoint,
      endpointV6: `http://[::1]:${port}`,
      admin,
      createUser: (uid) => createUser(uid),
      stop: daemon.stop
    }
  } catch (error) {
    await daemon.stop()
    throw error
  }
}

async function requireCeph (): Promise<void> {
  try {
    await run('radosgw', ['--version'])
  } catch {
    throw missing('radosgw', 'rgw')
  }
}

async function addUser (dir: string, uid: string, caps?: string): Promise<RgwKeys> {
  const keys = {
    accessKeyId: randomBytes(10).toString('hex').toUpperCase(),
    secretAccessKey: randomBytes(20).toString('hex')
  }
  await run('radosgw-admin', [
    'user', 'create', '--uid', uid, '--display-name', uid,
    '--access-key', keys.accessKeyId, '--secret', keys.secretAccessKey,
    ...(caps ? ['--caps', caps] : [])
  ], { env: serverEnv({ CEPH_CONF: join(dir, 'ceph.conf') }) })
  return keys
}
