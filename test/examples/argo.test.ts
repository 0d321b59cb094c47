import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { freePort } from '../servers/daemon.ts'
import { check, cliFile, example, script, tool, workplace } from './example.ts'
import { waitUntilStarted } from './kubernetes-manifest.ts'
import { startForPods } from './pods.ts'

const file = example('argo', 'workflow.yaml')
const text = readFileSync(file, 'utf8')
const workflow = parse(text)
const template = (name: string, { spec } = workflow) => spec.templates.find((template: { name: string }) => template.name === name)
const ofWorkers = (name: string) => template(name, workers)

/** hera's models are made from Argo's OpenAPI. They ignore fields that they do not know, so what they lose is looked for, too. */
const validate = `
import sys, yaml
from hera.workflows.models import Workflow
given = yaml.safe_load(open(sys.argv[1]))
kept = Workflow.model_validate(given).model_dump(mode="json", by_alias=True, exclude_none=True)
def lost(given, kept, path):
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept: yield f"{path}/{key}"
            else: yield from lost(value, kept[key], f"{path}/{key}")
    elif isinstance(given, list):
        for index, value in enumerate(given): yield from lost(value, kept[index], f"{path}/{index}")
wrong = list(lost(given, kept, ""))
templates = {template["name"] for template in given["spec"]["templates"]}
called = [given["spec"].get(name) for name in ("entrypoint", "onExit")]
called += [step["template"] for template in given["spec"]["templates"] for group in template.get("steps", []) for step in group]
wrong += [f"no template {name}" for name in called if name not in templates]
sys.exit("\\n".join(wrong) if wrong else 0)`

const workersFile = example('argo', 'workers.yaml')
const workers = parse(readFileSync(workersFile, 'utf8'))

const python = tool('lint', 'bin', 'python')
t.test('Argo’s own models accept them, and would not accept a typo', { skip: python.skip }, async t => {
  const typo = join(workplace(t), 'typo.yaml')
  const typos = [['retryPolicy', 'retryPolice'], ['onExit: complete', 'onExit: completed'], ['arguments:', 'argument:']] as const
  for (const path of [file, workersFile]) {
    t.same(check(python.path, ['-c', validate, path]), { status: 0, said: '' })
    for (const [right, wrong] of typos) {
      writeFileSync(typo, readFileSync(path, 'utf8').replace(right, wrong))
      t.match(check(python.path, ['-c', validate, typo]), { status: 1, said: new RegExp(wrong.replace(/.*: |:/, '')) }, wrong)
    }
  }
  writeFileSync(typo, readFileSync(workersFile, 'utf8').replace('template: train', 'template: trains'))
  t.match(check(python.path, ['-c', validate, typo]), { status: 1, said: /no template trains/ })
})

const validator = tool('lint', 'bin', 'kubernetes-validate')
t.test('Kubernetes’ own schemas accept the pods of the workers', { skip: validator.skip }, async t => {
  const { initContainers, container, serviceAccountName } = ofWorkers('train')
  const pod = (sidecars: object[]) => JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'train' },
    spec: {
      serviceAccountName,
      initContainers: sidecars,
      containers: [{ name: 'main', ...container }],
      volumes: workers.spec.volumes,
      securityContext: workers.spec.securityContext
    }
  })
  const path = join(workplace(t), 'pod.yaml')
  writeFileSync(path, pod(initContainers))
  const { status, said } = check(validator.path, ['--strict', path])
  t.equal(status, 0, said)
  writeFileSync(path, pod([{ ...initContainers[0], startProbe: {} }]))
  t.not(check(validator.path, ['--strict', path]).status, 0)
})

