import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { check, cliFile, example, script, tool, workplace } from './example.ts'

const text = readFileSync(example('kubernetes', 'job.yaml'), 'utf8')
const [account, config, job] = parseAllDocuments(text).map(document => document.toJS())
const pod = job.spec.template.spec
const [sidecar] = pod.initContainers
const [train] = pod.containers

const validator = tool('lint', 'bin', 'kubernetes-validate')
t.test('Kubernetes’ own schemas accept it, and would not accept a typo', { skip: validator.skip }, async t => {
  const { status, said } = check(validator.path, ['--strict', example('kubernetes', 'job.yaml')])
  t.equal(status, 0, said)
  const typo = join(workplace(t), 'typo.yaml')
  writeFileSync(typo, text.replace('preStop:', 'preSotp:'))
  t.not(check(validator.path, ['--strict', typo]).status, 0)
})

t.test('only the sidecar has the token; the key is in memory, for the pod’s one user', async t => {
  t.equal(account.automountServiceAccountToken, false)
  t.equal(pod.serviceAccountName, account.metadata.name)
  t.strictSame(train.volumeMounts, [{ name: 'access', mountPath: '/access', readOnly: true }])
  t.equal(pod.volumes.find(({ name }: { name: string }) => name === 'access').emptyDir.medium, 'Memory')
  t.equal(sidecar.restartPolicy, 'Always', 'a sidecar, which ends after the others')
  t.equal(job.spec.activeDeadlineSeconds, JSON.parse(config.data['request.json']).window.durationSeconds)
})

t.test('its commands, against the service: issued before the training starts, completed when it has ended', async t => {
  const service = await startService(t)
  const home = workplace(t)
  for (const name of ['access', 'job', 'token']) mkdirSync(join(home, name))
  writeFileSync(join(home, 'job', 'request.json'), config.data['request.json'])
  writeFileSync(join(home, 'token', 'token'), service.token)
  // What the kubelet and the image would have put there.
  const here = (word: string) => word
    .replaceAll('/app/dist/cli/main.js', cliFile)
    .replaceAll('/var/run/secrets/job-access', join(home, 'token'))
    .replaceAll(/(?<![\w/.-])\/access\b/g, join(home, 'access'))
    .replaceAll(/(?<![\w/.-])\/job\b/g, join(home, 'job'))
  const values: [string, string][] = sidecar.env.map(({ name, value, valueFrom }: { name: string, value?: string, valueFrom?: object }) =>
    [name, here(value ?? (JSON.stringify(valueFrom).includes('metadata.name') ? 'wiki-finetune-x7k2p' : ''))])
  const env = { ...Object.fromEntries(values), PATH: process.env.PATH ?? '', JOBACCESS_URL: service.url }

  const [command = '', ...args]: string[] = [...sidecar.command, ...sidecar.args].map(here)
  const start = () => {
    const child = spawn(command, args, { env, stdio: 'inherit', detached: true })
    t.teardown(() => { if (child.exitCode === null && child.pid) process.kill(-child.pid, 'SIGKILL') })
    return child
  }
  const [probe, ...probeArgs] = sidecar.startupProbe.exec.command.map(here)
  const child = start()
  const exited = once(child, 'exit')
  for (let seconds = 0; (await script(probe, probeArgs, { env })).code !== 0; seconds++) {
    if (seconds >= sidecar.startupProbe.failureThreshold || child.exitCode !== null) throw new Error('the pod would not start')
    await sleep(sidecar.startupProbe.periodSeconds * 1000)
  }
  const credentials = here(train.env.find(({ name }: { name: string }) => name === 'AWS_SHARED_CREDENTIALS_FILE').value)
  t.match(readFileSync(credentials, 'utf8'), /\[default\]\naws_access_key_id = AKIA/)
  const client = createClient({ url: service.url, token: service.token })
  const [grant] = (await client.list({ job: 'wiki-finetune-x7k2p' })).grants
  t.match(grant, { state: 'active', job: { team: 'nlp' } })

  const restarted = start()
  const restartedExit = once(restarted, 'exit')
  await sleep(500)
  t.equal((await client.get(grant?.id ?? '')).accessKeyId, grant?.accessKeyId, 'a restart of the sidecar leaves the key alone')

  const [hook, ...hookArgs] = sidecar.lifecycle.preStop.exec.command.map(here)
  const stopped = await script(hook, ['--disable-warning=ExperimentalWarning', ...hookArgs], { env })
  t.match(stopped, { code: 0, stdout: `${grant?.id} revoked\n` })
  t.equal((await client.get(grant?.id ?? '')).state, 'revoked')
  for (const [process_, ended] of [[child, exited], [restarted, restartedExit]] as const) {
    process_.kill('SIGTERM')
    t.strictSame(await ended, [0, null], 'ends at once')
    if (process_.pid) process.kill(-process_.pid, 'SIGKILL')
  }
  t.ok(existsSync(credentials))
})
