import { awsSizes, measure } from '../src/policy/measure.ts'
import { defaultLimits } from '../src/policy/limits.ts'
import { normalise } from '../src/policy/normalise.ts'
import { render } from '../src/policy/render.ts'
import type { Layout } from '../src/domain/access-spec.ts'
import type { PolicyRequest } from '../src/request.ts'

/**
 * How many entries fit into one policy, per layout and attachment: each entry with a sid of its own, so that it has statements of its
 * own; without sids; and all with one sid. It depends on nothing but the renderer.
 * Run: npm run -s bench:size
 */

type Entries = NonNullable<PolicyRequest['access']>

const jobs: Record<string, (count: number) => Entries> = {
  'prefixes of one bucket, read': count => Array.from({ length: count }, (_, index) =>
    ({ bucket: 'acmeco-training-datasets', prefix: `shards/${1000 + index}/`, level: 'read' })),
  'whole buckets, read': count => Array.from({ length: count }, (_, index) =>
    ({ bucket: `acmeco-training-dataset-${1000 + index}`, level: 'read' })),
  'the same prefix of buckets, read and write': count => Array.from({ length: count }, (_, index) =>
    ({ bucket: `acmeco-training-runs-${1000 + index}`, prefix: 'runs/42/', level: 'read-write' }))
}

const sids: Record<string, (entries: Entries) => Entries> = {
  'own sids': entries => entries.map((entry, index) => ({ ...entry, sid: `Access${index + 1}` })),
  'no sids': entries => entries,
  'one sid': entries => entries.map(entry => ({ ...entry, sid: 'Access1' }))
}

const characters = (access: Entries, layout: Layout): number => {
  const normalised = normalise({
    job: { id: 'wiki-finetune-42', team: 'nlp' },
    access,
    window: { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' },
    sourceIps: ['203.0.113.42'],
    layout
  }, defaultLimits, new Date('2025-07-16T00:30:00Z'))
  if (!normalised.ok) throw new Error(normalised.findings.map(({ detail }) => detail).join(' '))
  return measure(render(normalised.spec)).characters
}

/** The most entries whose policy is not larger than that. */
const most = (fits: (count: number) => boolean): number => {
  let count = 0
  while (fits(count + 1)) count++
  return count
}

const row = (first: string, second: string, ...rest: unknown[]) =>
  `${first.padEnd(43)}${second.padEnd(12)}${rest.map(text => String(text).padStart(9)).join('')}`

for (const attach of ['inline', 'managed'] as const) {
  console.log(row(`${attach}, ${awsSizes[attach]} characters`, 'layout', ...Object.keys(sids)))
  for (const [name, entries] of Object.entries(jobs)) {
    for (const layout of ['everywhere', 'guarded'] as const) {
      console.log(row(name, layout, ...Object.values(sids).map(named =>
        most(count => characters(named(entries(count)), layout) <= awsSizes[attach]))))
    }
  }
}
