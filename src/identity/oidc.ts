import {
  decodeJwt, decodeProtectedHeader, errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey, type ProtectedHeaderParameters
} from 'jose'
import { attributesOf, requireClaims, teamsOf } from './claims.ts'
import type { IssuerEntry } from './config.ts'
import { IssuerUnavailableError, TokenRefusedError, type Identity } from './identity.ts'
import { issuerKeys, type KeySourceDeps } from './issuer-keys.ts'

/** The compact JWTs of Kubernetes and GitHub have between 1 and 3 KB. */
const maxTokenBytes = 16 * 1024
const maxSubjectLength = 512

const defaultAlgorithms = ['RS256', 'PS256', 'ES256', 'EdDSA']

// Text of an unverified token for the log: short, printable ASCII.
const loggable = (value: unknown) => String(value).slice(0, 200).replace(/[^\x20-\x7e]/g, '?')

// An issuer also signs JWTs that identify no caller (logout tokens, security events). RFC 8725 section 3.11.
const acceptedTypes = new Set(['jwt', 'at+jwt', 'application/jwt', 'application/at+jwt'])

/**
 * Verifies JWTs of the configured issuers. The unverified `iss` selects one of them, before any fetch. The token is then verified
 * with the keys, algorithms and audience of this issuer alone. Rejects with TokenRefusedError or IssuerUnavailableError.
 */
export function oidcTokens (entries: readonly IssuerEntry[], deps: KeySourceDeps): (token: string) => Promise<Identity> {
  const issuers = new Map(entries.map(entry => [entry.issuer, {
    entry,
    keys: issuerKeys({
      name: entry.name,
      issuer: entry.issuer,
      ...(entry.jwksUri === undefined ? {} : { jwksUri: entry.jwksUri }),
      ...(entry.caFile === undefined ? {} : { caFile: entry.caFile }),
      ...(entry.bearerFile === undefined ? {} : { bearerFile: entry.bearerFile }),
      cacheSeconds: entry.cacheSeconds ?? 600,
      cooldownSeconds: entry.cooldownSeconds ?? 30,
      timeoutSeconds: entry.timeoutSeconds ?? 5
    }, deps)
  }]))

  return async token => {
    if (Buffer.byteLength(token) > maxTokenBytes) throw new TokenRefusedError('token-oversize')
    const { header, issuer } = unverified(token)
    const known = issuers.get(issuer)
    if (!known) throw new TokenRefusedError('issuer-unknown', { iss: loggable(issuer) })
    const { entry, keys } = known
    try {
      checkHeader(header)
      return identityOf(await verified(token, keys, entry, deps.now()), entry, deps.now())
    } catch (error) {
      if (error instanceof IssuerUnavailableError) throw error
      const refusal = refusalOf(error)
      throw new TokenRefusedError(refusal.reason, { issuer: entry.name, ...refusal.details })
    }
  }
}

function unverified (token: string): { header: ProtectedHeaderParameters, issuer: string } {
  let header: ProtectedHeaderParameters
  let payload: JWTPayload
  try {
    header = decodeProtectedHeader(token)
    payload = decodeJwt(token)
  } catch {
    throw new TokenRefusedError('token-malformed')
  }
  if (typeof payload.iss !== 'string') throw new TokenRefusedError('claim-missing', { claim: '/iss' })
  return { header, issuer: payload.iss }
}

function checkHeader (header: ProtectedHeaderParameters): void {
  // No extension is supported, so every critical one is refused (RFC 7515 section 4.1.11), also `b64`.
  if (Object.hasOwn(header, 'crit')) throw new TokenRefusedError('header-refused', { header: 'crit' })
  const { typ } = header
  if (typ !== undefined && !(typeof typ === 'string' && acceptedTypes.has(typ.toLowerCase()))) {
    throw new TokenRefusedError('header-refused', { header: 'typ' })
  }
}

async function verified (token: string, keys: JWTVerifyGetKey, entry: IssuerEntry, now: Date): Promise<JWTPayload> {
  const { payload } = await jwtVerify(token, keys, {
    algorithms: entry.algorithms ?? defaultAlgorithms,
    issuer: entry.issuer,
    audience: entry.audience,
    requiredClaims: ['exp', 'sub'],
    clockTolerance: entry.clockSkewSeconds ?? 30,
    currentDate: now,
    ...(entry.maxTokenAgeSeconds === undefined ? {} : { maxTokenAge: entry.maxTokenAgeSeconds })
  })
  return payload
}

function identityOf (claims: JWTPayload, entry: IssuerEntry, now: Date): Identity {
  const { aud, exp, iat, sub } = claims
  // Another audience of the same token could replay it here.
  if (Array.isArray(aud) && aud.length !== 1) throw new TokenRefusedError('audience-wrong')
  if (exp === undefined) throw new TokenRefusedError('claim-missing', { claim: '/exp' })
  // jose checks iat only when a maximum age is set.
  if (iat !== undefined && iat > Math.floor(now.getTime() / 1000) + (entry.clockSkewSeconds ?? 30)) {
    throw new TokenRefusedError('token-not-yet-valid', { claim: '/iat' })
  }
  // The subject becomes part of ids, logs and the audit, so it must be printable and short.
  if (typeof sub !== 'string' || sub.length > maxSubjectLength || !/^[\x21-\x7e]+$/.test(sub)) {
    throw new TokenRefusedError('claim-wrong', { claim: '/sub' })
  }
  requireClaims(claims, entry.requiredClaims ?? {})
  return {
    id: `oidc:${entry.name}#${sub}`,
    kind: 'oidc',
    teams: teamsOf(claims, entry.team),
    // `issuer` comes last, so that no claim can replace it: two clusters may both have a namespace `nlp`.
    attributes: { ...attributesOf(claims, entry), issuer: entry.name },
    expiresAt: exp * 1000
  }
}

function refusalOf (error: unknown): TokenRefusedError {
  if (error instanceof TokenRefusedError) return error
  if (error instanceof errors.JWTExpired) return new TokenRefusedError(error.claim === 'iat' ? 'token-too-old' : 'token-expired')
  if (error instanceof errors.JWTClaimValidationFailed) {
    const details = { claim: `/${error.claim}` }
    if (error.reason === 'missing') return new TokenRefusedError('claim-missing', details)
    if (error.claim === 'aud') return new TokenRefusedError('audience-wrong')
    if (error.reason === 'check_failed' && (error.claim === 'nbf' || error.claim === 'iat')) {
      return new TokenRefusedError('token-not-yet-valid', details)
    }
    return new TokenRefusedError('claim-wrong', details)
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return new TokenRefusedError('signature-wrong')
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return new TokenRefusedError('algorithm-refused')
  }
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) {
    return new TokenRefusedError('key-unknown')
  }
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return new TokenRefusedError('token-malformed')
  // Any other error: the key cannot be used (too short, private, invalid).
  return new TokenRefusedError('key-unfit', { error: error instanceof Error ? loggable(error.message) : 'unknown' })
}
