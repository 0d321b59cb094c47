import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { blocksOf } from '../../docs/markdown.ts'
import { mintToken } from '../../../src/identity/authenticator.ts'
import { startIam } from '../../kill/processes.ts'
import { freePort, serverEnv } from '../../servers/daemon.ts'
import { root } from './tools.ts'

/**
 * The commands of docs/operating.md in the files of the image. There is no Docker here: each stage of the Dockerfile is a folder, in which
 * this test does what the instructions say. Only npm is another: this checkout has the packages already.
 */

const place = t.testdir()
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const instructions = read('Dockerfile').replace(/^ *#.*\n/gm, '').replaceAll(/ *\\\n */g, ' ').split('\n').filter(line => line !== '')
const page = read('docs/operating.md')

interface Stage { at: string, dir: string, env: Record<string, string>, entrypoint: string[], healthcheck: string[] }

/** What .dockerignore leaves of the checkout: everything is excluded, and each `!` line lets one path in. */
const sent = read('.dockerignore').split('\n').filter(line => line.startsWith('!')).map(line => line.slice(1))
const isSent = (path: string) => sent.some(entry => path === entry || path.startsWith(`${entry}/`) || entry.startsWith(`${path}/`))

/** `npm ci` and `npm prune --omit=dev`, by links to what this checkout has installed. */
const npm = `#!${process.execPath}
const { mkdirSync, readFileSync, rmSync, symlinkSync } = require('node:fs')
const { spawnSync } = require('node:child_process')
const { dirname } = require('node:path')
const [command, ...args] = process.argv.slice(2)
if (command === 'ci') symlinkSync(${JSON.stringify(join(root, 'node_modules'))}, 'node_modules')
else if (command === 'prune' && args.includes('--omit=dev')) {
  rmSync('node_modules')
  for (const [path, { dev, link }] of Object.entries(JSON.parse(readFileSync('package-lock.json')).packages)) {
    if (dev || link || !/^node_modules\\/(@[^/]+\\/)?[^/]+$/.test(path)) continue
    mkdirSync(dirname(path), { recursive: true })
    symlinkSync(${JSON.stringify(root)} + '/' + path, path)
  }
} else process.exit(spawnSync('npm', [command, ...args], { stdio: 'inherit', env: { ...process.env, PATH: process.env.PATH.replace(/^[^:]*:/, '') } }).status ?? 1)
`

/** The paths of a stage, in its folder. */
const localIn = (at: string, text: string) => text.replaceAll(/(?<=^|[\s'=])\/(?=(?:app|data)\b)/g, `${at}/`)

const build = (): Stage => {
  const bin = join(place, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'npm'), npm)
  chmodSync(join(bin, 'npm'), 0o755)
  symlinkSync(process.execPath, join(bin, 'node'))
  const stages = new Map<string, Stage>()
  let stage: Stage | undefined
  for (const line of instructions) {
    const [, word = '', rest = ''] = /^(\w+) (.*)$/.exec(line) ?? []
    const words = rest.split(' ')
    if (word === 'FROM') {
      const at = join(place, `stage-${stages.size}`)
      stage = { at, dir: '/', env: {}, entrypoint: [], healthcheck: [] }
      stages.set(words[2] ?? 'last', stage)
      mkdirSync(at)
      continue
    }
    if (!stage) throw new Error(line)
    const { at } = stage
    const inside = (path: string) => join(at, path.startsWith('/') ? path : join(stage?.dir ?? '/', path))
    switch (word) {
      case 'WORKDIR':
        stage.dir = rest
        mkdirSync(inside(rest), { recursive: true })
        break
      case 'ENV':
        for (const pair of words) stage.env[pair.split('=')[0] ?? ''] = pair.split('=')[1] ?? ''
        break
      case 'COPY': {
        const from = words[0]?.startsWith('--from=') ? stages.get(words.shift()?.slice('--from='.length) ?? '')?.at : undefined
        const to = words.pop() ?? ''
        for (const source of words) {
          const target = inside(to.endsWith('/') ? join(to, source.split('/').at(-1) ?? '') : to)
          cpSync(from === undefined ? join(root, source) : join(from, source), target, {
            recursive: true, verbatimSymlinks: true, filter: path => from !== undefined || isSent(path.slice(root.length + 1))
          })
        }
        break
      }
      case 'RUN': {
        const asOneUser = rest.replaceAll(' -o node -g node', '').replace(/^chown -R root:root \S+ && /, '')
        execFileSync('sh', ['-ec', localIn(at, asOneUser)], { cwd: inside('.'), env: { ...process.env, PATH: `${bin}:${process.env.PATH}` }, stdio: ['ignore', 'ignore', 'inherit'] })
        break
      }
      case 'ENTRYPOINT': stage.entrypoint = JSON.parse(rest) as string[]; break
      case 'HEALTHCHECK': stage.healthcheck = JSON.parse(rest.slice(rest.indexOf('CMD ') + 4)) as string[]; break
      case 'USER': case 'VOLUME': case 'EXPOSE': case 'STOPSIGNAL': break
      default: throw new Error(`this test does not know ${line}`)
    }
  }
  const last = stages.get('last')
  if (!last) throw new Error('no stage')
  return last
}

const image = build()
const local = (text: string) => localIn(image.at, text)
const port = await freePort('127.0.0.1')
const iam = await startIam(0)
t.teardown(() => iam.stop())
const { token, sha256 } = mintToken('admin')
const config = join(place, 'config')
mkdirSync(config)
writeFileSync(join(config, 'identity.json'), JSON.stringify({ tokens: [{ id: 'admin', sha256, teams: ['*'] }], issuers: [] }))
writeFileSync(join(config, 'audit.json'), JSON.stringify({ path: join(image.at, 'data/audit/audit') }))
writeFileSync(join(config, 'credentials'), `[default]\naws_access_key_id = ${iam.admin.accessKeyId}\naws_secret_access_key = ${iam.admin.secretAccessKey}\n`)
const env = {
  ...serverEnv({
    ...image.env,
    HOST: '127.0.0.1',
    PORT: `${port}`,
    JOB_ACCESS_PROVIDER: 'localstack',
    AWS_ENDPOINT_URL: iam.url,
    AWS_SHARED_CREDENTIALS_FILE: join(config, 'credentials'),
    AWS_EC2_METADATA_DISABLED: 'true',
    JOB_ACCESS_IDENTITY: join(config, 'identity.json'),
    JOB_ACCESS_AUDIT: join(config, 'audit.json'),
    JOB_ACCESS_INSTANCE: 'job-access-0'
  }),
  PATH: `${join(place, 'bin')}:${process.env.PATH}`
}
const inImage = (command: string, args: string[]) => spawnSync(command, args, { cwd: join(image.at, image.dir), env, encoding: 'utf8' })
const shell = (line: string) => inImage('sh', ['-c', local(line)])

t.test('the image has what runs, and no scripts that name what it lacks', async t => {
  const { scripts, devDependencies } = JSON.parse(readFileSync(join(image.at, 'app/package.json'), 'utf8')) as Record<string, object | undefined>
  t.strictSame([scripts, devDependencies], [undefined, undefined])
  t.notOk(existsSync(join(image.at, 'app/src')), 'no sources')
  t.notOk(existsSync(join(image.at, 'app/node_modules/typescript')), 'no tools')
})

t.test('each operator command of the page is there', async t => {
  const names = [...page.matchAll(/\| `npm run -s [\w:-]+` \| `([\w-]+)\.js` \|/g)].map(match => match[1] ?? '')
  const commands = readdirSync(join(root, 'src/commands')).map(name => name.replace('.ts', '')).filter(name => name !== 'command')
  t.strictSame(names.sort(), commands.sort())
  for (const name of names) t.match(shell(`node /app/dist/commands/${name}.js --help`), { status: 0, stdout: /^Usage: / }, name)
})

t.test('the runbooks’ commands, beside the service', async t => {
  const [command = '', ...args] = image.entrypoint.map(local)
  const service = spawn(command, args, { cwd: join(image.at, image.dir), env, stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(async () => {
    service.kill()
    if (service.exitCode === null) await once(service, 'exit')
  })
  const url = `http://127.0.0.1:${port}`
  for (let tries = 0; !await fetch(`${url}/healthz`).then(({ ok }) => ok, () => false); tries++) {
    if (tries > 600 || service.exitCode !== null) throw new Error('the service did not start')
    await delay(50)
  }
  const [healthy = '', ...check] = image.healthcheck
  t.equal(inImage(healthy, check).status, 0, 'its health check')
  for (const path of ['/console/', '/docs/', '/openapi.json', '/readyz']) t.equal((await fetch(url + path)).status, 200, path)
  const issued = await fetch(`${url}/v1/grants`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      job: { id: 'j', team: 'nlp' }, datasets: [{ bucket: 'acmeco-datasets', prefix: 'wiki/' }], sourceIps: ['203.0.113.42/32'], window: { durationSeconds: 3600 }
    })
  })
  t.equal(issued.status, 201, await issued.text())

  const lines = blocksOf('docs/operating.md', page).filter(({ needs }) => needs === 'image').flatMap(({ text }) => text.trim().split('\n'))
  t.ok(lines.length >= 3)
  for (const line of lines) {
    const [, inside] = /^(?:kubectl exec job-access-0|docker compose exec job-access)(?: --)? (.*)$/.exec(line) ?? []
    if (inside === undefined) throw new Error(`where does this run: ${line}`)
    const { status, stdout, stderr } = shell(inside)
    t.equal(status, 0, `${line}\n${stdout}${stderr}`)
    t.match(stdout, /reconcile/.test(line) ? /^1 seen, 0 found, 0 failed/ : /^OK job-access-0: \d+ lines/, line)
  }
  // Those that the runbooks name in words.
  for (const [said, line, told] of [
    ['own-policies service --account …', 'node /app/dist/commands/own-policies.js service --account 111122223333', /CreateUser/],
    ['guardrails test FILE CASES', 'node /app/dist/commands/guardrails.js test /app/guardrails/example.cedar /app/guardrails/example.tests.yaml', /passed|ok/i],
    ['audit-verify FILES', 'node /app/dist/commands/audit-verify.js /data/audit/audit.*.jsonl', /^OK/],
    ['reconcile --dry-run', 'node /app/dist/commands/reconcile.js --dry-run', /dry run/]
  ] as const) {
    t.ok(page.includes(`\`${said}\``), `the page says: ${said}`)
    const { status, stdout, stderr } = shell(line)
    t.match({ status, stdout }, { status: 0, stdout: told }, stderr)
  }
})
