import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openStore } from '../../src/doctor/store.ts'

t.test('a search for our own credentials that hangs ends with the call', async t => {
  const config = join(t.testdir({}), 'config')
  writeFileSync(config, `[default]\ncredential_process = ${process.execPath} -e "setTimeout(() => {}, 2000)"\n`)
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...env } = process.env
  t.intercept(process, 'env', { value: { ...env, AWS_CONFIG_FILE: config, AWS_SHARED_CREDENTIALS_FILE: config, AWS_PROFILE: 'default' } })
  const store = await openStore({ region: 'us-east-1', iamEndpoint: 'http://127.0.0.1:1', timeoutMs: 50 })
  t.same(await store.call('ListUsers', {}), { ok: false, code: 'NoAnswer', status: null })
  store.close()
})
