import { type Dialect } from './dialect.ts'

/** AWS itself, and what the others are compared with. */
export const aws: Dialect = {
  name: 'aws',
  principals: 'users',
  tagged: true,
  carriers: ['inline', 'managed', 'session'],
  limits: { inline: 2048, managed: 6144 },
  actions: 'any',
  operators: 'any',
  conditionKeys: 'any',
  denies: true,
  notResource: true,
  identityProbe: true
}
