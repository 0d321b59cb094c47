import { rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { runPage } from '../../docs/page.ts'
import { tool } from '../../examples/example.ts'
import { cachePath, freePort, requireInstalled, temporaryDir } from '../../servers/daemon.ts'

/** docs/quick-start.md to its end: SeaweedFS and the AWS CLI as the page starts them, but for their ports. */

const weed = requireInstalled(cachePath('seaweedfs', 'bin', 'weed'), 'seaweedfs')
const aws = tool('lint', 'bin', 'aws')
if (aws.skip) throw new Error(aws.skip)
const bin = await temporaryDir('quick-start')
t.teardown(() => rmSync(bin, { recursive: true, force: true }))
const named = ['master.port', 'master.port.grpc', 'volume.port', 'volume.port.grpc', 'filer.port', 'filer.port.grpc', 's3.port.grpc']
const port = await freePort('127.0.0.1')
const others = await Promise.all(named.map(async name => `-${name}=${await freePort('127.0.0.1')}`))
// The last of two equal flags counts.
writeFileSync(join(bin, 'weed'), `#!/bin/sh
exec '${weed}' "$@" -s3.port=${port} ${others.join(' ')} -filer.localSocket=${bin}/filer.sock -s3.localSocket=${bin}/s3.sock
`, { mode: 0o755 })

t.setTimeout(240_000)
await t.test('docs/quick-start.md', async t => {
  await runPage(t, 'docs/quick-start.md', { seaweedfs: { env: { PATH: `${bin}:${dirname(aws.path)}` }, ports: { 8333: port } } })
})
