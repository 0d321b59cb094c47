import { compose } from '../src/compose.ts'
import { readConfig } from '../src/config.ts'
import { errorReply } from '../src/embedded-iam/dispatch.ts'
import { openAccount, freshAdmin, startEmbeddedIam } from '../src/embedded-iam/server.ts'
import { createIam } from '../src/iam/client.ts'
import { createPacer } from '../src/iam/pace.ts'
import type { Caller } from '../src/lifecycle/deps.ts'
import { end } from '../src/lifecycle/end.ts'
import { issue } from '../src/lifecycle/issue.ts'
import { openLedger } from '../src/ledger/open.ts'
import { guideRequest } from '../src/request.ts'

/**
 * The service at an IAM that takes few calls a second: 50 issues at once, and 5 revocations a second later.
 *   useful: calls that were not refused, of all.
 *   issues, revocations: how long each took, ms; how many issues were given up at their deadline.
 * With BENCH_PACED=no without the pace, to compare.
 */

const perSecond = Number(process.env.BENCH_CALLS_PER_SECOND ?? 10)
const paced = process.env.BENCH_PACED !== 'no'
const silent = { info () {}, warn () {}, error () {} }
const caller: Caller = { id: 'token:bench', kind: 'token', teams: ['*'], attributes: {}, requestId: 'bench', ip: '127.0.0.1' }
const config = readConfig({ JOB_ACCESS_MAX_GRANTS: '100000', JOB_ACCESS_MAX_GRANTS_PER_IDENTITY: '100000' })

let limited = false
let tokens = perSecond
let at = Date.now()
let asked = 0
let refused = 0
const takes = (): boolean => {
  if (!limited) return true
  tokens = Math.min(perSecond, tokens + (Date.now() - at) * perSecond / 1000)
  at = Date.now()
  asked++
  if (tokens >= 1) {
    tokens--
    return true
  }
  refused++
  return false
}

const adminKeys = freshAdmin()
const account = openAccount({}, adminKeys)
const server = await startEmbeddedIam({
  adminKeys,
  account: () => account,
  intercept: async ({ service }, serve) => takes() ? serve() : errorReply(service, 400, 'Throttling', 'Rate exceeded')
})
const iam = createIam({
  region: 'us-east-1',
  endpoint: server.url,
  stsEndpoint: server.url,
  credentials: server.admin,
  ...(paced && { pacers: { iam: createPacer(), sts: createPacer() } })
})
const ledger = await openLedger({ url: ':memory:' })
const { deps, close } = await compose(config, { log: silent, overrides: { iam, embedded: server, ledger } })

const give = async (id: string, team: string) => issue(deps, caller, { request: { ...guideRequest, job: { id, team } } })
const timed = async (work: () => Promise<unknown>) => {
  const started = performance.now()
  const ok = await work().then(() => true, () => false)
  return { ok, ms: Math.round(performance.now() - started) }
}
const sorted = (answers: Array<{ ms: number }>) => answers.map(({ ms }) => ms).sort((a, b) => a - b)
const told = (answers: Array<{ ms: number }>) => ({ median: sorted(answers).at(answers.length >> 1), longest: sorted(answers).at(-1) })

const running = await Promise.all(Array.from({ length: 5 }, (_, i) => give(`running-${i}`, 'vision')))
limited = true
const issuing = Promise.all(Array.from({ length: 50 }, (_, i) => timed(() => give(`job-${i}`, i < 45 ? 'nlp' : 'vision'))))
await new Promise(resolve => setTimeout(resolve, 1_000))
const ends = await Promise.all(running.map(({ grant }) => timed(() => end(deps, caller, grant.id, 'completed'))))
const issues = await issuing

console.log(JSON.stringify({
  paced,
  perSecond,
  calls: asked,
  refused,
  useful: `${Math.round(100 * (asked - refused) / asked)} %`,
  issues: { ...told(issues), done: issues.filter(({ ok }) => ok).length, deadline: config.JOB_ACCESS_IAM_DEADLINE_MS },
  smallTeam: told(issues.slice(45)),
  revocations: told(ends)
}))
await close()
await ledger.close()
iam.close()
await server.stop()
