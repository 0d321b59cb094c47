import { readFileSync } from 'node:fs'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { urlFault } from '../secure-url.ts'
import { pointerForm } from './claims.ts'
import { fetchJson, type FetchJsonOptions } from './fetch-json.ts'
import { bearerToken, identityUnavailable, TokenRefusedError, unauthenticated, type Authenticator, type OnRefusal } from './identity.ts'
import { IssuerUnavailableError } from './issuer-keys.ts'
import { oidcTokens } from './oidc.ts'
import { looksLikeStaticToken, staticTokens } from './tokens.ts'

const strict = { additionalProperties: false }
const Id = (description: string) => Type.String({ description, pattern: '^[a-z0-9][a-z0-9-]{0,62}$' })
const Team = Type.String({ description: 'A team, or `*` for every team.', pattern: '^([A-Za-z0-9][A-Za-z0-9._-]{0,62}|\\*)$' })
const Teams = Type.Array(Team, { minItems: 1, maxItems: 1000 })
const Pointer = (description: string) => Type.String({ description: `${description} A JSON pointer, e.g. \`/kubernetes.io/namespace\`.`, pattern: pointerForm })
const attributeName = '^[A-Za-z][A-Za-z0-9_]{0,62}$'
const Seconds = (description: string, minimum: number, maximum: number, byDefault?: number) =>
  Type.Integer({ description, minimum, maximum, ...(byDefault === undefined ? {} : { default: byDefault }) })

export const TokenEntrySchema = Type.Object({
  id: Id('Names the token in logs and in the audit.'),
  sha256: Type.String({ description: 'SHA-256 of the whole token in lower-case hex. `npm run token` prints it.', pattern: '^[0-9a-f]{64}$' }),
  teams: Teams,
  expiresAt: Type.Optional(Type.String({ description: 'ISO 8601 with a zone: the token is dead from then on.', maxLength: 40 })),
  attributes: Type.Optional(Type.Record(Type.String({ pattern: attributeName }), Type.String({ maxLength: 1024 }), {
    ...strict,
    description: 'For guardrails.'
  }))
}, strict)
export type TokenEntry = Static<typeof TokenEntrySchema>

const Algorithm = Type.Union(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'].map(name => Type.Literal(name)), {
  description: 'Asymmetric only: with HS* the public key would be the secret.'
})
const Scalar = Type.Union([Type.String(), Type.Number(), Type.Boolean()])

export const IssuerEntrySchema = Type.Object({
  name: Id('Names the issuer in identities: `oidc:<name>#<sub>`.'),
  issuer: Type.String({ description: 'The `iss` of its tokens, to the letter.', minLength: 1, maxLength: 2048 }),
  audience: Type.String({ description: 'The one `aud` its tokens must have.', minLength: 1, maxLength: 2048 }),
  jwksUri: Type.Optional(Type.String({ description: 'Where its keys are. Without it: discovery at the issuer.', maxLength: 2048 })),
  algorithms: Type.Optional(Type.Array(Algorithm, { minItems: 1, default: ['RS256', 'PS256', 'ES256', 'EdDSA'] })),
  clockSkewSeconds: Type.Optional(Seconds('Tolerance for exp, nbf and iat.', 0, 300, 30)),
  maxTokenAgeSeconds: Type.Optional(Seconds('Oldest iat that is accepted; makes iat mandatory.', 1, 31_536_000)),
  requiredClaims: Type.Optional(Type.Record(Type.String({ pattern: pointerForm }), Type.Union([Scalar, Type.Array(Scalar, { minItems: 1 })]), {
    ...strict,
    description: 'JSON pointer to the value, or the values one of which, the claim must equal; a list must contain it.'
  })),
  team: Type.Object({
    claim: Pointer('The claim that says the team: a string or a list of strings.'),
    map: Type.Optional(Type.Record(Type.String(), Teams, { description: 'Value of the claim to teams. Values that are not in it give none. Without it the value is the team.' }))
  }, strict),
  attributes: Type.Optional(Type.Record(Type.String({ pattern: attributeName }), Pointer('The claim.'), {
    ...strict,
    description: 'Attributes for guardrails. `issuer` is always set, to the name above.'
  })),
  caFile: Type.Optional(Type.String({ description: 'PEM file of the authority that signs the issuer’s certificate, instead of the system’s.', minLength: 1 })),
  bearerFile: Type.Optional(Type.String({ description: 'File with a token that the issuer wants before it shows its keys; read at every fetch.', minLength: 1 })),
  cacheSeconds: Type.Optional(Seconds('How long keys are used without asking again.', 30, 86_400, 600)),
  cooldownSeconds: Type.Optional(Seconds('How long after a fetch unknown key ids cause no other one.', 1, 3600, 30)),
  timeoutSeconds: Type.Optional(Seconds('How long the issuer may take to answer.', 1, 30, 5))
}, strict)
export type IssuerEntry = Static<typeof IssuerEntrySchema>

export const IdentityConfigSchema = Type.Object({
  tokens: Type.Array(TokenEntrySchema, { default: [] }),
  issuers: Type.Array(IssuerEntrySchema, { default: [] })
}, { ...strict, title: 'IdentityConfig', description: 'Who may call: static tokens and OIDC issuers.' })
export type IdentityConfig = Static<typeof IdentityConfigSchema>

export interface ConfigFault {
  /** RFC 6901 pointer into the config. */
  pointer: string
  message: string
}

