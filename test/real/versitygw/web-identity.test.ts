import { CreateOpenIDConnectProviderCommand, CreateRoleCommand, IAMClient, PutRolePolicyCommand } from '@aws-sdk/client-iam'
import { AssumeRoleCommand, AssumeRoleWithWebIdentityCommand, STSClient } from '@aws-sdk/client-sts'
import t from 'tap'
import { sign, signingKey } from '../../identity/issuer.ts'
import { startVersitygw } from '../../servers/versitygw.ts'

/**
 * What VersityGW 1.8.0 has of sessions: AssumeRoleWithWebIdentity with a session policy, up to the signature of the token. It fetches the
 * keys of no issuer on a loopback or private address (isDisallowedFetchTarget in iamapi/internal/iamutil/oidc_thumbprint.go).
 */

const { iamEndpoint, admin, stop } = await startVersitygw()
t.teardown(stop)
const options = { endpoint: iamEndpoint, region: 'us-east-1', credentials: admin, maxAttempts: 1 }
const iam = new IAMClient(options)
const sts = new STSClient(options)
t.teardown(() => { iam.destroy(); sts.destroy() })

const key = await signingKey('one')
const Url = 'https://127.0.0.1'
const { OpenIDConnectProviderArn = '' } = await iam.send(new CreateOpenIDConnectProviderCommand({
  Url, ClientIDList: ['job-access'], ThumbprintList: ['0'.repeat(40)]
}))
const trust = {
  Version: '2012-10-17',
  Statement: [{
    Effect: 'Allow',
    Principal: { Federated: OpenIDConnectProviderArn },
    Action: 'sts:AssumeRoleWithWebIdentity',
    Condition: { StringEquals: { '127.0.0.1:aud': 'job-access' } }
  }]
}
const { Role } = await iam.send(new CreateRoleCommand({ RoleName: 'jobs', Path: '/jobs/', AssumeRolePolicyDocument: JSON.stringify(trust) }))
const all = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: '*' }] })
await iam.send(new PutRolePolicyCommand({ RoleName: 'jobs', PolicyName: 'all', PolicyDocument: all }))

const now = Math.floor(Date.now() / 1000)
const assume = async (claims: object, more: object = {}) => {
  const WebIdentityToken = await sign(key, { iss: Url, sub: 'job-42', aud: 'job-access', iat: now, exp: now + 600, ...claims })
  const input = { RoleArn: Role?.Arn, RoleSessionName: 'ja-job-42', DurationSeconds: 900, Policy: all, WebIdentityToken, ...more }
  return sts.send(new AssumeRoleWithWebIdentityCommand(input))
}

t.test('AssumeRole, which sessions of this service need, it has not', async t => {
  await t.rejects(sts.send(new AssumeRoleCommand({ RoleArn: Role?.Arn, RoleSessionName: 'ja-job-42', Policy: all })))
})

t.test('AssumeRoleWithWebIdentity judges role, trust, claims and the size of the session policy', async t => {
  const wrongAudience = { name: 'InvalidIdentityTokenException', message: /could not be validated/ }
  await t.rejects(assume({ aud: 'another' }), wrongAudience)
  await t.rejects(assume({}, { RoleArn: 'arn:aws:iam::000000000000:role/none' }), { name: 'AccessDenied' })
  await t.rejects(assume({}, { Policy: all.padEnd(2_049) }), { name: 'ValidationError' })
  await t.rejects(assume({}, { PolicyArns: [{ arn: 'arn:aws:iam::aws:policy/ReadOnlyAccess' }] }), /PolicyArns/)
})

t.test('it fetches no keys from loopback: no session without an issuer on a public address', async t => {
  await t.rejects(assume({}), { name: 'InvalidIdentityTokenException', message: /retrieve verification key/ })
})
