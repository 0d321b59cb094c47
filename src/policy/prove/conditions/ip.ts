import ipaddr from 'ipaddr.js'
import { UnknownElement } from '../unknown-element.ts'
import { negative, positive, type Comparison, type Operator } from './comparison.ts'

/** A block of addresses of one family, as its lowest and highest address read as numbers. */
export interface Block { family: 4 | 6, low: bigint, high: bigint }

const bitsOf = { 4: 32, 6: 128 }

const numberOf = (address: ipaddr.IPv4 | ipaddr.IPv6): bigint =>
  address.toByteArray().reduce((number, byte) => number << 8n | BigInt(byte), 0n)

// Strict spellings only: ipaddr.js would read '010.1', '0x7f.1' and zones, which S3 never reports.
const isAddress = (text: string) => ipaddr.IPv4.isValidFourPartDecimal(text) || (text.includes(':') && !text.includes('%') && ipaddr.IPv6.isValid(text))

/**
 * An address without a mask is the block of that address alone; host bits of a CIDR do not count.
 * An IPv4-mapped IPv6 address is one of IPv6: the families never match each other.
 * @throws UnknownElement when it is neither an address nor a CIDR
 */
export const readBlock = (text: string): Block => {
  const [address = '', mask, ...rest] = text.split('/')
  const family = address.includes(':') ? 6 : 4
  const bits = bitsOf[family]
  if (!isAddress(address) || rest.length > 0 || (mask !== undefined && !(/^\d{1,3}$/.test(mask) && Number(mask) <= bits))) {
    throw new UnknownElement(`not an address or CIDR: ${JSON.stringify(text)}`)
  }
  const free = BigInt(bits - Number(mask ?? bits))
  const low = (numberOf(ipaddr.parse(address)) >> free) << free
  return { family, low, high: low | ((1n << free) - 1n) }
}

/** The address that is a number, in canonical text. */
export const writeAddress = (family: 4 | 6, number: bigint): string => {
  const bytes = Array.from({ length: bitsOf[family] / 8 }, (_, i) => Number(number >> BigInt(bitsOf[family] - 8 * (i + 1)) & 255n))
  return ipaddr.fromByteArray(bytes).toString()
}

/** The highest address of a family. */
export const lastOf = (family: 4 | 6): bigint => (1n << BigInt(bitsOf[family])) - 1n

const within = (policyValue: string): Comparison => {
  const block = readBlock(policyValue)
  return contextValue => {
    const address = readBlock(contextValue)
    return address.family === block.family && address.low >= block.low && address.high <= block.high
  }
}

/** Source: IAM User Guide, "IP address condition operators". */
export const ipOperators: Record<string, Operator> = {
  IpAddress: positive(within),
  NotIpAddress: negative(within)
}
