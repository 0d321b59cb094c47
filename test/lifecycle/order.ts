import type { Test } from 'tap'
import type { Grant } from '../../src/domain/grant.ts'
import type { PolicyDocument } from '../../src/domain/policy-document.ts'
import type { Delivery } from '../../src/lifecycle/provision.ts'
import { canonicalJson } from '../../src/policy/measure.ts'
import { arnOf, identityOf, rows, type World } from './world.ts'

/**
 * What must hold once the sweepers have had their time: the provider has what the ledger says and nothing else. Every line
 * of the answer is one thing that is not in order.
 */
export const disorder = async (w: World): Promise<string[]> => {
  const grants = await rows(w)
  return w.accounts.flatMap(account => disorderIn(w.at(account), grants.filter(({ principal }) => principal.account === account)))
}

const disorderIn = (w: World, grants: Grant[]): string[] => {
  const { users, policies } = w.iam.state
  const byName = new Map(grants.map(grant => [grant.principal.name, grant]))
  return [
    ...users.flatMap(user => {
      const grant = byName.get(user.name)
      return grant?.state === 'active' ? [] : [`user ${user.name} with ${user.keys.length} keys, grant ${grant?.state ?? 'unknown'}`]
    }),
    ...policies.flatMap(({ name }) => {
      const grant = byName.get(name)
      return grant?.state === 'active' ? [] : [`policy ${name}, grant ${grant?.state ?? 'unknown'}`]
    }),
    ...grants.flatMap(grant => faultsOf(w, grant))
  ]
}

const faultsOf = ({ iam, clock }: World, grant: Grant): string[] => {
  const { id, state, principal, attach } = grant
  const faults: string[] = []
  const fault = (text: string) => faults.push(`${id} ${text}`)
  const user = iam.state.user(principal.name)
  const asScheduled = state === 'pending' && grant.issueAt !== null && grant.issueAt > clock.now
  if ((state === 'pending' && !asScheduled) || state === 'revoking') fault(`is still ${state}`)
  if (state !== 'active') return faults
  if (grant.maxWorkers !== null) {
    const shared = iam.state.policies.find(({ name }) => name === principal.name)
    if (grant.spec.shared && !shared) fault('is active and its workers have no policy to share')
    if (shared && canonicalJson(documentOf(shared)) !== canonicalJson(grant.policy)) fault('shares another policy than the ledger says')
    return faults
  }
  if (attach === 'session') return faults
  if (!user) return [...faults, `${id} is active and has no user`]
  const known = [grant.accessKeyId, grant.previousKeyId].filter(key => key !== null)
  const held = user.keys.map(key => key.id)
  for (const key of held) if (!known.includes(key)) fault(`has key ${key}, which the ledger does not know`)
  // IAM decides over all policies of a user together.
  const attached = iam.state.policies.filter(({ attachedTo }) => attachedTo.includes(principal.name)).map(documentOf)
  const inline = Object.values(user.inline).map(text => JSON.parse(text) as PolicyDocument)
  const Statement = [...attached, ...inline].flatMap(({ Statement }) => Statement)
  if (Statement.length === 0) fault('is active and its user has no policy')
  else if (canonicalJson({ ...grant.policy, Statement }) !== canonicalJson(grant.policy)) fault('has another policy than the ledger says')
  return faults
}

const documentOf = ({ versions, defaultVersion }: World['iam']['state']['policies'][number]): PolicyDocument =>
  JSON.parse(versions[defaultVersion] ?? '')

/** A whole grant: its key works, its policy is in force, the ledger knows both. */
export const whole = async (t: Test, w: World, { grant, credentials }: Delivery): Promise<void> => {
  const stored = await w.store.get(grant.id)
  t.equal(stored?.state, 'active', 'the ledger says active')
  t.equal(stored?.accessKeyId, credentials?.accessKeyId, 'with this key')
  t.ok(credentials, 'there are credentials')
  t.equal(await identityOf(w.at(grant.principal.account), credentials), arnOf(grant), 'and the key works')
}

/** Nothing that anybody wrote down holds a secret. */
export const noSecret = async (t: Test, w: World): Promise<void> => {
  const grants = await rows(w)
  const events = await Promise.all(grants.map(({ id }) => w.store.events(id)))
  const written = [JSON.stringify(grants), JSON.stringify(events), ...w.log].join('\n')
  t.ok(w.secrets.size > 0 || written.length > 0)
  t.same([...w.secrets].filter(secret => written.includes(secret)), [], 'no secret in ledger, events or log')
}

/** Watches how many users with keys one job, or one of its workers, has at a time. `rearm` after every clearing of the faults. */
export const watchUsers = ({ iam }: World): { most: () => number, rearm: () => void } => {
  let most = 0
  const look = () => {
    const jobs = new Map<string, number>()
    for (const { keys, tags } of iam.state.users) {
      const job = `${tags['job-access:job'] ?? ''} ${tags['job-access:worker'] ?? ''}`
      if (keys.length > 0) jobs.set(job, (jobs.get(job) ?? 0) + 1)
    }
    most = Math.max(most, ...jobs.values())
  }
  const rearm = () => { iam.faults.on({}, { kind: 'run', after: look }) }
  rearm()
  return { most: () => most, rearm }
}

/**
 * Watches after every call that nobody holds a key that its job's policy allows something, and that no policy of its own binds to its
 * source. A key is held once the ledger names it. `rearm` after every clearing of the faults.
 */
export const watchSources = (w: World): { unbound: () => string[], rearm: () => void } => {
  const unbound = new Set<string>()
  const look = async () => {
    const { users, policies } = w.iam.state
    const open = users.filter(({ name, inline }) => Object.keys(inline).length === 0 && policies.some(({ attachedTo, name: policy }) =>
      attachedTo.includes(name) && policy !== name))
    if (open.length === 0) return
    const held = new Set((await rows(w)).flatMap(({ accessKeyId, previousKeyId }) => [accessKeyId, previousKeyId]))
    for (const { id } of open.flatMap(({ keys }) => keys)) if (held.has(id)) unbound.add(id)
  }
  const rearm = () => { w.iam.faults.on({}, { kind: 'run', after: look }) }
  rearm()
  return { unbound: () => [...unbound], rearm }
}
