import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { freePort } from '../servers/daemon.ts'
import { check, cliFile, example, script, tool, workplace } from './example.ts'
import { until } from './slurm-cluster.ts'
import { waitUntilStarted } from './kubernetes-manifest.ts'
import { startForPods } from './pods.ts'

const path = example('kubernetes', 'workers.yaml')
const text = readFileSync(path, 'utf8')
const documents = parseAllDocuments(text).map(document => document.toJS())
const named = (kind: string, name: string) => documents.find(({ kind: k, metadata }) => k === kind && metadata.name === name)
const [launcherJob, workersJob] = ['wiki-finetune-launcher', 'wiki-finetune'].map(name => named('Job', name))
const launcher = launcherJob.spec.template.spec.containers[0]
const pod = workersJob.spec.template.spec
const [agent] = pod.initContainers
const [train] = pod.containers
const request = JSON.parse(named('ConfigMap', 'wiki-finetune-access').data['request.json'])

const validator = tool('lint', 'bin', 'kubernetes-validate')
t.test('Kubernetes’ own schemas accept it, and would not accept a typo', { skip: validator.skip }, async t => {
  const { status, said } = check(validator.path, ['--strict', path])
  t.equal(status, 0, said)
  const typo = join(workplace(t), 'typo.yaml')
  writeFileSync(typo, text.replace('completionMode:', 'completionMod:'))
  t.not(check(validator.path, ['--strict', typo]).status, 0)
})

t.test('what belongs together is the same; only launcher and agents have a token', async t => {
  t.equal(workersJob.spec.completions, workersJob.spec.parallelism)
  t.equal(request.workers.max, workersJob.spec.completions + workersJob.spec.backoffLimit, 'room for pods that are lost')
  for (const job of [launcherJob, workersJob]) t.equal(job.spec.activeDeadlineSeconds, request.window.durationSeconds)
  t.match(launcher.args[0], `create configmap ${pod.volumes.find(({ name }: { name: string }) => name === 'grant').configMap.name} `)
  t.match(launcher.args[0], `get job ${workersJob.metadata.name} `)
  t.strictSame(train.volumeMounts, [{ name: 'access', mountPath: '/access', readOnly: true }])
  t.strictSame([launcherJob.spec.template.spec.serviceAccountName, pod.serviceAccountName], ['launcher', 'worker'])
  t.equal(named('ServiceAccount', 'worker').automountServiceAccountToken, false)
})

