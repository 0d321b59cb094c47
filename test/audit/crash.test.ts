import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openAudit } from '../../src/audit/log.ts'
import { auditFiles, auditLines, issued, verifyDir } from './written.ts'

const rounds = 12

/** Runs the writer until it has acknowledged some records, kills it in the middle, returns what it acknowledged. */
async function killedWriter (path: string, round: number): Promise<string[]> {
  const child = spawn(process.execPath, ['test/audit/crash-writer.ts', path, String(round)], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  let due = false
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
    if (!due && output.length > 200) {
      due = true
      // At another moment of the write each time; not timing that is asserted, only variety.
      setTimeout(() => child.kill('SIGKILL'), Math.random() * 40)
    }
  })
  await once(child, 'close')
  // The last line of the pipe may be cut off, too.
  return output.split('\n').slice(0, -1)
}

t.test(`kill -9 under load, ${rounds} times over one chain: whatever was acknowledged is there`, async t => {
  const dir = t.testdir({})
  const path = join(dir, 'audit')
  const acknowledged: string[] = []
  for (let round = 0; round < rounds; round++) {
    const ids = await killedWriter(path, round)
    t.ok(ids.length > 0, `round ${round}: ${ids.length} acknowledged`)
    acknowledged.push(...ids)
    // Nobody has put anything right yet: the lines themselves must be there.
    const written = new Set(auditFiles(dir).flatMap(file => readFileSync(file, 'utf8').split('\n').map(line => /"requestId":"([^"]+)"/.exec(line)?.[1])))
    t.same(ids.filter(id => !written.has(id)), [])
    if (round % 3 === 2) {
      // kill -9 tears no write of a few KB by itself: tear one off as a power cut would, behind what was acknowledged.
      const last = auditFiles(dir).at(-1) ?? ''
      const text = readFileSync(last)
      const lastId = /"requestId":"([^"]+)"[^\n]*\n$/.exec(text.toString())?.[1]
      if (lastId !== undefined && !acknowledged.includes(lastId)) truncateSync(last, text.length - 7)
    }
  }
  const audit = await openAudit({ path, instance: 'a', now: Date.now })
  await audit.record(issued('last'))
  await audit.close()
  const verdict = verifyDir(dir, 'a')
  t.match(verdict, { ok: true })
  const lines = auditLines(dir)
  const ids = lines.flatMap(({ requestId }) => requestId ?? [])
  t.same(acknowledged.filter(id => !ids.includes(id)), [])
  t.equal(new Set(ids).size, ids.length, 'none twice')
  t.equal(lines.filter(({ action }) => action === 'audit.open').length, rounds + 1)
  const torn = readdirSync(dir).filter(name => name.includes('.torn.')).length
  t.equal(lines.filter(({ reason }) => reason === 'torn-line').length, torn)
  t.comment(`${acknowledged.length} acknowledged, ${lines.length} lines in ${auditFiles(dir).length} files, ${torn} torn`)
})