t.test('the commands of the workers, against the service, with the tokens and the guardrails of the pages', async t => {
  const { client, podOf } = await startForPods(t)
  const { parameters: [{ value: request }] } = workers.spec.arguments
  const [[issueStep], [trainStep]] = ofWorkers('all').steps
  t.strictSame([issueStep.template, trainStep.template], ['issue', 'train'])
  const count = Number(trainStep.withSequence.count)
  t.equal(JSON.parse(request).workers.max, count * (1 + Number(ofWorkers('train').retryStrategy.limit)), 'room for each retry')
  t.equal(JSON.parse(request).window.durationSeconds, workers.spec.activeDeadlineSeconds)
  t.strictSame(ofWorkers('train').container.volumeMounts, [{ name: 'access', mountPath: '/access', readOnly: true }], 'the training has no token')
  const tagged = (word: string, tags: Record<string, string>) => word.replaceAll(/\{\{(.*?)\}\}/g, (_, tag: string) => {
    if (tags[tag] === undefined) throw new Error(`no ${tag}`)
    return tags[tag]
  })
  const global = { 'workflow.name': 'wiki-finetune-x7k2p', 'workflow.parameters.request': request }

  /** A step of one container, with the launcher's token. */
  const runStep = async (name: string) => {
    const { here, env, place } = await podOf(`wiki-finetune-x7k2p-${name}`, 'launcher', {})
    const { inputs, container, outputs } = ofWorkers(name)
    for (const { path, raw } of inputs?.artifacts ?? []) writeFileSync(here(path), tagged(raw.data, global))
    const [program, ...words]: string[] = container.command.map((word: string) => here(tagged(word, global)))
    t.equal(program, 'job-access')
    const ran = await script(process.execPath, ['--disable-warning=ExperimentalWarning', cliFile, ...words], { env, cwd: place })
    t.equal(ran.code, 0, ran.stderr)
    // Argo takes one newline from the end of an output parameter.
    const [output] = outputs?.parameters ?? []
    return output === undefined ? '' : readFileSync(here(output.valueFrom.path), 'utf8').replace(/\n$/, '')
  }
  const grant = await runStep('issue')
  t.equal(await runStep('issue'), grant, 'another try of the step has the same grant')
  t.match(await client.get(grant), { job: { id: 'wiki-finetune-x7k2p', team: 'nlp' }, workers: { max: 8 }, state: 'active' })

  const startPod = async (shard: number, suffix: string) => {
    const name = `wiki-finetune-x7k2p-train-${suffix}`
    const { here, env } = await podOf(name, 'worker', {})
    const { initContainers: [agent], container } = ofWorkers('train')
    const [given] = trainStep.arguments.parameters
    const tags = { 'inputs.parameters.grant': tagged(given.value, { 'steps.issue.outputs.parameters.grant': grant }), 'inputs.parameters.shard': `${shard}` }
    const port = `${await freePort('127.0.0.1')}`
    const fields: Record<string, string> = { POD_NAME: name, POD_UID: `uid-of-${name}`, POD_IP: `10.0.12.${shard + 1}` }
    const word = (given: string) => here(tagged(given, tags).replaceAll(/\$\((\w+)\)/g, (_, field: string) => fields[field] ?? '').replace('9911', port))
    const [program, ...args]: string[] = [...agent.command, ...agent.args].map(word)
    t.equal(program, 'node')
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] })
    t.teardown(() => { child.kill('SIGKILL') })
    await waitUntilStarted(child, agent.startupProbe, here, env)
    const told = (name: string) => word(container.env.find((variable: { name: string }) => variable.name === name).value)
    const answer = await fetch(told('AWS_CONTAINER_CREDENTIALS_FULL_URI'), {
      headers: { authorization: readFileSync(told('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'), 'utf8') }
    })
    return { name, child, ...await answer.json() as { AccessKeyId: string } }
  }
  const pods = await Promise.all(Array.from({ length: count }, (_, shard) => startPod(shard, `${shard}`)))
  const active = async () => (await client.workers(grant, { state: 'active' })).grants
  const keys = Object.fromEntries((await active()).map(({ worker, accessKeyId }) => [worker?.name, accessKeyId]))
  t.strictSame(keys, Object.fromEntries(pods.map(({ name, AccessKeyId }) => [name, AccessKeyId])), 'each pod has the key of its own worker')
  t.equal(new Set(Object.values(keys)).size, count)

  pods[1]?.child.kill('SIGKILL')
  await startPod(1, 'retry')
  t.equal((await active()).length, count + 1, 'the lost pod counts until the job ends')
  const [first] = pods
  first?.child.kill('SIGTERM')
  await once(first?.child ?? t, 'exit')
  t.match(await client.worker(grant, first?.name ?? ''), { state: 'revoked' }, 'a pod that ends, ends its key')
  for (const again of [false, true]) {
    await runStep('complete')
    t.equal((await client.get(grant)).state, 'revoked', again ? 'the exit handler may run again' : 'completed')
    t.strictSame(await active(), [], 'and every key with it')
  }
})

