import type { Statement } from '../domain/policy-document.ts'
import type { Way } from '../iam/dialects/file.ts'
import { allDone } from '../iam/retry.ts'
import { documentOf, mostSkew, type Context, type Judged, type Lane } from './context.ts'
import { canary, keys, readOf, type Probe, type Question, type windows } from './questions.ts'
import type { Answered, Key, S3Request, Store } from './store.ts'

/** Puts policies into effect, and asks S3 under them. */

export const passed = async (store: Store, request: S3Request, key: Key): Promise<boolean> =>
  (await store.s3(request, key)).outcome === 'passed'

/** Attaches a policy and waits until it is in effect, and the one before it no longer. */
export const attach = async (context: Context, lane: Lane, statements: Statement[]): Promise<string | null> => {
  const { store, scratch, scene, now, pause, patienceMs } = context
  const key = `canary/${++context.canaries}`
  await scratch.put(key)
  const attached = await lane.attach(documentOf(...statements, canary(scene, key)))
  if (!attached.ok) return `refused ${attached.code}`
  const { last } = lane
  lane.last = key
  for (const until = now() + patienceMs; ;) {
    const fresh = await passed(store, readOf(scene, key), lane.key)
    const stale = fresh && last !== null && context.enforcing && await passed(store, readOf(scene, last), lane.key)
    if (fresh && !stale) return null
    if (now() >= until) return fresh ? 'the policy before it stayed in effect' : neverInEffect
    await pause(pollMs)
  }
}

const neverInEffect = 'it never came into effect'
export const pollMs = 50

/** Whether a lane works at all, and whether a changed policy ends what the one before it allowed: that is how changes are told. */
export const settled = async (context: Context, way: Way, lanes: Lane[]): Promise<boolean> => {
  const { store, scene, found, note, now } = context
  const [lane] = lanes
  if (!lane) return false
  const begun = now()
  const first = await attach(context, lane, [])
  const asks = 'a new key counts, and a changed policy ends what the one before it allowed'
  if (first !== null) {
    note({ id: 'changes', way, asks, verdict: 'shut', detail: first })
    return false
  }
  found.times[`newKeyMs@${way}`] = now() - begun
  context.enforcing = true
  const again = now()
  const second = await attach(context, lane, [])
  found.times[`changedPolicyMs@${way}`] = now() - again
  note({ id: 'changes', way, asks, ...(second === null ? { verdict: 'yes' } : { verdict: 'open', detail: second }) })
  context.enforcing = second === null
  const wrong = { ...lane.key, secretAccessKey: 'x'.repeat(40) }
  const open = await passed(store, readOf(scene, lane.last ?? ''), wrong)
  note({ id: 'secret', way, asks: 'a wrong secret is refused', verdict: open ? 'open' : 'yes' })
  return true
}

/** Each task by the lane that is free. */
export const share = async (lanes: Lane[], tasks: Array<(lane: Lane) => Promise<void>>): Promise<void> => {
  const waiting = [...tasks]
  await allDone(lanes.map(async lane => {
    for (let task = waiting.shift(); task; task = waiting.shift()) await task(lane)
  }))
}

type Outcome = 'allowed' | 'denied' | { refused: string } | { odd: string }

export const askQuestion = async (context: Context, lane: Lane, question: Question): Promise<void> => {
  const { id, asks, core, probes, unasked } = question
  const finding = { id, ...(core && { way: lane.way }), asks }
  const why = unasked?.(context.scene) ?? null
  if (why !== null) return context.note({ ...finding, verdict: 'untried', detail: why })
  const outcomes: Array<{ probe: Probe, outcome: Outcome }> = []
  for (const probe of probes(context.scene)) outcomes.push({ probe, outcome: await outcomeOf(context, lane, probe) })
  context.note({ ...finding, ...judge(outcomes) })
}

const outcomeOf = async (context: Context, lane: Lane, { statements, prepare, request, wants }: Probe): Promise<Outcome> => {
  const failed = await attach(context, lane, statements)
  if (failed?.startsWith('refused')) return { refused: failed.slice(8) }
  if (failed !== null) return failed === neverInEffect ? 'denied' : 'allowed'
  const { store, now, pause, enforcing } = context
  if (prepare) await store.s3(prepare, lane.key)
  // A store of many servers may not have told all of them yet.
  const until = now() + (enforcing ? secondThoughtMs : 0)
  const first = said(await store.s3(request, lane.key))
  for (let last = first; ;) {
    if (last === wants) return wants
    // What was done once cannot always be done again.
    if (now() >= until) return typeof last === 'string' ? last : first
    await pause(pollMs)
    last = said(await store.s3(request, lane.key))
  }
}

