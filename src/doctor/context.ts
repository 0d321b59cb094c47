import type { Statement } from '../domain/policy-document.ts'
import type { Finding, Way } from '../iam/dialects/file.ts'
import type { Scene } from './questions.ts'
import type { Scratch } from './scratch.ts'
import type { Called, Key, Store } from './store.ts'

/** What every part of a run has, and how it reads answers. */

export type Judged = Pick<Finding, 'verdict' | 'detail'>

export interface Examination {
  findings: Finding[]
  /** In ms, but for `clock`: the store's clock less ours, in seconds. They differ from run to run. */
  times: Record<string, number>
}

export interface ExamineOptions {
  /** Unique to the run, of `[0-9a-z]`. */
  run: string
  now: () => number
  pause: (ms: number) => Promise<void>
  signal: AbortSignal
  partition: string
  /** The location of the scratch buckets, where S3 wants to be told. */
  location?: string
  /** A role to assume, which allows all of the scratch buckets. Default: the doctor makes one. */
  roleArn?: string
  /** How long a change may take to be in effect. */
  patienceMs: number
  lanes: number
  progress: (what: string) => void
}

/** Something that carries a policy, and the key to ask with. */
export interface Lane {
  way: Way
  key: Key
  attach: (document: string) => Promise<Called>
  /** Read under the policy before this one. */
  last: string | null
}

export interface Context extends ExamineOptions {
  store: Store
  scratch: Scratch
  scene: Scene
  found: Examination
  note: (finding: Finding) => void
  /** Whether a policy is seen to end what it no longer allows. */
  enforcing: boolean
  canaries: number
}

export const documentOf = (...Statement: Statement[]): string => JSON.stringify({ Version: '2012-10-17', Statement })
export const verdictOf = (called: Called): Judged =>
  called.ok ? { verdict: 'yes' } : { verdict: called.code === 'NoAnswer' ? 'untried' : 'no', detail: called.code }
export const kept = (is: boolean): Judged => is ? { verdict: 'yes' } : { verdict: 'no', detail: 'dropped without an error' }

export const absent = (called: Called): boolean => !called.ok && (['InvalidAction', 'NotImplemented'].includes(called.code) ||
  (called.status !== null && (called.status >= 500 || called.status === 405 || called.status === 404)))

export const keyOf = ({ AccessKeyId = '', SecretAccessKey = '', SessionToken }: Record<string, string>): Key =>
  ({ accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, ...(SessionToken !== undefined && { sessionToken: SessionToken }) })

/** Seconds. A Date leaves out the part of a second, and some servers renew theirs once a second. */
export const mostSkew = 2
