/* eslint no-template-curly-in-string: off -- policy variables of IAM look like that */
import { defaultLimits, type Limits } from '../../src/policy/limits.ts'
import type { Partition } from '../../src/domain/access-spec.ts'
import { clientNames } from '../../src/policy/clients.ts'
import type { PolicyRequest } from '../../src/request.ts'
import type { Draw } from '../policy/prove/seeded.ts'

/**
 * Job-access requests as orchestrators, careless people and attackers write them. Most are good; the rest has what may hurt a
 * policy: wildcards, variables, other people's ARNs, odd characters, odd instants, blocks that overlap, look-alike names.
 */
export interface Asked { request: PolicyRequest, limits: Limits, now: Date }

const hostile = [
  '*', '?', '$', '{', '}', '${*}', '${aws:username}', '..', '/', '//', '\\', '"', '\u0000', '\n', 'é', '…', '🦊', ' ', '%2e', 'arn:aws:s3:::x', ':', ',', "'", '+', '#',
  '\u202e', '\u00a0', '\ud800', 'e\u0301', '&', ';', '=', '@', '~'
]
const lower = 'abcdefghijklmnopqrstuvwxyz0123456789'
const keyText = `${lower}ABCXYZ._-!()'=@:+, []{}%~#|^;<>&"` + '\u0060éßÿ¡'

const text = (draw: Draw, alphabet: string, length: number): string =>
  Array.from({ length }, () => alphabet.charAt(draw.below(alphabet.length))).join('')

const spoiled = (draw: Draw, good: string): string => {
  const at = draw.below(good.length + 1)
  return good.slice(0, at) + draw.of(hostile) + good.slice(at)
}

// Few stems, so that names meet: the same bucket twice, one the beginning of another.
const bucketName = (draw: Draw): string => {
  const name = draw.chance(0.7)
    ? draw.of(['data', 'data-1', 'datasets', 'acmeco-base-models', 'runs', 'run']) + draw.of(['', '', '', 'x', '-x', '.x', '-2025-07-01'])
    : `${text(draw, lower, 3 + draw.below(10))}${draw.chance(0.2) ? `-${text(draw, lower, draw.below(50))}` : ''}`
  return draw.chance(0.02) ? spoiled(draw, name) : name
}

const prefix = (draw: Draw): string => {
  const path = Array.from({ length: 1 + draw.below(3) }, () => draw.chance(0.6) ? draw.of(['runs', '42', '4', 'nlp', 'x']) : text(draw, keyText, 1 + draw.below(8))).join('/')
  const whole = path + draw.of(['', '/'])
  return draw.chance(0.03) ? spoiled(draw, whole) : whole
}

const hex = '0123456789abcdef'
const regions: Record<Partition, string[]> = { aws: ['eu-west-1', 'us-east-1'], 'aws-cn': ['cn-north-1'], 'aws-us-gov': ['us-gov-west-1'] }

const keyArns = (draw: Draw, partition: Partition): string[] => {
  const region = regions[partition]
  return Array.from({ length: 1 + draw.below(3) }, () => {
    const where = draw.of(region)
    const id = draw.chance(0.3) ? `mrk-${text(draw, hex, 32)}` : [8, 4, 4, 4, 12].map(length => text(draw, hex, length)).join('-')
    const arn = `arn:${partition}:kms:${where}:111122223333:key/${id}`
    return draw.chance(0.03) ? spoiled(draw, arn) : arn
  })
}

const v4 = (draw: Draw): string => {
  const net = draw.of(['203.0.113', '198.51.100', '203.0.112', '8.8.8', '100.200.7'])
  return draw.of([
    () => `${net}.${draw.below(256)}`, () => `${net}.${draw.below(256)}/32`, () => `${net}.0/24`, () => `${net}.${16 * draw.below(16)}/28`,
    () => `${net}.${2 * draw.below(128)}/31`, () => '203.0.112.0/23'
  ])()
}
const v6 = (draw: Draw): string => draw.of([
  () => `2001:4860:${text(draw, hex, 3)}::/48`, () => `2001:4860:1::${text(draw, hex, 2)}`, () => '2001:4860:1::/64', () => '2001:4860:1:0:8000::/65', () => `2600:1f18:${text(draw, hex, 2)}::/56`
])()
const privateV4 = (draw: Draw): string => draw.of([
  () => `10.0.${draw.below(4)}.0/24`, () => `10.0.0.${draw.below(256)}`, () => '192.168.0.0/16', () => '172.16.5.4', () => 'fd00:1::/64'
])()
const oddAddress = (draw: Draw): string => draw.of([
  '0.0.0.0/0', '::/0', '::ffff:203.0.113.7', '203.0.113.7/24', '10.0.0.1', '127.0.0.1', '169.254.169.254', '::1', '203.0.113.300', '203.0.113.7/33',
  '010.1.1.1', '0x7f.1', 'fe80::1%eth0', '1.2.3', 'localhost', '', '224.0.0.1', '::ffff:0:0/96', '255.255.255.255'
])

const addresses = (draw: Draw, address: (draw: Draw) => string): string[] => {
  const count = draw.chance(0.03) ? 10 + draw.below(20) : 1 + draw.below(4)
  return Array.from({ length: count }, () => draw.chance(0.03) ? oddAddress(draw) : address(draw))
}

const place = (draw: Draw) => draw.chance(0.6)
  ? {}
  : draw.chance(0.1)
    ? { prefix: prefix(draw), bareName: true }
    : { [draw.of(['prefix', 'prefix', 'key', 'keyPrefix'])]: prefix(draw) }

