import { readFileSync } from 'node:fs'
import { Type, type Static } from '@sinclair/typebox'
import { configFaults, readConfigFile, type ConfigFault } from '../config-file.ts'
import type { Log } from '../lifecycle/deps.ts'
import { openAudit, type Audit, type AuditOptions } from './log.ts'

const strict = { additionalProperties: false }
const File = (description: string) => Type.String({ description, minLength: 1 })

export const AuditConfigSchema = Type.Object({
  path: Type.String({ description: 'Stem of the files, e.g. `/var/lib/job-access/audit`.', minLength: 1 }),
  hmacKeyFile: Type.Optional(File('File with the key that seals the chain: 32 bytes or more, raw, or as 64 or more hex digits.')),
  fsync: Type.Optional(Type.Union([Type.Literal('always'), Type.Literal('batch')], {
    description: '`always`: a record is on the disk before the answer goes out. `batch`: within a second.',
    default: 'always'
  })),
  maxBytes: Type.Optional(
    Type.Integer({ description: 'A new file is begun before one grows beyond this.', minimum: 1_048_576, default: 67_108_864 })
  )
}, {
  ...strict,
  title: 'AuditConfig',
  description: 'Where the audit is kept.',
  removed: { sinks: 'was removed: a log shipper sends the files, see docs/audit.md' }
})
export type AuditConfig = Static<typeof AuditConfigSchema>

/** All that is wrong with a config, by pointer. Reads no file. */
export const auditFaults = (config: unknown): ConfigFault[] => configFaults(AuditConfigSchema, config)

/** The key in a key file: read as hex when the file has only hex digits, else its bytes. */
export function readKey (content: Buffer): Buffer {
  const text = content.toString('latin1').trim()
  return /^([0-9a-f]{2}){32,}$/i.test(text) ? Buffer.from(text, 'hex') : content
}

/** openAudit's options from a config that auditFaults finds nothing wrong with. Throws when a file cannot be read. */
export function auditOptions (config: AuditConfig, { instance, now, readFile = path => readFileSync(path) }: {
  instance: string
  now: () => number
  readFile?: (path: string) => Buffer
}): AuditOptions {
  const { path, hmacKeyFile, fsync, maxBytes } = config
  return {
    path,
    instance,
    now,
    ...(hmacKeyFile === undefined ? {} : { hmacKey: readKey(readFile(hmacKeyFile)) }),
    ...(fsync === undefined ? {} : { fsync }),
    ...(maxBytes === undefined ? {} : { maxBytes })
  }
}

/** @param file that of JOB_ACCESS_AUDIT; undefined: the default. @throws ConfigError */
export const openConfiguredAudit = (file: string | undefined, instance: string, log: Pick<Log, 'error'>): Promise<Audit> => {
  const settings: AuditConfig = file ? readConfigFile(file, AuditConfigSchema) : { path: 'audit/audit' }
  return openAudit({
    ...auditOptions(settings, { instance, now: Date.now }), onProblem: message => log.error({}, `audit: ${message}`)
  })
}
