import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { TokenEntry } from './config.ts'
import { TokenRefusedError, type Identity } from './identity.ts'

/** Secret scanners find a leaked token by its fixed prefix. */
const tokenPrefix = 'jat_'
const tokenForm = /^jat_[a-z0-9][a-z0-9-]{0,62}_[A-Za-z0-9_-]{43}$/

const sha256 = (text: string) => createHash('sha256').update(text).digest()

/** A new token, `jat_<id>_<32 random bytes as base64url>`, and its hash for the config. */
export function mintToken (id: string, random: (bytes: number) => Buffer = randomBytes): { token: string, sha256: string } {
  const token = `${tokenPrefix}${id}_${random(32).toString('base64url')}`
  if (!tokenForm.test(token)) {
    throw new RangeError('A token id has 1 to 63 characters of a-z, 0-9 and -, and starts with a letter or digit.')
  }
  return { token, sha256: sha256(token).toString('hex') }
}

export const looksLikeStaticToken = (token: string) => token.startsWith(tokenPrefix)

/**
 * Verifies static tokens. Only tokens in the form of mintToken() are accepted: an unsalted, fast hash is safe only for a secret of
 * 256 random bits. All entries are always compared, so that the time reveals neither which one matched nor how nearly.
 */
export function staticTokens (entries: readonly TokenEntry[], now: () => Date): (token: string) => Identity {
  const known = entries.map(entry => ({
    digest: Buffer.from(entry.sha256, 'hex'),
    expiresAt: entry.expiresAt === undefined ? null : Date.parse(entry.expiresAt),
    entry
  }))

  return token => {
    const digest = sha256(token)
    let found: (typeof known)[number] | undefined
    for (const candidate of known) {
      if (timingSafeEqual(candidate.digest, digest)) found = candidate
    }
    if (!tokenForm.test(token) || !found) throw new TokenRefusedError('token-unknown')
    const { entry, expiresAt } = found
    // Written so that NaN means expired, although the check of the config already refuses such an expiresAt.
    if (expiresAt !== null && !(now().getTime() < expiresAt)) throw new TokenRefusedError('token-expired', { token: entry.id })
    return {
      id: `token:${entry.id}`,
      kind: 'token',
      teams: [...entry.teams],
      attributes: { ...entry.attributes },
      expiresAt
    }
  }
}