const options = (draw: Draw, partition: Partition, writes: boolean) => ({
  ...place(draw),
  ...(draw.chance(0.2) && { list: draw.chance(0.5) }),
  ...(writes && draw.chance(0.2) && { delete: draw.chance(0.8) }),
  ...(writes && draw.chance(0.15) && { acl: draw.of([true, false, 'private', 'bucket-owner-full-control'] as const) }),
  ...Object.fromEntries(['tags', 'listNames', ...(writes ? ['uploads'] : ['versions', 'attributes', 'restore'])]
    .filter(() => draw.chance(0.06)).map(option => [option, true])),
  ...(draw.chance(0.2) && { clients: [draw.of(clientNames)] }),
  ...(draw.chance(0.15) && { kmsKeyArns: keyArns(draw, partition) }),
  ...(draw.chance(0.08) && { sid: draw.of(['Same', 'Shared']) })
})

const start = Date.parse('2025-07-16T00:30:00Z')
const second = (at: number): string => `${new Date(at).toISOString().slice(0, 19)}Z`
const withOffset = (at: number): string => `${new Date(at + 7_200_000).toISOString().slice(0, 19)}+02:00`

const window = (draw: Draw, writes: boolean): PolicyRequest['window'] => {
  const notBefore = start + draw.of([0, 1, 60, 1800, 86_400, 86_400, 200_000, -3000]) * 1000
  const seconds = draw.chance(0.06) ? draw.of([0, 1, 86_400 * 40]) : draw.of([60, 61, 3600, 10_800, 43_200, 86_400 * 5])
  const odd = draw.chance(0.02)
  return {
    ...(draw.chance(0.8) && { notBefore: odd ? draw.of(['tomorrow', '2025-02-30T00:00:00Z', '2025-07-16T01:00:00', '2025-07-16T01:00:00.5Z']) : draw.of([second, withOffset])(notBefore) }),
    ...(draw.chance(0.5) ? { durationSeconds: seconds } : { notAfter: draw.of([second, withOffset])(notBefore + seconds * 1000) }),
    ...(draw.chance(writes ? 0.35 : 0.01) && { outputGraceSeconds: draw.of([0, 1, 60, 600, 86_400]) })
  }
}

const id = (draw: Draw, kind: string) => `${kind}-0${text(draw, hex, 16)}`
const vpcArn = (draw: Draw, partition: Partition) => `arn:${partition}:ec2:${draw.of(regions[partition])}:111122223333:vpc/${id(draw, 'vpc')}`

/** One random request, the limits of a random deployment, and the instant at which it is made. */
export const randomPolicyRequest = (draw: Draw): Asked => {
  const partition = draw.of(['aws', 'aws', 'aws', 'aws-cn', 'aws-us-gov'] as const)
  const layout = draw.of(['everywhere', 'everywhere', 'guarded', 'guarded', 'guide'] as const)
  const plain = layout === 'guide' && draw.chance(0.9)
  const opts = (writes: boolean) => plain ? (writes && draw.chance(0.3) ? { delete: true } : {}) : options(draw, partition, writes)
  const datasets = Array.from({ length: draw.below(3) }, () => ({ bucket: bucketName(draw), ...opts(false) }))
  const baseModels = Array.from({ length: draw.below(2) }, () => ({ bucket: bucketName(draw), ...opts(false) }))
  const access = Array.from({ length: draw.chance(0.4) ? 1 + draw.below(draw.chance(0.05) ? 10 : 3) : 0 }, () => {
    const level = draw.of(['read', 'write', 'read-write'] as const)
    return { bucket: bucketName(draw), level, ...opts(level !== 'read') }
  })
  const output = draw.chance(0.7)
    ? { bucket: bucketName(draw), ...(draw.chance(0.4) && { level: draw.of(['write', 'read-write'] as const) }), ...opts(true) }
    : undefined
  const writes = output !== undefined || access.some(({ level }) => level !== 'read')
  const kind = draw.of(['ip', 'ip', 'ip', 'vpc', 'any', 'either'])
  return {
    limits: {
      ...defaultLimits,
      partition,
      allowAnySource: draw.chance(0.9),
      allowPrivateSourceIps: draw.chance(0.2),
      minPrefixV4: draw.chance(0.8) ? 16 : 24,
      minPrefixV6: 48
    },
    now: new Date(start),
    request: {
      job: { id: 'fuzz', team: 'fuzz' },
      ...(datasets.length > 0 && { datasets }),
      ...(baseModels.length > 0 && { baseModels }),
      ...(access.length > 0 && { access }),
      ...(output && { output }),
      window: window(draw, writes && !plain),
      ...((kind === 'ip' || kind === 'either') && { sourceIps: addresses(draw, draw.chance(0.7) ? v4 : v6).concat(draw.chance(0.2) ? addresses(draw, v6) : []) }),
      ...((kind === 'vpc' || kind === 'either') && {
        vpc: {
          ...(draw.chance(0.7) && { vpcIds: Array.from({ length: 1 + draw.below(2) }, () => id(draw, 'vpc')) }),
          ...(draw.chance(0.4) && { vpcArns: Array.from({ length: 1 + draw.below(2) }, () => vpcArn(draw, partition)) }),
          ...(draw.chance(0.6) && { vpcEndpointIds: Array.from({ length: 1 + draw.below(2) }, () => id(draw, 'vpce')) }),
          ...(draw.chance(0.6) && { sourceIps: addresses(draw, privateV4) })
        }
      }),
      layout
    }
  }
}
