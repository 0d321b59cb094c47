import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { profileNameOf } from '../iam/role-profile.ts'
import { defaultLimits } from '../policy/limits.ts'
import { normalise } from '../policy/normalise.ts'
import { CasesError, parseCaller, parseCases, parseRequest, runCases } from '../guardrails/cases.ts'
import { explainDecision } from '../guardrails/explain.ts'
import { GuardrailsError } from '../guardrails/guardrails.ts'
import { formatFinding } from '../guardrails/policies.ts'
import { loadGuardrailsFile } from '../guardrails/reload.ts'
import { requestActions, schemaText, type RequestAction } from '../guardrails/schema.ts'

/** `npm run guardrails -- …`. Exits 0 when all is well, 1 when something is not as it should be, 2 when it was called wrongly. */

const usage = `Usage: npm run guardrails -- COMMAND
  check FILE                                  validate a policy file
  test FILE CASES                             run a file of cases against it
  explain FILE REQUEST.json --caller CALLER.json [--action issue|extend|render] [--owner ID] [--now INSTANT]
                                              say which policy decides each access entry
  schema                                      print what policies can look at`

class UsageError extends Error {}

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
  const normalised = normalise(request, defaultLimits, now)
  if (!normalised.ok) {
    for (const { pointer, code, detail, hint } of normalised.findings) console.log(`${pointer || '/'}: ${code}: ${detail} ${hint}`)
    console.log('Refused before the guardrails are asked.')
    return 1
  }
  const profile = profileNameOf(request)
  const { lines, allowed } = explainDecision(guardrails, caller, normalised.spec, action,
    { now, owner: values.owner ?? caller.id, ...(profile !== undefined && { profile }) })
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

const main = async (): Promise<number> => {
  const { positionals: [command, ...files], values } = parsed()
  const [first, second, third] = files
  if (command === 'schema' && first === undefined) {
    console.log(schemaText)
    return 0
  }
  if (command === 'check' && first !== undefined && second === undefined) return check(first)
  if (first === undefined || second === undefined || third !== undefined) throw new UsageError(usage)
  if (command === 'test') return test(first, second)
  if (command === 'explain') return explainRequest(first, second, values)
  throw new UsageError(usage)
}

const parsed = () => {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { caller: { type: 'string' }, action: { type: 'string' }, owner: { type: 'string' }, now: { type: 'string' } }
    })
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n${usage}`)
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  if (error instanceof GuardrailsError) {
    for (const finding of error.findings) console.error(formatFinding(finding))
    process.exitCode = 1
  } else if (error instanceof CasesError) {
    console.error(error.message)
    process.exitCode = 1
  } else if (error instanceof UsageError) {
    console.error(error.message)
    process.exitCode = 2
  } else {
    throw error
  }
}
