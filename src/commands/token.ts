import { parseArgs } from 'node:util'
import { identityFaults, type TokenEntry } from '../identity/config.ts'
import { mintToken } from '../identity/authenticator.ts'
import { UsageError, argument, operatorCommand } from './command.ts'

const usage = (self: string) => `${self} --id ID --team TEAM… [--expires INSTANT] [--attribute NAME=VALUE]…
Makes a static API token. The first line of stdout is the token; the rest is its entry under identity.tokens, which has only the hash.

  --id         names the token in the log and in the audit: a-z, 0-9 and -, at most 63 characters
  --team       a team whose grants the token may use, or '*' for every team; may be given more than once
  --expires    ISO 8601 with a zone, e.g. 2027-01-01T00:00:00Z; without it the token never expires
  --attribute  a fact for the guardrails, e.g. environment=prod; may be given more than once`

const entryOf = (args: string[]): { token: string, entry: TokenEntry } => {
  const { values } = parseArgs({
    args,
    options: {
      id: { type: 'string' },
      team: { type: 'string', multiple: true },
      expires: { type: 'string' },
      attribute: { type: 'string', multiple: true }
    }
  })
  const { id, team: teams } = values
  if (id === undefined) throw new UsageError('--id is missing')
  if (teams === undefined) throw new UsageError('--team is missing')
  const { token, sha256 } = argument(() => mintToken(id))
  const entry: TokenEntry = { id, sha256, teams }
  if (values.expires !== undefined) {
    entry.expiresAt = values.expires
    if (Date.parse(values.expires) <= Date.now()) throw new UsageError('--expires is in the past')
  }
  for (const pair of values.attribute ?? []) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(pair) ?? []
    if (name === undefined || value === undefined) throw new UsageError('--attribute takes NAME=VALUE')
    entry.attributes = { ...entry.attributes, [name]: value }
  }
  const [fault] = identityFaults({ tokens: [entry], issuers: [] })
  if (fault) throw new UsageError(`${fault.pointer.replace('/tokens/0/', '')}: ${fault.message}`)
  return { token, entry }
}

await operatorCommand(usage, args => {
  const { token, entry } = entryOf(args)
  process.stderr.write('The first line is the token. It is shown only now: keep it in a secret store. The rest goes under ' +
    'identity.tokens.\n')
  process.stdout.write(`${token}\n${JSON.stringify(entry, null, 2)}\n`)
  return 0
})
