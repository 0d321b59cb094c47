import { parseArgs } from 'node:util'
import { readConfig, readProfiles } from '../config.ts'
import { ConfigError } from '../config-file.ts'
import { boundaryPolicy, servicePolicy } from '../iam/own-policies.ts'

/** `npm run -s own-policies -- service|boundary --account 111122223333`: prints the policy for this configuration. */
const usage = 'usage: npm run -s own-policies -- service|boundary --account <12 digits>\n' +
  'Reads JOB_ACCESS_PARTITION, _PATH, _BOUNDARY_ARN, _PROFILES and _ALLOWED_BUCKETS.\n'

try {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { account: { type: 'string' } } })
  const [which] = positionals
  const account = values.account ?? ''
  if ((which !== 'service' && which !== 'boundary') || !/^\d{12}$/.test(account)) throw new Error('give service or boundary, and --account with 12 digits')
  const config = readConfig(process.env)
  const profiles = config.JOB_ACCESS_PROFILES ? Object.values(readProfiles(config.JOB_ACCESS_PROFILES)) : []
  const options = {
    partition: config.JOB_ACCESS_PARTITION,
    accountId: account,
    pathBase: config.JOB_ACCESS_PATH,
    boundaryArn: config.JOB_ACCESS_BOUNDARY_ARN ?? `arn:${config.JOB_ACCESS_PARTITION}:iam::${account}:policy/job-access-boundary`,
    roles: profiles,
    buckets: config.JOB_ACCESS_ALLOWED_BUCKETS
  }
  const policy = which === 'service' ? servicePolicy(options) : boundaryPolicy(options)
  process.stdout.write(`${JSON.stringify(policy, null, 2)}\n`)
} catch (error) {
  process.stderr.write(error instanceof ConfigError ? `${error.message}\n` : `${usage}${String(error)}\n`)
  process.exitCode = 1
}
