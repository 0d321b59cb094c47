import { createSocket } from 'node:dgram'
import { connect, isIPv6, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { DeliveredLine, Sink } from './delivery.ts'

export interface SyslogSinkOptions {
  name: string
  protocol: 'udp' | 'tcp' | 'tls'
  host: string
  port: number
  /** HOSTNAME of the messages: this machine. */
  hostname: string
  /** PEM of the authority behind the receiver's certificate, for tls. */
  ca?: string
  maxLines?: number
  timeoutMs?: number
}

// RFC 5424 section 6.2.1: facility 13 is "log audit"; 6 informational, 4 warning, 3 error.
const facility = 13
const severity: Record<string, number> = { denied: 4, failed: 3 }
const highestSequenceId = 2_147_483_647

const printable = (text: string, most: number) => text.replace(/[^\x21-\x7e]/g, '_').slice(0, most) || '-'

/** One RFC 5424 message; MSG is the line itself, so the chain can be verified at the receiver. */
export function syslogMessage (line: DeliveredLine, hostname: string): Buffer {
  const priority = facility * 8 + (severity[line.outcome] ?? 6)
  // Section 7.3.1: sequenceId goes from 1 to 2^31-1 and then starts again.
  const sequenceId = (line.seq - 1) % highestSequenceId + 1
  return Buffer.from(`<${priority}>1 ${line.at} ${printable(hostname, 255)} job-access ${printable(line.instance, 128)} ` +
    `${printable(line.action, 32)} [meta sequenceId="${sequenceId}"] ${line.text}`)
}

/**
 * Syslog acknowledges nothing. Over tcp and tls a batch counts as delivered when the receiver, having read up to our
 * end of the stream, closes its side too; over udp when the datagrams have left: that one can lose records.
 */
export function syslogSink (options: SyslogSinkOptions): Sink {
  const { name, protocol, hostname, maxLines = 100 } = options
  return {
    name,
    maxLines,
    async deliver (lines, signal) {
      signal.throwIfAborted()
      const messages = lines.map(line => syslogMessage(line, hostname))
      await (protocol === 'udp' ? sendDatagrams(messages, options) : sendStream(messages, options, signal))
    }
  }
}

async function sendDatagrams (messages: Buffer[], { host, port }: SyslogSinkOptions): Promise<void> {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4')
  const failed = new Promise<never>((_resolve, reject) => socket.once('error', reject))
  try {
    for (const message of messages) {
      await Promise.race([failed, new Promise<void>((resolve, reject) =>
        socket.send(message, port, host, error => error ? reject(error) : resolve()))])
    }
  } finally {
    failed.catch(() => {})
    socket.close()
  }
}

async function sendStream (messages: Buffer[], options: SyslogSinkOptions, signal: AbortSignal): Promise<void> {
  const { protocol, host, port, ca, timeoutMs = 10_000 } = options
  const socket: Socket = protocol === 'tls'
    ? connectTls({ host, port, ...(ca === undefined ? {} : { ca }) })
    : connect({ host, port })
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
  const abort = () => socket.destroy(new Error('the receiver did not take the records in time'))
  limit.addEventListener('abort', abort, { once: true })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      // Whatever it says is not for us, but it must be read for its end to be seen.
      socket.resume()
      socket.once('end', () => socket.writableFinished ? resolve() : reject(new Error('the receiver closed the connection early')))
      socket.once('close', () => reject(new Error('the connection was lost')))
      // RFC 6587 section 3.4.1, octet counting: a record may hold any character.
      socket.end(Buffer.concat(messages.flatMap(message => [Buffer.from(`${message.length} `), message])))
    })
  } finally {
    limit.removeEventListener('abort', abort)
    socket.destroy()
  }
}
