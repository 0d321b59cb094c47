import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { createMetrics } from '../../src/metrics/metrics.ts'

/** Alert rules, their runbooks and the dashboard, held to each other and to what the service exposes. promtool's part: test/real/deploy. */

const root = join(import.meta.dirname, '../..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

interface Rule { alert: string, expr: string, labels: Record<string, string>, annotations: Record<string, string> }
interface Panel { id: number, type: string, title: string, gridPos: Record<'x' | 'y' | 'w' | 'h', number>, targets?: Array<{ expr: string }> }

const rules = ['deploy/prometheus/alerts.yml', 'deploy/syslog-ng/alerts.yml']
  .flatMap(file => (parse(read(file)) as { groups: Array<{ rules: Rule[] }> }).groups.flatMap(group => group.rules))
const dashboard = JSON.parse(read('deploy/grafana/job-access.json')) as
  { panels: Panel[], templating: { list: Array<{ name: string, query: string | { query: string } }> } }
const expressions = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })))

/** What docs/operating.md and the chart replace by where the pages are. */
const runbooks = 'https://job-access.example.com/'

t.test('every alert is seen firing in the tests of test/real/deploy', async t => {
  const fired = [...['alerts', 'shipper-alerts'].map(name => read(`test/real/deploy/${name}.promtest.yml`)).join('').matchAll(/ALERTS\{alertname="(\w+)"/g)].map(match => match[1])
  for (const { alert } of rules) t.ok(fired.includes(alert), alert)
})

t.test('every alert has a severity, a summary and a runbook that is there', async t => {
  t.ok(rules.length > 10)
  for (const { alert, labels, annotations } of rules) {
    t.ok(['page', 'ticket'].includes(labels.severity ?? ''), `${alert}: severity`)
    t.ok(annotations.summary, `${alert}: summary`)
    const [page, anchor] = (annotations.runbook_url ?? '').split('#')
    t.equal(page, `${runbooks}docs/operating.md`, `${alert}: a link that a pager can open, once it names where the pages are`)
    const section = read('docs/operating.md').split(/^(?=#+ )/m).find(text => text.startsWith(`### ${alert}\n`)) ?? ''
    t.equal(anchor, alert.toLowerCase(), `${alert}: as the heading's anchor`)
    t.ok(section.length > 150, `${alert}: a runbook`)
  }
  const headings = [...read('docs/operating.md').matchAll(/^### (JobAccess\w+)$/gm)].map(match => match[1])
  t.strictSame(headings.sort(), rules.map(({ alert }) => alert).sort(), 'and no runbook is left of an alert that is gone')
})

const exposed = async () => {
  const metrics = createMetrics({ now: () => 0, version: '0', provider: 'aws', ceiling: 1, ceilings: [{ account: 'a', users: 1, managed: 1 }] })
  metrics.watchAudit({ state: () => ({ head: { seq: 0, hash: '' }, waiting: 0, broken: undefined, writtenAt: 0 }) })
  metrics.watchClocks({ wrong: () => null, ahead: () => ({ provider: 0 }) })
  metrics.watchLedger({
    accounts: async () => [{ account: '', users: 0, sessions: 0, managed: 0 }],
    stats: async () => ({
      byState: { pending: 0, active: 0, revoking: 0, revoked: 0, expired: 0, failed: 0 }, oldestOverdueExpiry: null, oldestDue: null
    })
  })
  const table = await metrics.registry.getMetricsAsJSON()
  const labels = new Map<string, string[]>()
  for (const { name, type } of table) {
    const { labelNames = [] } = metrics.registry.getSingleMetric(name) as unknown as { labelNames?: string[] }
    const names = String(type) === 'histogram' ? ['_bucket', '_count', '_sum'].map(suffix => name + suffix) : [name]
    for (const each of names) labels.set(each, [...labelNames, 'instance', 'job', ...(each.endsWith('_bucket') ? ['le'] : [])])
  }
  // The shipper's.
  for (const [, name = ''] of read('deploy/syslog-ng/metrics.sh').matchAll(/# TYPE (\w+)/g)) labels.set(name, ['instance', 'job'])
  return labels
}

/** The metrics that an expression selects, with the labels that it matches. */
const selected = (expr: string) => [...expr.matchAll(/\b((?:job_access|process|nodejs)_\w+)(?:\{([^}]*)\})?/g)].map(([, name = '', matchers = '']) =>
  ({ name, matched: [...matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(match => match[1] ?? '') }))

t.test('alerts and dashboard ask for what is exposed, by labels that it has', async t => {
  const known = await exposed()
  const variables = dashboard.templating.list.flatMap(({ name, query }) => typeof query === 'string' ? [] : [{ title: name, expr: query.query }])
  t.ok(variables.length > 0)
  const asked = [...variables, ...rules.map(({ alert, expr }) => ({ title: alert, expr })), ...expressions]
  for (const { title, expr } of asked) {
    const found = selected(expr)
    t.ok(found.length > 0, title)
    for (const { name, matched } of found) {
      t.ok(known.has(name), `${title}: ${name}`)
      for (const label of matched) t.ok(known.get(name)?.includes(label), `${title}: ${name}{${label}}`)
    }
  }
  const used = new Set(asked.flatMap(({ expr }) => selected(expr)).map(({ name }) => name.replace(/_(bucket|count|sum)$/, '')))
  for (const name of known.keys()) {
    if (name.startsWith('job_access_')) t.ok(used.has(name.replace(/_(bucket|count|sum)$/, '')), `${name} is shown or watched`)
  }
})

t.test('the dashboard’s panels do not overlap', async t => {
  t.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)
  const cells = new Set<string>()
  for (const { title, gridPos: { x, y, w, h } } of dashboard.panels) {
    t.ok(x + w <= 24, title)
    for (let column = x; column < x + w; column++) {
      for (let line = y; line < y + h; line++) {
        const cell = `${column},${line}`
        if (cells.has(cell)) t.fail(`${title} overlaps`)
        cells.add(cell)
      }
    }
  }
})
