import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { mutants, type Mutant } from './table.ts'

/**
 * Runs the tests named beside each mutant with that mutant. Exits 1 when one lives that the table does not call equivalent, or when one
 * dies that it does.
 *   npm run mutants [-- TEXT...]   only mutants whose file or description has one of the texts
 */

const root = join(import.meta.dirname, '..', '..')
/** A mutant that makes a test wait for ever is found, too. */
const timeoutSeconds = 300

const passes = (test: string, mutant?: Mutant): Promise<boolean> => new Promise(resolve => {
  const mutated = mutant && {
    JOB_ACCESS_MUTANT: JSON.stringify({ path: join(root, mutant.file), from: mutant.from, to: mutant.to }),
    NODE_OPTIONS: `--import=${join(import.meta.dirname, 'apply.ts')}`
  }
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', test], {
    cwd: root,
    stdio: 'ignore',
    timeout: (timeoutSeconds + 30) * 1000,
    killSignal: 'SIGKILL',
    // At the first failure it stops.
    env: { ...process.env, TAP_BAIL: '1', TAP_TIMEOUT: String(timeoutSeconds), ...mutated }
  })
  child.on('close', code => resolve(code === 0))
})

/** The test that fails with the mutant; undefined: it lives. */
const killer = async (mutant: Mutant): Promise<string | undefined> => {
  for (const test of mutant.tests) if (!await passes(test, mutant)) return test
  return undefined
}

const wanted = process.argv.slice(2)
const chosen = mutants.filter(({ file, what }) => wanted.length === 0 || wanted.some(text => `${file} ${what}`.includes(text)))
for (const test of new Set(chosen.flatMap(({ tests }) => tests))) {
  if (!await passes(test)) throw new Error(`${test} fails without any mutant: make it pass first.`)
}
let wrong = 0
for (const mutant of chosen) {
  const test = await killer(mutant)
  const asExpected = (test === undefined) === (mutant.equivalent !== undefined)
  if (!asExpected) wrong++
  const outcome = test !== undefined ? 'killed' : mutant.equivalent === undefined ? 'LIVED' : 'equivalent'
  const why = test === undefined ? mutant.equivalent : `${test}${asExpected ? '' : ', though the table calls it equivalent'}`
  console.log(`${outcome.padEnd(10)}  ${mutant.file}: ${mutant.what}${why === undefined ? '' : ` (${why})`}`)
}
console.log(`\n${chosen.length} mutants, ${wrong} not as the table says`)
process.exitCode = wrong > 0 || chosen.length === 0 ? 1 : 0
