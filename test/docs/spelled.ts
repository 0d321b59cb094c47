import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { variables } from '../../src/cli/settings.ts'
import { EnvSchema } from '../../src/config.ts'
import type { Block } from './markdown.ts'
import { root } from './workplace.ts'

/** What can be said of a text without running it: what it names is there. */

const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }

/** npm scripts that are not there, and options that the script's source does not know. */
export const unknownScripts = (text: string): string[] => [...text.matchAll(/\bnpm run (?:-s )?([\w:-]+)(?:[^\S\n]+--[^\S\n]+([^\n|;>]*))?/g)].flatMap(([command, name = '', options = '']) => {
  const script = scripts[name]
  if (script === undefined) return [`${command}: no such script`]
  const [source] = /(?<= )[\w/.-]+\.ts/.exec(script) ?? []
  const known = name === 'job-access' ? readFileSync(join(root, 'src/cli/help.ts'), 'utf8') : source === undefined ? '' : readFileSync(join(root, source), 'utf8')
  return [...options.matchAll(/--([a-z][a-z-]*)/g)].filter(([, option = '']) => !known.includes(option)).map(([option]) => `${command}: no option ${option}`)
})

/** Variables of the service (JOB_ACCESS_…) or of the client (JOBACCESS_…) that nobody reads. */
export const unknownVariables = (text: string): string[] =>
  [...new Set([...text.matchAll(/(?<![_…])\b(JOB_ACCESS_[A-Z0-9_]+|JOBACCESS_[A-Z_]+)\b(?!\*)/g)].map(([name]) => name))]
    .filter(name => !(name in EnvSchema.properties) && !(name in variables) && !known.includes(name))

/** Of the tests, of the CLI's own making and of deploy/compose, which no schema lists. */
const known = ['JOB_ACCESS_CACHE', 'JOB_ACCESS_IMAGE', 'JOBACCESS_GRANT', 'JOB_ACCESS_']

const folders = /(?<![\w/.-])(?:\.\/)?((?:deploy|src|test|guardrails|examples|openapi|bench|client|docs|\.ci)\/[\w./-]*[\w-])/g

export const missingPaths = (text: string): string[] =>
  [...text.matchAll(folders)].map(([, path = '']) => path).filter(path => !existsSync(join(root, path)))

/** What is wrong with a block that is not run here. */
export const spelled = ({ language, words, text }: Block): string[] => {
  const faults = [...unknownScripts(text), ...unknownVariables(text), ...missingPaths(text)]
  if (language === 'sh' && words[0] !== 'answer') {
    const { status, stderr } = spawnSync('bash', ['-n'], { input: text, encoding: 'utf8' })
    if (status !== 0) faults.push(stderr)
  } else if (language === 'json') {
    JSON.parse(text)
  } else if (language === 'yaml') {
    faults.push(...parseAllDocuments(text).flatMap(({ errors }) => errors.map(error => error.message)))
  } else if (!['text', 'sh', 'hcl'].includes(language)) {
    faults.push(`${language}: of no kind that can be looked at`)
  }
  return faults
}
