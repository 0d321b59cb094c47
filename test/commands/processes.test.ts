import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { mintToken } from '../../src/identity/authenticator.ts'
import { restartDelay } from '../../src/processes/backoff.ts'
import { guideRequest } from '../../src/request.ts'
import { samples } from '../metrics/scrape.ts'
import { freePort, nodeOptions } from '../servers/daemon.ts'
import { startCommand } from './service.ts'

const root = join(import.meta.dirname, '..', '..')

interface Line { msg: string, process?: number, pid: number, address?: string, afterMs?: number }

/** Its log, and what it says of itself. */
const start = async (t: Test, given: Record<string, string> = {}) => {
  const home = mkdtempSync(join(tmpdir(), 'job-access-processes-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const { token, sha256 } = mintToken('nlp', randomBytes)
  writeFileSync(join(home, 'identity.json'), JSON.stringify({ tokens: [{ id: 'nlp', sha256, teams: ['nlp'] }], issuers: [] }))
  writeFileSync(join(home, 'audit.json'), JSON.stringify({ path: join(home, 'audit'), fsync: 'batch' }))
  const metricsPort = await freePort('127.0.0.1')
  const { child, says, said, done } = startCommand(t,
    [process.execPath, ...nodeOptions, '--heap-growing-percent=60', join(root, 'src', 'start.ts')], {
      PATH: process.env.PATH ?? '',
      PORT: '0',
      JOB_ACCESS_PROCESSES: '2',
      JOB_ACCESS_IDENTITY: join(home, 'identity.json'),
      JOB_ACCESS_AUDIT: join(home, 'audit.json'),
      JOB_ACCESS_INSTANCE: 'both',
      JOB_ACCESS_METRICS_PORT: String(metricsPort),
      JOB_ACCESS_SWEEP_SECONDS: '1',
      JOB_ACCESS_RATE_PER_MINUTE: '1000000',
      TMPDIR: home,
      ...given
    })
  const lines = () => said().split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line) as Line)
  return {
    home,
    token,
    child,
    done,
    says,
    lines,
    named: (msg: string) => lines().filter(line => line.msg === msg),
    until: async (met: () => boolean | Promise<boolean>) => { while (!await met()) await delay(50) },
    scrape: async () => samples(await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text())
  }
}

const [answers, tends, again] = ['a process answers requests', 'this process sweeps and reconciles', 'a process ended and is started again']

/** A connection of its own: the primary hands these to the processes in turn. */
const call = (url: string, token: string, method: string, path: string, body?: object) =>
  new Promise<{ status: number, body: { grant?: { id: string, account: string } } }>((resolve, reject) => {
    const sent = request(url + path, {
      method, agent: false, headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) }
    }, answer => {
      answer.toArray().then(parts => resolve({ status: answer.statusCode ?? 0, body: JSON.parse(parts.join('')) })).catch(reject)
    })
    sent.on('error', reject)
    sent.end(body && JSON.stringify(body))
  })

t.test('two processes: one port, ledger and audit, one that sweeps; a killed one is replaced', async t => {
  const { home, token, child, done, lines, named, until, scrape } = await start(t)
  await until(() => named(answers).length === 2)
  const url = named(answers)[0]?.address ?? ''
  t.equal(named(answers)[1]?.address, url)
  const told = execFileSync('ps', ['-ww', '-o', 'args=', '-p', named(answers).map(({ pid }) => pid).join()], { encoding: 'utf8' })
  t.same(told.match(/--heap-growing-percent=60/g)?.length, 2, 'each has the flags of the first')
  const issue = async (job: string) => {
    const { status, body } = await call(url, token, 'POST', '/v1/grants', { ...guideRequest, job: { id: job, team: 'nlp' } })
    return { status, id: body.grant?.id ?? '' }
  }
  const issued = await Promise.all(Array.from({ length: 12 }, (_, n) => issue(`job-${n}`)))
  t.same(issued.map(({ status }) => status), Array(12).fill(201))
  const ended = await Promise.all(issued.map(({ id }) => call(url, token, 'POST', `/v1/grants/${id}/complete`)))
  t.same(ended.map(({ status }) => status), Array(12).fill(200), 'each process knows the grants of the other')

  const issuedBy = (found: Map<string, number>, process: number) =>
    found.get(`job_access_http_request_duration_seconds_count{method="POST",route="/v1/grants",status="2xx",process="${process}"}`) ?? 0
  const sweeps = (found: Map<string, number>, process: number) => found.get(`job_access_sweeps_total{outcome="done",process="${process}"}`)
  await until(async () => (sweeps(await scrape(), 1) ?? 0) > 1)
  const before = await scrape()
  t.equal(issuedBy(before, 1) + issuedBy(before, 2), 12)
  t.ok(issuedBy(before, 1) > 0 && issuedBy(before, 2) > 0, 'both issued')
  t.equal(sweeps(before, 2), 0, 'one sweeps')
  t.ok((before.get('job_access_audit_last_seq{process="primary"}') ?? 0) > 36)
  t.same([...before.keys()].filter(name => name.startsWith('job_access_audit_last_seq')).length, 1, 'one chain')

  const [sweeping] = named(tends)
  t.equal(sweeping?.process, 1)
  process.kill(sweeping?.pid ?? NaN, 'SIGKILL')
  await until(() => named(tends).length === 2)
  t.equal(named(tends)[1]?.process, 2, 'the other takes over')
  t.match(named(again), [{ process: 1, signal: 'SIGKILL', afterMs: 500 }])
  t.equal((await issue('meanwhile')).status, 201)
  await until(() => named(answers).length === 3)
  await until(async () => (sweeps(await scrape(), 2) ?? 0) > 0)
  const after = await scrape()
  t.equal(sweeps(after, 1), 0, 'the new one does not sweep')
  t.equal(after.get('job_access_process_restarts_total{process="primary"}'), 1)

  child.kill('SIGHUP')
  await until(() => named('guardrails reloaded').length === 2)
  t.equal(new Set(named('guardrails reloaded').map(({ pid }) => pid)).size, 2, 'both reload')

  child.kill('SIGTERM')
  t.match(await done, { code: 0, signal: null })
  t.equal(named('stopping').length, 2)
  for (const { pid } of lines()) t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
  const audits = readdirSync(home).filter(name => name.endsWith('.jsonl'))
  t.same(audits, ['audit.both.000000000001.jsonl'])
  const events = readFileSync(join(home, audits[0] ?? ''), 'utf8').trim().split('\n').map(line => JSON.parse(line) as { action: string, outcome: string })
  t.equal(events.filter(({ action, outcome }) => action === 'grant.issue' && outcome === 'done').length, 13)
  t.match(events.slice(-3), [{ action: 'service.stop' }, { action: 'service.stop' }, { action: 'audit.close' }])
  execFileSync(process.execPath, ['src/commands/audit-verify.ts', join(home, audits[0] ?? '')], { cwd: root })
  t.same(readdirSync(home).filter(name => name.startsWith('job-access-')), [], 'the ledger of the embedded IAM is not kept')
})

