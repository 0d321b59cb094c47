import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { second, type Outcome } from '../job.ts'
import { buckets, trainingJob } from '../store.ts'
import { here, startGateway } from './gateway.ts'

// When: the policy alone decides, for this service does not sweep. All grants are issued first, so that their windows pass together.

const { jobFrom, serve } = await startGateway(t)
const service = await serve()
const layouts = ['everywhere', 'guarded', 'guide'] as const
const wholeSecond = (inMs: number) => Math.ceil((Date.now() + inMs) / 1000) * 1000
const issue = (layout: typeof layouts[number], id: string, window: object) =>
  service.issue({ ...trainingJob(layout), job: { id: `${layout}-${id}`, team: 'nlp' }, window, sourceIps: [here] })

/** Asks again and again until after `end`, when the answer has been the same for a second. */
const watched = async (ask: () => Promise<Outcome>, end: number) => {
  const seen: Array<{ sentAt: number, answeredAt: number, outcome: Outcome }> = []
  while (Date.now() < end + 1_500) {
    const sentAt = Date.now()
    seen.push({ outcome: await ask(), sentAt, answeredAt: Date.now() })
    await delay(50)
  }
  return seen
}

t.test('a window that closes while the job runs, and one that opens', async t => {
  const turn = wholeSecond(6_000)
  const ended = { notBefore: second(Date.now() - 60_000), notAfter: second(turn) }
  const later = { notBefore: second(turn), durationSeconds: 600 }
  const grants = await Promise.all(layouts.flatMap(layout => [issue(layout, 'closes', ended), issue(layout, 'opens', later)]))
  const jobs = grants.map(({ credentials }) => jobFrom(here, credentials))
  const seen = await Promise.all(jobs.map(job => watched(() => job.write(buckets.output, 'runs/42/checkpoint'), turn)))
  for (const [index, outcomes] of seen.entries()) {
    const layout = layouts[Math.floor(index / 2)] ?? 'guide'
    const opens = index % 2 === 1
    const [before, after] = opens ? ['denied', 'allowed'] as const : ['allowed', 'denied'] as const
    // The guide's start is exclusive, and the gateway's clock has whole seconds: it opens a second later.
    const at = opens && layout === 'guide' ? turn + 1_000 : turn
    const wrong = outcomes.filter(({ outcome, sentAt, answeredAt }) =>
      (answeredAt < at && outcome !== before) || (sentAt >= at && outcome !== after))
    t.strictSame(wrong, [], `${layout}: ${before} before ${second(at)}, ${after} from then on`)
    t.ok(outcomes.some(({ answeredAt }) => answeredAt < at), `${layout}: seen before`)
    t.ok(outcomes.some(({ sentAt }) => sentAt >= at), `${layout}: and after`)
  }
  for (const [index, layout] of layouts.entries()) {
    const closed = jobs[index * 2]
    t.equal(await closed?.read(buckets.data, 'wiki/1.parquet'), layout === 'guide' ? 'allowed' : 'denied', `${layout}: reads after the window`)
  }
  for (const { grant } of grants) t.match(await service.call('GET', `/v1/grants/${grant.id}`), { body: { state: 'active' } }, 'nobody has revoked it')
})

t.test('the output stays open for its grace, and the reads do not', async t => {
  const ends = wholeSecond(6_000)
  const window = { notBefore: second(Date.now() - 60_000), notAfter: second(ends), outputGraceSeconds: 600 }
  await Promise.all((['everywhere', 'guarded'] as const).map(async layout => {
    const job = jobFrom(here, (await issue(layout, 'grace', window)).credentials)
    const outcomes = await watched(() => job.read(buckets.data, 'wiki/1.parquet'), ends)
    t.equal(outcomes[0]?.outcome, 'allowed', `${layout}: reads work`)
    t.equal(outcomes.at(-1)?.outcome, 'denied', `${layout}: and have ended`)
    t.strictSame(outcomes.filter(({ outcome, answeredAt }) => outcome === 'denied' && answeredAt < ends), [], `${layout}: not sooner`)
    t.equal(await job.write(buckets.output, 'runs/42/last-checkpoint'), 'allowed', `${layout}: the last checkpoint`)
  }))
})
