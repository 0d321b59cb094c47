import { CreateRoleCommand, IAMClient } from '@aws-sdk/client-iam'
import type { Test } from 'tap'
import { appOf, bench } from '../harness.ts'

const account = '000000000000'

/** The service on an IAM that has a role for sessions, which that of `npm start` has not. Its role profile is that of docs/dialects.md. */
export const serviceWithRole = async (t: Test): Promise<{ url: string, token: string }> => {
  const profile = { name: 'default', roleArn: `arn:aws:iam::${account}:role/jobs`, maxSessionSeconds: 43_200, chained: false, revocable: true }
  const it = await bench(t, { profiles: { default: profile }, now: Date.now })
  const sdk = new IAMClient({ endpoint: it.iam.url, region: 'us-east-1', credentials: it.iam.admin })
  t.teardown(() => sdk.destroy())
  await sdk.send(new CreateRoleCommand({
    RoleName: 'jobs',
    MaxSessionDuration: profile.maxSessionSeconds,
    AssumeRolePolicyDocument: JSON.stringify({
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${account}:root` }, Action: ['sts:AssumeRole', 'sts:TagSession', 'sts:SetSourceIdentity'] }]
    })
  }))
  const app = await appOf(t, it)
  return { url: await app.listen({ host: '127.0.0.1', port: 0 }), token: it.tokens.nlp }
}
