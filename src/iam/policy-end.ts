import type { PolicyDocument } from '../domain/policy-document.ts'

/** The latest instant at which a policy of ours, as IAM returns it, still allows anything. Epoch ms; undefined: it states none. */
export const policyEnd = (text: string): number | undefined => {
  const { Statement } = JSON.parse(text) as PolicyDocument
  const time = (sid: string | undefined, operator: string) => Statement
    .filter(statement => sid === undefined ? statement.Effect === 'Allow' : statement.Sid === sid)
    .flatMap(statement => statement.Condition?.[operator]?.['aws:CurrentTime'] ?? [])
    .map(instant => Date.parse(instant))
  const ends = [...time('DenyAfterEnd', 'DateGreaterThanEquals')]
  if (ends.length === 0) ends.push(...time(undefined, 'DateLessThan'))
  return latest(ends)
}

/** Of several policies on one principal; undefined: none states an end. */
export const latest = (ends: Array<number | undefined>): number | undefined => {
  const stated = ends.filter(end => end !== undefined)
  return stated.length > 0 ? Math.max(...stated) : undefined
}
