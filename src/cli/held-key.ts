import { NoAnswerError, type DeliveryText, type Grant } from '../client/index.ts'

/** A grant's key as a job's worker holds it. All instants are epoch milliseconds. */
export interface HeldKey {
  grantId: string
  accessKeyId: string
  secretAccessKey: string
  sessionToken: string | undefined
  receivedAt: number
  /** Until when it works, as far as is known. */
  end: number
}

/** A key in the delivery format `env`: NAME=VALUE lines, the grant in the first comment, notices in the other comments. */
export interface DeliveredEnv {
  key: HeldKey
  /** E.g. `grant …, job …, ends …`. */
  title: string
  notices: string[]
  /** Every variable, the key's too. */
  env: Record<string, string>
  /** The variables that are not the key's: region, endpoint and the like. */
  target: Record<string, string>
}

export const deliveredEnv = ({ grantId, text }: DeliveryText, now: number): DeliveredEnv => {
  const lines = text.split('\n').filter(line => line !== '')
  const [title = '', ...notices] = lines.filter(line => line.startsWith('# ')).map(line => line.slice(2))
  const pairs = lines.filter(line => !line.startsWith('#')).map((line): [string, string] => {
    const at = line.indexOf('=')
    return [line.slice(0, at), line.slice(at + 1)]
  })
  const env: Record<string, string> = Object.fromEntries(pairs)
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken, ...target } = env
  const end = Date.parse(/, ends (\S+)$/.exec(title)?.[1] ?? '')
  if (!accessKeyId || !secretAccessKey || Number.isNaN(end)) throw new NoAnswerError('The delivered credentials are not understood.')
  return { key: { grantId, accessKeyId, secretAccessKey, sessionToken, receivedAt: now, end }, title, notices, env, target }
}

/**
 * `good`: it works until `end`; a successor is fetched at `renewAt`, where there is one to fetch. `replace`: a successor is due; the
 * key works until `end` (0: no longer). `over`: the grant has ended.
 */
export type Verdict =
  | { is: 'good', end: number, renewAt: number }
  | { is: 'replace', end: number }
  | { is: 'over', state: Grant['state'] }

/** A key that a rotation replaced is given up so long before it is deleted. */
const beforeDeletionMs = 30_000

/** A session's successor is fetched so long before its end: more than the 15 minutes in which botocore asks again. */
const sessionLeadMs = 20 * 60_000

/**
 * What the grant says about the key that is held. No key is replaced while it works, except a session shortly before its end:
 * a rotation by somebody else leaves the old key alive for its overlap, and asking for a third key ends it at once.
 */
export const verdictOn = (key: Pick<HeldKey, 'accessKeyId' | 'receivedAt' | 'end'>, grant: Grant, now: number): Verdict => {
  if (grant.state !== 'active') return { is: 'over', state: grant.state }
  const windowEnd = Date.parse(grant.window.outputNotAfter)
  if (grant.attach === 'session') {
    // It lives to its own end, whatever sessions follow. A short one is used for half of its life at least.
    const lead = Math.min(sessionLeadMs, Math.max(0, key.end - key.receivedAt) / 2)
    return verdictBy(now, key.end, key.end < windowEnd ? key.end - lead : Infinity)
  }
  // null: another operation is under way; what came of it is seen the next time.
  if (grant.accessKeyId === key.accessKeyId || grant.accessKeyId === null) return { is: 'good', end: windowEnd, renewAt: Infinity }
  if (grant.previousKey?.accessKeyId !== key.accessKeyId) return { is: 'replace', end: 0 }
  const deletedAt = Date.parse(grant.previousKey.diesAt)
  // A whole second, since that is what SDKs are told.
  return verdictBy(now, deletedAt, Math.floor((deletedAt - beforeDeletionMs) / 1000) * 1000)
}

const verdictBy = (now: number, end: number, renewAt: number): Verdict =>
  now < renewAt ? { is: 'good', end, renewAt } : { is: 'replace', end }

/**
 * The Expiration that an SDK is told, ISO 8601. SDKs ask again before it: botocore 15 minutes, the SDKs for JavaScript and Go
 * 5 minutes, the one for C++ seconds. An early one lets them see a rotation or an extension; it is past only when the key is.
 */
export const toldExpiration = (end: number, validForMs: number, now: number): string =>
  new Date(Math.ceil(Math.min(end, now + validForMs) / 1000) * 1000).toISOString().replace('.000Z', 'Z')
