import { readFileSync, openSync, closeSync, writeSync } from 'node:fs'
import { note, type Io } from './command.ts'

/**
 * Overwrites the issuing token in this process's own environment block, which every process of the same user can read in
 * /proc/PID/environ. Deleting the variable is not enough: the kernel shows the memory that the process was started with.
 * Linux only (proc_pid_stat(5), fields 50 and 51: env_start, env_end).
 * When that does not work, stderr says so; other systems have nothing to overwrite.
 */
export const scrubToken = (io: Io): void => {
  if (process.platform !== 'linux' || process.env.JOBACCESS_TOKEN === undefined) return
  try {
    overwrite(Buffer.from('JOBACCESS_TOKEN='))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    note(io, `JOBACCESS_TOKEN could not be overwritten in /proc/${process.pid}/environ (${code ?? message}), where every process of this ` +
      'user can read it. JOBACCESS_TOKEN_FILE avoids that.')
  }
}

const overwrite = (name: Buffer): void => {
  const block = readFileSync('/proc/self/environ')
  const stat = readFileSync('/proc/self/stat', 'latin1')
  const start = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[47])
  const memory = openSync('/proc/self/mem', 'r+')
  try {
    for (let at = block.indexOf(name); at >= 0; at = block.indexOf(name, at + 1)) {
      if (at > 0 && block[at - 1] !== 0) continue
      const value = at + name.length
      const end = block.indexOf(0, value)
      writeSync(memory, Buffer.alloc((end < 0 ? block.length : end) - value, 'x'), 0, null, start + value)
    }
  } finally {
    closeSync(memory)
  }
}
