import type { PrincipalRef } from '../domain/grant.ts'
import type { IamClientOptions } from './client.ts'
import { IamError } from './errors.ts'
import type { PrincipalProvisioner, SharedPolicies } from './provisioner.ts'

/**
 * One provisioner over those of several accounts: each call goes to the account that its principal names.
 * @param earlier where the principals are that name none: they were made when there was one account
 */
export const inAccounts = (accounts: ReadonlyMap<string, PrincipalProvisioner>, earlier: string | undefined): PrincipalProvisioner => {
  const of = ({ account = earlier }: PrincipalRef): PrincipalProvisioner => {
    const found = account === undefined ? undefined : accounts.get(account)
    // As if it did not answer: a replica with another configuration may know it. Nothing is asked, and nothing is taken for gone.
    if (!found) throw new IamError('unavailable', 'account', 'NotConfigured', account)
    return found
  }
  const all = [...accounts.values()]
  const sharing = (ref: PrincipalRef): SharedPolicies => {
    const { shared } = of(ref)
    if (!shared) throw new IamError('unsupported', 'CreatePolicyVersion', 'NoManagedPolicies', undefined)
    return shared
  }
  return {
    create: async (plan, until) => of(plan.ref).create(plan, until),
    replacePolicy: async (ref, ...rest) => of(ref).replacePolicy(ref, ...rest),
    mintKey: async (plan, ...rest) => of(plan.ref).mintKey(plan, ...rest),
    deleteKey: async (ref, ...rest) => of(ref).deleteKey(ref, ...rest),
    pruneKeys: async (ref, ...rest) => of(ref).pruneKeys(ref, ...rest),
    keys: async (ref, until) => of(ref).keys(ref, until),
    teardown: async (target, until) => of(target.ref).teardown(target, until),
    discard: async (ref, until) => of(ref).discard(ref, until),
    exists: async (ref, until) => of(ref).exists(ref, until),
    ready: async (ref, ...rest) => of(ref).ready(ref, ...rest),
    policyEnd: async (ref, until) => of(ref).policyEnd(ref, until),
    async * list (until) { for (const account of all) yield * account.list(until) },
    ping: async until => { await Promise.any(all.map(account => account.ping(until))) },
    ...(all.every(({ shared }) => shared) && {
      shared: {
        create: async (ref, ...rest) => sharing(ref).create(ref, ...rest),
        replace: async (ref, ...rest) => sharing(ref).replace(ref, ...rest),
        remove: async (ref, ...rest) => sharing(ref).remove(ref, ...rest),
        has: async (ref, ...rest) => sharing(ref).has(ref, ...rest),
        async * list (until) { for (const { shared } of all) if (shared) yield * shared.list(until) },
        end: async (ref, until) => sharing(ref).end(ref, until)
      }
    })
  }
}

/** What the calls to an account tell of it. */
export interface Health {
  heard: NonNullable<IamClientOptions['onCall']>
  /**
   * False: its last call failed for a reason of its own, or it refused to make something lately. It may have recovered since.
   * With a role, also where that role was refused lately: which is its trouble alone.
   */
  isWell: (roleArn?: string | null) => boolean
}

/** The calls that a quota or a missing right of the account refuses, before anything of a grant is there. */
const making = ['CreateUser', 'CreatePolicy', 'AssumeRole']
/** Also made with the key of a job, which may be unknown yet. */
const asked = ['GetCallerIdentity', 'GetUser']
/** A quota or a right that was changed is found again after this. */
const refusedMs = 60_000

export const healthOf = (now: () => number): Health => {
  let isDown = false
  /** By role; the account itself is ''. */
  const refusedUntil = new Map<string, number>()
  const isRefused = (what: string) => now() < (refusedUntil.get(what) ?? -Infinity)
  return {
    heard ({ operation, outcome, roleArn = '' }) {
      isDown = outcome === 'unavailable' || (outcome === 'credentials' && !asked.includes(operation))
      if (!making.includes(operation)) return
      if (outcome === 'ok') refusedUntil.delete(roleArn)
      if (outcome === 'limit' || outcome === 'denied') refusedUntil.set(roleArn, now() + refusedMs)
    },
    isWell: roleArn => !isDown && !isRefused('') && !isRefused(roleArn ?? '')
  }
}
