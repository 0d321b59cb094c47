import type { PrincipalPlan, PrincipalProvisioner } from './provisioner.ts'

/** What the service vouches for of a principal, and may offer as a tag to the policies of others. */
export const abacTags = ['team', 'job'] as const
export type AbacTag = (typeof abacTags)[number]

/**
 * Also gives principals the tags `team` and `job` by these names, for policies that test aws:PrincipalTag/team. Without it no tag of a
 * principal has a name that such a policy may trust: those of the service begin with `job-access:`, those of a caller with `job-label:`.
 */
export const withAbacTags = (provisioner: PrincipalProvisioner, offered: readonly AbacTag[]): PrincipalProvisioner => {
  if (offered.length === 0) return provisioner
  const tagged = (plan: PrincipalPlan): PrincipalPlan => {
    const vouched = offered.map((name): [string, string] => [name, plan.tags[`job-access:${name}`] ?? ''])
    return { ...plan, tags: { ...plan.tags, ...Object.fromEntries(vouched) } }
  }
  return {
    ...provisioner,
    create: (plan, until) => provisioner.create(tagged(plan), until),
    // A further session of a grant has tags of its own.
    mintKey: (plan, keep, until) => provisioner.mintKey(tagged(plan), keep, until)
  }
}
