import type { Finding, Way } from '../iam/dialects/file.ts'
import { askCalls } from './calls.ts'
import { mostSkew, type Context, type ExamineOptions, type Examination, type Lane } from './context.ts'
import { askQuestion, askWindow, settled, share } from './effect.ts'
import { openLanes, sizeOf } from './lanes.ts'
import { askBoundary, askKey } from './limits.ts'
import { keys, questions, readOf, untried, widenings, windows, type Scene } from './questions.ts'
import { openScratch, type Scratch } from './scratch.ts'
import type { Store } from './store.ts'

/** Asks a store every question, in a scratch namespace that is removed whatever happens. */

/** The error of a run that was stopped. */
export class Stopped extends Error {
  override name = 'Stopped'
}

export const examine = async (store: Store, options: ExamineOptions): Promise<Examination & { left: string[] }> => {
  const found: Examination = { findings: [], times: {} }
  const scratch = openScratch(store, options.run, options.location)
  let left: string[] = []
  try {
    await ask(heeding(store, options.signal), options, scratch, found)
  } finally {
    left = await scratch.remove()
    if (left.length > 0) options.progress(`could not be removed: ${left.join('; ')}`)
  }
  return { ...found, findings: inOrder(found.findings), left }
}

/** The same store until the signal; then every call rejects. What is removed is removed by the store itself. */
const heeding = (store: Store, signal: AbortSignal): Store => {
  const heed = () => { if (signal.aborted) throw new Stopped('stopped') }
  return {
    ...store,
    async call (...args) { heed(); return store.call(...args) },
    async s3 (...args) {
      heed()
      try {
        return await store.s3(...args)
      } catch (error) {
        return { outcome: 'odd', code: `NoAnswer ${(error as { code?: string }).code ?? ''}`.trim(), body: '', date: null }
      }
    }
  }
}

const ask = async (store: Store, options: ExamineOptions, scratch: Scratch, found: Examination): Promise<void> => {
  const note = (finding: Finding) => { found.findings.push(finding) }
  const { progress } = options
  const scene = await sceneOf(store, options, scratch)
  const context: Context = { ...options, store, scratch, scene, found, note, enforcing: true, canaries: 0 }
  progress('which calls there are')
  const caller = await askCalls(context)
  for (const [id, asks, detail] of untried) note({ id, asks, verdict: 'untried', detail })
  if (store.reach === null) {
    note({ id: 's3', asks: 'S3 answers', verdict: 'untried', detail: 'no S3 endpoint is given: nothing was asked of policies' })
  }
  await clockOf(context)
  const opened: Array<{ way: Way, lanes: Lane[] }> = []
  for (const way of ['inline', 'managed', 'session'] as const) {
    progress(`policies: ${way}`)
    const lanes = await openLanes(context, way, caller)
    if (lanes.length === 0) continue
    await sizeOf(context, way, lanes)
    if (store.reach === null || !await settled(context, way, lanes)) continue
    await share(lanes, questions.filter(({ core }) => core).map(question => (lane: Lane) => askQuestion(context, lane, question)))
    // A way that refuses what grants need is of no use: its windows may be anything.
    if (refusals(found, way) === 0) await share(lanes, windows.map(window => (lane: Lane) => askWindow(context, lane, window)))
    else for (const [id, asks] of windows) note({ id, way, asks, verdict: 'untried', detail: 'this way refuses policies that grants need' })
    opened.push({ way, lanes })
  }
  const best = opened.toSorted((a, b) => refusals(found, a.way) - refusals(found, b.way))[0]
  if (best) {
    progress(`actions, operators and keys, by ${best.way} policies`)
    await share(best.lanes, questions.filter(({ core }) => !core).map(question => (lane: Lane) => askQuestion(context, lane, question)))
  }
  for (const { way, lanes } of opened) await askKey(context, way, lanes)
  if (opened.some(({ way }) => way !== 'session')) await askBoundary(context, opened)
}

const sceneOf = async (store: Store, { partition, now }: ExamineOptions, scratch: Scratch): Promise<Scene> => {
  const [bucket, other] = scratch.buckets
  const reach = store.reach ?? { secure: false, family: 4, here: null, elsewhere: null, six: false }
  const scene: Scene = { partition, bucket, other, now: now(), reach, uploads: ['', ''], tagged: false }
  if (store.reach === null) return scene
  for (const each of scratch.buckets) await scratch.bucket(each)
  for (const key of [keys.mine, keys.alike, keys.theirs, keys.deleted]) await scratch.put(key)
  await scratch.put(keys.mine, other)
  return { ...scene, uploads: [await scratch.upload(), await scratch.upload()] }
}

/** S3's clock, to the second: the Date of its answers. */
const clockOf = async ({ store, scene, found, note, now }: Context): Promise<void> => {
  const asks = 'its clock is that of this machine, within two seconds'
  if (store.reach === null) return note({ id: 'clock', asks, verdict: 'untried', detail: 'no S3 endpoint is given' })
  const sent = now()
  const { date } = await store.s3(readOf(scene, keys.mine))
  if (date === null) return note({ id: 'clock', asks, verdict: 'untried', detail: 'its answers have no Date' })
  const skew = (date + 500 - (sent + now()) / 2) / 1000
  found.times.clock = Math.round(skew * 10) / 10
  note({ id: 'clock', asks, verdict: Math.abs(skew) <= mostSkew ? 'yes' : 'no' })
}

const refusals = ({ findings }: Examination, way: Way): number =>
  findings.filter(finding => finding.way === way && finding.verdict === 'refused').length

/** Lanes answer in any order; reports are compared. */
const inOrder = (findings: Finding[]): Finding[] => {
  const ids = [
    'users', 'paths', 'tags', 'boundaries', 'keys', 'inline', 'managed', 'attached', 'versions', 'roles', 'session', 'no-role',
    'identity-sts', 'identity-iam', 'size', 's3', 'clock', 'changes', 'secret', 'deleted-key', ...windows.map(([id]) => id),
    ...questions.map(({ id }) => id),
    'boundary', ...widenings.map(([operation]) => `widen ${operation}`), 'widen AssumeRole', ...untried.map(([id]) => id)
  ]
  const place = ({ id, way }: Finding) => ids.indexOf(id) * 10 + (way === undefined ? 0 : ['inline', 'managed', 'session'].indexOf(way))
  return findings.toSorted((a, b) => place(a) - place(b))
}
