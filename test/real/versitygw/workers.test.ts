import t from 'tap'
import { buckets } from '../store.ts'
import { openTo, startGateway } from './gateway.ts'

// Eight workers of one training job. Each has a grant of its own, under a job id of its own, bound to its own address.

const { jobFrom, serve } = await startGateway(t)
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
