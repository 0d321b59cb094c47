import { readFileSync } from 'node:fs'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { urlFault } from '../secure-url.ts'
import type { Sink } from './delivery.ts'
import { httpSink } from './http-sink.ts'
import type { AuditOptions } from './log.ts'
import { syslogSink } from './syslog-sink.ts'

const strict = { additionalProperties: false }
const Name = Type.String({ description: 'Names the file that says how far this sink is. A new name starts from the oldest record.', pattern: '^[a-z0-9][a-z0-9-]{0,31}$' })
const File = (description: string) => Type.String({ description, minLength: 1 })

export const HttpSinkSchema = Type.Object({
  type: Type.Literal('http'),
  name: Name,
  url: Type.String({ description: 'Gets POSTs of JSON lines; 2xx acknowledges them. https, or loopback.', maxLength: 2048 }),
  bearerFile: Type.Optional(File('File with a bearer token for it, read at every attempt.')),
  maxLines: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 200 })),
  timeoutSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 60, default: 10 }))
}, strict)

export const SyslogSinkSchema = Type.Object({
  type: Type.Literal('syslog'),
  name: Name,
  protocol: Type.Union([Type.Literal('udp'), Type.Literal('tcp'), Type.Literal('tls')], { description: 'udp can lose records.' }),
  host: Type.String({ minLength: 1, maxLength: 253 }),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  caFile: Type.Optional(File('PEM of the authority behind the receiver’s certificate, for tls.')),
  maxLines: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
  timeoutSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 60, default: 10 }))
}, strict)

export const AuditConfigSchema = Type.Object({
  path: Type.String({ description: 'Stem of the files, e.g. `/var/lib/job-access/audit`.', minLength: 1 }),
  hmacKeyFile: Type.Optional(File('File with the key that seals the chain: 32 bytes or more, raw, or as 64 or more hex digits.')),
  fsync: Type.Optional(Type.Union([Type.Literal('always'), Type.Literal('batch')], {
    description: '`always`: a record is on the disk before the answer goes out. `batch`: within a second.',
    default: 'always'
  })),
  maxBytes: Type.Optional(Type.Integer({ description: 'A new file is begun before one grows beyond this.', minimum: 1_048_576, default: 67_108_864 })),
  sinks: Type.Optional(Type.Array(Type.Union([HttpSinkSchema, SyslogSinkSchema]), { maxItems: 10, default: [] }))
}, { ...strict, title: 'AuditConfig', description: 'Where the audit is kept, and where it is sent.' })
export type AuditConfig = Static<typeof AuditConfigSchema>
type SinkConfig = NonNullable<AuditConfig['sinks']>[number]

export interface AuditConfigFault {
  /** RFC 6901 pointer into the config. */
  pointer: string
  message: string
}

/** All that is wrong with a config, by pointer. Reads no file. */
export function auditFaults (config: unknown): AuditConfigFault[] {
  if (!Value.Check(AuditConfigSchema, config)) {
    return [...Value.Errors(AuditConfigSchema, config)].map(({ path, message }) => ({ pointer: path, message }))
  }
  const sinks = config.sinks ?? []
  return sinks.flatMap((sink, index) => {
    const at = `/sinks/${index}`
    const fault = sink.type === 'http' ? urlFault(sink.url) : undefined
    return [
      ...(sinks.findIndex(({ name }) => name === sink.name) === index ? [] : [{ pointer: `${at}/name`, message: 'is given twice' }]),
      ...(fault === undefined ? [] : [{ pointer: `${at}/url`, message: fault }]),
      ...(sink.type === 'syslog' && sink.caFile !== undefined && sink.protocol !== 'tls' ? [{ pointer: `${at}/caFile`, message: 'is for tls only' }] : [])
    ]
  })
}

/** A key file's key: hex when it is nothing but hex digits, else its bytes. */
export function readKey (content: Buffer): Buffer {
  const text = content.toString('latin1').trim()
  return /^([0-9a-f]{2}){32,}$/i.test(text) ? Buffer.from(text, 'hex') : content
}

/** openAudit's options from a config that auditFaults finds nothing wrong with. Throws when a file cannot be read. */
export function auditOptions (config: AuditConfig, { instance, hostname, now, readFile = path => readFileSync(path) }: {
  instance: string
  hostname: string
  now: () => Date
  readFile?: (path: string) => Buffer
}): AuditOptions {
  const { path, hmacKeyFile, fsync, maxBytes, sinks = [] } = config
  return {
    path,
    instance,
    now,
    ...(hmacKeyFile === undefined ? {} : { hmacKey: readKey(readFile(hmacKeyFile)) }),
    ...(fsync === undefined ? {} : { fsync }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
    sinks: sinks.map(sink => sinkOf(sink, hostname, readFile))
  }
}

function sinkOf (config: SinkConfig, hostname: string, readFile: (path: string) => Buffer): Sink {
  const { name, maxLines, timeoutSeconds } = config
  const common = {
    name,
    ...(maxLines === undefined ? {} : { maxLines }),
    ...(timeoutSeconds === undefined ? {} : { timeoutMs: timeoutSeconds * 1000 })
  }
  if (config.type === 'syslog') {
    const { protocol, host, port, caFile } = config
    return syslogSink({ ...common, protocol, host, port, hostname, ...(caFile === undefined ? {} : { ca: readFile(caFile).toString() }) })
  }
  const { url, bearerFile } = config
  return httpSink({ ...common, url, ...(bearerFile === undefined ? {} : { bearer: () => readFile(bearerFile).toString() }) })
}
