import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { boundaryPolicy, servicePolicy, type OwnPolicyOptions } from '../../../src/iam/own-policies.ts'
import { complaint, root, run } from './tools.ts'

/** The AWS provider is not to be had here: the policies are applied for real, the rest is parsed and held to conventions. */

const source = join(root, 'deploy/terraform')
const account = '111122223333'
const boundaryArn = `arn:aws:iam::${account}:policy/job-access-boundary`

const deployments: Record<string, OwnPolicyOptions> = {
  default: { partition: 'aws', accountId: account, pathBase: '/job-access/', userPrefix: 'ja', boundaryArn, roles: [], buckets: [], kmsKeys: [] },
  'with sessions and buckets, in China': {
    partition: 'aws-cn',
    accountId: account,
    pathBase: '/ml/access/',
    userPrefix: 'ml',
    boundaryArn: `arn:aws-cn:iam::${account}:policy/b`,
    roles: [{ roleArn: `arn:aws-cn:iam::${account}:role/one`, revocable: true }, { roleArn: `arn:aws-cn:iam::${account}:role/two`, revocable: false }],
    buckets: ['acmeco-*', 'models'],
    kmsKeys: []
  },
  'with sessions that cannot be revoked': {
    partition: 'aws-us-gov',
    accountId: account,
    pathBase: '/job-access/',
    userPrefix: 'ja',
    boundaryArn,
    roles: [{ roleArn: `arn:aws-us-gov:iam::${account}:role/one`, revocable: false }],
    buckets: ['one'],
    kmsKeys: [`arn:aws-us-gov:kms:us-gov-west-1:${account}:key/*`]
  }
}

t.test('what Terraform installs is what the service says it needs', async t => {
  const dir = t.testdir()
  cpSync(join(source, 'policies'), dir, { recursive: true })
  run('terraform', ['init', '-input=false', '-no-color'], { cwd: dir })
  run('terraform', ['validate', '-no-color'], { cwd: dir })
  for (const [name, options] of Object.entries(deployments)) {
    const variables = {
      partition: options.partition,
      account_id: options.accountId,
      path: options.pathBase,
      user_prefix: options.userPrefix,
      boundary_arn: options.boundaryArn,
      buckets: JSON.stringify(options.buckets),
      kms_keys: JSON.stringify(options.kmsKeys),
      session_roles: JSON.stringify(options.roles.map(({ roleArn, revocable }) => ({ arn: roleArn, revocable })))
    }
    const env = Object.fromEntries(Object.entries(variables).map(([key, value]) => [`TF_VAR_${key}`, value]))
    run('terraform', ['apply', '-auto-approve', '-input=false', '-no-color'], { cwd: dir, env })
    const output = (which: string): unknown => JSON.parse(run('terraform', ['output', '-raw', which], { cwd: dir }))
    t.strictSame(output('service'), servicePolicy(options), `service, ${name}`)
    t.strictSame(output('boundary'), boundaryPolicy(options), `boundary, ${name}`)
  }
  t.match(complaint('terraform', [
    'apply', '-auto-approve', '-input=false', '-no-color', '-var', `account_id=${account}`, '-var', 'boundary_arn=x', '-var', 'buckets=["*-data"]'
  ], { cwd: dir }), /only at the end/)
  t.match(complaint('terraform', ['apply', '-auto-approve', '-input=false', '-no-color', '-var', 'account_id=1', '-var', 'boundary_arn=x', '-var', 'path=/'], { cwd: dir }),
    /12 digits[\s\S]*not the root|not the root[\s\S]*12 digits/)
})

t.test('everything is formatted, and the service cannot change its own limits', async t => {
  run('terraform', ['fmt', '-check', '-recursive', '-diff', '-no-color'], { cwd: source })
  const main = readFileSync(join(source, 'main.tf'), 'utf8')
  const policies = main.split(/^resource /m).filter(text => text.startsWith('"aws_iam_policy"'))
  t.equal(policies.length, 2)
  for (const policy of policies) t.match(policy, /\n {2}path +=.*"\/"\n/, 'outside the path where it may change policies')
  t.match(main, /boundary_arn += "arn:\$\{local\.partition\}:iam::\$\{local\.account_id\}:policy\/\$\{var\.name\}-boundary"/)
  const declared = [...readFileSync(join(source, 'variables.tf'), 'utf8').matchAll(/^variable "(\w+)"/gm)].map(match => match[1])
  const used = new Set([...main.matchAll(/var\.(\w+)/g)].map(match => match[1]))
  t.strictSame([...used].sort(), declared.sort(), 'every variable is declared and used')
})
