import { cachePath, freePort, answers, requireInstalled, serverEnv, startDaemon, temporaryDir } from './daemon.ts'

/** moto's server with IAM, STS and S3, which keeps everything and enforces nothing. */
export async function startMoto (): Promise<{ endpoint: string, stop (): Promise<void> }> {
  const command = requireInstalled(cachePath('moto', 'bin', 'moto_server'), 'moto')
  const port = await freePort('127.0.0.1')
  const endpoint = `http://127.0.0.1:${port}`
  const dir = await temporaryDir('moto')
  const daemon = await startDaemon({
    name: 'moto',
    command,
    args: ['-H', '127.0.0.1', '-p', `${port}`],
    dir,
    env: serverEnv(),
    signal: 'KILL',
    ready: () => answers(endpoint)
  })
  return { endpoint, stop: daemon.stop }
}
