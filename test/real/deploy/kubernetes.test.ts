import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse, parseAllDocuments, stringify } from 'yaml'
import { auditFaults } from '../../../src/audit/config.ts'
import { profileFaults, readConfig } from '../../../src/config.ts'
import { loadGuardrails } from '../../../src/guardrails/guardrails.ts'
import { complaint, root, run } from './tools.ts'

const chart = 'deploy/helm/job-access'
/** Without it a helm that was built from source takes itself for an old one. */
const kubernetes = '1.33.0'
const template = (values: string, ...more: string[]) =>
  ['template', 'job-access', chart, '--kube-version', kubernetes, '-n', 'job-access', '-f', join(chart, 'ci', `${values}-values.yaml`), ...more]

interface EnvVar { name: string, value?: string, valueFrom?: object }
interface Container {
  image: string
  env: EnvVar[]
  securityContext: object
  volumeMounts: Array<{ name: string, mountPath: string, readOnly?: boolean }>
  ports: Array<{ name: string, containerPort: number }>
  readinessProbe: { httpGet: { path: string } }
  livenessProbe: { httpGet: { path: string } }
}
interface Pod {
  containers: [Container]
  volumes: Array<{ name: string, secret?: { secretName: string, defaultMode?: number }, configMap?: { name: string }, items?: unknown[] }>
  automountServiceAccountToken: boolean
  enableServiceLinks: boolean
  securityContext: object
  terminationGracePeriodSeconds: number
}
interface Manifest {
  kind: string
  metadata: { name: string, namespace?: string, labels: Record<string, string>, annotations?: Record<string, string> }
  data: Record<string, string>
  spec: {
    template: { metadata: { labels: Record<string, string> }, spec: Pod }
    selector: { matchLabels: Record<string, string> } & Record<string, string>
    volumeClaimTemplates: Array<{ metadata: { name: string } }>
    ingress: Array<{ from?: unknown[], ports: unknown[] }>
    egress: Array<{ to?: unknown[], ports: Array<{ port: number }> }>
    groups: Array<{ rules: Array<{ annotations: { runbook_url: string } }> }>
    tls: unknown[]
    rules: Array<{ host: string, http: { paths: Array<{ backend: { service: { name: string } } }> } }>
  }
}

const manifests = (text: string): Manifest[] =>
  parseAllDocuments(text).map(document => document.toJS() as Manifest | null).filter(found => found !== null)
const one = (found: Manifest[], kind: string, name = 'job-access'): Manifest => {
  const match = found.find(manifest => manifest.kind === kind && manifest.metadata.name === name)
  if (!match) throw new Error(`no ${kind} ${name}`)
  return match
}

/** Structure against the schemas of Kubernetes; unknown fields are refused. */
const conforms = (t: Test, text: string) => {
  const file = join(t.testdir(), 'manifests.yaml')
  writeFileSync(file, text)
  t.equal(complaint('kubernetesValidate', ['--strict', '--quiet', '--no-warn', '-k', '1.33', file]), undefined, 'valid, strictly')
}

/** What the pod's environment comes to, with its files in a folder of this machine. */
const configured = (t: Test, { spec }: Manifest, files: Record<string, string>) => {
  const dir = t.testdir(files)
  const local = (value: string) => value.replace(/^\/run\/(?:secrets\/)?(\w+)\/[\w.-]+$/, (path, mount: string) => mount in files ? join(dir, mount) : path)
  return readConfig(Object.fromEntries(spec.template.spec.containers[0].env.map(({ name, value }) =>
    [name, value === undefined ? 'job-access-0' : local(value)])))
}

const checkPod = (t: Test, found: Manifest[]) => {
  const set = one(found, 'StatefulSet')
  const pod = set.spec.template.spec
  const [container] = pod.containers
  t.match(pod, { automountServiceAccountToken: false, securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } } })
  t.equal(pod.enableServiceLinks, false, 'the variables of Service job-access, JOB_ACCESS_PORT and so on, would be unknown ones')
  t.match(container.securityContext, { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } })
  t.equal(container.readinessProbe.httpGet.path, '/readyz')
  t.equal(container.livenessProbe.httpGet.path, '/healthz', 'a provider that is down must not restart it')
  t.ok(pod.terminationGracePeriodSeconds > 25)
  const volumes = [...pod.volumes, ...set.spec.volumeClaimTemplates.map(claim => claim.metadata)].map(({ name }) => name)
  const mounted = pod.containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name))
  t.strictSame([...new Set(mounted)].sort(), volumes.sort(), 'every volume is mounted')
  t.ok(container.volumeMounts.every(({ mountPath, readOnly }) => readOnly === true || mountPath === '/data'), 'only /data can be written')
  for (const [key, value] of Object.entries(set.spec.selector.matchLabels)) t.equal(set.spec.template.metadata.labels[key], value, key)
  for (const { name, valueFrom } of container.env) {
    t.notMatch(name, /SECRET_ACCESS_KEY|TOKEN$|URL$(?<!ENDPOINT_URL)/, 'no secret in the manifest')
    t.notMatch(valueFrom, { secretKeyRef: {} }, 'secrets are files: a variable shows in crash dumps, and children have it')
  }
  for (const { name, secret } of pod.volumes) if (secret && name !== 'database-ca') t.equal(secret.defaultMode, 0o440, `${name}: for its user alone`)
  const accounts = found.find(({ kind }) => kind === 'ConfigMap')?.data['accounts.json']
  return configured(t, set, { database: 'postgres://u:p@db/job_access\n', ...(accounts !== undefined && { config: accounts }) })
}

