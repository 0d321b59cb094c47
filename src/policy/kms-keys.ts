import type { Partition } from '../domain/access-spec.ts'
import type { Fault } from './names.ts'

// Source: AWS KMS Developer Guide, "Key identifiers": key ARN; multi-Region keys begin with mrk-.
const keyArn = /^arn:(aws|aws-cn|aws-us-gov):kms:([a-z]{2}(?:-[a-z]+){1,3}-\d{1,2}):\d{12}:key\/([0-9a-z-]+)$/
const keyId = /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/

const regionOf: Record<Partition, (region: string) => boolean> = {
  aws: region => !/^(cn|us-gov|us-iso|us-isob|eu-isoe)-/.test(region),
  'aws-cn': region => region.startsWith('cn-'),
  'aws-us-gov': region => region.startsWith('us-gov-')
}

/** Why a text is not the ARN of a KMS key in the partition; undefined: it is. */
export const kmsKeyFault = (arn: string, partition: Partition): Fault | undefined => {
  if (arn.includes(':alias/')) {
    return { detail: 'An alias can be pointed at another key.', hint: 'Give the key’s own ARN, with key/ and its id.' }
  }
  const parts = keyArn.exec(arn)
  if (!parts || !keyId.test(parts[3] ?? '')) {
    return {
      detail: 'This is not the ARN of a KMS key.',
      hint: `Write arn:${partition}:kms:<region>:<account>:key/<id>, in lower case and without wildcards.`
    }
  }
  const [, itsPartition, region] = parts
  if (itsPartition !== partition || !regionOf[partition](region ?? '')) {
    return { detail: `The key is not in the partition ${partition}.`, hint: `This service grants access in ${partition} only.` }
  }
  return undefined
}
