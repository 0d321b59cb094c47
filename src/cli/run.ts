import { UsageError, exit, report, type Command } from './command.ts'
import { agent } from './agent.ts'
import { credentialProcess } from './credential-process.ts'
import { exec } from './exec.ts'
import { complete, extend, list, rotate, show } from './grants.ts'
import { help } from './help.ts'
import { issue } from './issue.ts'
import { check, policy } from './policy.ts'
import { endWorker, join, workers } from './workers.ts'

const dashed = { 'end-worker': endWorker, 'credential-process': credentialProcess }
const commands = new Map<string, Command>(Object.entries({
  exec, agent, issue, complete, rotate, extend, list, show, join, workers, policy, check, ...dashed
}))

export const run: Command = async ([name = '', ...args], io) => {
  if (['help', '--help', '-h'].includes(name) || args[0] === '--help') {
    io.out(help)
    return exit.ok
  }
  try {
    const command = commands.get(name)
    if (!command) throw new UsageError(name === '' ? 'Give a command.' : `There is no command ${name}.`)
    return await command(args, io)
  } catch (error) {
    return report(io, error)
  }
}
