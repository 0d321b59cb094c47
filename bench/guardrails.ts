import { readFileSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { openCedar } from '../src/guardrails/cedar.ts'
import { buildEngine, requestsFor, type Caller, type Mentions, type Origin } from '../src/guardrails/engine.ts'
import { loadGuardrails } from '../src/guardrails/guardrails.ts'
import { actions, type Action } from '../src/guardrails/schema.ts'
import { defaultLimits } from '../src/policy/limits.ts'
import { normalise } from '../src/policy/normalise.ts'
import { guideRequest } from '../src/request.ts'

/**
 * What a decision costs per access entry under the shipped example, in milliseconds: against policies parsed at load, and
 * against parsing the policies for each decision, in turns in the same process. Other load on the
 * machine stretches median and p99, so it is printed, and so is the median of the quietest of the rounds.
 * Run: node bench/guardrails.ts
 */

const text = readFileSync(new URL('../guardrails/example.cedar', import.meta.url), 'utf8')
const now = new Date('2025-07-16T00:00:00Z')
const caller: Caller = { id: 'token:nlp', kind: 'token', teams: ['nlp'], attributes: {} }
const output = { bucket: 'acmeco-finetuned-models', prefix: 'nlp/wiki-finetune-42/' }
const normalised = normalise({ ...guideRequest, output }, defaultLimits, now)
if (!normalised.ok) throw new Error('the request of this benchmark has findings')
const { spec } = normalised

const guardrails = loadGuardrails(text, 'example.cedar')
const engine = buildEngine([...guardrails.policies])
const naive = openCedar()
const everything: Mentions = { has: () => true }
const unpruned = Object.fromEntries(actions.map(action => [action, everything])) as Record<Action, Mentions>

const range = '203.0.113.42/32'
const origin: Origin = { from: { kind: 'ip', cidrs: [range] }, range }

/** The question about one entry of the request; what its questions share is made anew with each request, as decide() does. */
const asker = (mentions: Record<Action, Mentions>) => {
  let questions = requestsFor(mentions, caller, spec, { now })
  return (index: number) => {
    const entry = spec.entries[index % spec.entries.length]
    if (!entry) throw new Error('the bench asks for nothing')
    if (entry === spec.entries[0]) questions = requestsFor(mentions, caller, spec, { now })
    return questions.access(entry.level === 'read' ? 'read' : 'write', entry, origin)
  }
}
const asked = asker(engine.mentions)
const askedInFull = asker(unpruned)

const preparsed = (index: number): boolean => engine.ask(asked(index)).allowed

const parsedEachTime = (index: number): boolean => {
  const question = askedInFull(index)
  const answer = naive.isAuthorized({
    ...question,
    action: { type: 'JobAccess::Action', id: question.action },
    policies: { staticPolicies: text }
  })
  return answer.type === 'success' && answer.response.decision === 'allow'
}

const wholeRequest = (): boolean => guardrails.decide(caller, spec, 'issue', { now }).allowed

const time = (run: (index: number) => boolean, count: number): number[] => Array.from({ length: count }, (_, index) => {
  const start = process.hrtime.bigint()
  const allowed = run(index)
  const elapsed = Number(process.hrtime.bigint() - start) / 1e6
  if (!allowed) throw new Error('the bench times a request that is refused')
  return elapsed
})

const measure = (rounds: number) => {
  const samples = { preparsed: [] as number[][], parsedEachTime: [] as number[][], wholeRequest: [] as number[][] }
  for (let round = 0; round < rounds; round += 1) {
    samples.preparsed.push(time(preparsed, 1000))
    samples.parsedEachTime.push(time(parsedEachTime, 20))
    samples.wholeRequest.push(time(wholeRequest, 250))
  }
  return samples
}

const quantile = (samples: number[], share: number): number => {
  const sorted = samples.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN
}

const figures = (rounds: number[][]) => ({
  median: quantile(rounds.flat(), 0.5),
  p99: quantile(rounds.flat(), 0.99),
  quietest: Math.min(...rounds.map(round => quantile(round, 0.5)))
})

const print = (name: string, { median, p99, quietest }: ReturnType<typeof figures>) =>
  console.log(`${name.padEnd(44)} median ${median.toFixed(3)} ms   p99 ${p99.toFixed(3)} ms   quietest round ${quietest.toFixed(3)} ms`)

measure(3)
const samples = measure(20)
const fast = figures(samples.preparsed)
const slow = figures(samples.parsedEachTime)
const load = `load ${loadavg()[0]?.toFixed(1)} on ${availableParallelism()} cores`
console.log(`${guardrails.policies.length} policies (guardrails/example.cedar), Node ${process.version}, ${load}`)
print('decision per access entry, parsed at load', fast)
print('decision per access entry, parsed each time', slow)
print(`whole request: job and ${spec.entries.length} entries`, figures(samples.wholeRequest))
console.log(`parsing each time costs ${(slow.median / fast.median).toFixed(1)} times as much`)
const met = (value: number): string => `${value <= 0.1 ? 'met' : 'missed'} (${value.toFixed(3)})`
console.log(`target 0.1 ms: ${met(fast.median)} at the median, ${met(fast.quietest)} in the quietest round`)
