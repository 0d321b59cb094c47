import { CreateRoleCommand, IAMClient } from '@aws-sdk/client-iam'
import type { Test } from 'tap'
import { bench, type Bench } from './harness.ts'

const account = '000000000000'
const roleName = 'jobs'

/**
 * The service on an IAM that has a role for sessions, which that of `npm start` has not. Its role profile is that of docs/dialects.md.
 * The clock is the real one.
 */
export const benchWithRole = async (t: Test): Promise<Bench> => {
  const roleArn = `arn:aws:iam::${account}:role/${roleName}`
  const profile = { name: 'default', roleArn, maxSessionSeconds: 43_200, chained: false, revocable: true }
  const it = await bench(t, { now: Date.now, profiles: { default: profile } })
  const sdk = new IAMClient({ endpoint: it.iam.url, region: 'us-east-1', credentials: it.iam.admin })
  t.teardown(() => sdk.destroy())
  await sdk.send(new CreateRoleCommand({
    RoleName: roleName,
    MaxSessionDuration: profile.maxSessionSeconds,
    AssumeRolePolicyDocument: JSON.stringify({
      Version: '2012-10-17',
      Statement: [{
        Effect: 'Allow',
        Principal: { AWS: `arn:aws:iam::${account}:root` },
        Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity']
      }]
    })
  }))
  return it
}
