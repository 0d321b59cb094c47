import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export const root = join(import.meta.dirname, '..', '..')
export const example = (...path: string[]): string => join(root, 'examples', ...path)
export const cliFile = join(root, 'src', 'cli', 'main.ts')

/** A tool that test/examples/install.sh installs, or the reason to skip. */
export const tool = (...path: string[]): { path: string, skip: false | string } => {
  const file = join(process.env.JOB_ACCESS_CACHE ?? join(homedir(), '.cache', 'job-access'), 'examples', ...path)
  try {
    accessSync(file, constants.X_OK)
    return { path: file, skip: false }
  } catch {
    return { path: file, skip: `no ${path.join('/')}: run test/examples/install.sh` }
  }
}

export const workplace = (t: Test): string => {
  const path = mkdtempSync(join(tmpdir(), 'job-access-example-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export const check = (file: string, args: string[], input?: string) => {
  const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8', ...(input !== undefined && { input }) })
  return { status, said: `${stdout}${stderr}` }
}

export interface Script { code: number | null, stdout: string, stderr: string }

/** Runs without blocking, so that servers of this process can answer. */
export const script = async (file: string, args: string[], options: { env: Record<string, string>, cwd?: string }): Promise<Script> => {
  const child = spawn(file, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) child[name].setEncoding('utf8').on('data', (chunk: string) => { texts[name] += chunk })
  const [code] = await once(child, 'close')
  return { code, ...texts }
}
