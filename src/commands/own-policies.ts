import { parseArgs } from 'node:util'
import { readConfig, readProfiles } from '../config.ts'
import { boundaryPolicy, servicePolicy, type OwnPolicyOptions } from '../iam/own-policies.ts'
import { UsageError, operatorCommand } from './command.ts'

const usage = (self: string) => `${self} service|boundary --account ACCOUNT
Prints the IAM policy of the service, or the permissions boundary of the users that it makes. It depends on the service's
configuration: JOB_ACCESS_PARTITION, _PATH, _USER_PREFIX, _BOUNDARY_ARN, _PROFILES, _ALLOWED_BUCKETS
and _ALLOWED_KMS_KEYS.

  --account  the AWS account, 12 digits`

const boundaryOf = (options: OwnPolicyOptions): ReturnType<typeof boundaryPolicy> => {
  try {
    return boundaryPolicy(options)
  } catch (error) {
    throw error instanceof RangeError ? new UsageError(`JOB_ACCESS_ALLOWED_BUCKETS: ${error.message}`) : error
  }
}

await operatorCommand(usage, args => {
  const { values: { account }, positionals: [which, ...more] } = parseArgs({
    args, allowPositionals: true, options: { account: { type: 'string' } }
  })
  if ((which !== 'service' && which !== 'boundary') || more.length > 0) throw new UsageError('Give one of service and boundary.')
  if (account === undefined || !/^\d{12}$/.test(account)) throw new UsageError('--account takes 12 digits.')
  const config = readConfig(process.env)
  const options = {
    partition: config.JOB_ACCESS_PARTITION,
    accountId: account,
    pathBase: config.JOB_ACCESS_PATH,
    userPrefix: config.JOB_ACCESS_USER_PREFIX,
    boundaryArn: config.JOB_ACCESS_BOUNDARY_ARN ?? `arn:${config.JOB_ACCESS_PARTITION}:iam::${account}:policy/job-access-boundary`,
    roles: config.JOB_ACCESS_PROFILES
      ? Object.values(readProfiles(config.JOB_ACCESS_PROFILES, config.dialect))
        .flatMap(({ roleArn, revocable }) => roleArn === null ? [] : [{ roleArn, revocable }])
      : [],
    buckets: config.JOB_ACCESS_ALLOWED_BUCKETS,
    kmsKeys: config.JOB_ACCESS_ALLOWED_KMS_KEYS
  }
  const policy = which === 'service' ? servicePolicy(options) : boundaryOf(options)
  process.stdout.write(`${JSON.stringify(policy, null, 2)}\n`)
  return 0
})
