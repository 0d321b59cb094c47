import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { example, root, script, tool, workplace } from './example.ts'

const airflow = tool('airflow', 'bin', 'airflow')

// Airflow takes its time to start, five times.
t.setTimeout(300_000)

t.test('the operator, in a DAG that Airflow runs, against the service', { skip: airflow.skip }, async t => {
  const service = await startService(t)
  const client = createClient({ url: service.url, token: service.token })
  const home = workplace(t)
  const dags = join(home, 'dags')
  cpSync(example('airflow'), dags, { recursive: true })
  cpSync(join(root, 'test', 'examples', 'airflow-dag.py'), join(dags, 'cases.py'))
  const env = {
    PATH: process.env.PATH ?? '',
    HOME: home,
    AIRFLOW_HOME: home,
    AIRFLOW__CORE__LOAD_EXAMPLES: 'false',
    AIRFLOW__CORE__DAGS_FOLDER: dags,
    AIRFLOW_CONN_JOB_ACCESS: JSON.stringify({ conn_type: 'http', host: service.url, password: service.token }),
    AWS_PROFILE: 'mine',
    SEEN: join(home, 'seen.json')
  }
  const migrated = await script(airflow.path, ['db', 'migrate'], { env })
  t.equal(migrated.code, 0, migrated.stderr)
  const run = (dag: string) => script(airflow.path, ['dags', 'test', dag], { env, cwd: home })
  const statesOf = async (dag: string) => {
    const { grants } = await client.list()
    return grants.filter(({ job }) => job.id.startsWith(`${dag}/train/`)).map(({ state }) => state)
  }

  const passes = await run('passes')
  t.equal(passes.code, 0, passes.stdout + passes.stderr)
  const [grant] = (await client.list()).grants
  const given = JSON.parse(readFileSync(env.SEEN, 'utf8'))
  t.match(given, { AWS_ACCESS_KEY_ID: grant?.accessKeyId, AWS_SECRET_ACCESS_KEY: /./, JOBACCESS_GRANT: grant?.id })
  for (const name of ['AWS_PROFILE', 'AIRFLOW_CONN_JOB_ACCESS', 'AIRFLOW_HOME']) t.notOk(name in given, name)
  t.match(grant, { state: 'revoked', job: { id: /^passes\/train\/manual__\S+\/0$/, team: 'nlp' }, attempt: /^\d$/ })
  t.match(JSON.stringify(grant?.policy), /acmeco-models\/passes\/\*/, 'templated')

  for (const name of ['fails', 'missing', 'hangs']) {
    const { stdout, stderr } = await run(name)
    t.match(stdout + stderr, /state=failed/, name)
    t.strictSame(await statesOf(name), ['revoked'], name)
    t.notMatch(stdout + stderr, /AWS_SECRET_ACCESS_KEY|jat_/, name)
  }
  const refused = await run('refused')
  t.match(refused.stdout + refused.stderr, /bucket-invalid/)
  t.strictSame(await statesOf('refused'), [])
})
