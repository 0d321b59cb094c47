import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { devNull, homedir } from 'node:os'
import { join } from 'node:path'
import { UsageError, note, type Command, type Io } from './command.ts'
import { agentFlags, agentSettings, startAgent, type LocalAgent } from './local-agent.ts'
import { parseRequestArgs } from './request.ts'
import { scrubToken } from './scrub-token.ts'
import { variables } from './settings.ts'
import { codeOfSignal, relaySignals, type Relay } from './signals.ts'
import { grantForRun, startFlags } from './worker-run.ts'

const flags = { ...startFlags, ...agentFlags, 'keys-in-env': { type: 'boolean' } } as const

/**
 * Issues, or joins as a worker, runs the command, gives it the credentials for as long as it runs, and completes the grant, or ends the
 * worker, when the command has ended, however it ended. Exit code: the command's; 128+n when signal n ended it, 127 when there is none,
 * 126 when it cannot run.
 */
export const exec: Command = async (args, { env, ...streams }) => {
  const io = { ...streams, env: { ...env } }
  scrubToken(io)
  const cut = args.indexOf('--')
  const [file, ...rest] = cut < 0 ? [] : args.slice(cut + 1)
  if (file === undefined) throw new UsageError('exec wants a command: job-access exec [flags] -- python train.py')
  const { values } = parseRequestArgs({ args: args.slice(0, cut), options: flags })
  const settings = await agentSettings(values)
  if (values['grant-file'] !== undefined && values.worker === undefined) {
    throw new UsageError('--grant-file is the job of a worker: give --worker NAME and --attempt START, too.')
  }
  const inEnv = values['keys-in-env'] === true

  const relay = relaySignals(process.stdin.isTTY === true)
  const grant = await grantForRun(values, io, relay.ended)
  let agent: LocalAgent | undefined
  try {
    agent = inEnv && settings.credentialsFile === undefined ? undefined : await startAgent(settings, grant.key, io, 0, grant.rejoin)
    const given = inEnv || !agent ? grant.env : await agentEnv(agent, grant.target, io)
    return await run([file, ...rest], { ...inherited(io.env), ...given, JOBACCESS_GRANT: grant.key.grantId }, relay, io)
  } finally {
    await agent?.stop({ removeFile: true })
    await grant.complete()
  }
}

const run = ([file = '', ...args]: string[], env: NodeJS.ProcessEnv, relay: Relay, io: Io): Promise<number> => new Promise(resolve => {
  const early = relay.first()
  if (early) {
    resolve(codeOfSignal(early))
    return
  }
  const failed = (error: NodeJS.ErrnoException) => {
    note(io, `${file} cannot be started: ${error.code ?? error.message}`)
    resolve(error.code === 'ENOENT' ? 127 : 126)
  }
  try {
    const child = spawn(file, args, { env, stdio: 'inherit' })
    relay.to(child)
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (child.pid === undefined) failed(error)
      // A command that runs as somebody else, as with sudo, cannot be signalled; it is waited for.
      else note(io, `${file} cannot be signalled: ${error.code ?? error.message}`)
    })
    child.once('exit', (code, signal) => resolve(signal ? codeOfSignal(signal) : code ?? 1))
  } catch (error) {
    // Some reasons are thrown, e.g. E2BIG.
    failed(error as NodeJS.ErrnoException)
  }
})

/** The SDKs of the command ask the agent: that is last in their order, so nothing before it may have credentials. */
const agentEnv = async ({ url, token }: LocalAgent, target: Record<string, string>, io: Io): Promise<NodeJS.ProcessEnv> => {
  const config = io.env.AWS_CONFIG_FILE ?? join(homeOf(io.env), '.aws', 'config')
  const namesCredentials = await readFile(config, 'utf8').then(text => credentialSetting.exec(text)?.[1], () => undefined)
  if (namesCredentials !== undefined) {
    note(io, `${config} is hidden from the command: its ${namesCredentials} would win over the job’s credentials.`)
  }
  return {
    ...target,
    AWS_CONTAINER_CREDENTIALS_FULL_URI: url,
    AWS_CONTAINER_AUTHORIZATION_TOKEN: token,
    AWS_SHARED_CREDENTIALS_FILE: devNull,
    BOTO_CONFIG: devNull,
    ...(namesCredentials !== undefined && { AWS_CONFIG_FILE: devNull })
  }
}

/** A user without HOME and without a line in /etc/passwd has no home. Container engines take / for it. */
const homeOf = (env: Io['env']): string => {
  try {
    return env.HOME ?? homedir()
  } catch {
    return '/'
  }
}

const credentialSetting =
  /^[ \t]*(aws_access_key_id|credential_process|role_arn|source_profile|credential_source|web_identity_token_file|sso_\w+|login_\w+)[ \t]*=/m

/** Other credentials would win over the job's, or be fallen back to; ours could issue more. */
const dropped = [
  'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_SECURITY_TOKEN', 'AWS_CREDENTIAL_EXPIRATION', 'AWS_PROFILE',
  'AWS_DEFAULT_PROFILE', 'AWS_ROLE_ARN', 'AWS_WEB_IDENTITY_TOKEN_FILE', 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI', 'AWS_CONTAINER_AUTHORIZATION_TOKEN', 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
  // Older names that the SDK for Java and botocore still read.
  'AWS_ACCESS_KEY', 'AWS_SECRET_KEY', 'AWS_CREDENTIAL_FILE', 'BOTO_CONFIG',
  ...Object.keys(variables)
]

const inherited = (env: Io['env']): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !dropped.includes(name)))
