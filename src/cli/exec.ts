import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import type { Client } from '../client/index.ts'
import { UsageError, note, report, type Command, type Io } from './command.ts'
import { grantFlags, grantRequest, secondsOf } from './request.ts'
import { clientOf, variables } from './settings.ts'
import { codeOfSignal, relaySignals, type Relay } from './signals.ts'

const { 'issue-at': _, ...issuedNow } = grantFlags
const flags = {
  ...issuedNow,
  'idempotency-key': { type: 'string' },
  'per-job': { type: 'boolean' },
  'no-wait': { type: 'boolean' },
  'complete-seconds': { type: 'string' }
} as const

/**
 * Issues, runs the command with the credentials in its environment and nowhere else, and completes the grant when the command has
 * ended, however it ended. Exit code: the command's; 128+n when signal n ended it, 127 when there is none, 126 when it cannot run.
 */
export const exec: Command = async (args, io) => {
  const cut = args.indexOf('--')
  const [file, ...rest] = cut < 0 ? [] : args.slice(cut + 1)
  if (file === undefined) throw new UsageError('exec wants a command: job-access exec [flags] -- python train.py')
  const { values } = parseArgs({ args: args.slice(0, cut), options: flags })
  if (values['per-job'] && values['idempotency-key'] !== undefined) {
    throw new UsageError('--per-job and --idempotency-key exclude each other.')
  }
  const request = { ...await grantRequest(values, io), waitUntilReady: !values['no-wait'] }
  const completeMs = (secondsOf(values['complete-seconds'], '--complete-seconds') ?? 20) * 1000
  const completing = clientOf(io, { deadlineMs: completeMs })

  const relay = relaySignals(process.stdin.isTTY === true)
  // Every run has its own grant, unless the job is the key: then a second run would kill the first one's key.
  const key = values['per-job'] ? null : values['idempotency-key']
  const how = key === undefined ? {} : { idempotencyKey: key }
  const { grantId, text, ready } = await clientOf(io, { lastAttempt: relay.ended }).issueAs('env', request, how)
  const { title, notices, credentials } = parsed(text)
  try {
    for (const notice of notices) note(io, notice)
    if (ready === false) note(io, 'the provider did not know the new key in time; its first use may fail for some seconds.')
    return await run([file, ...rest], { ...inherited(io.env), ...credentials, JOBACCESS_GRANT: grantId }, relay, io)
  } finally {
    await complete(completing, grantId, title, io)
  }
}

const run = ([file = '', ...args]: string[], env: NodeJS.ProcessEnv, relay: Relay, io: Io): Promise<number> => new Promise(resolve => {
  const early = relay.first()
  if (early) {
    resolve(codeOfSignal(early))
    return
  }
  const child = spawn(file, args, { env, stdio: 'inherit' })
  relay.to(child)
  child.once('error', (error: NodeJS.ErrnoException) => {
    note(io, `${file} cannot be started: ${error.code ?? error.message}`)
    resolve(error.code === 'ENOENT' ? 127 : 126)
  })
  child.once('exit', (code, signal) => resolve(signal ? codeOfSignal(signal) : code ?? 1))
})

/** Never changes the exit code: what the job did is worth more than what became of its key, which ends with its window anyway. */
const complete = async (client: Client, id: string, title: string, io: Io): Promise<void> => {
  try {
    const { state } = await client.complete(id)
    if (state === 'revoking') note(io, `${id}: the provider has not finished; the service tries again by itself.`)
  } catch (error) {
    report(io, error)
    note(io, `NOT completed: ${title}. Its key dies with its window; sooner by: job-access complete ${id}`)
  }
}

/** The `env` format: NAME=VALUE lines, the grant in the first comment, what to know in the others. */
const parsed = (text: string): { title: string, notices: string[], credentials: Record<string, string> } => {
  const lines = text.split('\n').filter(line => line !== '')
  const [title = '', ...notices] = lines.filter(line => line.startsWith('# ')).map(line => line.slice(2))
  const pairs = lines.filter(line => !line.startsWith('#')).map((line): [string, string] => {
    const at = line.indexOf('=')
    return [line.slice(0, at), line.slice(at + 1)]
  })
  return { title, notices, credentials: Object.fromEntries(pairs) }
}

/** Other credentials would win over the job's, or be fallen back to; ours could issue more. */
const dropped = [
  'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_SECURITY_TOKEN', 'AWS_CREDENTIAL_EXPIRATION', 'AWS_PROFILE',
  'AWS_DEFAULT_PROFILE', 'AWS_ROLE_ARN', 'AWS_WEB_IDENTITY_TOKEN_FILE', 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI', 'AWS_CONTAINER_AUTHORIZATION_TOKEN', 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
  ...Object.keys(variables)
]

const inherited = (env: Io['env']): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !dropped.includes(name)))
