import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { cliFile, script, workplace } from './example.ts'
import { readManifest, testManifest, waitUntilStarted } from './kubernetes-manifest.ts'

const manifest = readManifest('job.yaml')
const { config, job, sidecar, train } = manifest

testManifest(t, manifest, ['preStop:', 'preSotp:'])

t.test('the pod ends with the window', async t => {
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
  const downward: Record<string, string> = { 'metadata.name': 'wiki-finetune-x7k2p', 'metadata.uid': '3f1c9c52-5f0e-4a0c-9a55-1b1f4f8a7e11' }
  const values: [string, string][] = sidecar.env.map(({ name, value, valueFrom }: { name: string, value?: string, valueFrom?: object }) =>
    [name, here(value ?? downward[(valueFrom as { fieldRef: { fieldPath: string } }).fieldRef.fieldPath] ?? '')])
  const env = { ...Object.fromEntries(values), PATH: process.env.PATH ?? '', JOBACCESS_URL: service.url }

  const [command = '', ...args]: string[] = [...sidecar.command, ...sidecar.args].map(here)
  const start = () => {
    const child = spawn(command, args, { env, stdio: 'inherit', detached: true })
    t.teardown(() => { if (child.exitCode === null && child.pid) process.kill(-child.pid, 'SIGKILL') })
    return child
  }
  const child = start()
  const exited = once(child, 'exit')
  await waitUntilStarted(child, sidecar.startupProbe, here, env)
  const credentials = here(train.env.find(({ name }: { name: string }) => name === 'AWS_SHARED_CREDENTIALS_FILE').value)
  t.match(readFileSync(credentials, 'utf8'), /\[default\]\naws_access_key_id = AKIA/)
  const client = createClient({ url: service.url, token: service.token })
  const [grant] = (await client.list({ job: 'wiki-finetune-x7k2p' })).grants
  t.match(grant, { state: 'active', job: { team: 'nlp' }, attempt: downward['metadata.uid'] })

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
