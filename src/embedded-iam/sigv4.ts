import { createHmac, createSecretKey, hash, timingSafeEqual } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Account, Caller, Key } from './account.ts'
import { Refusal } from './refusal.ts'

/** How far a signature's time may be off, in ms: AWS's fifteen minutes. */
const tolerance = 15 * 60_000
const header = /^AWS4-HMAC-SHA256 +Credential=([^,\s]+)\s*, *SignedHeaders=([^,\s]+)\s*, *Signature=([0-9a-f]{64})$/

interface Claim {
  accessKeyId: string
  scope: { date: string, region: string, service: string }
  signedHeaders: string[]
  signature: string
}

/**
 * What the Authorization header claims; nothing of it is verified yet.
 * @throws {Refusal} MissingAuthenticationToken, IncompleteSignature
 */
export function claimOf (headers: IncomingHttpHeaders): Claim {
  const text = headers.authorization
  if (text === undefined) throw new Refusal('MissingAuthenticationToken', 'Request is missing Authentication Token')
  const match = header.exec(text)
  const [accessKeyId, date, region, service, terminator, ...rest] = match?.[1]?.split('/') ?? []
  if (!match || !accessKeyId || !date || !region || !service || terminator !== 'aws4_request' || rest.length > 0) {
    throw new Refusal('IncompleteSignature', 'Authorization header requires Credential, SignedHeaders and Signature of AWS4-HMAC-SHA256.')
  }
  return { accessKeyId, scope: { date, region, service }, signedHeaders: (match[2] ?? '').split(';'), signature: match[3] ?? '' }
}

/**
 * The caller whose secret made the signature of a `POST /` with this body.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
 * @param clock of the wire, not the account's: the client signs with the machine's time
 * @throws {Refusal} IncompleteSignature, InvalidClientTokenId, ExpiredToken, SignatureDoesNotMatch
 */
export function authenticate (
  account: Account, claim: Claim, headers: IncomingHttpHeaders, body: Buffer, service: string, clock: Date
): Caller {
  const key = knownKey(account, claim.accessKeyId)
  const { owner } = key
  if (owner.kind === 'session') {
    const token = headers['x-amz-security-token']
    if (typeof token !== 'string' || !same(token, owner.token)) throw invalidToken()
    if (owner.expiresAt <= account.now()) throw new Refusal('ExpiredToken', 'The security token included in the request is expired')
  } else if (headers['x-amz-security-token'] !== undefined) {
    throw invalidToken()
  }
  const time = headers['x-amz-date']
  if (typeof time !== 'string' || !claim.signedHeaders.includes('x-amz-date') || !claim.signedHeaders.includes('host')) {
    throw new Refusal('IncompleteSignature', 'SignedHeaders must include host and x-amz-date.')
  }
  checkScope(claim, time, service, clock)
  if (!same(signatureOf(key, claim, time, headers, body), claim.signature)) {
    throw new Refusal('SignatureDoesNotMatch', 'The request signature we calculated does not match the signature you provided. ' +
      'Check your AWS Secret Access Key and signing method. Consult the service documentation for details.')
  }
  if (owner.kind === 'user') {
    key.lastUsed = { at: account.now(), service, region: claim.scope.region }
    return { key, owner, arn: owner.user.arn, id: owner.user.id }
  }
  return { key, owner, arn: owner.arn, id: owner.id }
}

function knownKey (account: Account, id: string): Key {
  const key = account.keys.get(id)
  if (!key?.active || key.knownFrom > account.now().getTime()) throw invalidToken()
  return key
}

function checkScope ({ scope }: Claim, time: string, service: string, clock: Date): void {
  if (scope.service !== service) {
    throw new Refusal('SignatureDoesNotMatch', `Credential should be scoped to correct service: '${service}'.`)
  }
  const at = /^\d{8}T\d{6}Z$/.test(time) ? epochOf(time) : NaN
  if (Number.isNaN(at)) throw new Refusal('IncompleteSignature', 'Date must be in ISO-8601 basic format.')
  if (time.slice(0, 8) !== scope.date) {
    throw new Refusal('SignatureDoesNotMatch', 'Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.')
  }
  if (Math.abs(clock.getTime() - at) > tolerance) {
    const which = at < clock.getTime() ? 'expired' : 'not yet current'
    throw new Refusal('SignatureDoesNotMatch', `Signature ${which}: ${time} is more than 15 min. from now.`)
  }
}

function signatureOf (key: Key, claim: Claim, time: string, headers: IncomingHttpHeaders, body: Buffer): string {
  const { date, region, service } = claim.scope
  const canonicalHeaders = claim.signedHeaders.map((name) => `${name}:${valueOf(headers[name])}\n`).join('')
  // The hash of the body itself, never the client's x-amz-content-sha256: a right signature then proves that both agree.
  const request = `POST\n/\n\n${canonicalHeaders}\n${claim.signedHeaders.join(';')}\n${sha256(body)}`
  const toSign = `AWS4-HMAC-SHA256\n${time}\n${date}/${region}/${service}/aws4_request\n${sha256(request)}`
  return createHmac('sha256', signingKey(key, date, region, service)).update(toSign).digest('hex')
}

function signingKey (key: Key, date: string, region: string, service: string): KeyObject {
  const scope = `${date}/${region}/${service}`
  const known = key.signing.get(scope)
  if (known) return known
  const chain = (above: Buffer, part: string): Buffer => createHmac('sha256', above).update(part).digest()
  const derived = createSecretKey([date, region, service, 'aws4_request'].reduce<Buffer>(chain, Buffer.from(`AWS4${key.secret}`)))
  if (key.signing.size >= 8) key.signing.clear()
  key.signing.set(scope, derived)
  return derived
}

function valueOf (value: string | string[] | undefined): string {
  const text = Array.isArray(value) ? value.join(',') : value ?? ''
  return text.trim().replace(/\s+/g, ' ')
}

function sha256 (data: string | Buffer): string {
  return hash('sha256', data, 'hex')
}

/** Epoch ms of `20250716T010000Z`. */
function epochOf (time: string): number {
  const part = (from: number, to: number): number => Number(time.slice(from, to))
  return Date.UTC(part(0, 4), part(4, 6) - 1, part(6, 8), part(9, 11), part(11, 13), part(13, 15))
}

function same (a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}

function invalidToken (): Refusal {
  return new Refusal('InvalidClientTokenId', 'The security token included in the request is invalid.')
}
