import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { behindProxy, everyWorkerFromItsOwnNode } from './observed.ts'
import { example, root, script, tool, workplace } from './example.ts'

const airflow = tool('airflow', 'bin', 'airflow')

// Airflow takes its time to start, seven times.
t.setTimeout(600_000)

t.test('Airflow runs DAGs with the operators, against the service', { skip: airflow.skip }, async t => {
  const service = await startService(t, behindProxy)
  const client = createClient({ url: service.url, token: service.token })
  const home = workplace(t)
  const [dags, bin, seen] = ['dags', 'bin', 'seen'].map(name => join(home, name)) as [string, string, string]
  cpSync(example('airflow'), dags, { recursive: true })
  cpSync(join(root, 'test', 'examples', 'airflow-dag.py'), join(dags, 'cases.py'))
  writeFileSync(join(dags, 'workers.py'), readFileSync(example('airflow', 'workers.py'), 'utf8').replace('seconds=30', 'seconds=1'))
  for (const path of [bin, seen]) mkdirSync(path)
  // As training, the first try of shard 1 fails, and every try of shard 3.
  writeFileSync(join(bin, 'python3'), `#!/bin/sh
[ "$1" = train.py ] || exec ${join(dirname(airflow.path), 'python')} "$@"
echo "$AWS_ACCESS_KEY_ID" >> ${seen}/$3
case "$3 $(wc -l < ${seen}/$3)" in '1 1'|'3 '*) exit 1;; esac\n`, { mode: 0o755 })
  const env = {
    PATH: `${bin}:${process.env.PATH}`,
    HOME: home,
    AIRFLOW_HOME: home,
    AIRFLOW__CORE__LOAD_EXAMPLES: 'false',
    AIRFLOW__CORE__DAGS_FOLDER: dags,
    AIRFLOW_CONN_JOB_ACCESS: JSON.stringify({
      conn_type: 'http', host: await everyWorkerFromItsOwnNode(t, service.url), password: service.token
    }),
    AWS_PROFILE: 'mine',
    SEEN: join(home, 'seen.json')
  }
  const migrated = await script(airflow.path, ['db', 'migrate'], { env })
  t.equal(migrated.code, 0, migrated.stderr)
  const run = (dag: string) => script(airflow.path, ['dags', 'test', dag], { env, cwd: home })

  await t.test('a command that is a job', async t => {
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

  await t.test('mapped tasks that are the workers of a job: each try joins, and the last task completes', async t => {
    const { stdout, stderr } = await run('wiki_finetune')
    t.match(stdout + stderr, /state=failed/, 'shard 3 has failed, and so has the run, though its last task has not')
    t.notMatch(stdout + stderr, /AWS_SECRET_ACCESS_KEY|jat_/)
    const jobs = (await client.list()).grants.filter(({ workers }) => workers)
    t.match(jobs, [{ state: 'revoked', job: { id: /^wiki_finetune\/manual__/ }, workers: { max: 4 } }])
    const { grants } = await client.workers(jobs[0]?.id ?? '')
    const tries = grants.map(({ worker, attempt, state }) => `${worker?.name} ${attempt} ${state}`).sort()
    t.strictSame(tries, ['task-0 1', 'task-1 1', 'task-1 2', 'task-2 1', 'task-3 1', 'task-3 2', 'task-3 3'].map(each => `${each} revoked`))
    const keys = [0, 1, 2, 3].map(shard => readFileSync(join(seen, `${shard}`), 'utf8').trim().split('\n'))
    t.strictSame(keys.map(({ length }) => length), [1, 2, 1, 3])
    t.strictSame(keys.flat().sort(), grants.map(({ accessKeyId }) => accessKeyId).sort(), 'each try has a key of its own')
    t.equal(new Set(grants.map(({ source }) => String(source.sourceIps))).size, 4, 'and each task works from its own machine alone')
  })
})
