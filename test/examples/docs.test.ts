import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { variables } from '../../src/cli/settings.ts'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../cli/service.ts'
import { root, script, tool, workplace } from './example.ts'

const text = readFileSync(join(root, 'docs', 'orchestrators.md'), 'utf8')
const blocks = (language: string) =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, block = '']) => block)
const shell = blocks('sh')
const aws = tool('lint', 'bin', 'aws')

t.test('every block, pasted one after the other into one shell', { skip: aws.skip }, async t => {
  t.equal(shell.length + blocks('ts').length, [...text.matchAll(/^```\w/gm)].length, 'no other kind of block')
  const service = await startService(t)
  const home = workplace(t)
  // A checkout that may be written to, and an npm whose global is not the machine's.
  for (const name of ['client', 'src', 'package.json', 'tsconfig.json']) cpSync(join(root, name), join(home, name), { recursive: true })
  rmSync(join(home, 'client', 'dist'), { recursive: true, force: true })
  symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'))
  mkdirSync(join(home, 'prefix'))
  const telling = 'print("key", "AWS_ACCESS_KEY_ID" in environ, "file", environ.get("AWS_SHARED_CREDENTIALS_FILE"))'
  writeFileSync(join(home, 'train.py'), `from os import environ\n${telling}\n`)
  const cache = '/dev/shm/wiki-finetune-42'
  const here = (block: string) => block
    .replace('http://127.0.0.1:8080', service.url).replace('jat_from_npm_start', service.token).replaceAll(cache, join(home, 'cache'))
  const pasted = shell.map((block, index) => `echo "== ${index}"\n${here(block)}`).join('')
  const ran = await script('bash', ['-euo', 'pipefail', '-c', pasted], {
    cwd: home,
    env: {
      PATH: `${home}/prefix/bin:${dirname(aws.path)}:${process.env.PATH}`,
      HOME: home,
      npm_config_prefix: join(home, 'prefix'),
      npm_config_cache: join(home, 'npm-cache'),
      npm_config_loglevel: 'error',
      NODE_OPTIONS: '--disable-warning=ExperimentalWarning'
    }
  })
  t.equal(ran.code, 0, ran.stdout + ran.stderr)
  const said = ran.stdout.split(/^== \d+\n/m).slice(1)
  const expected: RegExp[] = [
    /exit codes: 0 done/,
    /^$/,
    /^key True file None\n$/,
    /"Version": "2012-10-17".*^Allow {2}.*^allow: /ms,
    /^key False file credentials\n[0-9a-z]{26} revoked\n$/,
    /"notAfter".*^[0-9a-z]{26} {2}active .* nlp {2}wiki-finetune-42\n.* revoked\n$/ms,
    /custom-process.* revoked\n$/s
  ]
  t.equal(said.length, expected.length)
  for (const [index, pattern] of expected.entries()) t.match(said[index], pattern, shell[index]?.split('\n')[0] ?? '')
  t.match(readFileSync(join(home, 'job.env'), 'utf8'), /^AWS_SECRET_ACCESS_KEY=/m)
  t.ok(existsSync(join(home, 'cache')))
  const client = createClient({ url: service.url, token: service.token })
  t.strictSame((await client.list({ state: 'active' })).grants, [], 'nothing is left open')

  const [program = ''] = blocks('ts')
  mkdirSync(join(home, 'app'))
  writeFileSync(join(home, 'app', 'package.json'), '{"type":"module"}')
  writeFileSync(join(home, 'app', 'main.ts'), program)
  spawnSync('npm', ['install', '--offline', '--no-audit', '--no-fund', '../job-access-client-1.0.0.tgz'], { cwd: join(home, 'app') })
  const typed = await script(process.execPath, ['--disable-warning=ExperimentalWarning', 'main.ts'], {
    cwd: join(home, 'app'), env: { JOBACCESS_URL: service.url, JOBACCESS_TOKEN: service.token }
  })
  t.same(typed, { code: 0, stdout: 'from-typescript revoked\n', stderr: '' })
})

t.test('what there is, is said; what is said, is there', async t => {
  for (const name of Object.keys(variables)) t.ok(text.includes(`| \`${name}\` |`), name)
  for (const [, path = ''] of text.matchAll(/\]\((\.\.\/[^)]+)\)/g)) t.ok(existsSync(join(root, 'docs', path)), path)
})
