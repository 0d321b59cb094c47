import type { Account, Entity, Policy } from './account.ts'
import type { Params } from './params.ts'
import { arn } from './params.ts'
import { Refusal } from './refusal.ts'
import { element } from './xml.ts'

/** The policy that a call names as a permissions boundary. */
export function boundaryOf (account: Account, params: Params): Policy {
  const name = arn(params, 'PermissionsBoundary')
  const policy = account.policies.get(name)
  if (!policy) throw new Refusal('NoSuchEntity', `Scope ARN: ${name} does not exist or is not attachable.`)
  return policy
}

export function setBoundary (entity: Entity, boundary: Policy | null): void {
  entity.boundary?.bounds.delete(entity)
  entity.boundary = boundary
  boundary?.bounds.add(entity)
}

export function boundaryXml ({ boundary }: Entity): string {
  if (!boundary) return ''
  return `<PermissionsBoundary><PermissionsBoundaryType>Policy</PermissionsBoundaryType>${
    element('PermissionsBoundaryArn', boundary.arn)}</PermissionsBoundary>`
}
