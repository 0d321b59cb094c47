import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'

/**
 * One bash, as a reader has one: variables and functions of a block are there in the next. Any command that fails ends it, and so
 * does a variable that nobody set.
 */
export interface Shell {
  /** What the block wrote to stdout. @throws with all that it said */
  run: (text: string) => Promise<string>
}

const mark = '\u001e'

export const startShell = (t: Test, cwd: string, env: Record<string, string>): Shell => {
  const child = spawn('bash', ['-euo', 'pipefail'], { cwd, env, stdio: 'pipe', detached: true })
  const ended = once(child, 'close')
  t.teardown(async () => {
    child.stdin.end()
    await ended
  })
  child.stdin.on('error', () => {})
  const said = { stdout: '', stderr: '' }
  let waiting = () => {}
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      said[name] += chunk
      waiting()
    })
  }
  let blocks = 0
  return {
    async run (text) {
      const file = join(cwd, `.block-${++blocks}.sh`)
      writeFileSync(file, text)
      said.stdout = said.stderr = ''
      const done = new Promise<boolean>(resolve => {
        waiting = () => { if (said.stdout.endsWith(mark)) resolve(true) }
        ended.then(() => resolve(false), () => resolve(false))
      })
      // From a file, so that a command which reads stdin does not eat the rest.
      child.stdin.write(`source '${file}' < /dev/null; printf '${mark}'\n`)
      if (await done) return said.stdout.slice(0, -mark.length)
      throw new Error(`exit status ${child.exitCode}\n${said.stdout}${said.stderr}`)
    }
  }
}
