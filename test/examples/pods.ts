import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { createClient } from '../../src/client/index.ts'
import { mintToken } from '../../src/identity/authenticator.ts'
import { startService } from '../commands/service.ts'
import { sign, signingKey, startIssuer } from '../identity/issuer.ts'
import { cliFile, root, workplace } from './example.ts'

/** The service as a cluster has it: with the issuer of the pods' tokens and the guardrails of the pages. */
export const startForPods = async (t: Test) => {
  const key = await signingKey('cluster')
  const issuer = await startIssuer(t, [key.jwk])
  const watcher = mintToken('watcher')
  const home = workplace(t)
  const audience = 'https://job-access.example.com'
  writeFileSync(join(home, 'identity.json'), JSON.stringify({
    tokens: [{ id: 'watcher', sha256: watcher.sha256, teams: ['nlp'] }],
    issuers: [{
      name: 'cluster',
      issuer: issuer.url,
      audience,
      team: { claim: '/kubernetes.io/namespace' },
      attributes: { namespace: '/kubernetes.io/namespace', serviceAccount: '/kubernetes.io/serviceaccount/name', worker: '/kubernetes.io/pod/name' },
      requiredClaims: { '/kubernetes.io/serviceaccount/name': ['launcher', 'worker'] }
    }]
  }))
  const service = await startService(t, {
    JOB_ACCESS_IDENTITY: join(home, 'identity.json'), JOB_ACCESS_GUARDRAILS: join(root, 'guardrails', 'example.cedar')
  })
  const client = createClient({ url: service.url, token: watcher.token })
  /** A pod's place: its folders, and the token that the kubelet gives it. */
  const podOf = async (name: string, serviceAccount: string, request: object) => {
    const place = join(home, name)
    for (const folder of ['access', 'grant', 'token', 'tmp', 'job']) mkdirSync(join(place, folder), { recursive: true })
    const now = Math.floor(Date.now() / 1000)
    const token = await sign(key, {
      iss: issuer.url,
      aud: audience,
      sub: `system:serviceaccount:nlp:${serviceAccount}`,
      iat: now,
      exp: now + 600,
      'kubernetes.io': { namespace: 'nlp', serviceaccount: { name: serviceAccount }, pod: { name, uid: `uid-of-${name}` } }
    })
    writeFileSync(join(place, 'token', 'token'), token)
    writeFileSync(join(place, 'job', 'request.json'), JSON.stringify(request))
    const here = (word: string) => word
      .replaceAll('/app/dist/cli/main.js', cliFile)
      .replaceAll('/var/run/secrets/job-access', join(place, 'token'))
      .replaceAll(/(?<![\w/.-])\/(access|grant|tmp|job)\b/g, (_, folder: string) => join(place, folder))
    return { place, here, env: { PATH: process.env.PATH ?? '', JOBACCESS_URL: service.url, JOBACCESS_TOKEN_FILE: join(place, 'token', 'token') } }
  }
  return { home, client, podOf }
}
