import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { startCommand } from './service.ts'

t.test('the command that npm start prints works when pasted, and when pasted again', async t => {
  const server = join(import.meta.dirname, '..', '..', 'src', 'server.ts')
  const env = { PATH: process.env.PATH ?? '', LOG_LEVEL: 'silent', PORT: '0' }
  const { says, said } = startCommand(t, [process.execPath, '--disable-warning=ExperimentalWarning', server], env)
  await says("}'\n")
  const command = /^curl .*\}'$/ms.exec(said())?.[0] ?? ''
  const paste = () => execFileSync('sh', ['-c', `${command} -o /dev/null -w '%{http_code}'`], { encoding: 'utf8' })
  t.equal(paste(), '201')
  // Its job is named after the second.
  await delay(1_100)
  t.equal(paste(), '201')
})
