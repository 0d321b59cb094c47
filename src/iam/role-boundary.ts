import type { Iam } from './client.ts'
import type { RoleProfile } from './role-profile.ts'

/** What is wrong with the roles of revocable profiles: `unsafe` must not run, `unread` could not be checked. */
export interface RoleBoundaries { unsafe: string[], unread: Array<{ roleArn: string, err: unknown }> }

/**
 * Whoever may put policies on a role, and assume it, gets everything that the role's permissions boundary lets it have. So the role of a
 * revocable profile must have the boundary of the jobs' users.
 */
export const checkRoleBoundaries = async (
  iam: Pick<Iam, 'roleBoundary'>, profiles: Record<string, RoleProfile>, boundaryArn: string, until: number
): Promise<RoleBoundaries> => {
  const found: RoleBoundaries = { unsafe: [], unread: [] }
  const roles = new Set(Object.values(profiles).flatMap(({ revocable, roleArn }) => revocable && roleArn !== null ? [roleArn] : []))
  for (const roleArn of roles) {
    try {
      const boundary = await iam.roleBoundary(roleArn.slice(roleArn.lastIndexOf('/') + 1), until)
      if (boundary === boundaryArn) continue
      found.unsafe.push(`${roleArn} has ${boundary === null ? 'no permissions boundary' : `the boundary ${boundary}`}`)
    } catch (err) {
      found.unread.push({ roleArn, err })
    }
  }
  return found
}
