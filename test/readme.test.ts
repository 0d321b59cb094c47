import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import t from 'tap'
import { boundaryPolicy, servicePolicy } from '../src/iam/own-policies.ts'
import { appOf, bearer, bench } from './harness.ts'

const root = new URL('..', import.meta.url)
const readme = readFileSync(new URL('README.md', root), 'utf8')
const packageJson = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'))
const blocks = (language: string) => [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(match => match[1] ?? '')

t.test('the service’s policies are those of the code', async t => {
  const options = {
    partition: 'aws' as const,
    accountId: '111122223333',
    pathBase: '/job-access/',
    boundaryArn: 'arn:aws:iam::111122223333:policy/job-access-boundary',
    roles: [],
    buckets: []
  }
  t.strictSame(JSON.parse(blocks('json service-policy')[0] ?? ''), servicePolicy(options))
  t.strictSame(JSON.parse(blocks('json boundary-policy')[0] ?? ''), boundaryPolicy(options))
})

t.test('the curl commands work when pasted, in order', async t => {
  const b = await bench(t, { now: Date.now })
  const app = await appOf(t, b)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const scripts = blocks('sh').filter(block => block.includes('curl '))
  t.equal(scripts.length, 2)
  const run = async (script: string, id: string) => {
    const text = script.replaceAll('http://127.0.0.1:8080', url).replaceAll('curl -sS', 'curl -sS --fail-with-body')
    return (await promisify(execFile)('bash', ['-euc', text], { env: { ...process.env, TOKEN: b.tokens.nlp, ID: id } })).stdout
  }
  const issued = JSON.parse(await run(scripts[0] ?? '', ''))
  t.match(issued, { grant: { state: 'active', layout: 'guarded' }, credentials: { secretAccessKey: /.+/ } })
  const rest = await run(scripts[1] ?? '', issued.grant.id)
  t.match(rest, /"allowed":false/)
  t.match(rest, /"state":"revoked"/)
  t.equal(b.iam.state.userCount, 0)
  const listed = await app.inject({ method: 'GET', url: '/v1/grants', headers: bearer(b.tokens.nlp) })
  t.match(listed.json().grants, [{ id: issued.grant.id, state: 'revoked' }])
})

t.test('every npm script that it names is there, and every page', async t => {
  for (const match of readme.matchAll(/npm run (?:-s )?([a-z:-]+)/g)) t.ok(packageJson.scripts[match[1] ?? ''], match[0])
  for (const match of readme.matchAll(/\]\(([a-z]+\/[a-z.]+)[#)]/g)) t.doesNotThrow(() => readFileSync(new URL(match[1] ?? '', root)), match[0])
})
