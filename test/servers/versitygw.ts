import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { answers, cachePath, freePort, requireInstalled, serverEnv, startDaemon, temporaryDir, type Daemon } from './daemon.ts'

export interface VersitygwKeys {
  accessKeyId: string
  secretAccessKey: string
}

export interface Versitygw {
  /** IAM and GetCallerIdentity. */
  iamEndpoint: string
  /** S3. The source address of a request sent here is 127.0.0.1, or the loopback address that the client binds. */
  endpoint: string
  /** S3 of the same gateway; the source address of a request sent here is ::1. */
  endpointV6: string
  /** The root user, to whom all buckets belong. */
  admin: VersitygwKeys
  /**
   * Makes users like this one, but for their names; nobody may call IAM meanwhile. A thousand calls of CreateUser take long, as each
   * writes the one file of all users anew. The file is read for every call.
   */
  copyUser (name: string, copies: string[]): Promise<void>
  /** Kills the IAM. Its users stay, and the gateway goes on and knows nobody but the root user. */
  killIam (): Promise<void>
  /** Starts it again at the same place. */
  startIam (): Promise<void>
  stop (): Promise<void>
}

/**
 * A VersityGW of its own: the standalone IAM, and an S3 gateway on a directory that asks it about every request. The gateway's cache
 * is left at its default of 120 s: it holds for other IAMs alone.
 */
export async function startVersitygw (): Promise<Versitygw> {
  const command = requireInstalled(cachePath('bin', 'versitygw'), 'versitygw')
  const admin = {
    accessKeyId: randomBytes(10).toString('hex').toUpperCase(),
    secretAccessKey: randomBytes(20).toString('hex')
  }
  // Settings of the developer's own VersityGW must not change what is tested.
  const own = Object.entries(serverEnv()).filter(([name]) => !name.startsWith('VGW_'))
  const env = { ...Object.fromEntries(own), ROOT_ACCESS_KEY: admin.accessKeyId, ROOT_SECRET_KEY: admin.secretAccessKey }
  const start = (name: string, dir: string, args: string[], url: string): Promise<Daemon> =>
    startDaemon({ name, command, args, dir, env, signal: 'KILL', ready: () => answers(url) })

  const port = await freePort('127.0.0.1', '::1')
  const dir = await temporaryDir('versitygw')
  const iamPort = await freePort('127.0.0.1')
  const iamEndpoint = `http://127.0.0.1:${iamPort}`
  // Beside the gateway, whose end removes them: they outlive an IAM that is killed.
  const [users, socket] = [join(dir, 'users'), join(dir, 'private.sock')]
  await mkdir(users)
  const startIam = async (): Promise<Daemon> => {
    await rm(socket, { force: true })
    return start('VersityGW IAM', await temporaryDir('versitygw-iam'),
      ['-p', `127.0.0.1:${iamPort}`, 'iam', '--quiet', '--dir', users, '--private-ports', socket], iamEndpoint)
  }
  let iam = await startIam()
  try {
    const endpoint = `http://127.0.0.1:${port}`
    const [objects, metadata] = [join(dir, 'objects'), join(dir, 'metadata')]
    await Promise.all([objects, metadata].map(dir => mkdir(dir)))
    const gateway = await start('VersityGW', dir, [
      '-p', `127.0.0.1:${port}`, '-p', `[::1]:${port}`, '--quiet', '--iam-standalone-endpoint', socket,
      // Not every temporary directory takes extended attributes.
      'posix', '--sidecar', metadata, objects
    ], endpoint)
    return {
      iamEndpoint,
      endpoint,
      endpointV6: `http://[::1]:${port}`,
      admin,
      async copyUser (name, copies) {
        const file = join(users, 'iam.json')
        const all = JSON.parse(await readFile(file, 'utf8')) as { users: Record<string, object>, userNameIndex: Record<string, string> }
        const one = JSON.stringify(all.users[name])
        for (const copy of copies) {
          all.users[copy] = JSON.parse(one.replaceAll(name, copy)) as object
          all.userNameIndex[copy] = copy
        }
        await writeFile(`${file}.new`, JSON.stringify(all))
        await rename(`${file}.new`, file)
      },
      killIam: () => iam.stop(),
      async startIam () {
        iam = await startIam()
      },
      async stop () {
        await iam.stop()
        await gateway.stop()
      }
    }
  } catch (error) {
    await iam.stop()
    await rm(dir, { recursive: true, force: true })
    throw error
  }
}
