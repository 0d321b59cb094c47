import { Type, type Static } from '@sinclair/typebox'
import { configFaults, type ConfigFault } from '../config-file.ts'
import { urlFault } from '../secure-url.ts'

const strict = { additionalProperties: false }
const Id = (description: string) => Type.String({ description, pattern: '^[a-z0-9][a-z0-9-]{0,62}$' })
const Team = Type.String({ description: 'A team, or `*` for every team.', pattern: '^([A-Za-z0-9][A-Za-z0-9._-]{0,62}|\\*)$' })
const Teams = Type.Array(Team, { minItems: 1, maxItems: 1000 })
const pointerForm = '^(/([^~/]|~[01])+)+$'
const Pointer = (description: string) =>
  Type.String({ description: `${description} A JSON pointer, e.g. \`/kubernetes.io/namespace\`.`, pattern: pointerForm })
const attributeName = '^[A-Za-z][A-Za-z0-9_]{0,62}$'
const Seconds = (description: string, minimum: number, maximum: number, byDefault?: number) =>
  Type.Integer({ description, minimum, maximum, ...(byDefault === undefined ? {} : { default: byDefault }) })

const TokenEntrySchema = Type.Object({
  id: Id('Name of the token in logs and in the audit.'),
  sha256: Type.String({
    description: 'SHA-256 of the whole token in lower-case hex. `npm run token` prints it.', pattern: '^[0-9a-f]{64}$'
  }),
  teams: Teams,
  expiresAt: Type.Optional(Type.String({ description: 'ISO 8601 with a time zone. From then on the token is refused.', maxLength: 40 })),
  attributes: Type.Optional(Type.Record(Type.String({ pattern: attributeName }), Type.String({ maxLength: 1024 }), {
    ...strict,
    description: 'Attributes for guardrails.'
  }))
}, strict)
export type TokenEntry = Static<typeof TokenEntrySchema>

const Algorithm = Type.Union([
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'
].map(name => Type.Literal(name)), {
  description: 'Asymmetric algorithms only: with HS*, the issuer would have to share its secret with this service.'
})
const Scalar = Type.Union([Type.String(), Type.Number(), Type.Boolean()])
const Expected = Type.Union([Scalar, Type.Array(Scalar, { minItems: 1 })])

export const IssuerEntrySchema = Type.Object({
  name: Id('Name of the issuer in identities: `oidc:<name>#<sub>`.'),
  issuer: Type.String({ description: 'The exact `iss` of its tokens.', minLength: 1, maxLength: 2048 }),
  audience: Type.String({ description: 'The only `aud` that its tokens may have.', minLength: 1, maxLength: 2048 }),
  jwksUri: Type.Optional(Type.String({ description: 'URL of its keys. Default: found by OpenID Connect discovery.', maxLength: 2048 })),
  algorithms: Type.Optional(Type.Array(Algorithm, { minItems: 1, default: ['RS256', 'PS256', 'ES256', 'EdDSA'] })),
  clockSkewSeconds: Type.Optional(Seconds('Tolerance for exp, nbf and iat.', 0, 300, 30)),
  maxTokenAgeSeconds: Type.Optional(Seconds('Highest age of a token, by its iat, which is then required.', 1, 31_536_000)),
  requiredClaims: Type.Optional(Type.Record(Type.String({ pattern: pointerForm }), Expected, {
    ...strict,
    description: 'JSON pointer to the required value, or to a list of accepted values. A claim that is a list must contain one.'
  })),
  team: Type.Object({
    claim: Pointer('The claim with the team: a string or a list of strings.'),
    map: Type.Optional(Type.Record(Type.String(), Teams, {
      description: 'From a value of the claim to teams. A value that is not in the map gives no team. Without a map, the value itself is ' +
        'the team.'
    }))
  }, strict),
  attributes: Type.Optional(Type.Record(Type.String({ pattern: attributeName }), Pointer('The claim.'), {
    ...strict,
    description: 'Attributes for guardrails. `issuer` is always set to the name above.'
  })),
  requiredAttributes: Type.Optional(Type.Array(Type.String({ pattern: attributeName }), {
    minItems: 1,
    description: 'Names of attributes without which a token is refused. A missing or null claim of the others gives no attribute, so ' +
      'that a rule on its absence applies.'
  })),
  caFile: Type.Optional(
    Type.String({ description: 'PEM file of the certificate authority of the issuer, instead of the system’s.', minLength: 1 })
  ),
  bearerFile: Type.Optional(
    Type.String({ description: 'File with a bearer token for the issuer’s key URL. Read at every fetch.', minLength: 1 })
  ),
  cacheSeconds: Type.Optional(Seconds('How long keys are used before they are fetched again.', 30, 86_400, 600)),
  cooldownSeconds: Type.Optional(Seconds('How long after a fetch an unknown key id causes no new fetch.', 1, 3600, 30)),
  timeoutSeconds: Type.Optional(Seconds('How long the service waits for the issuer’s answer.', 1, 30, 5))
}, strict)
export type IssuerEntry = Static<typeof IssuerEntrySchema>

