import {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CreateBucketCommand, CreateMultipartUploadCommand, DeleteObjectCommand,
  GetBucketLocationCommand, GetObjectCommand, ListObjectsV2Command, ListPartsCommand, PutObjectAclCommand, PutObjectCommand, S3Client,
  UploadPartCommand
} from '@aws-sdk/client-s3'
import { Agent } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'

/** What a training job does with the keys that it was given, through the S3 SDK. */

export interface Keys { accessKeyId: string, secretAccessKey: string, sessionToken?: string }

/** `denied`: the key is known and may not; `unknown-key`: the provider does not know the key, or no longer. */
export type Outcome = 'allowed' | 'denied' | 'unknown-key'

export interface Job {
  read: (bucket: string, key: string) => Promise<Outcome>
  list: (bucket: string, prefix?: string) => Promise<Outcome>
  locate: (bucket: string) => Promise<Outcome>
  write: (bucket: string, key: string) => Promise<Outcome>
  delete: (bucket: string, key: string) => Promise<Outcome>
  publish: (bucket: string, key: string) => Promise<Outcome>
  createBucket: (bucket: string) => Promise<Outcome>
  /** Start, two parts, list of the parts, end; then what was put together is complete. */
  upload: (bucket: string, key: string) => Promise<Outcome>
  /** Start, a part, abort. */
  abort: (bucket: string, key: string) => Promise<Outcome>
}

/** @param localAddress the address that the requests come from; default: what the system chooses */
export const s3 = (
  endpoint: string, { accessKeyId, secretAccessKey, sessionToken }: Keys, localAddress?: string
): S3Client => new S3Client({
  endpoint,
  region: 'us-east-1',
  forcePathStyle: true,
  maxAttempts: 1,
  // The servers here are older than the checksums that the SDK otherwise adds.
  requestChecksumCalculation: 'WHEN_REQUIRED',
  responseChecksumValidation: 'WHEN_REQUIRED',
  ...(localAddress !== undefined && { requestHandler: { httpAgent: new Agent({ localAddress }) } }),
  credentials: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) }
})

export const jobOf = (client: S3Client): Job => {
  const part = async (Bucket: string, Key: string, UploadId: string | undefined, PartNumber: number, Body: Buffer) =>
    ({ PartNumber, ETag: (await client.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body }))).ETag })
  return {
    read: (Bucket, Key) => outcome(async () => (await client.send(new GetObjectCommand({ Bucket, Key }))).Body?.transformToByteArray()),
    list: (Bucket, Prefix) => outcome(() => client.send(new ListObjectsV2Command({ Bucket, ...(Prefix !== undefined && { Prefix }) }))),
    locate: Bucket => outcome(() => client.send(new GetBucketLocationCommand({ Bucket }))),
    write: (Bucket, Key) => outcome(() => client.send(new PutObjectCommand({ Bucket, Key, Body: 'weights' }))),
    delete: (Bucket, Key) => outcome(() => client.send(new DeleteObjectCommand({ Bucket, Key }))),
    publish: (Bucket, Key) => outcome(() => client.send(new PutObjectAclCommand({ Bucket, Key, ACL: 'public-read' }))),
    createBucket: Bucket => outcome(() => client.send(new CreateBucketCommand({ Bucket }))),
    upload: (Bucket, Key) => outcome(async () => {
      const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }))
      const Parts = [await part(Bucket, Key, UploadId, 1, firstPart), await part(Bucket, Key, UploadId, 2, Buffer.from('end'))]
      const listed = await client.send(new ListPartsCommand({ Bucket, Key, UploadId }))
      if (listed.Parts?.length !== 2) throw new Error(`${listed.Parts?.length} parts listed`)
      await client.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } }))
    }),
    abort: (Bucket, Key) => outcome(async () => {
      const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }))
      await part(Bucket, Key, UploadId, 1, firstPart)
      await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }))
    })
  }
}

/** S3's smallest part that is not the last one (Amazon S3 User Guide, "Multipart upload limits"). */
const firstPart = Buffer.alloc(5 * 1024 * 1024)

const unknownKey = ['InvalidAccessKeyId', 'InvalidClientTokenId', 'ExpiredToken']

/** Anything but a yes and a no is a failure of the test, not a denial. */
export const outcome = async (call: () => Promise<unknown>): Promise<Outcome> => {
  try {
    await call()
    return 'allowed'
  } catch (error) {
    if (!(error instanceof Error)) throw error
    if (unknownKey.includes(error.name)) return 'unknown-key'
    const { $metadata } = error as { $metadata?: { httpStatusCode?: number } }
    if ($metadata?.httpStatusCode === 403 && !/Signature/.test(error.name)) return 'denied'
    throw error
  }
}

/** Asks until it is so, for servers that take a moment; the last answer when it never is. */
export const eventually = async <T>(ask: () => Promise<T>, wanted: T, withinMs = 15_000): Promise<T> => {
  const deadline = Date.now() + withinMs
  for (;;) {
    const answer = await ask()
    if (answer === wanted || Date.now() > deadline) return answer
    await delay(100)
  }
}

export const second = (epochMs: number): string => `${new Date(Math.floor(epochMs / 1000) * 1000).toISOString().slice(0, 19)}Z`
