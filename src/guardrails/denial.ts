import type { Finding } from '../problems.ts'
import type { CedarAnswer } from './engine.ts'
import type { Action } from './schema.ts'

const job = (verb: string) => (jobId: string, team: string): string =>
  `${verb} job ${JSON.stringify(jobId)} of team ${JSON.stringify(team)}`
const keys = (verb: string) => (place: string): string => `${verb} ${JSON.stringify(place)}`

/** What was asked for, in words that can follow "forbids". */
export const subjectOf: Record<Action, (name: string, rest: string) => string> = {
  read: keys('reading'),
  write: keys('writing to'),
  delete: keys('deleting from'),
  setAcl: keys('setting ACLs in'),
  readVersions: keys('reading earlier versions of'),
  tag: keys('using tags in'),
  restore: keys('restoring archived objects of'),
  listNames: keys('listing names of the bucket beside'),
  listUploads: keys('listing all uploads of the bucket of'),
  issue: job('a grant for'),
  extend: job('changing the grant of'),
  join: job('joining as a worker of'),
  render: job('rendering a policy for'),
  collect: job('fetching the key of'),
  rotate: job('replacing the key of'),
  revoke: job('ending the grant of'),
  view: job('looking at the grant of'),
  list: team => `listing the grants of ${team === '*' ? 'all teams' : `team ${JSON.stringify(team)}`}`
}

/** The finding for a denial. It names the policies that decided and no other policy. */
export const denialFinding = (pointer: string, subject: string, source: string | null, { policies, faults }: CedarAnswer): Finding => {
  const what = source === null ? subject : `${subject} from ${source}`
  const finding = (detail: string, hint: string): Finding => ({ code: 'forbidden', pointer, detail, hint })
  if (faults.length > 0) {
    return finding(`The guardrails could not be evaluated for ${what}, so it is refused.`, 'The service’s log says why, for its operator.')
  }
  const hint = policies.find(policy => policy.hint !== null)?.hint ?? 'Ask the operator of this service, or ask for less.'
  const [first, ...others] = policies.map(({ id }) => `"${id}"`)
  if (first === undefined) return finding(`No policy permits ${what}.`, hint)
  if (others.length === 0) return finding(`Policy ${first} forbids ${what}.`, hint)
  return finding(`Policies ${[first, ...others].join(', ')} forbid ${what}.`, hint)
}
