import fc from 'fast-check'
import { defaultLimits, type Limits } from '../../src/policy/limits.ts'
import { normalise } from '../../src/policy/normalise.ts'
import type { AccessSpec, Layout } from '../../src/domain/access-spec.ts'
import type { AccessRequest, ClientName, OutputRequest, PolicyRequest, ReadRequest } from '../../src/request.ts'

/** Requests drawn from few buckets and nested prefixes, so that they overlap in every way. */

export const now = new Date('2025-07-16T00:30:00Z')
export const openLimits: Limits = { ...defaultLimits, allowAnySource: true }

const bucket = fc.constantFrom('acme-data', 'acme-data-2', 'acme.models', 'acme-output', 'acme-o', 'acme', 'a-c-m-e', '0acme')
const prefix = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom('runs', 'runs/42/', 'runs/42/logs', 'runs/420', 'wiki/2025-07-01/') },
  { weight: 1, arbitrary: fc.constantFrom('runs/4[2]/', 'date=2026-11-25 00%3A00/', '{"ü~#|', 'ü/ÿ') }
)
const key = fc.tuple(fc.constantFrom('eu-west-1', 'us-east-1'), fc.constantFrom('a', 'b', 'c'))
  .map(([region, digit]) => `arn:aws:kms:${region}:111122223333:key/mrk-${digit.repeat(32)}`)
// Two of them often meet: entries with equal rights share a sid.
const sid = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom('Same', 'Shared') },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 9999 }).map(number => `Named${number}`) })

/** One of the three at most. */
const placed = <T extends { prefix?: string }>(entry: T, kind: 'prefix' | 'key' | 'keyPrefix'): T => {
  const { prefix, ...rest } = entry
  return prefix === undefined ? entry : { ...rest, [kind]: prefix } as unknown as T
}
const kind = fc.constantFrom('prefix' as const, 'prefix' as const, 'key' as const, 'keyPrefix' as const)

/** An object with some of the given keys, none of them undefined. */
const some = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { requiredKeys: [] }) as fc.Arbitrary<unknown> as fc.Arbitrary<Partial<T>>

const often = (value: boolean) => fc.constantFrom(value, value, value, !value)
const forAll = { tags: fc.boolean(), listNames: often(false) }
const clients = fc.constantFrom<ClientName[]>([], ['boto3', 'dvc'], ['s3fs', 'pyarrow'])
const common = { prefix, sid, list: fc.boolean(), clients, kmsKeyArns: fc.array(key, { minLength: 1, maxLength: 3 }), ...forAll }
const options = { acl: fc.constantFrom(true, false, 'private' as const), delete: fc.boolean(), uploads: fc.boolean() }

const read: fc.Arbitrary<ReadRequest> = fc.tuple(bucket, some(common), kind)
  .map(([bucket, rest, kind]) => placed({ bucket, ...rest }, kind))
const writing = fc.constantFrom('write' as const, 'read-write' as const)
const output: fc.Arbitrary<OutputRequest> = fc.tuple(bucket, some({ ...common, ...options, level: writing }))
  .map(([bucket, rest]) => ({ bucket, ...rest }))
export const access: fc.Arbitrary<AccessRequest> = fc.oneof(
  fc.tuple(bucket, some(common)).map(([bucket, rest]) => ({ bucket, level: 'read' as const, ...rest })),
  fc.tuple(bucket, writing, some({ ...common, ...options }), kind)
    .map(([bucket, level, rest, kind]) => placed({ bucket, level, ...rest }, kind))
)

const window: fc.Arbitrary<PolicyRequest['window']> = fc.tuple(
  fc.constantFrom({}, { notBefore: '2025-07-16T01:00:00Z' }, { notBefore: '2025-07-16T02:30:00+02:00' }),
  fc.constantFrom({ durationSeconds: 3600 }, { notAfter: '2025-07-16T04:00:00Z' }),
  fc.constantFrom({}, {}, {}, { outputGraceSeconds: 0 }, { outputGraceSeconds: 900 })
).map(parts => Object.assign({}, ...parts))

