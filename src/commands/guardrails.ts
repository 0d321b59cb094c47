import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { defaultLimits } from '../policy/limits.ts'
import { normalise } from '../policy/normalise.ts'
import { CasesError, firstIssueBy, parseCaller, parseCases, parseRequest, runCases } from '../guardrails/cases.ts'
import { explainDecision } from '../guardrails/explain.ts'
import { loadGuardrailsFile } from '../guardrails/reload.ts'
import { requestActions, schemaText, type RequestAction } from '../guardrails/schema.ts'
import { profileNameOf } from '../request.ts'
import { UsageError, operatorCommand } from './command.ts'

const usage = (self: string) => `${self} COMMAND
Tries guardrails before the service gets them. Exits 1 when a policy or a case is wrong, or the explained request is refused.

  check FILE       validate a policy file
  test FILE CASES  run a file of cases against it; the result is TAP
  explain FILE REQUEST.json --caller CALLER.json [--action ${requestActions.join('|')}] [--owner ID]
      [--account NAME] [--now INSTANT]
                   say which policy decides each access entry
  schema           print what policies can look at`

const check = async (file: string): Promise<number> => {
  const { policies } = await loadGuardrailsFile(file)
  const permits = policies.filter(({ effect }) => effect === 'permit').length
  console.log(`${file}: ${policies.length} policies, ${permits} permit and ${policies.length - permits} forbid`)
  if (permits === 0) console.log(`${file}: no policy permits anything, so every request is refused`)
  return 0
}

// TAP 14, so that a test runner can read it.
const test = async (file: string, casesFile: string): Promise<number> => {
  const guardrails = await loadGuardrailsFile(file)
  const outcomes = runCases(guardrails, parseCases(await text(casesFile), casesFile))
  console.log(`TAP version 14\n1..${outcomes.length}`)
  for (const [index, { name, wrong }] of outcomes.entries()) {
    console.log(`${wrong === null ? 'ok' : 'not ok'} ${index + 1} - ${name.replaceAll('#', '\\#')}`)
    if (wrong !== null) console.log(`# ${wrong}`)
  }
  const good = outcomes.filter(({ wrong }) => wrong === null).length
  console.log(`# ${good} of ${outcomes.length} as expected`)
  return good === outcomes.length ? 0 : 1
}

const explainRequest = async (file: string, requestFile: string, values: Record<string, string | undefined>): Promise<number> => {
  if (values.caller === undefined) throw new UsageError('explain needs --caller')
  const action = values.action ?? 'issue'
  if (!isRequestAction(action)) throw new UsageError(`--action is one of ${requestActions.join(', ')}`)
  const now = values.now === undefined ? new Date() : new Date(values.now)
  if (Number.isNaN(now.getTime())) throw new UsageError('--now is not an instant')
  const guardrails = await loadGuardrailsFile(file)
  const caller = parseCaller(await json(values.caller), values.caller)
  const request = parseRequest(await json(requestFile), requestFile)
  const firstIssuedAt = firstIssueBy(request, now)
  const normalised = normalise(request, defaultLimits, now, { firstIssuedAt })
  if (!normalised.ok) {
    for (const { pointer, code, detail, hint } of normalised.findings) console.log(`${pointer || '/'}: ${code}: ${detail} ${hint}`)
    console.log('Refused before the guardrails are asked.')
    return 1
  }
  const profile = profileNameOf(request)
  const { lines, allowed } = explainDecision(guardrails, caller, normalised.spec, action,
    {
      now,
      owner: values.owner ?? caller.id,
      firstIssuedAt,
      ...(profile !== undefined && { profile }),
      ...(values.account !== undefined && { account: values.account })
    })
  for (const line of lines) console.log(line)
  return allowed ? 0 : 1
}

const isRequestAction = (value: string): value is RequestAction => (requestActions as readonly string[]).includes(value)

const text = async (file: string): Promise<string> => {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new CasesError(`${file}: cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
}

const json = async (file: string): Promise<unknown> => {
  try {
    return JSON.parse(await text(file))
  } catch (error) {
    if (error instanceof SyntaxError) throw new CasesError(`${file}: ${error.message}`)
    throw error
  }
}

await operatorCommand(usage, async args => {
  const { positionals: [command, ...files], values } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      caller: { type: 'string' },
      action: { type: 'string' },
      owner: { type: 'string' },
      account: { type: 'string' },
      now: { type: 'string' }
    }
  })
  const [first = '', second = ''] = files
  switch (`${command} ${files.length}`) {
    case 'schema 0':
      console.log(schemaText)
      return 0
    case 'check 1': return check(first)
    case 'test 2': return test(first, second)
    case 'explain 2': return explainRequest(first, second, values)
    default: throw new UsageError(command === undefined ? 'Give a command.' : `There is no command ${command} with ${files.length} files.`)
  }
})
