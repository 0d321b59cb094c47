import { availableParallelism, loadavg } from 'node:os'
import type { Layout } from '../src/domain/access-spec.ts'
import { defaultLimits } from '../src/policy/limits.ts'
import { measure } from '../src/policy/measure.ts'
import { normalise } from '../src/policy/normalise.ts'
import { compile, decide } from '../src/policy/prove/evaluate.ts'
import { prove } from '../src/policy/prove/prove.ts'
import { render } from '../src/policy/render.ts'
import { guideRequest, type PolicyRequest } from '../src/request.ts'

/**
 * What a proof costs: CPU time of this process, the least of many rounds, as other work on the machine only adds to it. The baseline is
 * one decision of the same evaluator on the same policy, in turns with the proof, in the same run.
 * Run: npm run -s bench:proof
 */

const now = new Date('2025-07-16T00:30:00Z')
const job = { id: 'wiki-finetune-42', team: 'nlp' }
const window = { notBefore: '2025-07-16T01:00:00Z', notAfter: '2025-07-16T04:00:00Z' }
const list = <T>(length: number, of: (index: number) => T): T[] => Array.from({ length }, (_, index) => of(index))
const buckets = (count: number) => list(count, index => ({ bucket: `acmeco-${index}` }))
/** As many as a request may have: 30 datasets, 30 base models and 50 others. */
const prefixes = (count: number): Partial<PolicyRequest> => {
  const all = list(count, index => ({ bucket: 'b00', prefix: `p${index}/` }))
  return {
    datasets: all.slice(0, 30),
    ...(count > 30 && { baseModels: all.slice(30, 60) }),
    ...(count > 60 && { access: all.slice(60).map(place => ({ ...place, level: 'read' })) })
  }
}
const addresses = (count: number) => list(count, index => `203.0.${2 * index}.1`)
const vpc: PolicyRequest['vpc'] = {
  vpcIds: ['vpc-0123456789abcdef0'],
  vpcArns: ['arn:aws:ec2:us-east-1:123456789012:vpc/vpc-0123456789abcdef0'],
  vpcEndpointIds: ['vpce-0123456789abcdef0'],
  sourceIps: ['10.0.0.0/24']
}
const of = (layout: Layout, rest: Partial<PolicyRequest>): PolicyRequest => ({ job, window, layout, ...rest })

const jobs: [string, PolicyRequest][] = [
  ['the job of the guide', { ...guideRequest, job }],
  ...[9, 18].flatMap(count => [25, 50].map((sources): [string, PolicyRequest] =>
    [`${count} buckets, ${sources} addresses`, of('guarded', { datasets: buckets(count), sourceIps: addresses(sources) })])),
  ...[30, 110].map((count): [string, PolicyRequest] =>
    [`${count} prefixes, 50 addresses`, of('guarded', { ...prefixes(count), sourceIps: addresses(50) })]),
  // Of all that a request may ask for and that fits into a managed policy, nothing was found that takes longer.
  ['110 prefixes, 10 addresses or a VPC', of('guarded', { ...prefixes(110), sourceIps: addresses(10), vpc })]
]

const cpuMs = (run: () => void, times: number): number => {
  const before = process.cpuUsage()
  for (let time = 0; time < times; time++) run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000 / times
}

const row = (name: string, ...rest: unknown[]) => `${name.padEnd(38)}${rest.map(text => String(text).padStart(22)).join('')}`

console.log(`Node ${process.version}, load ${loadavg()[0]?.toFixed(1)} on ${availableParallelism()} cores`)
console.log(row('policy', 'characters', 'requests covered', 'CPU ms', 'in single decisions'))
for (const [name, request] of jobs) {
  const normalised = normalise(request, defaultLimits, now)
  if (!normalised.ok) throw new Error(normalised.findings.map(({ detail }) => detail).join(' '))
  const { spec } = normalised
  const policy = render(spec)
  const statements = compile(policy)
  const [{ bucket, prefix }] = spec.entries as [typeof spec.entries[number]]
  const asked = {
    action: 's3:GetObject',
    resource: `arn:aws:s3:::${bucket}/${prefix}a`,
    context: { 'aws:CurrentTime': '2025-07-16T02:00:00Z', 'aws:SourceIp': '203.0.113.42' }
  }
  let probes = 0
  const proof = () => {
    const proof = prove(policy, spec)
    if (!proof.ok) throw new Error(proof.reason)
    probes = proof.probes
  }
  let [proofMs, decisionMs] = [Infinity, Infinity]
  const until = performance.now() + 3000
  while (performance.now() < until) {
    proofMs = Math.min(proofMs, cpuMs(proof, 5))
    decisionMs = Math.min(decisionMs, cpuMs(() => decide(statements, asked), 200))
  }
  console.log(row(name, measure(policy).characters, probes.toExponential(1), proofMs.toFixed(2), Math.round(proofMs / decisionMs)))
}
