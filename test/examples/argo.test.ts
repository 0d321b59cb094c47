import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { check, cliFile, example, script, tool, workplace } from './example.ts'

const file = example('argo', 'workflow.yaml')
const text = readFileSync(file, 'utf8')
const workflow = parse(text)
const template = (name: string) => workflow.spec.templates.find((template: { name: string }) => template.name === name)

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
wrong += [f"no template {given['spec'][name]}" for name in ("entrypoint", "onExit") if given["spec"].get(name) not in templates]
sys.exit("\\n".join(wrong) if wrong else 0)`

const python = tool('lint', 'bin', 'python')
t.test('Argo’s own models accept it, and would not accept a typo', { skip: python.skip }, async t => {
  t.same(check(python.path, ['-c', validate, file]), { status: 0, said: '' })
  const typo = join(workplace(t), 'typo.yaml')
  const typos = [['retryPolicy', 'retryPolice'], ['onExit: complete', 'onExit: completed'], ['arguments:', 'argument:']] as const
  for (const [right, wrong] of typos) {
    writeFileSync(typo, text.replace(right, wrong))
    t.match(check(python.path, ['-c', validate, typo]), { status: 1, said: new RegExp(wrong.replace(/.*: |:/, '')) }, wrong)
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
