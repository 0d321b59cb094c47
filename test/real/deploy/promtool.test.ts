import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { stringify } from 'yaml'
import { complaint, root, run } from './tools.ts'

t.test('the alerts are valid, fire when they must, and only then', async t => {
  for (const file of ['deploy/prometheus/alerts.yml', 'deploy/syslog-ng/alerts.yml']) t.match(run('promtool', ['check', 'rules', file]), 'SUCCESS')
  for (const name of ['alerts', 'shipper-alerts']) t.match(run('promtool', ['test', 'rules', `test/real/deploy/${name}.promtest.yml`]), 'SUCCESS')
})

t.test('the dashboard is one in Grafana’s own types, every field of it', async t => {
  const file = join(root, 'deploy/grafana/job-access.json')
  t.equal(complaint('dashboard', [file]), undefined)
  const broken = join(t.testdir(), 'broken.json')
  writeFileSync(broken, readFileSync(file, 'utf8').replace('"showLegend": true', '"showLegend": "yes"').replace('"wideLayout"', '"wide"'))
  t.match(complaint('dashboard', [broken]), /wide[\s\S]*showLegend|showLegend[\s\S]*wide/, 'and others are told')
})

t.test('the expressions of the dashboard parse', async t => {
  const dashboard = JSON.parse(readFileSync(join(root, 'deploy/grafana/job-access.json'), 'utf8')) as { panels: Array<{ targets?: Array<{ expr: string }> }> }
  const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
  const plain = (expr: string) => expr.replaceAll('$__rate_interval', '5m').replaceAll('$__range', '6h').replaceAll('$instance', '.*')
  const file = join(t.testdir(), 'expressions.yml')
  writeFileSync(file, stringify({ groups: [{ name: 'dashboard', rules: expressions.map((expr, index) => ({ record: `panel:${index}`, expr: plain(expr) })) }] }))
  t.match(run('promtool', ['check', 'rules', file]), `${expressions.length} rules found`)
})
