import { IAMClient } from '@aws-sdk/client-iam'
import type { Test } from 'tap'
import { startVersitygw, type Versitygw } from '../../servers/versitygw.ts'
import { jobOf, s3, second, type Job, type Keys } from '../job.ts'
import { startService, type Service, type ServiceOptions } from '../service.ts'
import { fill } from '../store.ts'

/** A VersityGW with the buckets of the tests, and the service on it. */

export const here = '127.0.0.1'
export const elsewhere = '127.0.0.2'

export interface Gateway extends Pick<Versitygw, 'copyUser' | 'killIam' | 'startIam'> {
  iam: IAMClient
  admin: Keys
  iamEndpoint: string
  endpoint: string
  /** The S3 SDK with these keys, from a loopback address, or from ::1. */
  jobFrom: (address: string, keys: Keys) => Job
  serve: (options?: Partial<ServiceOptions>) => Promise<Service>
}

export const startGateway = async (t: Test): Promise<Gateway> => {
  const versitygw = await startVersitygw()
  t.teardown(() => versitygw.stop())
  const { iamEndpoint, endpoint, endpointV6, admin, killIam, startIam } = versitygw
  const iam = new IAMClient({ endpoint: iamEndpoint, region: 'us-east-1', credentials: admin, maxAttempts: 1 })
  const owner = s3(endpoint, admin)
  t.teardown(() => { iam.destroy(); owner.destroy() })
  await fill(owner)
  return {
    iam,
    copyUser: versitygw.copyUser,
    admin,
    iamEndpoint,
    endpoint,
    killIam,
    startIam,
    jobFrom (address, keys) {
      const client = address === '::1' ? s3(endpointV6, keys) : s3(endpoint, keys, address)
      t.teardown(() => client.destroy())
      return jobOf(client)
    },
    serve: (change = {}) => startService(t, {
      provider: 'aws',
      endpoint: iamEndpoint,
      admin,
      ...change,
      env: { ...(change.provider === 'versitygw' ? {} : { JOB_ACCESS_ALLOW: 'no-boundary' }), ...change.env }
    })
  }
}

/** Open now. Begun a minute ago: the guide's start is exclusive, and time is compared to the second. */
export const openTo = (...sourceIps: string[]) =>
  ({ window: { notBefore: second(Date.now() - 60_000), durationSeconds: 600 }, sourceIps })
