import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { clientNames, clients, needsOf, type Client } from '../../../src/policy/clients.ts'
import type { ClientName } from '../../../src/request.ts'
import { buckets } from '../store.ts'
import { here, openTo, startGateway } from '../versitygw/gateway.ts'
import { startClient, type Measured, type Rights } from './runner.ts'

/*
 * The usual operations of S3 clients, with the key of a grant for a prefix, on a gateway that enforces its policy. Without `clients` some
 * are denied, with it none, but those that need what is never granted. So each row of src/policy/clients.ts is enough, and necessary.
 */

/** The outcome of an operation: what the request must have said so that it is allowed. */
type Outcome = 'nothing' | 'clients' | 'read-write' | 'never'

const gateway = await startGateway(t)
const service = await gateway.serve({ provider: 'versitygw' })
const bucket = buckets.output

const accesses = {
  r: { level: 'read' }, w: { level: 'write' }, rw: { level: 'read-write' }, rwd: { level: 'read-write', delete: true }
} as const satisfies Record<Rights, object>

const measure = (t: Test, name: string) => {
  const ask = startClient(t, name)
  let count = 0
  const place = async (rights: Rights) => {
    const at = { endpoint: gateway.endpoint, bucket, prefix: `runs/${name}-${++count}`, rights }
    if (!rights.includes('r')) return at
    const seeded = await ask({ ...at, keys: gateway.admin, seed: true })
    t.strictSame(seeded.filter(({ ok }) => !ok), [], `${name}: the owner has put there what is read`)
    return at
  }
  return {
    asOwner: async (rights: Rights) => ask({ ...await place(rights), keys: gateway.admin }),
    granted: async (rights: Rights, as?: ClientName) => {
      const at = await place(rights)
      const { credentials } = await service.issue({
        job: { id: `${name}-${count}`, team: 'nlp' },
        access: [{ bucket, prefix: at.prefix, ...accesses[rights] }],
        ...(as && { clients: [as] }),
        ...openTo(here)
      })
      return ask({ ...at, keys: credentials })
    }
  }
}

const failed = (measured: Measured[]) => measured.filter(({ ok }) => !ok).map(({ operation }) => operation)

const found: Record<string, Record<string, Outcome>> = {}

t.jobs = 2
const runners: Array<[runner: string, name: ClientName]> = [...clientNames.map(name => [name, name] as [string, ClientName]), ['awscli2', 'awscli']]
await Promise.all(runners.map(([runner, name]) => t.test(runner, { buffered: true }, async t => {
  const client: Client = clients[name]
  const { granted, asOwner } = measure(t, runner)
  const outcomes: Record<string, Outcome> = {}
  for (const rights of ['r', 'w', 'rw', 'rwd'] as const) {
    const plain = await granted(rights)
    const needs = needsOf(name, accesses[rights].level)
    const withNeeds = needs.length === 0 ? plain : await granted(rights, name)
    const open = withNeeds.filter(({ never }) => !never)
    const errors = open.filter(({ ok }) => !ok).map(({ operation, error }) => `${operation}: ${error}`)
    const tooLittle = rights === 'w' && client.readsFirst !== undefined
    if (tooLittle) t.not(errors.length, 0, `${rights}: level write is not enough`)
    else t.strictSame(errors, [], `${rights}: what it needs is enough`)
    const opened = failed(plain).filter(operation => !failed(withNeeds).includes(operation))
    // What each need opens is measured where it is the only one; a read-write entry has what a read entry has.
    if (needs.length > 0 && rights.length === 1) t.not(opened.length, 0, `${rights}: and necessary`)
    t.strictSame(withNeeds.filter(({ never, ok }) => never && ok), [], `${rights}: what is never granted is denied`)
    if (withNeeds.some(({ ok }) => !ok)) t.strictSame(failed(await asOwner(rights)), [], `${rights}: and the owner can do all of it`)
    for (const { operation, never, ok } of withNeeds) {
      outcomes[operation] ??= never ? 'never' : !ok ? 'read-write' : opened.includes(operation) ? 'clients' : 'nothing'
    }
  }
  found[runner] = outcomes
})))

await t.test('the page tells what was measured', async t => {
  const file = join(import.meta.dirname, 'measured.json')
  const sorted = Object.fromEntries(runners.flatMap(([runner]) => found[runner] ? [[runner, found[runner]]] : []))
  if (process.env.COMPAT_WRITE) writeFileSync(file, `${JSON.stringify(sorted, null, 2)}\n`)
  t.strictSame(sorted, JSON.parse(readFileSync(file, 'utf8')), 'COMPAT_WRITE=1 npm run test:compat, then npm run docs')
})