t.test('its commands, against the service, with the tokens and the guardrails of the pages', async t => {
  const { home, client, podOf } = await startForPods(t)
  // What the cluster does with the launcher's kubectl: the ConfigMap is the file of the pods, the Job has the conditions of `status`.
  const bin = join(home, 'bin')
  mkdirSync(bin)
  const published = join(home, 'grant')
  const status = join(home, 'status')
  writeFileSync(status, '')
  writeFileSync(join(bin, 'kubectl'), `#!/bin/sh
case "$1" in
  create) for word; do case $word in --from-file=*) cp "\${word#--from-file=}" ${published};; esac; done; echo kind: ConfigMap;;
  apply) cat > /dev/null;;
  get) cat ${status};;
esac\n`, { mode: 0o755 })
  writeFileSync(join(bin, 'job-access'), `#!/bin/sh\nexec ${process.execPath} --disable-warning=ExperimentalWarning ${cliFile} "$@"\n`, { mode: 0o755 })
  const launching = await podOf('wiki-finetune-launcher-x2v9q', 'launcher', request)
  const [shell = '', ...words]: string[] = [...launcher.command, ...launcher.args].map(launching.here)
  const startLauncher = () => {
    const child = spawn(shell, words.map(word => word.replace('sleep 10', 'sleep 0.2')), {
      env: { ...launching.env, PATH: `${bin}:${launching.env.PATH}` }, stdio: 'inherit'
    })
    t.teardown(() => { child.kill('SIGTERM') })
    return child
  }
  const launched = startLauncher()
  const launcherEnded = once(launched, 'exit')
  const grantId = () => { try { return readFileSync(published, 'utf8').trim() } catch { return '' } }
  await until(() => 'no grant', async () => grantId() !== '')
  const job = await client.get(grantId())
  t.match(job, { job: { id: 'wiki-finetune-4-pods' }, workers: { max: 8 }, owner: 'oidc:cluster#system:serviceaccount:nlp:launcher' })

  const startPod = async (index: number, suffix: string) => {
    const name = `wiki-finetune-${index}-${suffix}`
    const { place, here, env } = await podOf(name, 'worker', request)
    writeFileSync(join(place, 'grant', 'grant'), readFileSync(published))
    const port = `${await freePort('127.0.0.1')}`
    const fields: Record<string, string> = { POD_NAME: name, POD_UID: `uid-of-${name}`, POD_IP: `10.0.12.${index + 1}` }
    const word = (given: string) => here(given.replaceAll(/\$\((\w+)\)/g, (_, field: string) => fields[field] ?? '').replace('9911', port))
    const [program = '', ...args]: string[] = [...agent.command, ...agent.args].map(word)
    t.equal(program, 'node')
    const child: ChildProcess = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] })
    t.teardown(() => { child.kill('SIGKILL') })
    await waitUntilStarted(child, agent.startupProbe, here, env)
    const told = (name: string) => word(train.env.find((variable: { name: string }) => variable.name === name).value)
    const answer = await fetch(told('AWS_CONTAINER_CREDENTIALS_FULL_URI'), {
      headers: { authorization: readFileSync(told('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'), 'utf8') }
    })
    const { AccessKeyId = '' } = await answer.json() as Record<string, string>
    return { name, child, env, AccessKeyId }
  }
  const pods = await Promise.all(['x7k2p', 'b8d4z', 'q3m9w', 'j6h5n'].map((suffix, index) => startPod(index, suffix)))
  const active = async () => (await client.workers(job.id, { state: 'active' })).grants
  t.strictSame((await active()).map(({ worker }) => worker?.name).sort(), pods.map(({ name }) => name).sort())
  for (const { worker, source, accessKeyId } of await active()) {
    const at = pods.findIndex(({ name }) => name === worker?.name)
    t.equal(accessKeyId, pods[at]?.AccessKeyId)
    t.strictSame(source.vpc, { vpcEndpointIds: ['vpce-0123456789abcdef0'], sourceIps: [`10.0.12.${at + 1}/32`] }, 'from its own address alone')
  }

  const [first, second] = pods
  const asPod = (...args: string[]) => script(process.execPath, ['--disable-warning=ExperimentalWarning', cliFile, ...args], { env: first?.env ?? {} })
  const elsewhere = ['--vpc-endpoint', 'vpce-0123456789abcdef0', '--vpc-source-ip', '10.0.12.9']
  t.match(await asPod('join', job.id, '--worker', second?.name ?? '', '--replace', ...elsewhere), { code: 1, stderr: /This token is for worker/ })
  t.match(await asPod('issue', '--request', join(launching.place, 'job', 'request.json')), { code: 1, stderr: /pods-only-join|A pod joins the job/ })
  t.match(await asPod('complete', job.id), { code: 1, stderr: /forbidden/ })

  second?.child.kill('SIGKILL')
  const again = await startPod(1, 'r4t8v')
  t.equal((await active()).length, 5, 'the lost pod counts until the job ends')
  first?.child.kill('SIGTERM')
  await once(first?.child ?? again.child, 'exit')
  t.match(await client.worker(job.id, first?.name ?? ''), { state: 'revoked' }, 'a pod that ends, ends its key')

  const restarted = startLauncher()
  const restartedEnded = once(restarted, 'exit')
  await new Promise(resolve => setTimeout(resolve, 2_000))
  t.equal(grantId(), job.id, 'a launcher that is started again has the same grant')
  t.equal((await active()).length, 4)
  writeFileSync(status, 'SuccessCriteriaMet Complete')
  t.strictSame([await launcherEnded, await restartedEnded], [[0, null], [0, null]])
  t.match(await client.get(job.id), { state: 'revoked' })
  t.strictSame(await active(), [], 'and every key with it')
})
