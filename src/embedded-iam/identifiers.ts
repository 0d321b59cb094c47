import { randomBytes, randomInt } from 'node:crypto'

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/**
 * AWS's unique ids: a four-letter kind and 17 characters.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
 */
export function uniqueId (kind: 'AIDA' | 'ANPA' | 'AROA'): string {
  return kind + letters(17)
}

/** Has AWS's form, and the word EMBEDDED in it. 40 random bits are enough, since an id is not secret. */
export function accessKeyId (kind: 'AKIA' | 'ASIA', taken: (id: string) => boolean): string {
  for (;;) {
    const id = `${kind}EMBEDDED${letters(8)}`
    if (!taken(id)) return id
  }
}

/** 40 characters with 240 random bits, of the same alphabet as AWS's: it includes `+` and `/`, which must be escaped in some formats. */
export function secretAccessKey (): string {
  return randomBytes(30).toString('base64')
}

export function sessionToken (): string {
  return randomBytes(180 + randomInt(0, 30) * 3).toString('base64')
}

function letters (count: number): string {
  let text = ''
  for (const byte of randomBytes(count)) text += alphabet.charAt(byte & 31)
  return text
}