export const IdentityConfigSchema = Type.Object({
  tokens: Type.Array(TokenEntrySchema, { default: [] }),
  issuers: Type.Array(IssuerEntrySchema, { default: [] })
}, { ...strict, title: 'IdentityConfig', description: 'Who may call the service: static tokens and OIDC issuers.' })
export type IdentityConfig = Static<typeof IdentityConfigSchema>

const instant = /^(\d{4}-\d\d-\d\d)T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/

function isInstant (text: string): boolean {
  const day = instant.exec(text)?.[1]
  if (day === undefined || Number.isNaN(Date.parse(text))) return false
  // Date.parse reads 30 February as 2 March.
  return new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)
}

/** All faults of an identity config. Reads no file. */
export const identityFaults = (config: unknown): ConfigFault[] =>
  configFaults(IdentityConfigSchema, config, ({ tokens, issuers }) => [...tokenFaults(tokens), ...issuerFaults(issuers)])

function tokenFaults (tokens: TokenEntry[]): ConfigFault[] {
  return [
    ...duplicates(tokens.map(({ id }) => id), index => `/tokens/${index}/id`),
    ...duplicates(tokens.map(({ sha256 }) => sha256), index => `/tokens/${index}/sha256`),
    ...tokens.flatMap(({ expiresAt, attributes }, index) => [
      ...(expiresAt === undefined || isInstant(expiresAt)
        ? []
        : [{ pointer: `/tokens/${index}/expiresAt`, message: 'is not a valid instant with a time zone' }]),
      ...reserved(attributes, `/tokens/${index}/attributes`)
    ])
  ]
}

function issuerFaults (issuers: IssuerEntry[]): ConfigFault[] {
  return [
    ...duplicates(issuers.map(({ name }) => name), index => `/issuers/${index}/name`),
    ...duplicates(issuers.map(({ issuer }) => issuer), index => `/issuers/${index}/issuer`),
    ...issuers.flatMap(({ issuer, jwksUri, team, attributes, requiredAttributes = [] }, index) => {
      const at = `/issuers/${index}`
      const fault = urlFault(jwksUri ?? issuer)
      const pointer = jwksUri === undefined ? `${at}/issuer` : `${at}/jwksUri`
      return [
        ...(fault === undefined
          ? []
          : [{ pointer, message: `${fault}${jwksUri === undefined ? ', so its keys cannot be discovered; give jwksUri' : ''}` }]),
        ...(jwksUri === undefined && issuer.includes('?')
          ? [{ pointer, message: 'has a query, so its keys cannot be discovered; give jwksUri' }]
          : []),
        ...(team.map !== undefined && Object.keys(team.map).length === 0 ? [{ pointer: `${at}/team/map`, message: 'is empty' }] : []),
        ...reserved(attributes, `${at}/attributes`),
        ...requiredAttributes.flatMap((name, place) => Object.hasOwn(attributes ?? {}, name)
          ? []
          : [{ pointer: `${at}/requiredAttributes/${place}`, message: 'is no name in attributes' }])
      ]
    })
  ]
}

const reserved = (attributes: Record<string, string> | undefined, pointer: string): ConfigFault[] =>
  attributes && Object.hasOwn(attributes, 'issuer') ? [{ pointer: `${pointer}/issuer`, message: 'is set by the service itself' }] : []

function duplicates (values: string[], pointer: (index: number) => string): ConfigFault[] {
  return values.flatMap((value, index) => values.indexOf(value) === index ? [] : [{ pointer: pointer(index), message: 'is given twice' }])
}
