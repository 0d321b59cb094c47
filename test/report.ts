import type { EventEmitter } from 'node:events'
import { stringify } from 'yaml'

/**
 * The reporter of every suite (.taprc): a line for each file when it ends; after the last one what failed or was skipped, in
 * full; then the count, which .ci/run reads. tap takes a function for a React component and calls it with the run as `test`
 * (https://node-tap.org/reporter). This one writes its lines itself and renders nothing.
 */
const report = ({ test: run }: { test: Run }): null => {
  const begun = performance.now()
  const files: TestFile[] = []
  const started = new Map<TestFile, number>()
  const said = new Map<TestFile, string>()
  run.on('subtestStart', (file: TestFile) => {
    started.set(file, performance.now())
    const hear = (text: unknown): void => { said.set(file, `${said.get(file) ?? ''}${text}`) }
    hearComments(file.parser, hear)
    file.parser.on('extra', hear)
    file.on('process', ({ stderr }: { stderr: EventEmitter | null }) => stderr?.on('data', hear))
  })
  run.on('subtestEnd', (file: TestFile) => {
    files.push(file)
    const done = `${files.length}/${run.parser.planEnd}`
    const outcome = faultOf(file) === null ? 'ok' : 'FAILED'
    const took = performance.now() - (started.get(file) ?? begun)
    console.log([done.padStart(7), seconds(took).padStart(7), `${file.counts.total} results`.padStart(13), outcome.padEnd(6), file.name].join('  '))
    for (const line of (said.get(file) ?? '').split('\n').filter(line => line.trim() !== '')) console.log(`         ${line}`)
  })
  run.on('complete', () => {
    const died = files.filter(file => file.counts.fail === 0 && faultOf(file) !== null)
    for (const file of files) {
      for (const kind of ['fail', 'skip', 'todo'] as const) {
        for (const { fullname, skip, diag } of file.lists[kind]) console.log(`\n${titles[kind]}${fullname}${skip ? `: ${skip}` : ''}\n${diag ? details(diag) : ''}`)
      }
    }
    for (const file of died) console.log(`\n${titles.fail}${file.name}: ${faultOf(file)}`)
    const sum = (kind: Kind | 'total' | 'pass'): number => files.reduce((all, { counts }) => all + counts[kind], 0)
    const others = (['skip', 'todo'] as const).filter(kind => sum(kind) > 0).map(kind => `, ${kind}: ${sum(kind)}`).join('')
    console.log(`\n${files.length} files in ${seconds(performance.now() - begun)}`)
    console.log(`# { total: ${sum('total') + died.length}, pass: ${sum('pass')}, fail: ${sum('fail') + died.length}${others} }`)
    // tap lets a file without a test pass.
    if (died.length > 0) process.exitCode = 1
  })
  return null
}

export default report

type Kind = 'fail' | 'skip' | 'todo'

interface Run extends EventEmitter { parser: { planEnd: number } }

interface TestFile extends EventEmitter {
  name: string
  parser: EventEmitter
  counts: Record<Kind | 'total' | 'pass', number>
  lists: Record<Kind, Array<{ fullname: string, skip: string | boolean, diag: Record<string, unknown> | null }>>
  results?: { ok: boolean }
  options: { exitCode?: number | null, signal?: string | null }
}

const titles = { fail: 'not ok: ', skip: 'skipped: ', todo: 'to do: ' }

/** Why the file as a whole did not pass, or null. */
const faultOf = ({ counts, results, options: { exitCode, signal } }: TestFile): string | null => {
  if (counts.fail > 0) return `${counts.fail} failed`
  if (signal) return `ended by ${signal}`
  if (exitCode) return `ended with ${exitCode}`
  if (counts.total === 0) return 'no result'
  return results?.ok === false ? 'not all of what it planned' : null
}

/** What a test says with t.comment; tap's own comments are no news. */
const hearComments = (parser: EventEmitter, hear: (text: string) => void): void => {
  parser.on('comment', (text: string) => { if (!/^# (Subtest|time=|timeout=|failed \d)/.test(text)) hear(text) })
  parser.on('child', (child: EventEmitter) => hearComments(child, hear))
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

/** The difference first and as it is; the rest as YAML. */
const details = ({ diff, found, wanted, ...rest }: Record<string, unknown>): string => {
  const values = typeof diff === 'string' && diff.trim() !== '' ? rest : { found, wanted, ...rest }
  return `${typeof diff === 'string' ? diff : ''}${stringify(values)}`.trimEnd().replace(/^/gm, '    ')
}
