import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { verifyChain } from '../../src/audit/verify-chain.ts'
import { createIam } from '../../src/iam/client.ts'
import { guideRequest } from '../../src/request.ts'
import { serverEnv } from '../servers/daemon.ts'
import { makeDir, service, startIam } from '../kill/processes.ts'

/** `npm run reconcile` as an operator runs it: on the machine, and with the configuration, of a service that goes on. */

const run = promisify(execFile)

t.test('the command leaves the running service its audit, and has a chain of its own', async t => {
  const dir = makeDir()
  t.teardown(() => dir.remove())
  const iam = await startIam(0)
  t.teardown(() => iam.stop())
  const ledger = { JOB_ACCESS_LEDGER: join(dir.path, 'ledger.sqlite') }
  const running = await service({ iam, ledger, dir })
  await running.start()
  t.teardown(() => running.kill())
  const issue = async (id: string) => (await fetch(`${running.url}/v1/grants`, {
    method: 'POST',
    headers: { authorization: `Bearer ${dir.token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ ...guideRequest, job: { id, team: 'nlp' } })
  })).status
  const reconcile = async (ledger: Record<string, string>, ...args: string[]) => (await run(process.execPath,
    ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, '../../src/commands/reconcile.ts'), ...args], {
      cwd: dir.path,
      env: serverEnv({
        JOB_ACCESS_PROVIDER: 'localstack',
        AWS_ENDPOINT_URL: iam.url,
        AWS_ACCESS_KEY_ID: iam.admin.accessKeyId,
        AWS_SECRET_ACCESS_KEY: iam.admin.secretAccessKey,
        JOB_ACCESS_IDENTITY: join(dir.path, 'identity.json'),
        JOB_ACCESS_AUDIT: join(dir.path, 'audit.json'),
        JOB_ACCESS_INSTANCE: 'a',
        ...ledger
      })
    })).stdout
  const elsewhere = join(dir.path, 'elsewhere')
  mkdirSync(elsewhere)
  await t.rejects(reconcile({ JOB_ACCESS_LEDGER: join(elsewhere, 'job-access.sqlite') }, '--dry-run'),
    { code: 1, stderr: 'There is no ledger at this path. Run this where the service runs, with its JOB_ACCESS_LEDGER.\n' })
  t.strictSame(readdirSync(elsewhere), [], 'and it makes none')
  const chains = () => readdirSync(dir.path).filter(name => name.endsWith('.jsonl')).sort()

  t.equal(await issue('before'), 201)
  t.match(await reconcile(ledger, '--dry-run'), /^1 seen, 0 found, 0 failed \(dry run/)
  t.strictSame(chains(), ['audit.a.000000000001.jsonl'], 'a dry run changes nothing, and says nothing in the audit')
  t.equal(await issue('after-a-dry-run'), 201)
  const client = createIam({ region: 'us-east-1', endpoint: iam.url, credentials: iam.admin })
  t.teardown(() => client.close())
  await client.createUser({ name: 'ja-stray', path: '/job-access/1000/', tags: {} }, Date.now() + 5_000)
  t.match(await reconcile(ledger), /^3 seen, 1 found, 0 failed$/m)
  t.equal(await issue('after-a-run'), 201)

  await running.stop()
  const instances = ['a-reconcile', 'a']
  const actions: string[][] = []
  t.strictSame(chains(), instances.map(name => `audit.${name}.000000000001.jsonl`))
  for (const [index, instance] of instances.entries()) {
    const name = chains()[index] ?? ''
    const bytes = readFileSync(join(dir.path, name))
    t.match(verifyChain(instance, [{ name, bytes }]), { ok: true }, instance)
    actions.push(bytes.toString().trim().split('\n').map(line => (JSON.parse(line) as { action: string }).action))
  }
  t.strictSame(actions[0], ['audit.open', 'service.start', 'reconcile.remove', 'audit.close'])
  t.strictSame(actions[1]?.slice(-2), ['service.stop', 'audit.close'])
})
