import { IAMClient } from '@aws-sdk/client-iam'
import { STSClient } from '@aws-sdk/client-sts'
import type { Test } from 'tap'
import type { TestIam, TestIamOptions } from './levers/start.ts'
import { startTestIam } from './levers/start.ts'

export interface Credentials { accessKeyId: string, secretAccessKey: string, sessionToken?: string }

export interface Connected {
  server: TestIam
  iam: IAMClient
  sts: STSClient
  /** Clients for other credentials; they end with the test. */
  as: (credentials: Credentials) => { iam: IAMClient, sts: STSClient }
}

/** A server and admin clients that do not retry, both gone when the test ends. */
export async function connect (t: Test, options: TestIamOptions = {}): Promise<Connected> {
  const server = await startTestIam(options)
  t.teardown(() => server.stop())
  const as: Connected['as'] = (credentials) => clients(t, server.url, credentials)
  return { server, as, ...as(server.admin) }
}

export function clients (t: Test, endpoint: string, credentials: Credentials): { iam: IAMClient, sts: STSClient } {
  const config = { endpoint, region: 'us-east-1', credentials, maxAttempts: 1 }
  const [iam, sts] = [new IAMClient(config), new STSClient(config)]
  t.teardown(() => { iam.destroy(); sts.destroy() })
  return { iam, sts }
}

/** What an SDK error is matched against. */
export interface Refused { name: string | RegExp, message?: string | RegExp, $metadata?: { httpStatusCode: number } }

export function refused (name: string | RegExp, status: number, message: string | RegExp = /./): Refused {
  return { name, message, $metadata: { httpStatusCode: status } }
}

/** A policy document whose counted size, i.e. without white space, is exactly `size`. */
export function documentOf (size: number): string {
  const empty = policy('')
  const { length } = empty
  if (size < length) throw new RangeError(`A document has at least ${length} characters.`)
  return policy('x'.repeat(size - length))
}

function policy (key: string): string {
  const Statement = [{ Effect: 'Allow', Action: 's3:GetObject', Resource: `arn:aws:s3:::b/${key}` }]
  return JSON.stringify({ Version: '2012-10-17', Statement })
}

export const trustOf = (principal: unknown, action: string | string[] = 'sts:AssumeRole'): string =>
  JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: principal, Action: action }] })
