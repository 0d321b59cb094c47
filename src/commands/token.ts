import { parseArgs } from 'node:util'
import { identityFaults, type TokenEntry } from '../identity/config.ts'
import { mintToken } from '../identity/tokens.ts'

/** `npm run token`: makes a static token. Line 1 of stdout is the token, the rest its config entry, which has only the hash. */
const usage = `usage: npm run token -- --id ID --team TEAM [--team TEAM]… [--expires INSTANT] [--attribute NAME=VALUE]…

  --id         a-z, 0-9 and -, at most 63: names the token in logs and in the audit
  --team       a team whose grants the token may touch; '*' for every team
  --expires    ISO 8601 with a zone, e.g. 2027-01-01T00:00:00Z; without it the token never ends
  --attribute  for guardrails, e.g. environment=prod

example: npm run token -- --id ci-nlp --team nlp --expires 2027-01-01T00:00:00Z
`

function entryOf (args: string[]): { token: string, entry: TokenEntry } {
  const { values } = parseArgs({
    args,
    options: {
      id: { type: 'string' },
      team: { type: 'string', multiple: true },
      expires: { type: 'string' },
      attribute: { type: 'string', multiple: true }
    }
  })
  if (values.id === undefined) throw new Error('--id is missing')
  if (values.team === undefined) throw new Error('--team is missing')
  const { token, sha256 } = mintToken(values.id)
  const entry: TokenEntry = { id: values.id, sha256, teams: values.team }
  if (values.expires !== undefined) {
    entry.expiresAt = values.expires
    if (Date.parse(values.expires) <= Date.now()) throw new Error('--expires is in the past')
  }
  for (const pair of values.attribute ?? []) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(pair) ?? []
    if (name === undefined || value === undefined) throw new Error('--attribute wants NAME=VALUE')
    entry.attributes = { ...entry.attributes, [name]: value }
  }
  const [fault] = identityFaults({ tokens: [entry], issuers: [] })
  if (fault) throw new Error(`${fault.pointer.replace('/tokens/0/', '')}: ${fault.message}`)
  return { token, entry }
}

try {
  const { token, entry } = entryOf(process.argv.slice(2))
  process.stderr.write('The first line is the token. It is shown only now; keep it in a secret store. The rest goes under identity.tokens.\n')
  process.stdout.write(`${token}\n${JSON.stringify(entry, null, 2)}\n`)
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${usage}`)
  process.exitCode = 2
}