/** The files that the pod's variables name, and what mounts them. */
const mountOf = (found: Manifest[], path: string) => {
  const { containers: [{ volumeMounts }], volumes } = one(found, 'StatefulSet').spec.template.spec
  const mount = volumeMounts.find(({ mountPath }) => path.startsWith(`${mountPath}/`))
  return { ...volumes.find(({ name }) => name === mount?.name), mountPath: mount?.mountPath }
}
const variable = (found: Manifest[], name: string) => one(found, 'StatefulSet').spec.template.spec.containers[0].env.find(one => one.name === name)?.value ?? ''

t.test('the chart with everything on', async t => {
  t.equal(complaint('helm', ['lint', '--strict', '--quiet', '--kube-version', kubernetes, chart, '-f', join(chart, 'ci/aws-values.yaml')]), undefined)
  const text = run('helm', template('aws'))
  conforms(t, text)
  const found = manifests(text)
  t.strictSame(found.map(({ kind }) => kind).sort(), [
    'ConfigMap', 'Ingress', 'NetworkPolicy', 'PodDisruptionBudget', 'PrometheusRule', 'Service', 'Service', 'Service', 'ServiceAccount', 'ServiceMonitor',
    'StatefulSet'
  ])
  const config = checkPod(t, found)
  t.match(config, { JOB_ACCESS_PROVIDER: 'aws', JOB_ACCESS_MAX_WINDOW_SECONDS: 86_400, JOB_ACCESS_METRICS_PORT: 9464, instance: 'job-access-0' })
  t.strictSame(config.JOB_ACCESS_ALLOW, [], 'nothing is let through that is refused otherwise')
  t.ok(config.DATABASE_URL)
  const { data } = one(found, 'ConfigMap', 'job-access-config')
  const audit: unknown = JSON.parse(data['audit.json'] ?? '')
  t.strictSame(auditFaults(audit), [])
  t.match(audit, { path: '/data/audit/audit', hmacKeyFile: '/run/secrets/audit/key' })
  t.ok(loadGuardrails(data['guardrails.cedar'] ?? '', 'guardrails.cedar'))
  t.strictSame(profileFaults(JSON.parse(data['profiles.json'] ?? '')), [])
  t.match(mountOf(found, config.JOB_ACCESS_PROFILES ?? ''), { configMap: { name: 'job-access-config', items: [{}, { path: 'profiles.json' }] } })
  t.match(mountOf(found, variable(found, 'DATABASE_URL_FILE')), { secret: { secretName: 'job-access-database', items: [{ key: 'url', path: 'url' }] } })
  const values = readFileSync(join(root, chart, 'values.yaml'), 'utf8')
  t.match(mountOf(found, /sslrootcert=(\S+)/.exec(values)?.[1] ?? ''), { configMap: { name: 'rds-ca', items: [{ key: 'eu-west-1.pem', path: 'ca.crt' }] } })
  t.match(one(found, 'StatefulSet').spec.template.spec.containers[0].image, /^registry\.example\.com\/job-access@sha256:[0-9a-f]{64}$/)
  t.match(one(found, 'PodDisruptionBudget').spec, { minAvailable: 1, unhealthyPodEvictionPolicy: 'AlwaysAllow' })
  t.strictSame(one(found, 'ServiceAccount').metadata.annotations, { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::111122223333:role/job-access' })
  const monitor = one(found, 'ServiceMonitor').spec.selector.matchLabels
  const scraped = found.filter(({ kind, metadata }) => kind === 'Service' && Object.entries(monitor).every(([key, value]) => metadata.labels[key] === value))
  t.strictSame(scraped.map(({ metadata }) => metadata.name), ['job-access-replicas'], 'the monitor finds one Service')
})

t.test('callers come by TLS', async t => {
  const { spec } = one(manifests(run('helm', template('aws'))), 'Ingress')
  t.strictSame(spec.tls, [{ secretName: 'job-access-tls', hosts: ['job-access.example.com', 'ends.job-access.example.com'] }], 'every name has a certificate')
  t.strictSame(spec.rules.map(({ host, http: { paths } }) => [host, ...paths.map(({ backend }) => backend.service.name)]), [
    ['job-access.example.com', 'job-access'], ['ends.job-access.example.com', 'job-access-ends']
  ])
})

t.test('the alerts link to where the runbooks are', async t => {
  const { spec } = one(manifests(run('helm', template('aws'))), 'PrometheusRule')
  const links = spec.groups.flatMap(({ rules }) => rules.map(({ annotations }) => annotations.runbook_url))
  t.equal(links.length, [...readFileSync(join(root, 'deploy/prometheus/alerts.yml'), 'utf8').matchAll(/- alert: /g)].length)
  for (const link of links) t.match(link, /^https:\/\/git\.example\.com\/ml\/job-access\/src\/docs\/operating\.md#jobaccess\w+$/)
  const file = join(t.testdir(), 'rules.yml')
  writeFileSync(file, stringify(spec))
  t.match(run('promtool', ['check', 'rules', file]), `${links.length} rules found`)
})

t.test('the chart with one replica on SQLite', async t => {
  t.equal(complaint('helm', ['lint', '--strict', '--quiet', '--kube-version', kubernetes, chart, '-f', join(chart, 'ci/single-values.yaml')]), undefined)
  const text = run('helm', template('single'))
  conforms(t, text)
  const found = manifests(text)
  t.strictSame(found.map(({ kind }) => kind).sort(), ['ConfigMap', 'NetworkPolicy', 'Service', 'Service', 'Service', 'StatefulSet'])
  const config = checkPod(t, found)
  t.match(config, { JOB_ACCESS_PROVIDER: 'ceph', ledgerUrl: '/data/job-access.sqlite', iamEndpoint: 'https://192.0.2.80:8443' })
  t.match(mountOf(found, variable(found, 'AWS_SHARED_CREDENTIALS_FILE')), { secret: { secretName: 'rgw', items: [{ key: 'service.ini', path: 'credentials' }] } })
  t.match(mountOf(found, variable(found, 'NODE_EXTRA_CA_CERTS')), { configMap: { name: 'rgw-ca' } })
})

t.test('a store of one’s own', async t => {
  const store = join(root, 'docs/stores/versitygw.json')
  const found = manifests(run('helm', template('single', '--set', 'provider=custom', '--set-json', `dialect=${readFileSync(store, 'utf8')}`)))
  const { data } = one(found, 'ConfigMap', 'job-access-config')
  t.strictSame(JSON.parse(data['dialect.json'] ?? ''), JSON.parse(readFileSync(store, 'utf8')))
  t.match(mountOf(found, variable(found, 'JOB_ACCESS_DIALECT_FILE')), { configMap: { items: [{}, { path: 'dialect.json' }] } })
})

t.test('several accounts', async t => {
  const accounts = readFileSync(join(root, 'docs/accounts.md'), 'utf8').match(/```json accounts\n(.*?)```/s)?.[1] ?? ''
  const given = (...more: string[]) => template('aws', '--set', 'boundaryArn=', '--set-json', 'profiles=[]', '--set-json', `accounts=${accounts}`, ...more)
  const text = run('helm', given())
  conforms(t, text)
  const found = manifests(text)
  t.match(checkPod(t, found).accounts, [{ name: 'eu-1' }, { name: 'eu-2', path: '/training/' }])
  t.match(mountOf(found, variable(found, 'JOB_ACCESS_ACCOUNTS_FILE')), { configMap: { items: [{}, { path: 'accounts.json' }] } })
  const elsewhere = JSON.stringify(['http://a.example:7071', 'https://b.example', 'http://192.0.2.9:7071'].map((endpoint, index) => ({ name: `n${index}`, endpoint })))
  const { egress } = one(manifests(run('helm', given('--set', 'provider=versitygw', '--set-json', `accounts=${elsewhere}`))), 'NetworkPolicy').spec
  t.ok(egress.some(({ ports }) => ports.map(({ port }) => port).join() === '7071,443'), 'the endpoint of each can be reached')
  for (const set of ['endpoint=https://iam.example', 'boundaryArn=arn:aws:iam::111122223333:policy/b']) {
    t.match(complaint('helm', given('--set', set)) ?? '', 'accounts: endpoint, boundaryArn and profiles have no effect beside it', set)
  }
})

t.test('what must be given is asked for, all at once; what is not known is refused', async t => {
  const missing = complaint('helm', ['template', 'x', chart, '--kube-version', kubernetes]) ?? ''
  for (const name of ['boundaryArn', 'identity.secret', 'guardrails.cedar', 'database.secret', 'networkPolicy.namespaces']) t.match(missing, name)
  for (const [set, fault] of [
    ['ingress.host=', 'ingress.host'], ['ingress.tlsSecret=', 'ingress.tlsSecret'], ['metrics.prometheusRule.runbooks=', 'prometheusRule.runbooks'],
    ['image.tag=0.1.0', 'give one of them'], ['database.ca.secret=x', 'give one of them'], ['provider=ceph', 'endpoint: must be given for ceph'],
    ['provider=custom', 'dialect: must be given for custom'], ['dialect.x=y', 'dialect: is for custom alone']
  ] as const) t.match(complaint('helm', template('aws', '--set', set)) ?? '', fault, set)
  for (const set of ['typo=1', 'image.digest=0.1.0', 'podDisruptionBudget.unhealthyPodEvictionPolicy=x', 'networkPolicy.namespaces[0]=A_b',
    'networkPolicy.egress.dns.port=53', 'endpoint=rgw.example.com', 'metrics.prometheusRule.runbooks=docs/operating.md', 'metrics.prot=1', 'boundaryArn=nonsense', 'replicas=0', 'provider=embedded', 'env.X=1']) {
    t.match(complaint('helm', template('aws', '--set', set)) ?? '', 'values don\'t meet the specifications', set)
  }
})

const namespace = (name: string) => ({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } })

t.test('named namespaces are let in, and what is configured can be reached', async t => {
  const { ingress, egress } = one(manifests(run('helm', template('aws'))), 'NetworkPolicy').spec
  t.strictSame(ingress, [
    { ports: [{ port: 'http' }], from: [namespace('ingress-nginx'), namespace('argo')] },
    { ports: [{ port: 'metrics' }], from: [namespace('monitoring')] }
  ])
  const tcp = (port: number) => [{ port, protocol: 'TCP' }]
  const dns = {
    ports: [{ port: 53, protocol: 'UDP' }, { port: 53, protocol: 'TCP' }], to: [namespace('kube-system'), { ipBlock: { cidr: '169.254.20.10/32' } }]
  }
  t.strictSame(egress, [
    { ports: tcp(5432), to: [{ ipBlock: { cidr: '10.0.128.0/20' } }] },
    dns,
    { ports: tcp(443) }, // OIDC issuers
    { ports: tcp(443) }, // IAM and STS
    { ports: tcp(6514), to: [{ ipBlock: { cidr: '10.0.200.7/32' } }] }
  ])
  const single = one(manifests(run('helm', template('single'))), 'NetworkPolicy').spec
  t.strictSame(single.ingress, [{ ports: [{ port: 'http' }], from: [{ podSelector: {} }] }], 'nobody may scrape: a rule without peers would mean everybody')
  t.strictSame(single.egress, [dns, { ports: tcp(8443), to: [{ ipBlock: { cidr: '192.0.2.80/32' } }] }], 'no database, no issuers')
  const named = (endpoint: string) => one(manifests(run('helm', template('single', '--set', `endpoint=${endpoint}`))), 'NetworkPolicy').spec.egress.at(-1)
  t.strictSame(named('https://rgw.example.com'), { ports: tcp(443) })
  t.strictSame(named('http://rgw.storage:7480/x'), { ports: tcp(7480) })
  t.strictSame(named('http://rgw.storage'), { ports: tcp(80) })
})

t.test('the manifests without Helm are the chart’s, and kustomize builds them', async t => {
  const helm = join(process.env.JOB_ACCESS_CACHE ?? join(homedir(), '.cache/job-access'), 'bin/helm')
  const rendered = execFileSync(join(root, 'deploy/kubernetes/render.sh'), { encoding: 'utf8', env: { ...process.env, HELM: helm } })
  t.equal(readFileSync(join(root, 'deploy/kubernetes/job-access.yaml'), 'utf8'), rendered, 'run deploy/kubernetes/render.sh')
  const text = run('kustomize', ['build', 'deploy/kubernetes'])
  conforms(t, text)
  const found = manifests(text)
  checkPod(t, found)
  t.ok(found.every(({ kind, metadata }) => kind === 'Namespace' || metadata.namespace === 'job-access'))
  const guardrails = found.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('job-access-guardrails-'))
  t.ok(loadGuardrails(guardrails?.data['guardrails.cedar'] ?? '', 'guardrails.cedar'))
  t.match(text, `name: ${guardrails?.metadata.name}`, 'and the pod mounts that one')
})

t.test('the chart is of this version', async t => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  t.match(parse(readFileSync(join(root, chart, 'Chart.yaml'), 'utf8')), { appVersion: version })
})
