import { execFileSync } from 'node:child_process'
import { homedir } from 'node:os'
import { join } from 'node:path'

export const root = join(import.meta.dirname, '../../..')
const cache = process.env.JOB_ACCESS_CACHE ?? join(homedir(), '.cache/job-access')

/** Of test/real/deploy/install.sh, and promtool of test/servers/install.sh. */
const places = {
  promtool: 'promtool',
  terraform: 'terraform',
  helm: join(cache, 'bin/helm'),
  kustomize: join(cache, 'bin/kustomize'),
  composeConfig: join(cache, 'bin/compose-config'),
  dashboard: join(cache, 'bin/dashboard'),
  kubernetesValidate: join(cache, 'kubernetes-validate/bin/kubernetes-validate')
}

/** What it prints. Throws, with what it printed on stderr, when it fails. */
export const run = (
  tool: keyof typeof places, args: string[], { cwd = root, env = {} }: { cwd?: string, env?: Record<string, string> } = {}
): string =>
  execFileSync(places[tool], args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })

/** What it prints on stderr when it fails; undefined: it did not. */
export const complaint = (...given: Parameters<typeof run>): string | undefined => {
  try {
    run(...given)
  } catch (error) {
    return (error as { stderr: string }).stderr
  }
}
