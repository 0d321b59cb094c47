import { ListUsersCommand } from '@aws-sdk/client-iam'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { second, type Keys } from '../job.ts'
import type { Delivery } from '../service.ts'
import { buckets } from '../store.ts'
import { openTo, startGateway } from './gateway.ts'

// Eight workers of one training job, each bound to its own address: with a grant each under a job id of its own, or as workers of one.

const { iam, jobFrom, serve } = await startGateway(t)
const service = await serve()
const addresses = Array.from({ length: 8 }, (_, index) => `127.0.0.${index + 2}`)

t.test('eight grants at once: each key works from its own address, and from no other', async t => {
  const workers = await Promise.all(addresses.map(async (address, index) => {
    const output = `runs/7/worker-${index}`
    const { grant, credentials } = await service.issue({
      job: { id: `run-7-worker-${index}`, team: 'nlp' },
      datasets: [{ bucket: buckets.data, prefix: 'wiki' }],
      output: { bucket: buckets.output, prefix: output, level: 'read-write' },
      ...openTo(address)
    })
    return { address, output, grant, credentials }
  }))
  t.equal(new Set(workers.map(({ grant }) => grant.user.name)).size, 8, 'eight users')
  t.equal(new Set(workers.map(({ credentials }) => credentials.accessKeyId)).size, 8, 'eight keys')

  await Promise.all(workers.flatMap(({ credentials, address: own, output }) => addresses.map(async address => {
    const job = jobFrom(address, credentials)
    const wanted = address === own ? 'allowed' : 'denied'
    t.equal(await job.read(buckets.data, 'wiki/1.parquet'), wanted, `the key for ${own} reads from ${address}: ${wanted}`)
    t.equal(await job.write(buckets.output, `${output}/checkpoint`), wanted, `and writes: ${wanted}`)
  })))

  await Promise.all(workers.map(async ({ address, credentials, output }, index) => {
    const job = jobFrom(address, credentials)
    const neighbour = `runs/7/worker-${(index + 1) % 8}/checkpoint`
    t.equal(await job.read(buckets.output, `${output}/checkpoint`), 'allowed', `worker ${index} reads its own checkpoint`)
    t.equal(await job.read(buckets.output, neighbour), 'denied', 'not its neighbour’s')
    t.equal(await job.write(buckets.output, neighbour), 'denied')
  }))

  const [first, ...others] = workers
  t.match(await service.call('POST', `/v1/grants/${first?.grant.id}/complete`), { status: 200, body: { state: 'revoked' } })
  t.equal(first && await jobFrom(first.address, first.credentials).read(buckets.data, 'wiki/1.parquet'), 'unknown-key', 'one worker is done')
  for (const { address, credentials } of others) {
    t.equal(await jobFrom(address, credentials).read(buckets.data, 'wiki/1.parquet'), 'allowed', 'the others go on')
  }
})

t.test('eight workers of one job: they join at once, move, are extended and end', async t => {
  const users = async () => ((await iam.send(new ListUsersCommand({ PathPrefix: '/job-access/' }))).Users ?? []).length
  const before = await users()
  const { window } = openTo()
  const open = async (id: string) => {
    const { grant } = await service.issue({
      job: { id, team: 'nlp' },
      datasets: [{ bucket: buckets.data, prefix: 'wiki' }],
      output: { bucket: buckets.output, prefix: 'runs/8', level: 'read-write' },
      window,
      workers: { max: 8 }
    })
    return `/v1/grants/${grant.id}`
  }
  const job = await open('run-8')
  const ask = (name: string, address: string, start: object = {}, path = job) =>
    service.call<Delivery & { code?: string }>('POST', `${path}/workers`, { name, sourceIps: [address], ...start })
  const joined = async (...args: Parameters<typeof ask>): Promise<Delivery> => {
    const { status, body } = await ask(...args)
    t.ok(status === 201 || status === 200, `${args[0]} joins: ${status} ${body.code}`)
    return body
  }
  /** What the key does at an address: a read, and a write of the worker's own object. */
  const at = async (address: string, keys: Keys) => {
    const client = jobFrom(address, keys)
    return [await client.read(buckets.data, 'wiki/1.parquet'), await client.write(buckets.output, `runs/8/${keys.accessKeyId}`)]
  }
  const [allowed, denied, dead] = (['allowed', 'denied', 'unknown-key'] as const).map(outcome => [outcome, outcome])

  const workers = await Promise.all(addresses.map(async (address, rank) => {
    const name = `worker-${rank}`
    return { name, address, keys: (await joined(name, address, { attempt: '1' })).credentials }
  }))
  t.equal(new Set(workers.map(({ keys }) => keys.accessKeyId)).size, 8, 'eight keys')
  t.equal(await users() - before, 8, 'eight users: the job itself has none')
  await Promise.all(workers.flatMap(({ name, keys, address: own }) => addresses.map(async address =>
    t.strictSame(await at(address, keys), address === own ? allowed : denied, `the key of ${name} at ${address}`))))
  const everyone = async (because: string) => {
    for (const { name, address, keys } of workers) t.strictSame(await at(address, keys), allowed, `${name}: ${because}`)
  }

  const [first, neighbour, third] = workers
  if (!first || !neighbour || !third) throw new Error('there are eight')
  const killed = { ...first }
  first.address = '127.0.0.20'
  first.keys = (await joined(first.name, first.address, { attempt: '2' })).credentials
  for (const address of [killed.address, first.address]) t.strictSame(await at(address, killed.keys), dead, `the key before, at ${address}`)
  for (const address of addresses) t.strictSame(await at(address, first.keys), denied, `the key of the second attempt at ${address}`)
  t.equal(await users() - before, 8, 'it has the same user')
  t.match(await ask(neighbour.name, neighbour.address), { status: 409, body: { code: 'key-delivered' } }, 'who does not say that it is another start')
  t.match(await ask('worker-8', '127.0.0.10'), { status: 409, body: { code: 'workers-full' } }, 'there is no ninth')
  await everyone('none but the key that was replaced has ended')

  // Another job has the window that this one had, so that its end is seen.
  const other = await open('run-8-not-extended')
  const left = (await joined('alone', neighbour.address, {}, other)).credentials
  const firstEnd = Math.ceil(Date.now() / 1000) * 1000 + 8_000
  const until = { window: { notBefore: window.notBefore, notAfter: second(firstEnd) } }
  for (const path of [job, other]) t.match(await service.call('PATCH', path, until), { status: 200 })
  t.strictSame(await at(neighbour.address, left), allowed)
  t.match(await service.call('PATCH', job, { window }), { status: 200, body: { state: 'active' } })
  await delay(firstEnd + 1_000 - Date.now())
  t.strictSame(await at(neighbour.address, left), denied, 'the first end has passed')
  await everyone('the extension has reached it, and it has the key that it had')
  await service.call('DELETE', other)

  t.match(await service.call('DELETE', `${job}/workers/${third.name}`), { status: 200, body: { state: 'revoked' } })
  t.strictSame(await at(third.address, third.keys), dead, 'one has ended')
  workers.splice(2, 1)
  await everyone('the others go on')
  t.match(await service.call('POST', `${job}/complete`), { status: 200, body: { state: 'revoked' } })
  for (const { name, address, keys } of workers) t.strictSame(await at(address, keys), dead, `${name} has ended with the job`)
  t.equal(await users() - before, 0, 'nothing is left')
})
