import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { startCommand } from './service.ts'

t.test('the command that npm start prints works when pasted, and when pasted again at once', async t => {
  const server = join(import.meta.dirname, '..', '..', 'src', 'server.ts')
  const env = { PATH: process.env.PATH ?? '', LOG_LEVEL: 'silent', PORT: '0' }
  const { says, said } = startCommand(t, [process.execPath, '--disable-warning=ExperimentalWarning', server], env)
  await says("}'\n")
  const command = /^curl .*\}'$/ms.exec(said())?.[0] ?? ''
  const paste = `${command} -o /dev/null -w '%{http_code} '`
  t.equal(execFileSync('sh', ['-c', `${paste}\n${paste}`], { encoding: 'utf8' }), '201 201 ')
})
