import { UsageError, isUsageError } from '../cli/command.ts'

/**
 * The form of every operator command. Exit code 0: done, and everything is as it should be. 1: something is not, or the command
 * failed. 2: the command line is wrong; the usage follows on stderr. `--help` prints the usage.
 */
export const operatorCommand = async (
  usage: (self: string) => string, run: (args: string[]) => number | Promise<number>
): Promise<void> => {
  const [, file = '', ...args] = process.argv
  const text = `Usage: ${usage(`node ${file}`)}\n`
  if (args.length === 1 && ['--help', '-h'].includes(args[0] ?? '')) {
    process.stdout.write(text)
    return
  }
  try {
    process.exitCode = await run(args)
  } catch (error) {
    const wrong = error instanceof Error && isUsageError(error)
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${wrong ? `\n${text}` : ''}`)
    process.exitCode = wrong ? 2 : 1
  }
}

/** Reads what the command line names. What cannot be read, or is not valid, is a wrong command line. @throws UsageError */
export const argument = <T>(read: () => T): T => {
  try {
    return read()
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

export { UsageError }
