import { Counter, Histogram, type Registry } from 'prom-client'
import type { IamClientOptions } from '../iam/client.ts'
import { labelOf } from './ledger.ts'

export interface IamMetrics {
  /** For createIam's onCall: one attempt, retries included one by one. */
  iamCall: (call: Parameters<NonNullable<IamClientOptions['onCall']>>[0], account?: string) => void
}

/** The calls without which no job gets its key; a refusal of one of them must show as a step from 0. */
const issuing = ['CreateUser', 'PutUserPolicy', 'CreatePolicy', 'AttachUserPolicy', 'CreateAccessKey', 'AssumeRole']
const alarming = ['denied', 'credentials', 'skewed', 'limit', 'throttled', 'unavailable']

export const iamMetrics = (registry: Registry, accounts: Array<string | undefined>): IamMetrics => {
  const registers = [registry]
  const calls = new Counter({
    name: 'job_access_iam_calls_total',
    help: 'Attempts of IAM and STS calls, by operation and outcome (`ok`, or the kind of the error).',
    labelNames: ['account', 'operation', 'outcome'],
    registers
  })
  const seconds = new Histogram({
    name: 'job_access_iam_call_duration_seconds',
    help: 'Duration of attempts of IAM and STS calls.',
    labelNames: ['account', 'operation'],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    registers
  })
  for (const account of accounts) {
    for (const operation of issuing) for (const outcome of alarming) calls.inc({ ...labelOf(account), operation, outcome }, 0)
  }
  return {
    iamCall ({ operation, outcome, ms }, account) {
      calls.inc({ ...labelOf(account), operation, outcome })
      seconds.observe({ ...labelOf(account), operation }, ms / 1000)
    }
  }
}