const vpcId = fc.constantFrom('vpc-01234567', 'vpc-89abcdef')
const ip = fc.constantFrom('203.0.113.42', '203.0.113.0/24', '198.51.100.7', '2001:db8::1', '2001:db8::/64', '::ffff:203.0.113.9')
type Sourced = Pick<PolicyRequest, 'sourceIps' | 'vpc'>
const fromIps: fc.Arbitrary<Sourced> = fc.array(ip, { minLength: 1, maxLength: 4 }).map(sourceIps => ({ sourceIps }))
const fromVpc: fc.Arbitrary<Sourced> = fc.tuple(
  fc.array(vpcId, { minLength: 1, maxLength: 2 }),
  fc.subarray(['vpcIds', 'vpcArns', 'vpcEndpointIds'] as const, { minLength: 1 }),
  fc.boolean()
).map(([ids, named, ips]) => ({
  vpc: {
    ...(named.includes('vpcIds') && { vpcIds: ids }),
    ...(named.includes('vpcArns') && { vpcArns: ids.map(id => `arn:aws:ec2:eu-west-1:111122223333:vpc/${id}`) }),
    ...(named.includes('vpcEndpointIds') && { vpcEndpointIds: ids.map(id => id.replace('vpc-', 'vpce-')) }),
    ...(ips && { sourceIps: ['10.0.0.0/24', '10.0.0.7'] })
  }
}))
const source: fc.Arbitrary<Sourced> = fc.oneof(
  fc.constant({}), fromIps, fromVpc, fc.tuple(fromIps, fromVpc).map(([ips, vpc]) => ({ ...ips, ...vpc }))
)

export const layouts = ['everywhere', 'guarded', 'guide'] as const satisfies Layout[]

export const request = (layout: Layout): fc.Arbitrary<PolicyRequest> => fc.tuple(
  some({
    datasets: fc.array(read, { minLength: 1, maxLength: 2 }),
    baseModels: fc.array(read, { minLength: 1, maxLength: 2 }),
    output,
    access: fc.array(access, { minLength: 1, maxLength: 3 })
  }),
  window,
  source,
  fc.constantFrom({}, { a: 'b' }, { z: '1', a: '2' }),
  fc.constantFrom<{ clients?: ClientName[] }>({}, {}, { clients: ['awscli'] })
).map(([entries, window, source, labels, used]) => ({ job: { id: 'job-42', team: 'nlp', labels }, ...entries, ...used, window, ...source, layout }))
  // The layout guide takes none of these; without this nearly every request with it would be refused.
  .map(request => layout === 'guide' ? plain(request) : request)

const plain = (request: PolicyRequest): PolicyRequest => {
  const strip = <T extends ReadRequest>({ prefix, key, keyPrefix, kmsKeyArns, list, tags, listNames, ...entry }: T) => entry
  const stripWriting = <T extends AccessRequest | OutputRequest>(entry: T): T => {
    const { acl, uploads, ...rest } = strip(entry as ReadRequest) as AccessRequest
    return { ...rest, ...(typeof acl === 'boolean' && { acl }) } as T
  }
  const { outputGraceSeconds, ...window } = request.window
  const { vpc, ...rest } = request
  return {
    ...(request.sourceIps ? rest : request),
    window,
    ...(request.datasets && { datasets: request.datasets.map(strip) }),
    ...(request.baseModels && { baseModels: request.baseModels.map(strip) }),
    ...(request.output && { output: stripWriting(request.output) }),
    ...(request.access && { access: request.access.map(stripWriting) })
  }
}

/** Requests of every layout that have no finding, each with its spec. */
export const acceptable: fc.Arbitrary<{ request: PolicyRequest, spec: AccessSpec }> = fc.constantFrom(...layouts).chain(request)
  .map(request => ({ request, normalised: normalise(request, openLimits, now) }))
  .filter(({ normalised }) => normalised.ok)
  .map(({ request, normalised }) => {
    if (!normalised.ok) throw new TypeError('filtered')
    return { request, spec: normalised.spec }
  })
