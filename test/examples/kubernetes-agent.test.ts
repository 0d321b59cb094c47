import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { freePort } from '../servers/daemon.ts'
import { cliFile, workplace } from './example.ts'
import { readManifest, testManifest, waitUntilStarted } from './kubernetes-manifest.ts'

const manifest = readManifest('agent.yaml')
const { config, sidecar, train } = manifest

testManifest(t, manifest, ['startupProbe:', 'startupProb:'])

t.test('its command, against the service: what the training container is told works; SIGTERM completes', async t => {
  const service = await startService(t)
  const client = createClient({ url: service.url, token: service.token })
  const home = workplace(t)
  for (const name of ['access', 'job', 'token']) mkdirSync(join(home, name))
  writeFileSync(join(home, 'job', 'request.json'), config.data['request.json'])
  writeFileSync(join(home, 'token', 'token'), service.token)
  const port = `${await freePort('127.0.0.1')}`
  // What the kubelet and the image would have put there.
  const here = (word: string) => word
    .replace('$(POD_NAME)', 'wiki-finetune-x7k2p')
    .replace('9911', port)
    .replaceAll('/app/dist/cli/main.js', cliFile)
    .replaceAll('/var/run/secrets/job-access', join(home, 'token'))
    .replace(/^\/access\b/, join(home, 'access'))
    .replace(/^\/job\b/, join(home, 'job'))
  const environmentOf = (env: { name: string, value?: string }[]) => Object.fromEntries(env.map(({ name, value = '' }) => [name, here(value)]))
  const env = { ...environmentOf(sidecar.env), PATH: process.env.PATH ?? '', JOBACCESS_URL: service.url }
  const [command = '', ...args]: string[] = [...sidecar.command, ...sidecar.args].map(here)
  t.equal(command, 'node')
  const start = async () => {
    const child = spawn(process.execPath, args, { env, stdio: 'ignore' })
    t.teardown(() => { child.kill('SIGKILL') })
    await waitUntilStarted(child, sidecar.startupProbe, here, env)
    return child
  }
  const ask = async () => {
    const { AWS_CONTAINER_CREDENTIALS_FULL_URI: uri = '', AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file = '' } = environmentOf(train.env)
    const answer = await fetch(uri, { headers: { authorization: readFileSync(file, 'utf8') } })
    return await answer.json() as Record<string, string>
  }
  const grants = async () => (await client.list({ job: 'wiki-finetune-x7k2p' })).grants

  const lost = await start()
  const { AccessKeyId } = await ask()
  t.equal(AccessKeyId, (await grants())[0]?.accessKeyId)
  lost.kill('SIGKILL')
  await once(lost, 'exit')
  writeFileSync(join(home, 'access', 'agent.env'), '')
  const agent = await start()
  const [grant, ...more] = await grants()
  t.strictSame(more, [], 'the agent that was started again has the same grant')
  t.match(await ask(), { AccessKeyId: grant?.accessKeyId })
  t.equal(grant?.previousKey?.accessKeyId, AccessKeyId, 'and what the SDKs have in hand still works')

  agent.kill('SIGTERM')
  t.strictSame(await once(agent, 'exit'), [0, null])
  t.match(await grants(), [{ state: 'revoked' }])
})
