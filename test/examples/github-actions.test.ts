import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { createClient } from '../../src/client/index.ts'
import { startService } from '../commands/service.ts'
import { sign, signingKey, startIssuer } from '../identity/issuer.ts'
import { mintToken } from '../../src/identity/authenticator.ts'
import { check, example, script, tool, workplace, type Script } from './example.ts'

const file = example('github-actions', 'train.yml')
const workflow = parse(readFileSync(file, 'utf8'))
const { steps, env: jobEnv } = workflow.jobs.train
const step = (name: string) => steps.find((step: { name?: string }) => step.name === name)

const actionlint = tool('actionlint')
t.test('actionlint', { skip: actionlint.skip }, async t => {
  t.same(check(actionlint.path, [file]), { status: 0, said: '' })
})

const zizmor = tool('lint', 'bin', 'zizmor')
t.test('zizmor', { skip: zizmor.skip }, async t => {
  const { status, said } = check(zizmor.path, ['--offline', '--no-progress', file])
  t.equal(status, 0, said)
})

t.test('its steps, against the service and a stand-in for GitHub’s OIDC issuer', async t => {
  const home = workplace(t)
  const key = await signingKey('github')
  const issuer = await startIssuer(t, [key.jwk])
  const asked: string[] = []
  const oidc = createServer((request, response) => {
    const audience = new URL(request.url ?? '', 'http://x').searchParams.get('audience')
    asked.push(audience ?? '')
    if (request.headers.authorization !== 'Bearer request-token') return response.writeHead(401).end()
    const now = Math.floor(Date.now() / 1000)
    const claims = { sub: 'repo:acmeco/train-nlp:environment:training', repository: 'acmeco/train-nlp' }
    sign(key, { iss: issuer.url, aud: audience, iat: now, exp: now + 300, ...claims })
      .then(value => response.end(JSON.stringify({ value })), () => response.destroy())
  })
  await new Promise<void>(resolve => oidc.listen(0, '127.0.0.1', resolve))
  t.teardown(() => oidc.close())

  const watcher = mintToken('watcher')
  const audience = 'https://job-access.example.com'
  t.equal(jobEnv.JOBACCESS_URL, audience)
  const identity = join(home, 'identity.json')
  writeFileSync(identity, JSON.stringify({
    tokens: [{ id: 'watcher', sha256: watcher.sha256, teams: ['*'] }],
    issuers: [{ name: 'github', issuer: issuer.url, audience, team: { claim: '/repository', map: { 'acmeco/train-nlp': ['nlp'] } } }]
  }))
  const service = await startService(t, { JOB_ACCESS_IDENTITY: identity })
  const client = createClient({ url: service.url, token: watcher.token })

  const runner = join(home, 'runner')
  mkdirSync(runner)
  writeFileSync(join(home, 'job-request.json'), readFileSync(example('github-actions', 'job-request.json')))
  const env = (more: Record<string, string> = {}): Record<string, string> => ({
    PATH: process.env.PATH ?? '',
    RUNNER_TEMP: runner,
    GITHUB_OUTPUT: join(runner, 'output'),
    GITHUB_RUN_ID: '123456789',
    GITHUB_RUN_ATTEMPT: '1',
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'request-token',
    ACTIONS_ID_TOKEN_REQUEST_URL: `http://127.0.0.1:${(oidc.address() as AddressInfo).port}/token?api-version=2.0`,
    JOBACCESS_URL: service.url,
    ...more
  })
  // GitHub runs `shell: bash` like this. The audience is the public name; the test's service has another address.
  const bash = (run: string, vars: Record<string, string>): Promise<Script> =>
    script('bash', ['--noprofile', '--norc', '-eo', 'pipefail', '-c', run.replaceAll('audience=$JOBACCESS_URL', `audience=${audience}`)],
      { env: vars, cwd: home })

  const issued = await bash(step('Issue').run, env())
  t.equal(issued.code, 0, issued.stdout + issued.stderr)
  const [grant] = (await client.list({ job: 'github-123456789-1' })).grants
  t.match(grant, { state: 'active', owner: 'oidc:github#repo:acmeco/train-nlp:environment:training' })
  t.equal(readFileSync(join(runner, 'output'), 'utf8'), `grant=${grant?.id}\n`)
  const credentials = join(runner, 'credentials')
  const { events } = await client.events(grant?.id ?? '')
  t.match(events[0], { action: 'pending', detail: { idempotency: 'header' } }, 'a retry of curl is known as one')
  t.equal(statSync(credentials).mode & 0o777, 0o600)
  const [, secret = ''] = /aws_secret_access_key = (\S+)/.exec(readFileSync(credentials, 'utf8')) ?? []
  t.ok(issued.stdout.includes(`::add-mask::${secret}\n`))
  t.equal(issued.stdout.replaceAll(/^::add-mask::.*$/gm, '').trim(), '', 'nothing else is said')
  t.equal(step('Train').env.AWS_SHARED_CREDENTIALS_FILE.replace(/\$\{\{ runner\.temp \}\}/, runner), credentials)

  t.match(step('Complete').if, /always\(\)/)
  const completed = await bash(step('Complete').run, env({ GRANT: grant?.id ?? '' }))
  t.equal(completed.stdout.split('\n').at(-2), `${grant?.id} revoked`, completed.stderr)
  t.equal((await client.get(grant?.id ?? '')).state, 'revoked')
  t.notOk(existsSync(credentials))
  t.strictSame(asked, [audience, audience])

  writeFileSync(join(home, 'job-request.json'), JSON.stringify({ job: { id: '', team: 'vision' } }))
  const refused = await bash(step('Issue').run, env({ GITHUB_RUN_ATTEMPT: '2' }))
  t.equal(refused.code, 1)
  t.match(refused.stdout, /"hint"/, 'the refusal is shown')
})
