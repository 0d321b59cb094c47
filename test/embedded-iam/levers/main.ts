import { parseArgs } from 'node:util'
import type { TestIamOptions } from './start.ts'
import { startTestIam } from './start.ts'

/*
 * The embedded IAM as a process of its own, for tests that kill the service and keep the IAM.
 *
 *   node test/embedded-iam/levers/main.ts [--port 0] [--latency MS] [--max-users N] [--key-delay MS] [--account-id ID]
 *     [--control] [--exit-with-stdin]
 *
 * Prints one JSON line: {"url": ..., "admin": {"accessKeyId": ...}}. The admin's keys come from
 * EMBEDDED_IAM_ACCESS_KEY_ID and EMBEDDED_IAM_SECRET_ACCESS_KEY. Without these they are generated, and only then the
 * line has admin.secretAccessKey too: so the parent process learns them. They are valid only as long as this process lives.
 */
const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    latency: { type: 'string', default: '0' },
    'max-users': { type: 'string', default: '5000' },
    'key-delay': { type: 'string', default: '0' },
    'account-id': { type: 'string', default: '000000000000' },
    control: { type: 'boolean', default: false },
    'exit-with-stdin': { type: 'boolean', default: false }
  }
})

const { EMBEDDED_IAM_ACCESS_KEY_ID: accessKeyId, EMBEDDED_IAM_SECRET_ACCESS_KEY: secretAccessKey } = process.env
const given = accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey } : null

const options: TestIamOptions = {
  port: count('port'),
  latencyMs: count('latency'),
  maxUsers: count('max-users'),
  keyDelayMs: count('key-delay'),
  accountId: values['account-id'],
  control: values.control
}
const embedded = await startTestIam(given ? { ...options, adminKeys: given } : options)
console.log(JSON.stringify({ url: embedded.url, admin: given ? { accessKeyId } : embedded.admin }))

const stop = (): void => { embedded.stop().then(() => process.exit(0), () => process.exit(1)) }
process.once('SIGTERM', stop)
process.once('SIGINT', stop)
// So that it does not outlive a parent that was killed: the parent's end of the pipe closes with it.
if (values['exit-with-stdin']) process.stdin.on('end', stop).on('error', stop).resume()

function count (name: 'port' | 'latency' | 'max-users' | 'key-delay'): number {
  const text = values[name]
  if (!/^\d{1,9}$/.test(text)) throw new TypeError(`--${name} must be a whole number.`)
  return Number(text)
}
