import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { parseArgs } from 'node:util'
import { Stopped, examine } from '../doctor/examine.ts'
import { table } from '../doctor/report.ts'
import { clean, namePrefix } from '../doctor/scratch.ts'
import { openStore, type Store } from '../doctor/store.ts'
import { complaints, drift } from '../doctor/verdict.ts'
import { concluded } from '../iam/dialects/conclusions.ts'
import { dialects } from '../iam/dialects/index.ts'
import type { DialectFile } from '../iam/dialects/file.ts'
import type { DialectName } from '../policy/dialect.ts'
import { systemClock } from '../iam/retry.ts'
import { UsageError, argument, operatorCommand } from './command.ts'

const usage = (self: string) => `${self} [--json] [--write FILE] [--store NAME --store-version VERSION] [--by WHO]
       [--role ARN] [--against DIALECT] [--patience SECONDS] | --clean
Finds out what a store enforces, in users, policies and two buckets of its own, whose names begin with ${namePrefix} and which it removes.
Exits 0 when the store enforces window, address, prefix and the deletion of keys, 1 when it does not, or differs from DIALECT.

It reads AWS_ENDPOINT_URL_IAM, AWS_ENDPOINT_URL_STS or AWS_ENDPOINT_URL, AWS_REGION, JOB_ACCESS_S3_ENDPOINT, JOB_ACCESS_S3_REGION,
JOB_ACCESS_PARTITION, and the credentials of an administrator as the AWS SDK does, e.g. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.

  --json           print JSON instead of the table
  --write          a file to write the dialect to, for JOB_ACCESS_PROVIDER=custom
  --store          name and version of the store, and who tried it, for the file
  --role           a role to assume that allows all of the scratch buckets, where the doctor can make none;
                   without, and without users, it asks for sessions without a role
  --against        a built-in dialect: ${Object.keys(dialects).join(', ')}
  --patience       how long a change may take to be in effect; default: 20
  --clean          remove what killed runs left; not while another run is under way`

interface Settings {
  iamEndpoint: string | undefined
  region: string
  s3Endpoint: string | undefined
  s3Region: string
  partition: string
}

const settingsOf = ({ env }: typeof process): Settings => {
  const iamEndpoint = env.AWS_ENDPOINT_URL_IAM ?? env.AWS_ENDPOINT_URL
  const region = env.AWS_REGION ?? 'us-east-1'
  return {
    iamEndpoint,
    region,
    // Where another IAM is named, keys of its admin are never sent to AWS.
    s3Endpoint: env.JOB_ACCESS_S3_ENDPOINT ?? env.AWS_ENDPOINT_URL ?? (iamEndpoint === undefined ? `https://s3.${region}.amazonaws.com` : undefined),
    s3Region: env.JOB_ACCESS_S3_REGION ?? region,
    partition: env.JOB_ACCESS_PARTITION ?? 'aws'
  }
}

const storeOf = ({ iamEndpoint, region, s3Endpoint, s3Region }: Settings): ReturnType<typeof openStore> => {
  const stsEndpoint = process.env.AWS_ENDPOINT_URL_STS ?? iamEndpoint
  return openStore({
    region,
    s3Region,
    ...(iamEndpoint !== undefined && { iamEndpoint }),
    ...(stsEndpoint !== undefined && { stsEndpoint }),
    ...(s3Endpoint !== undefined && { s3Endpoint })
  })
}

const cleanUp = async (store: Store): Promise<number> => {
  const { removed, left } = await clean(store)
  for (const name of removed) process.stdout.write(`removed ${name}\n`)
  for (const complaint of left) process.stderr.write(`not removed: ${complaint}\n`)
  return left.length > 0 ? 1 : 0
}

const flags = {
  json: { type: 'boolean', default: false },
  write: { type: 'string' },
  store: { type: 'string', default: 'a store' },
  'store-version': { type: 'string', default: 'unknown' },
  by: { type: 'string' },
  role: { type: 'string' },
  against: { type: 'string' },
  patience: { type: 'string', default: '20' },
  clean: { type: 'boolean', default: false }
} as const

/** A container may run as a user without a name: then userInfo() throws. */
const ownName = (): string => {
  try {
    return userInfo().username
  } catch {
    return 'unknown'
  }
}

const isDialect = (name: string): name is DialectName => Object.hasOwn(dialects, name)

await operatorCommand(usage, async args => {
  const { values } = parseArgs({ args, options: flags })
  const { against, role, write } = values
  if (against !== undefined && !isDialect(against)) throw new UsageError(`--against is one of ${Object.keys(dialects).join(', ')}`)
  if (!/^\d{1,4}$/.test(values.patience)) throw new UsageError('--patience takes seconds')
  const settings = settingsOf(process)
  const store = await storeOf(settings)
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort())
  try {
    if (values.clean) return await cleanUp(store)
    const { left, ...found } = await examine(store, {
      run: randomBytes(4).toString('hex'),
      pause: systemClock.pause,
      // The windows of its questions are instants, and the store's clock is compared with this machine's.
      now: Date.now,
      signal: stop.signal,
      partition: settings.partition,
      ...(/amazonaws\.com/.test(settings.s3Endpoint ?? '') && settings.s3Region !== 'us-east-1' && { location: settings.s3Region }),
      ...(role !== undefined && { roleArn: role }),
      patienceMs: Number(values.patience) * 1000,
      lanes: 4,
      progress: what => process.stderr.write(`${what}\n`)
    })
    const file: DialectFile = {
      format: 'job-access-dialect-1',
      store: { name: values.store, version: values['store-version'] },
      by: values.by ?? ownName(),
      at: new Date().toISOString(),
      ...concluded(found.findings),
      findings: found.findings,
      times: found.times
    }
    const differences = against === undefined ? [] : drift(dialects[against], file)
    const text = `${JSON.stringify(file, null, 2)}\n`
    process.stdout.write(values.json ? text : table(file))
    if (write !== undefined) argument(() => writeFileSync(write, text))
    for (const difference of differences) process.stderr.write(`${against}: ${difference}\n`)
    return complaints(file).length + differences.length + left.length > 0 ? 1 : 0
  } catch (error) {
    if (error instanceof Stopped) return 1
    throw error
  } finally {
    store.close()
  }
})
