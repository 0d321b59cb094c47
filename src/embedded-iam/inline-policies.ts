import type { Account, Action, Entity } from './account.ts'
import { fixedQuotas } from './account.ts'
import { pageOfFew } from './paging.ts'
import type { Params } from './params.ts'
import { documentOf, policyName, roleName, userName } from './params.ts'
import { checkDocument, countedSize, uriEncode } from './policy-document.ts'
import { Refusal } from './refusal.ts'
import { findRole } from './roles.ts'
import { element, list } from './xml.ts'
import { findUser } from './users.ts'

/** The same four actions for users and for roles. */
export const inlinePolicyActions: Record<string, Action> = {
  PutUserPolicy: (account, params) => put(userOf(account, params), params, fixedQuotas.userInlineSize),
  GetUserPolicy: (account, params) => get(userOf(account, params), params, 'UserName'),
  ListUserPolicies: (account, params) => listed(userOf(account, params), params),
  DeleteUserPolicy: (account, params) => remove(userOf(account, params), params),
  PutRolePolicy: (account, params) => put(roleOf(account, params), params, fixedQuotas.roleInlineSize),
  GetRolePolicy: (account, params) => get(roleOf(account, params), params, 'RoleName'),
  ListRolePolicies: (account, params) => listed(roleOf(account, params), params),
  DeleteRolePolicy: (account, params) => remove(roleOf(account, params), params)
}

function put (entity: Entity, params: Params, quota: number): null {
  const name = policyName(params)
  const document = documentOf(params, 'PolicyDocument')
  checkDocument(document, 'identity')
  const replaced = findName(entity, name)
  let size = countedSize(document)
  for (const [other, text] of entity.inline) {
    if (other !== replaced) size += countedSize(text)
  }
  if (size > quota) {
    throw new Refusal('LimitExceeded', `Maximum policy size of ${quota} bytes exceeded for ${entity.kind} ${entity.name}`)
  }
  entity.inline.set(replaced ?? name, document)
  return null
}

function get (entity: Entity, params: Params, nameKey: string): string {
  const { name, document } = find(entity, params)
  return element(nameKey, entity.name) + element('PolicyName', name) + element('PolicyDocument', uriEncode(document))
}

function listed (entity: Entity, params: Params): string {
  const { items, trailer } = pageOfFew(params, entity.inline.keys(), (name) => name)
  return list('PolicyNames', items) + trailer
}

function remove (entity: Entity, params: Params): null {
  entity.inline.delete(find(entity, params).name)
  return null
}

function find (entity: Entity, params: Params): { name: string, document: string } {
  const name = policyName(params)
  const document = entity.inline.get(name)
  if (document === undefined) {
    throw new Refusal('NoSuchEntity', `The ${entity.kind} policy with name ${name} cannot be found.`)
  }
  return { name, document }
}

/** The name under which the entity has this policy already, whatever its case. */
function findName (entity: Entity, name: string): string | undefined {
  if (entity.inline.has(name)) return name
  return Array.from(entity.inline.keys()).find((held) => held.toLowerCase() === name.toLowerCase())
}

const userOf = (account: Account, params: Params): Entity => findUser(account, userName(params))
const roleOf = (account: Account, params: Params): Entity => findRole(account, roleName(params))
