import { readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { loadIdentity } from '../../src/identity/authenticator.ts'
import { IssuerEntrySchema } from '../../src/identity/config.ts'
import { sign, signingKey } from './issuer.ts'

const text = readFileSync(new URL('../../docs/identity.md', import.meta.url), 'utf8')
const blocks = (language: string) => [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, block = '']) => block)
const configs = blocks('json identity').map(block => JSON.parse(block))
const [, kubernetes, github] = configs
const [pod, workflow] = ['yaml kubernetes', 'yaml github-actions'].map(kind => parse(blocks(kind)[0] ?? ''))

t.test('every field of an issuer is explained', async t => {
  for (const field of Object.keys(IssuerEntrySchema.properties)) t.match(text, new RegExp(`^\\|.*\`${field}(\\.claim)?\`.*\\|`, 'm'), field)
})

/** Uses the documented config. The test serves the keys instead of the issuer. */
async function ask (config: { issuers: { issuer: string, jwksUri?: string }[] }, claims: object) {
  const key = await signingKey('k1')
  const asked: string[] = []
  const now = Date.parse('2026-07-01T12:00:00Z')
  const { authenticate } = loadIdentity(config, {
    now: () => new Date(now),
    readFile: path => `content of ${path}`,
    async fetchJson (url, { ca, bearer }) {
      asked.push([url.href, ca, bearer].join(' '))
      return url.pathname.includes('openid-configuration') ? { issuer: config.issuers[0]?.issuer, jwks_uri: 'https://keys.example/jwks' } : { keys: [key.jwk] }
    }
  })
  const token = await sign(key, { iss: config.issuers[0]?.issuer, iat: now / 1000, exp: now / 1000 + 600, ...claims })
  return { identity: await authenticate(`Bearer ${token}`), asked }
}

t.test('the pod’s token is accepted by the documented Kubernetes config', async t => {
  const { audience } = pod.spec.volumes[0].projected.sources[0].serviceAccountToken
  const { namespace } = pod.metadata
  const { serviceAccountName: name } = pod.spec
  const { identity, asked } = await ask(kubernetes, {
    aud: [audience], sub: `system:serviceaccount:${namespace}:${name}`, 'kubernetes.io': { namespace, serviceaccount: { name } }
  })
  t.match(identity, { id: 'oidc:cluster#system:serviceaccount:nlp:launcher', teams: ['nlp'], attributes: { namespace, serviceAccount: name } })
  const files = '/var/run/secrets/kubernetes.io/serviceaccount'
  t.same(asked, [`https://kubernetes.default.svc/openid/v1/jwks content of ${files}/ca.crt content of ${files}/token`])
})

t.test('the workflow’s token is accepted by the documented GitHub config', async t => {
  const { identity, asked } = await ask(github, {
    aud: workflow.jobs.train.steps[1].env.AUDIENCE,
    sub: 'repo:acmeco/train-nlp:environment:training',
    repository: 'acmeco/train-nlp',
    repository_owner_id: '1234567',
    ref: 'refs/heads/main',
    environment: workflow.jobs.train.environment,
    event_name: 'push'
  })
  t.match(identity, { id: 'oidc:github#repo:acmeco/train-nlp:environment:training', teams: ['nlp'] })
  t.match(asked, ['https://token.actions.githubusercontent.com/.well-known/openid-configuration', 'https://keys.example/jwks'])
})