t.test('its commands, against the service', async t => {
  const service = await startService(t)
  const client = createClient({ url: service.url, token: service.token })
  const home = workplace(t)
  for (const name of ['job', 'token', 'bin']) mkdirSync(join(home, name))
  writeFileSync(join(home, 'token', 'token'), service.token)
  const [artifact] = template('train').inputs.artifacts
  t.equal(artifact.raw.data, '{{workflow.parameters.request}}')
  writeFileSync(join(home, 'job', 'request.json'), workflow.spec.arguments.parameters[0].value)
  const training = '#!/bin/sh\necho "asks $AWS_CONTAINER_CREDENTIALS_FULL_URI pid $$ "\n[ "$1" = train.py ] && exec sleep "$TRAIN"\n'
  writeFileSync(join(home, 'bin', 'python'), training, { mode: 0o755 })
  const of = (name: string, retries = '0'): { argv: string[], env: Record<string, string> } => {
    const { command, args = [], env } = template(name).container
    const here = (word: string) => word.replace('{{workflow.name}}', 'wiki-finetune-abc12').replace('{{retries}}', retries)
      .replace('/job/', `${home}/job/`)
      .replace('/var/run/secrets/job-access', `${home}/token`)
    const given = Object.fromEntries(env.map(({ name, value }: { name: string, value: string }) => [name, here(value)]))
    const [program, ...words]: string[] = [...command, ...args].map(here)
    t.equal(program, 'job-access')
    return {
      argv: ['--disable-warning=ExperimentalWarning', cliFile, ...words],
      env: { ...given, JOBACCESS_URL: service.url, PATH: `${home}/bin:${process.env.PATH}`, TRAIN: '0' }
    }
  }
  const statesNow = async () => (await client.list({ job: 'wiki-finetune-abc12' })).grants.map(({ state }) => state)

  const train = of('train')
  const done = await script(process.execPath, train.argv, { env: train.env })
  t.match(done, { code: 0, stdout: /^asks http:\/\/127\.0\.0\.1:\d+\/credentials / }, done.stderr)
  t.strictSame(await statesNow(), ['revoked'], 'it completes itself')

  for (const retries of ['0', '1']) {
    const { argv, env } = of('train', retries)
    const lost = spawn(process.execPath, argv, { env: { ...env, TRAIN: '60' }, stdio: ['ignore', 'pipe', 'ignore'] })
    const [said] = await once(lost.stdout, 'data')
    lost.kill('SIGKILL')
    process.kill(Number(/pid (\d+)/.exec(String(said))?.[1]), 'SIGKILL')
    await once(lost, 'exit')
    t.strictSame(await statesNow(), ['active', 'revoked'], `the pod was lost; retry ${retries} had the workflow’s grant`)
  }
  const complete = of('complete')
  t.match(await script(process.execPath, complete.argv, { env: complete.env }), { code: 0, stdout: / revoked\n$/ })
  t.strictSame(await statesNow(), ['revoked', 'revoked'])
  t.match(await script(process.execPath, complete.argv, { env: complete.env }), { code: 0 }, 'it may run again')
})
