import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { auditFaults } from '../../../src/audit/config.ts'
import { readConfig } from '../../../src/config.ts'
import { loadGuardrails } from '../../../src/guardrails/guardrails.ts'
import { complaint, root, run } from './tools.ts'

const chart = 'deploy/helm/job-access'
/** Without it a helm that was built from source takes itself for an old one. */
const kubernetes = '1.33.0'
const template = (values: string, ...more: string[]) =>
  ['template', 'job-access', chart, '--kube-version', kubernetes, '-n', 'job-access', '-f', join(chart, 'ci', `${values}-values.yaml`), ...more]

interface EnvVar { name: string, value?: string, valueFrom?: object }
interface Container {
  env: EnvVar[]
  securityContext: object
  volumeMounts: Array<{ name: string, mountPath: string, readOnly?: boolean }>
  ports: Array<{ name: string, containerPort: number }>
  readinessProbe: { httpGet: { path: string } }
  livenessProbe: { httpGet: { path: string } }
}
interface Pod {
  containers: [Container]
  volumes: Array<{ name: string }>
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
    ingress: Array<{ from?: unknown[] }>
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

/** What the pod's environment comes to, with the values of its Secrets. */
const configured = ({ spec }: Manifest) => {
  const env = Object.fromEntries(spec.template.spec.containers[0].env.map(({ name, value }) =>
    [name, value ?? ({ DATABASE_URL: 'postgres://u:p@db/job_access', JOB_ACCESS_INSTANCE: 'job-access-0' } as Record<string, string>)[name]]))
  return readConfig(env)
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
  for (const { name } of container.env) t.notMatch(name, /SECRET_ACCESS_KEY|TOKEN$/, 'no secret in the manifest')
  return configured(set)
}

t.test('the chart with everything on', async t => {
  t.equal(complaint('helm', ['lint', '--strict', '--quiet', '--kube-version', kubernetes, chart, '-f', join(chart, 'ci/aws-values.yaml')]), undefined)
  const text = run('helm', template('aws'))
  conforms(t, text)
  const found = manifests(text)
  t.strictSame(found.map(({ kind }) => kind).sort(), [
    'ConfigMap', 'NetworkPolicy', 'PodDisruptionBudget', 'Service', 'Service', 'Service', 'ServiceAccount', 'ServiceMonitor', 'StatefulSet'
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
  t.strictSame(one(found, 'ServiceAccount').metadata.annotations, { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::111122223333:role/job-access' })
  const monitor = one(found, 'ServiceMonitor').spec.selector.matchLabels
  const scraped = found.filter(({ kind, metadata }) => kind === 'Service' && Object.entries(monitor).every(([key, value]) => metadata.labels[key] === value))
  t.strictSame(scraped.map(({ metadata }) => metadata.name), ['job-access-replicas'], 'the monitor finds one Service')
})

t.test('the chart with one replica on SQLite', async t => {
  t.equal(complaint('helm', ['lint', '--strict', '--quiet', '--kube-version', kubernetes, chart, '-f', join(chart, 'ci/single-values.yaml')]), undefined)
  const text = run('helm', template('single'))
  conforms(t, text)
  const found = manifests(text)
  t.strictSame(found.map(({ kind }) => kind).sort(), ['ConfigMap', 'Service', 'Service', 'Service', 'StatefulSet'])
  const config = checkPod(t, found)
  t.match(config, { JOB_ACCESS_PROVIDER: 'ceph', ledgerUrl: '/data/job-access.sqlite' })
})

t.test('what must be given is asked for, all at once; what is not known is refused', async t => {
  const missing = complaint('helm', ['template', 'x', chart, '--kube-version', kubernetes]) ?? ''
  for (const name of ['boundaryArn', 'identity.secret', 'guardrails.cedar', 'database.secret']) t.match(missing, name)
  for (const set of ['typo=1', 'metrics.prot=1', 'boundaryArn=nonsense', 'replicas=0', 'provider=embedded', 'env.X=1']) {
    t.match(complaint('helm', template('aws', '--set', set)) ?? '', 'values don\'t meet the specifications', set)
  }
})

t.test('no peers let nobody in', async t => {
  const open = manifests(run('helm', template('aws')))
  t.ok(one(open, 'NetworkPolicy').spec.ingress.every(rule => (rule.from ?? []).length > 0))
  const closed = manifests(run('helm', template('aws', '--set-json', 'networkPolicy.from=[]', '--set-json', 'networkPolicy.metricsFrom=[]')))
  t.notOk(one(closed, 'NetworkPolicy').spec.ingress, 'a rule without peers would mean everybody')
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