export class IdentityConfigError extends Error {
  override name = 'IdentityConfigError'
  readonly faults: ConfigFault[]

  constructor (faults: ConfigFault[]) {
    super(`identity: ${faults.map(({ pointer, message }) => `${pointer || '/'} ${message}`).join('; ')}`)
    this.faults = faults
  }
}

const instant = /^(\d{4}-\d\d-\d\d)T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/

function isInstant (text: string): boolean {
  const day = instant.exec(text)?.[1]
  if (day === undefined || Number.isNaN(Date.parse(text))) return false
  // Date.parse takes 30 February for 2 March.
  return new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)
}

/** All that is wrong with a config, by pointer; values are never repeated. Reads no file. */
export function identityFaults (config: unknown): ConfigFault[] {
  if (!Value.Check(IdentityConfigSchema, config)) {
    return [...Value.Errors(IdentityConfigSchema, config)].map(({ path, message }) => ({ pointer: path, message }))
  }
  return [...tokenFaults(config.tokens), ...issuerFaults(config.issuers)]
}

function tokenFaults (tokens: TokenEntry[]): ConfigFault[] {
  return [
    ...duplicates(tokens.map(({ id }) => id), index => `/tokens/${index}/id`),
    ...duplicates(tokens.map(({ sha256 }) => sha256), index => `/tokens/${index}/sha256`),
    ...tokens.flatMap(({ expiresAt, attributes }, index) => [
      ...(expiresAt === undefined || isInstant(expiresAt)
        ? []
        : [{ pointer: `/tokens/${index}/expiresAt`, message: 'is not an instant with a zone' }]),
      ...reserved(attributes, `/tokens/${index}/attributes`)
    ])
  ]
}

function issuerFaults (issuers: IssuerEntry[]): ConfigFault[] {
  return [
    ...duplicates(issuers.map(({ name }) => name), index => `/issuers/${index}/name`),
    ...duplicates(issuers.map(({ issuer }) => issuer), index => `/issuers/${index}/issuer`),
    ...issuers.flatMap(({ issuer, jwksUri, team, attributes }, index) => {
      const at = `/issuers/${index}`
      const fault = urlFault(jwksUri ?? issuer)
      const pointer = jwksUri === undefined ? `${at}/issuer` : `${at}/jwksUri`
      return [
        ...(fault === undefined ? [] : [{ pointer, message: `${fault}${jwksUri === undefined ? ', so it has no discovery; give jwksUri' : ''}` }]),
        ...(jwksUri === undefined && issuer.includes('?') ? [{ pointer, message: 'has a query, so it has no discovery; give jwksUri' }] : []),
        ...(team.map !== undefined && Object.keys(team.map).length === 0 ? [{ pointer: `${at}/team/map`, message: 'maps nothing' }] : []),
        ...reserved(attributes, `${at}/attributes`)
      ]
    })
  ]
}

const reserved = (attributes: Record<string, string> | undefined, pointer: string): ConfigFault[] =>
  attributes && Object.hasOwn(attributes, 'issuer') ? [{ pointer: `${pointer}/issuer`, message: 'is set by the service itself' }] : []

function duplicates (values: string[], pointer: (index: number) => string): ConfigFault[] {
  return values.flatMap((value, index) => values.indexOf(value) === index ? [] : [{ pointer: pointer(index), message: 'is given twice' }])
}

export interface IdentityDeps {
  now: () => Date
  /** Told why, once per refusal, unless the call brings its own. Nothing in it is secret. */
  onRefusal?: OnRefusal
  readFile?: (path: string) => string
  fetchJson?: (url: URL, options: FetchJsonOptions) => Promise<unknown>
}

/** The authenticator of a config. Throws IdentityConfigError when anything in it is wrong, an unreadable file included. */
export function loadIdentity (config: unknown, deps: IdentityDeps): Authenticator {
  const readFile = deps.readFile ?? (path => readFileSync(path, 'utf8'))
  const faults = identityFaults(config)
  if (faults.length > 0) throw new IdentityConfigError(faults)
  const { tokens, issuers } = config as IdentityConfig
  const unreadable = issuers.flatMap((issuer, index) => (['caFile', 'bearerFile'] as const).flatMap(key => {
    const path = issuer[key]
    try {
      if (path !== undefined && readFile(path).trim() === '') return [{ pointer: `/issuers/${index}/${key}`, message: 'is empty' }]
      return []
    } catch {
      return [{ pointer: `/issuers/${index}/${key}`, message: 'cannot be read' }]
    }
  }))
  if (unreadable.length > 0) throw new IdentityConfigError(unreadable)

  const byToken = staticTokens(tokens, deps.now)
  const byIssuer = oidcTokens(issuers, { now: deps.now, readFile, fetchJson: deps.fetchJson ?? fetchJson })
  return {
    async authenticate (header, onRefusal = deps.onRefusal) {
      try {
        const token = bearerToken(header)
        return looksLikeStaticToken(token) ? byToken(token) : await byIssuer(token)
      } catch (error) {
        if (error instanceof IssuerUnavailableError) {
          onRefusal?.('issuer-down', { issuer: error.issuer, error: error.message })
          throw identityUnavailable(error.retryAfterSeconds)
        }
        if (!(error instanceof TokenRefusedError)) throw error
        onRefusal?.(error.reason, error.details)
        throw unauthenticated()
      }
    }
  }
}
