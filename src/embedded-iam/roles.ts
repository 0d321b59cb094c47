import type { Account, Action, Role } from './account.ts'
import { fixedQuotas, quotaExceeded } from './account.ts'
import { boundaryOf, boundaryXml, setBoundary } from './boundaries.ts'
import { uniqueId } from './identifiers.ts'
import { description, documentOf, mergeTags, pathOf, roleName, tags, wholeNumber } from './params.ts'
import { checkDocument, countedSize, uriEncode } from './policy-document.ts'
import { Refusal } from './refusal.ts'
import { tagsXml } from './users.ts'
import { element, instant, optional } from './xml.ts'

export function findRole (account: Account, name: string): Role {
  const role = account.roles.get(name.toLowerCase())
  if (role?.name !== name) throw new Refusal('NoSuchEntity', `The role with name ${name} cannot be found.`)
  return role
}

export const roleActions: Record<string, Action> = {
  CreateRole (account, params) {
    const name = roleName(params)
    const path = pathOf(params)
    const given = tags(params)
    const text = description(params)
    const maxSessionSeconds = wholeNumber(params, 'MaxSessionDuration', 3600, 43_200) ?? 3600
    const boundary = params.PermissionsBoundary === undefined ? null : boundaryOf(account, params)
    const trust = documentOf(params, 'AssumeRolePolicyDocument')
    const trustStatements = checkDocument(trust, 'trust')
    if (countedSize(trust) > fixedQuotas.trustSize) throw quotaExceeded('ACLSizePerRole', fixedQuotas.trustSize)
    if (account.roles.has(name.toLowerCase())) throw new Refusal('EntityAlreadyExists', `Role with name ${name} already exists.`)
    if (account.roles.size >= account.quotas.roles) throw quotaExceeded('RolesPerAccount', account.quotas.roles)
    const role: Role = {
      kind: 'role',
      name,
      path,
      id: uniqueId('AROA'),
      arn: `arn:aws:iam::${account.id}:role${path}${name}`,
      createdAt: account.now(),
      tags: new Map(),
      boundary: null,
      inline: new Map(),
      description: text,
      trust,
      trustStatements,
      maxSessionSeconds
    }
    mergeTags(role.tags, given)
    setBoundary(role, boundary)
    account.roles.set(name.toLowerCase(), role)
    return roleXml(role)
  },

  GetRole: (account, params) => roleXml(findRole(account, roleName(params))),

  DeleteRole (account, params) {
    const role = findRole(account, roleName(params))
    if (role.inline.size > 0) throw new Refusal('DeleteConflict', 'Cannot delete entity, must delete policies first.')
    setBoundary(role, null)
    account.roles.delete(role.name.toLowerCase())
    return null
  }
}

function roleXml (role: Role): string {
  return `<Role>${element('Path', role.path)}${element('RoleName', role.name)}${element('RoleId', role.id)}${element('Arn', role.arn)}${
    instant('CreateDate', role.createdAt)}${element('AssumeRolePolicyDocument', uriEncode(role.trust))}${
    optional('Description', role.description)}${element('MaxSessionDuration', role.maxSessionSeconds)}${boundaryXml(role)}${
    role.tags.size > 0 ? tagsXml(role.tags.values()) : ''}</Role>`
}