export const secondThoughtMs = 1_000

const said = ({ outcome, code }: Answered): Outcome => outcome === 'passed' ? 'allowed' : outcome === 'denied' ? 'denied' : { odd: code }

/** A refused policy is the end of the question: the service would get an error. Of the others, what is open is worse than what is shut. */
export const judge = (outcomes: Array<{ probe: Pick<Probe, 'wants'>, outcome: Outcome }>): Judged => {
  const refused = outcomes.flatMap(({ outcome }) => typeof outcome === 'object' && 'refused' in outcome ? [outcome.refused] : [])
  const odd = outcomes.flatMap(({ outcome }) => typeof outcome === 'object' && 'odd' in outcome ? [outcome.odd] : [])
  const count = (wants: Probe['wants']) => {
    const asked = outcomes.filter(({ probe }) => probe.wants === wants)
    return { wrong: asked.filter(({ outcome }) => typeof outcome === 'string' && outcome !== wants).length, of: asked.length }
  }
  const [open, shut] = [count('denied'), count('allowed')]
  if (refused.length > 0) return { verdict: 'refused', detail: [...new Set(refused)].join('; ') }
  if (open.wrong > 0) return { verdict: 'open', detail: `allowed ${open.wrong} of ${open.of} that must be denied` }
  if (shut.wrong > 0) return { verdict: 'shut', detail: `denied ${shut.wrong} of ${shut.of} that must be allowed` }
  return odd.length > 0 ? { verdict: 'untried', detail: `answered ${[...new Set(odd)].join(', ')}` } : { verdict: 'yes' }
}

/** Reads on and on while a window opens and closes. The policy may come into effect late: then the window is put later. */
export const askWindow = async (context: Context, lane: Lane, [id, asks, statements]: (typeof windows)[number]): Promise<void> => {
  const { store, scene, found, note, now, pause } = context
  const finding = { id, way: lane.way, asks }
  const { clock = 0 } = found.times
  const skew = Math.abs(clock) > mostSkew ? clock * 1000 : 0
  for (let leadMs = 2_500; leadMs <= 60_000; leadMs *= 3) {
    const opens = Math.ceil((now() + skew + leadMs) / 1000) * 1000
    const closes = opens + 4_000
    const failed = await attach(context, lane, statements(scene, opens, closes))
    if (failed?.startsWith('refused')) return note({ ...finding, verdict: 'refused', detail: failed.slice(8) })
    if (failed !== null) return note({ ...finding, verdict: 'shut', detail: failed })
    // Late, so that nothing would be seen of the time before.
    if (now() + skew > opens - slackMs - 500) continue
    const seen: Array<{ at: number, open: boolean }> = []
    while (now() + skew < closes + slackMs + 500) {
      seen.push({ at: now() + skew, open: await passed(store, readOf(scene, keys.mine), lane.key) })
      await pause(pollMs)
    }
    const [first, last] = [seen.find(({ open }) => open), seen.findLast(({ open }) => open)]
    if (first && last && context.enforcing) {
      found.times[`${id}-opens@${lane.way}`] = first.at - opens
      found.times[`${id}-closes@${lane.way}`] = last.at - closes
    }
    return note({ ...finding, ...judgeWindow(seen, opens, closes) })
  }
  note({ ...finding, verdict: 'untried', detail: 'policies come into effect too late' })
}

/** Clocks are compared to the second, and the store's is known to half of one. */
const slackMs = 1_500

export const judgeWindow = (seen: Array<{ at: number, open: boolean }>, opens: number, closes: number): Judged => {
  const early = seen.some(({ at, open }) => open && at < opens - slackMs)
  const late = seen.some(({ at, open }) => open && at > closes + slackMs)
  if (early && late) return { verdict: 'open', detail: 'open before and after' }
  if (early || late) return { verdict: 'open', detail: early ? 'open before its start' : 'open after its end' }
  const around = seen.some(({ at }) => at < opens - slackMs) && seen.some(({ at }) => at > closes + slackMs)
  if (!around) return { verdict: 'untried', detail: 'nothing was asked before or after it' }
  const inside = seen.filter(({ at }) => at > opens + slackMs && at < closes - slackMs / 3)
  return inside.length > 0 && inside.every(({ open }) => open) ? { verdict: 'yes' } : { verdict: 'shut', detail: 'closed inside of it' }
}
