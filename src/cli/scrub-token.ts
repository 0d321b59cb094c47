import { readFileSync, openSync, closeSync, writeSync } from 'node:fs'

/**
 * Overwrites the issuing token in this process's own environment block, which every process of the same user can read in
 * /proc/PID/environ. Deleting the variable is not enough: the kernel shows the memory that the process was started with.
 * Linux only (proc_pid_stat(5), fields 50 and 51: env_start, env_end).
 * @returns whether no token is left there.
 */
export const scrubToken = (): boolean => {
  try {
    const name = Buffer.from('JOBACCESS_TOKEN=')
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
    return true
  } catch {
    return false
  }
}
