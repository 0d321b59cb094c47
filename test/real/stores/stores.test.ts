import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { dialects } from '../../../src/iam/dialects/index.ts'
import { drift } from '../../../src/doctor/verdict.ts'
import type { DialectFile } from '../../../src/iam/dialects/file.ts'
import { here } from '../../servers/daemon.ts'
import { diagnose, doctor, stores } from './stores.ts'

/** The built-in dialects are held to what the doctor says of their servers, and docs/stores to what it says today. */

const every = (is: boolean) => ({ window: is, address: is, prefix: is, deletion: is })
const expected: Record<string, DialectFile['enforces']> = {
  embedded: every(true),
  versitygw: every(true),
  seaweedfs: every(true),
  // The trap: src/iam/without-sts.ts.
  'seaweedfs-sts': { ...every(true), window: false },
  ceph: every(true),
  localstack: every(false),
  moto: every(false)
}

// Each has a server of its own, and the doctor waits for most of its time.
t.jobs = 2

t.test('SIGINT: nothing stays, and no key is printed; SIGKILL: --clean', { buffered: true }, async t => {
  const server = await stores.versitygw?.start?.()
  if (!server) throw new Error('no server')
  t.teardown(() => server.stop())
  const { status, stdout, stderr } = await doctor(server, [], 'policies: inline')
  t.equal(status, 1)
  t.equal(stdout, '')
  t.notMatch(stderr, server.admin.secretAccessKey)
  t.match(await doctor(server, ['--clean']), { status: 0, stdout: '', stderr: '' }, 'nothing is left to clean')

  t.equal((await doctor(server, [], 'policies: inline', 'SIGKILL')).status, null)
  const cleaned = await doctor(server, ['--clean'])
  t.match(cleaned, { status: 0, stderr: '' }, 'SIGKILL: what was left is removed by --clean')
  t.match(cleaned.stdout, /^removed ja-doctor-[0-9a-f]{8}-calls\n[^]*^removed ja-doctor-[0-9a-f]{8}-a$/m)
  t.match(await doctor(server, ['--clean']), { status: 0, stdout: '', stderr: '' }, 'all of it')
})

// Of servers of one store, each in its own time.
const wanted = process.env.JOB_ACCESS_TEST_STORES?.split(',') ?? Object.keys(stores)

for (const name of wanted) {
  t.test(name, { buffered: true }, async t => {
    const { dialect } = stores[name] ?? {}
    const rounds = name === 'versitygw' ? 2 : 1
    const [first, second] = await diagnose(name, rounds)
    if (!first) throw new Error('no diagnosis')
    const { file, status, stderr } = first
    t.strictSame(file.enforces, expected[name])
    const differences = dialect ? drift(dialects[dialect], file) : []
    t.strictSame(differences, [], 'the built-in dialect')
    t.equal(status, Object.values(file.enforces).every(Boolean) && differences.length === 0 ? 0 : 1, stderr)
    t.notMatch(stderr, /could not be removed/)
    if (second) t.strictSame(second.file.findings, file.findings, 'a second run says the same')
    const page = JSON.parse(readFileSync(join(here, '..', '..', 'docs', 'stores', `${name}.json`), 'utf8')) as DialectFile
    t.strictSame(file.findings, page.findings, 'docs/stores: npm run stores')
    t.strictSame(file.dialect, page.dialect)
  })
}