t.test('two processes over two accounts: each reaches the grants of both, and one sweeps both', async t => {
  const file = join(t.testdir({ 'accounts.json': '[{ "name": "eu-1", "users": 20 }, { "name": "eu-2", "users": 20 }]' }), 'accounts.json')
  const { token, child, done, named, until, scrape } = await start(t, { JOB_ACCESS_ACCOUNTS_FILE: file })
  await until(() => named(answers).length === 2)
  const url = named(answers)[0]?.address ?? ''
  const grants: Array<{ id: string, account: string }> = []
  for (const job of ['1', '2', '3', '4']) {
    const { status, body } = await call(url, token, 'POST', '/v1/grants', { ...guideRequest, job: { id: job, team: 'nlp' } })
    t.equal(status, 201)
    if (body.grant) grants.push(body.grant)
  }
  t.same(grants.map(({ account }) => account), ['eu-1', 'eu-2', 'eu-1', 'eu-2'], 'the room is counted in the ledger that both have')
  // One after the other: each grant comes to both processes.
  for (const { id, account } of [...grants, ...grants.slice(1), ...grants.slice(0, 1)]) {
    t.equal((await call(url, token, 'POST', `/v1/grants/${id}/rotate`, {})).status, 200, `a grant in ${account}`)
  }
  for (const { id } of grants) t.equal((await call(url, token, 'POST', `/v1/grants/${id}/complete`)).status, 200)
  const sweeps = (found: Map<string, number>, account: string, process: number) =>
    found.get(`job_access_sweeps_total{account="${account}",outcome="done",process="${process}"}`) ?? 0
  await until(async () => {
    const found = await scrape()
    return ['eu-1', 'eu-2'].every(account => sweeps(found, account, 1) > 0)
  })
  const found = await scrape()
  t.same(['eu-1', 'eu-2'].map(account => sweeps(found, account, 2)), [0, 0], 'one sweeps')
  child.kill('SIGTERM')
  t.match(await done, { code: 0, signal: null })
})

t.test('without the first process, the others end too', async t => {
  const { child, done, lines, named, until } = await start(t, { JOB_ACCESS_DRAIN_SECONDS: '60' })
  await until(() => named(answers).length === 2)
  child.kill('SIGKILL')
  await done
  const lives = (pid: number) => { try { return process.kill(pid, 0) } catch { return false } }
  await until(() => !lines().some(({ pid }) => lives(pid)))
})

t.test('what is wrong at the start is said once, and ends it', async t => {
  const { done } = await start(t, { JOB_ACCESS_GUARDRAILS: '/nowhere/guardrails.cedar' })
  const { code, stderr, stdout } = await done
  t.equal(code, 1)
  t.equal(stderr.match(/guardrails\.cedar/g)?.length, 1, stderr)
  t.notMatch(stdout, 'started again')
})

t.test('a first process that is killed before it answers ends the start', async t => {
  const { child: { pid }, done, until } = await start(t)
  const first = () => Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')[0])
  await until(() => first() > 0)
  process.kill(first(), 'SIGKILL')
  const { code, stdout } = await done
  t.equal(code, 1)
  t.match(stdout, '"signal":"SIGKILL"')
})

t.test('who ends again and again is started ever later', async t => {
  let failures = 0
  const waits = Array.from({ length: 9 }, () => {
    const { afterMs, failures: next } = restartDelay(failures, 1_000)
    failures = next
    return afterMs
  })
  t.same(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000])
  t.same(restartDelay(failures, 60_000), { afterMs: 500, failures: 1 }, 'but not one that ran well')
})
