import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readConfig } from '../../../src/config.ts'
import { complaint, root, run } from './tools.ts'

interface Service {
  environment: Record<string, string | null>
  ports?: Array<{ host_ip?: string, target: number }>
  secrets: Array<{ source: string }>
  networks: Record<string, unknown>
  read_only?: boolean
  cap_drop?: string[]
  entrypoint?: string[]
}
interface Project { services: Record<'job-access' | 'postgres', Service>, secrets: Record<string, { file: string }>, networks: Record<string, { internal?: boolean }> }

t.test('production on one machine', async t => {
  const text = readFileSync(join(root, 'deploy/compose/docker-compose.yml'), 'utf8')
  const dir = t.testdir({ 'docker-compose.yml': text })
  const file = join(dir, 'docker-compose.yml')
  const missing = complaint('composeConfig', [file]) ?? ''
  t.match(missing, /JOB_ACCESS_IMAGE is missing/)
  t.match(missing, /JOB_ACCESS_BOUNDARY_ARN is missing/)
  // compose-go's command has no variables of its own to put in.
  const given: Record<string, string> = { JOB_ACCESS_IMAGE: 'registry.example.com/job-access:0.1.0', JOB_ACCESS_BOUNDARY_ARN: 'arn:aws:iam::111122223333:policy/b' }
  writeFileSync(file, text.replace(/\$\{(\w+):\?[^}]*\}/g, (_whole, name: string) => given[name] ?? ''))
  const { services, secrets, networks } = JSON.parse(run('composeConfig', ['-format', 'json', file])) as Project
  t.strictSame(Object.keys(services).sort(), ['job-access', 'postgres'])

  const service = services['job-access']
  // The image's own variables, and its secrets as files.
  t.equal(service.environment.DATABASE_URL_FILE, '/run/secrets/database-url')
  t.ok(service.secrets.every(({ source }) => Object.values(service.environment).includes(`/run/secrets/${source}`)), 'each is used')
  const database = join(t.testdir({ url: 'postgres://u:p@postgres/job_access' }), 'url')
  const env = { HOST: '0.0.0.0', PORT: '8080', ...service.environment, DATABASE_URL_FILE: database } as Record<string, string>
  t.match(readConfig(env), { JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_ALLOW: [], JOB_ACCESS_METRICS_PORT: 9464 })
  t.ok(service.ports?.every(port => port.host_ip === '127.0.0.1'), 'on loopback, for a proxy')
  t.match(service, { read_only: true, cap_drop: ['ALL'] })
  t.notOk(services.postgres.ports, 'the database is nobody’s else')
  t.strictSame(Object.keys(services.postgres.networks).map(name => networks[name]?.internal), [true])

  t.strictSame(Object.keys(secrets).sort(), ['aws-credentials', 'database-url', 'identity.json', 'postgres-password'])
  const used = Object.values(services).flatMap(each => each.secrets.map(({ source }) => source))
  t.strictSame(used.sort(), Object.keys(secrets).sort(), 'every secret is a file, given to one service')
  for (const { environment } of Object.values(services)) {
    for (const [name, value] of Object.entries(environment)) t.ok(name.endsWith('_FILE') || !/PASSWORD|SECRET|DATABASE_URL/.test(name + (value ?? '')), name)
  }
  t.notOk(service.entrypoint, 'the image’s own command: what starts in the container otherwise has the same configuration')
})
