import type { Finding } from '../problems.ts'
import type { Answer } from './engine.ts'
import type { Action } from './schema.ts'

const job = (verb: string) => (jobId: string, team: string): string => `${verb} job ${JSON.stringify(jobId)} of team ${JSON.stringify(team)}`
const keys = (verb: string) => (bucket: string, prefix: string): string => `${verb} ${JSON.stringify(`${bucket}/${prefix}`)}`

/** What was asked, as it follows "forbids". */
export const subjectOf: Record<Action, (name: string, rest: string) => string> = {
  read: keys('reading'),
  write: keys('writing to'),
  delete: keys('deleting from'),
  setAcl: keys('setting ACLs in'),
  issue: job('a grant for'),
  extend: job('changing the grant of'),
  render: job('rendering a policy for'),
  collect: job('fetching the key of'),
  rotate: job('replacing the key of'),
  revoke: job('ending the grant of'),
  view: job('looking at the grant of'),
  list: team => `listing the grants of ${team === '*' ? 'all teams' : `team ${JSON.stringify(team)}`}`
}

/** Names the policies that decided and no others. */
export const wordDenial = (pointer: string, subject: string, source: string | null, { policies, faults }: Answer): Finding => {
  const what = source === null ? subject : `${subject} from ${source}`
  const hint = policies.find(policy => policy.hint !== null)?.hint
  return {
    code: 'forbidden',
    pointer,
    detail: faults.length > 0
      ? `The guardrails could not be evaluated for ${what}, so it is refused.`
      : policies.length === 0
        ? `No policy permits ${what}.`
        : `${policies.length === 1 ? 'Policy' : 'Policies'} ${policies.map(({ id }) => `"${id}"`).join(', ')} ` +
          `${policies.length === 1 ? 'forbids' : 'forbid'} ${what}.`,
    hint: hint ?? (faults.length > 0 ? 'The service’s log says why, for its operator.' : 'Ask the operator of this service, or ask for less.')
  }
}
