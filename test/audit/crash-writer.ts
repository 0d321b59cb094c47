import { openAudit } from '../../src/audit/log.ts'
import { issued } from './written.ts'

/** Records without end, many at a time, and says on stdout which are acknowledged: to be killed by crash.test.ts. */
const [path = '', round = ''] = process.argv.slice(2)
const audit = await openAudit({ path, instance: 'a', now: Date.now, maxBytes: 100_000 })
let next = 0

async function client (): Promise<void> {
  for (;;) {
    const id = `${round}-${next++}`
    await audit.record(issued(id))
    process.stdout.write(`${id}\n`)
  }
}

await Promise.all(Array.from({ length: 20 }, client))
