import { writes } from './actions.ts'
import type { AccessSpec } from '../domain/access-spec.ts'

/** What is granted as asked, and worth a second look. */
export interface Warning { code: WarningCode, detail: string }

export type WarningCode =
  | 'guide-reads-unbound'
  | 'guide-grants-acl'
  | 'guide-unknown-action'
  | 'acl-granted'
  | 'delete-granted'
  | 'source-any'
  | 'write-whole-bucket'
  | 'no-bucket-location'
  | 'window-starts-now'
  | 'window-long'

const longSeconds = 12 * 3600

/** @param startDefaulted whether the request left notBefore out */
export const warningsOf = (spec: AccessSpec, startDefaulted: boolean): Warning[] => {
  const { entries, window, source, layout } = spec
  const writing = entries.filter(writes)
  const guide = layout === 'guide'
  const warnings: Warning[] = []
  const warn = (when: boolean, code: WarningCode, detail: string): void => { if (when) warnings.push({ code, detail }) }
  const seconds = (Date.parse(window.outputNotAfter) - Date.parse(window.notBefore)) / 1000

  warn(guide && writing.length < entries.length, 'guide-reads-unbound',
    'The guide\'s layout binds neither the window nor the source to what is only read: those reads work until the key is deleted.')
  warn(guide && writing.length > 0, 'guide-grants-acl',
    'The guide\'s layout grants s3:PutObjectAcl, which can publish objects of a bucket with ACLs enabled.')
  warn(guide && writing.length > 0, 'guide-unknown-action',
    'The guide names s3:CompleteMultipartUpload, which is no IAM action: AWS ignores it, other providers refuse the policy.')
  for (const entry of entries) {
    const place = `${entry.bucket}/${entry.prefix}`
    warn(entry.acl && !guide, 'acl-granted', `${entry.sid}: s3:PutObjectAcl on ${place} can publish objects of a bucket with ACLs enabled.`)
    warn(entry.delete, 'delete-granted', `${entry.sid}: the job may delete objects in ${place}.`)
    warn(writes(entry) && entry.prefix === '', 'write-whole-bucket',
      `${entry.sid}: the job may overwrite every object of ${entry.bucket}; a prefix of its own would keep others' safe.`)
  }
  warn(spec.noBucketLocation === true && !guide, 'no-bucket-location',
    'The provider has no s3:GetBucketLocation, so it is not granted: give the job\'s S3 client its region.')
  warn(source.kind === 'any', 'source-any', 'The access works from every address: whoever has the key has it.')
  warn(startDefaulted, 'window-starts-now', `The window starts at ${window.notBefore}, by this service's clock.`)
  warn(seconds > longSeconds, 'window-long',
    `The window has ${seconds} seconds. A shorter one that is extended while the job runs loses less when the key leaks.`)
  return warnings
}
