import { CreateBucketCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import type { PolicyRequest } from '../../src/request.ts'
import type { Job, Outcome } from './job.ts'

/** The buckets of the tests, which belong to an admin, and what a job of each layout may and may not do with them. */

export const buckets = { data: 'acme-datasets', models: 'acme-models', output: 'acme-finetuned', other: 'acme-payroll' } as const

const objects: Array<[bucket: string, key: string]> = [
  [buckets.data, 'wiki/1.parquet'],
  [buckets.models, 'llama/weights'],
  [buckets.models, 'secret/weights'],
  [buckets.output, 'runs/42/of-the-admin'],
  [buckets.output, 'runs/420/of-the-admin'],
  [buckets.other, 'salaries.csv']
]

export const fill = async (admin: S3Client): Promise<void> => {
  for (const Bucket of Object.values(buckets)) await admin.send(new CreateBucketCommand({ Bucket }))
  for (const [Bucket, Key] of objects) await admin.send(new PutObjectCommand({ Bucket, Key, Body: 'of the admin' }))
}

/** A whole dataset, a base model under a prefix and an output under a prefix. The guide's layout has no prefixes. */
export const trainingJob = (layout: 'everywhere' | 'guarded' | 'guide') => ({
  job: { id: 'wiki-finetune-42', team: 'nlp' },
  datasets: [{ bucket: buckets.data }],
  baseModels: [{ bucket: buckets.models, ...(layout !== 'guide' && { prefix: 'llama/' }) }],
  output: { bucket: buckets.output, ...(layout !== 'guide' && { prefix: 'runs/42/' }) },
  layout
}) satisfies Omit<PolicyRequest, 'window'>

type Line = [what: string, wanted: Outcome, ask: (job: Job) => Promise<Outcome>]

/** What the job was granted, and the nearest things that it was not. */
export const matrix = (layout: 'everywhere' | 'guarded' | 'guide'): Line[] => [
  ['reads the dataset', 'allowed', job => job.read(buckets.data, 'wiki/1.parquet')],
  ['lists the dataset', 'allowed', job => job.list(buckets.data)],
  ['reads the base model', 'allowed', job => job.read(buckets.models, 'llama/weights')],
  ['lists the base model', 'allowed', job => job.list(buckets.models, 'llama/')],
  ['writes the output', 'allowed', job => job.write(buckets.output, 'runs/42/checkpoint')],
  ['uploads in parts', 'allowed', job => job.upload(buckets.output, 'runs/42/model.safetensors')],
  ['aborts an upload', 'allowed', job => job.abort(buckets.output, 'runs/42/aborted')],
  ['writes to the dataset', 'denied', job => job.write(buckets.data, 'wiki/poison')],
  ['uploads parts to the dataset', 'denied', job => job.upload(buckets.data, 'wiki/poison')],
  ['deletes from the dataset', 'denied', job => job.delete(buckets.data, 'wiki/1.parquet')],
  ['writes to the base model', 'denied', job => job.write(buckets.models, 'llama/poison')],
  ['deletes an output', 'denied', job => job.delete(buckets.output, 'runs/42/of-the-admin')],
  ['reads another bucket', 'denied', job => job.read(buckets.other, 'salaries.csv')],
  ['lists another bucket', 'denied', job => job.list(buckets.other)],
  ['writes to another bucket', 'denied', job => job.write(buckets.other, 'salaries.csv')],
  ...(layout === 'guide' ? unlessBound : bound)
]

const bound: Line[] = [
  ['lists a folder of the base model', 'allowed', job => job.list(buckets.models, 'llama/layers/')],
  ['reads beside the prefix', 'denied', job => job.read(buckets.models, 'secret/weights')],
  ['lists beside the prefix', 'denied', job => job.list(buckets.models, 'secret/')],
  ['lists all of the bucket', 'denied', job => job.list(buckets.models)],
  ['writes beside the prefix', 'denied', job => job.write(buckets.output, 'runs/43/checkpoint')],
  ['writes beside the prefix that begins alike', 'denied', job => job.write(buckets.output, 'runs/420/checkpoint')],
  ['reads an output of somebody else', 'denied', job => job.read(buckets.output, 'runs/42/of-the-admin')],
  ['lists the output', 'denied', job => job.list(buckets.output, 'runs/42/')],
  ['publishes an output', 'denied', job => job.publish(buckets.output, 'runs/42/of-the-admin')]
]

/** The guide's write statement reads, lists and sets ACLs, and has no prefix. */
const unlessBound: Line[] = [
  ['reads an output of somebody else', 'allowed', job => job.read(buckets.output, 'runs/420/of-the-admin')],
  ['lists the output', 'allowed', job => job.list(buckets.output)]
]

/**
 * Directories as orchestrators and Spark name them, each with names that a server would confuse with it if it read a character of the
 * policy as a part of a pattern or of a URL, or converted a letter.
 */
export const oddNames: Array<[directory: string, beside: string[]]> = [
  ['runs/job[1-3]', ['runs/job2', 'runs/job1', 'runs/job']],
  ['runs/a{b,c}', ['runs/ab', 'runs/ac']],
  ['runs/(a|b)', ['runs/a', 'runs/b']],
  ['date=2026-11-25 00%3A00', ['date=2026-11-25 00:00', 'date=2026-11-25+00%3A00', 'date=2026-11-25 00%253A00']],
  ['sky-jobs#17', ['sky-jobs', 'sky-jobs#1']],
  ['~tmp&"<`', ['%7Etmp&"<`', '~tmp&amp;"<`']],
  ['größe', ['große', 'gr\u006f\u0308ße', 'gr%C3%B6ße', 'GRÖSSE']],
  ['a+b', ['a b', 'a%2Bb']]
]

/** What a job with one of these directories may do, and may not do beside it. */
export const oddMatrix = ([directory, beside]: typeof oddNames[number]): Line[] => [
  ['writes', 'allowed', job => job.write(buckets.output, `${directory}/o`)],
  ['reads', 'allowed', job => job.read(buckets.output, `${directory}/o`)],
  ['uploads in parts', 'allowed', job => job.upload(buckets.output, `${directory}/parts`)],
  ['lists', 'allowed', job => job.list(buckets.output, `${directory}/`)],
  ...beside.flatMap((other): Line[] => [
    [`writes to ${other}`, 'denied', job => job.write(buckets.output, `${other}/o`)],
    [`lists ${other}`, 'denied', job => job.list(buckets.output, `${other}/`)]
  ])
]
