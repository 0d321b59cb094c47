import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { serveCredentials } from '../../../src/cli/credentials-server.ts'
import { agentSettings } from '../../../src/cli/local-agent.ts'
import { agentWorld } from '../../commands/agent-world.ts'
import { awsClients } from './clients.ts'

// It takes a minute, in which the other files run.

const world = await agentWorld(t)
const { client } = world
const { boto3 } = awsClients(t, world)

t.test('with the usual --valid-for boto3 asks once a minute, not for every call', async t => {
  const { credentials } = await client.issue({ job: { id: 'pace', team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets' }], sourceIps: ['203.0.113.42'], window: { durationSeconds: 7200 } })
  const { accessKeyId = '', secretAccessKey = '' } = credentials ?? {}
  const key = { grantId: '', accessKeyId, secretAccessKey, sessionToken: undefined, receivedAt: 0, end: Date.now() + 7_200_000 }
  const { validForMs } = await agentSettings({})
  let asked = 0
  const server = await serveCredentials(0, validForMs, async () => {
    asked++
    return { key }
  })
  t.teardown(() => server.close())
  const worker = boto3(t, { AWS_CONTAINER_CREDENTIALS_FULL_URI: server.url, AWS_CONTAINER_AUTHORIZATION_TOKEN: server.token })
  t.equal(await worker.use(), accessKeyId)
  // A busy machine is given ten seconds on both sides of the minute.
  const began = Date.now()
  for (; Date.now() < began + 50_000; await delay(1_000)) t.equal(await worker.use(), accessKeyId)
  t.equal(asked, 1)
  await delay(began + 70_000 - Date.now())
  await worker.use()
  t.equal(asked, 2)
})
