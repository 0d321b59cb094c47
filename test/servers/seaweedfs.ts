import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { answers, cachePath, freePort, requireInstalled, run, serverEnv, startDaemon, temporaryDir } from './daemon.ts'

export interface SeaweedfsKeys {
  accessKeyId: string
  secretAccessKey: string
}

export interface Seaweedfs {
  /** S3, IAM and STS; the source address of a request sent here is 127.0.0.1. */
  endpoint: string
  /** The same server; the source address of a request sent here is ::1. */
  endpointV6: string
  version: string
  /** An identity that may do everything, IAM included. */
  admin: SeaweedfsKeys
  /** With STS: a role that every user may assume and that allows all of S3, so the session policy alone decides. */
  roleArn: string
  stop (): Promise<void>
}

export interface SeaweedfsOptions {
  /**
   * GetCallerIdentity and AssumeRole too. With them 4.48 evaluates all policies in another engine, which does not
   * know aws:CurrentTime: an Allow that needs it never applies, nor does a Deny.
   */
  sts?: boolean
}

const role = { roleName: 'job', roleArn: 'arn:aws:iam::000000000000:role/job' }

/**
 * A SeaweedFS of its own, with its IAM API on the S3 port. A change of a policy or key is nearly always in effect when
 * the IAM call returns, but not always: tests should wait for the effect rather than expect it at once.
 */
export async function startSeaweedfs ({ sts = false }: SeaweedfsOptions = {}): Promise<Seaweedfs> {
  const weed = requireInstalled(cachePath('seaweedfs', 'bin', 'weed'), 'seaweedfs')
  const version = await versionOf(weed)
  const admin = {
    accessKeyId: randomBytes(10).toString('hex').toUpperCase(),
    secretAccessKey: randomBytes(20).toString('hex')
  }
  const ports = await choosePorts()
  const dir = await temporaryDir('seaweedfs')
  const iamFile = join(dir, 'iam.json')
  if (sts) await writeFile(iamFile, JSON.stringify(iamConfig()))
  const endpoint = `http://127.0.0.1:${ports.s3}`
  const daemon = await startDaemon({
    name: 'SeaweedFS',
    command: weed,
    args: ['-logtostderr=true', 'server', ...flags(dir, ports), ...(sts ? [`-s3.iam.config=${iamFile}`] : [])],
    dir,
    env: serverEnv({
      AWS_ACCESS_KEY_ID: admin.accessKeyId,
      AWS_SECRET_ACCESS_KEY: admin.secretAccessKey,
      // A security.toml in the developer's home must not change what is tested.
      HOME: dir
    }),
    litter: sockets(ports),
    signal: 'KILL',
    ready: () => answers(endpoint)
  })
  return {
    endpoint,
    endpointV6: `http://[::1]:${ports.s3}`,
    version,
    admin,
    roleArn: role.roleArn,
    stop: daemon.stop
  }
}

async function versionOf (weed: string): Promise<string> {
  const { stdout } = await run(weed, ['version'])
  return /\d+\.\d+/.exec(stdout)?.[0] ?? stdout
}

type Ports = Record<'master' | 'masterGrpc' | 'volume' | 'volumeGrpc' | 'filer' | 'filerGrpc' | 's3' | 's3Grpc', number>

async function choosePorts (): Promise<Ports> {
  const local = (): Promise<number> => freePort('127.0.0.1')
  const both = (): Promise<number> => freePort('127.0.0.1', '::1')
  return {
    master: await local(),
    masterGrpc: await local(),
    volume: await local(),
    volumeGrpc: await local(),
    filer: await local(),
    filerGrpc: await local(),
    s3: await both(),
    s3Grpc: await both()
  }
}

function flags (dir: string, ports: Ports): string[] {
  return [
    `-dir=${dir}`, '-ip=127.0.0.1', '-ip.bind=127.0.0.1', '-master.telemetry=false', '-volume.max=100',
    `-master.port=${ports.master}`, `-master.port.grpc=${ports.masterGrpc}`,
    `-volume.port=${ports.volume}`, `-volume.port.grpc=${ports.volumeGrpc}`,
    '-filer', `-filer.port=${ports.filer}`, `-filer.port.grpc=${ports.filerGrpc}`,
    `-filer.localSocket=${join(dir, 'filer.sock')}`,
    // Whatever address it is given, it listens on 127.0.0.1 as well.
    '-s3', '-s3.ip.bind=::1', `-s3.port=${ports.s3}`, `-s3.port.grpc=${ports.s3Grpc}`,
    `-s3.localSocket=${join(dir, 's3.sock')}`, '-s3.port.iceberg=0', '-s3.port.lance=0',
    '-s3.iam.readOnly=false'
  ]
}

function iamConfig (): object {
  const allowAll = { Effect: 'Allow', Action: ['s3:*'], Resource: ['*'] }
  const trustAll = { Effect: 'Allow', Principal: { AWS: '*' }, Action: ['sts:AssumeRole'] }
  return {
    sts: {
      issuer: 'seaweedfs-sts',
      tokenDuration: '1h',
      maxSessionLength: '12h',
      signingKey: randomBytes(32).toString('base64')
    },
    policy: { defaultEffect: 'Deny', storeType: 'memory' },
    roleStore: { storeType: 'memory' },
    policies: [{ name: 'AllOfS3', document: { Version: '2012-10-17', Statement: [allowAll] } }],
    roles: [{
      ...role,
      trustPolicy: { Version: '2012-10-17', Statement: [trustAll] },
      attachedPolicies: ['AllOfS3']
    }]
  }
}

// It puts these into /tmp whatever TMPDIR says, and leaves them there.
function sockets (ports: Ports): string[] {
  const named = { master: ports.masterGrpc, volume: ports.volumeGrpc, filer: ports.filerGrpc, s3: ports.s3Grpc }
  return Object.entries(named).map(([name, port]) => `/tmp/seaweedfs-${name}-grpc-${port}.sock`)
}
