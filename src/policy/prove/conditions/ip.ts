import ipaddr from 'ipaddr.js'
import { UnknownElementError } from '../unknown-element.ts'
import { negative, positive, rememberingLast, type Comparison, type Operator } from './comparison.ts'

/** A block of addresses of one family, as its lowest and highest address read as numbers. */
export interface Block { family: 4 | 6, low: bigint, high: bigint }

const bitsOf = { 4: 32, 6: 128 }

const join = (parts: number[], bits: bigint): bigint => parts.reduce((number, part) => number << bits | BigInt(part), 0n)

// Strict spellings only: ipaddr.js would also read '010.1', '0x7f.1' and zones, which S3 never reports.
const octets = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/

/** The address as a number; undefined when it is none. */
const readAddress = (text: string, family: 4 | 6): bigint | undefined => {
  if (family === 4) return octets.test(text) ? join(text.split('.').map(Number), 8n) : undefined
  return !text.includes('%') && ipaddr.IPv6.isValid(text) ? join(ipaddr.IPv6.parse(text).parts, 16n) : undefined
}

/**
 * An address without a mask is the block of that address alone; host bits of a CIDR do not count.
 * An IPv4-mapped IPv6 address is one of IPv6: the families never match each other.
 * @throws UnknownElementError when it is neither an address nor a CIDR
 */
export const readBlock = (text: string): Block => {
  const [address = '', mask, ...rest] = text.split('/')
  const family = address.includes(':') ? 6 : 4
  const bits = bitsOf[family]
  const number = readAddress(address, family)
  if (number === undefined || rest.length > 0 || (mask !== undefined && !(/^\d{1,3}$/.test(mask) && Number(mask) <= bits))) {
    throw new UnknownElementError(`not an address or CIDR: ${JSON.stringify(text)}`)
  }
  const free = BigInt(bits - Number(mask ?? bits))
  const low = (number >> free) << free
  return { family, low, high: low | ((1n << free) - 1n) }
}

/** The address that is a number, in canonical text. */
export const writeAddress = (family: 4 | 6, number: bigint): string => {
  const bytes = Array.from({ length: bitsOf[family] / 8 }, (_, i) => Number(number >> BigInt(bitsOf[family] - 8 * (i + 1)) & 255n))
  return ipaddr.fromByteArray(bytes).toString()
}

/** The highest address of a family. */
export const lastOf = (family: 4 | 6): bigint => (1n << BigInt(bitsOf[family])) - 1n

const readOnce = rememberingLast(readBlock)

const within = (policyValue: string): Comparison => {
  const block = readBlock(policyValue)
  return contextValue => {
    const address = readOnce(contextValue)
    return address.family === block.family && address.low >= block.low && address.high <= block.high
  }
}

/** Source: IAM User Guide, "IP address condition operators". */
export const ipOperators: Record<string, Operator> = {
  IpAddress: positive(within),
  NotIpAddress: negative(within)
}
