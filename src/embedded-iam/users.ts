import type { Account, Action, User } from './account.ts'
import { quotaExceeded } from './account.ts'
import { boundaryOf, boundaryXml, setBoundary } from './boundaries.ts'
import { uniqueId } from './identifiers.ts'
import { pageOf, pageOfFew } from './paging.ts'
import type { Tag } from './params.ts'
import { members, mergeTags, pathOf, pathPrefixOf, tags, userName } from './params.ts'
import { Refusal } from './refusal.ts'
import { element, instant, list } from './xml.ts'

export function findUser (account: Account, name: string): User {
  const user = account.users.get(name.toLowerCase())
  if (user?.name !== name) throw new Refusal('NoSuchEntity', `The user with name ${name} cannot be found.`, true)
  return user
}

export const userActions: Record<string, Action> = {
  CreateUser (account, params) {
    const name = userName(params)
    const path = pathOf(params)
    const given = tags(params)
    const boundary = params.PermissionsBoundary === undefined ? null : boundaryOf(account, params)
    refuseTaken(account, name)
    if (account.users.size >= account.quotas.users) throw quotaExceeded('UsersPerAccount', account.quotas.users)
    const user: User = {
      kind: 'user',
      name,
      path,
      id: uniqueId('AIDA'),
      arn: arnOf(account, path, name),
      createdAt: account.now(),
      tags: new Map(),
      boundary: null,
      inline: new Map(),
      attached: new Set(),
      keys: []
    }
    mergeTags(user.tags, given)
    setBoundary(user, boundary)
    insert(account, user)
    return `<User>${userXml(user)}${boundaryXml(user)}${given.length > 0 ? tagsXml(user.tags.values()) : ''}</User>`
  },

  GetUser (account, params, caller) {
    if (params.UserName === undefined && caller.owner.kind !== 'user') {
      throw new Refusal('ValidationError', 'Must specify userName when calling with non-User credentials')
    }
    const user = findUser(account, userName(params))
    return `<User>${userXml(user)}${boundaryXml(user)}${user.tags.size > 0 ? tagsXml(user.tags.values()) : ''}</User>`
  },

  UpdateUser (account, params) {
    const user = findUser(account, userName(params))
    const name = params.NewUserName === undefined ? user.name : userName(params, 'NewUserName')
    const path = params.NewPath === undefined ? user.path : pathOf(params, 'NewPath')
    if (name.toLowerCase() !== user.name.toLowerCase()) refuseTaken(account, name)
    remove(account, user)
    user.name = name
    user.path = path
    user.arn = arnOf(account, path, name)
    insert(account, user)
    return null
  },

  DeleteUser (account, params) {
    const user = findUser(account, userName(params))
    if (user.attached.size > 0) throw conflict('detach all policies')
    if (user.inline.size > 0) throw conflict('delete policies')
    if (user.keys.length > 0) throw conflict('delete access keys')
    setBoundary(user, null)
    remove(account, user)
    return null
  },

  // Neither tags nor the boundary: https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListUsers.html
  ListUsers (account, params) {
    const prefix = pathPrefixOf(params)
    const { items, trailer } = pageOf(params, (key) => account.usersByPath.from(key), prefix,
      (user) => user.path.startsWith(prefix), (key) => !key.startsWith(prefix))
    return list('Users', items.map(userXml)) + trailer
  },

  TagUser (account, params) {
    const user = findUser(account, userName(params))
    mergeTags(user.tags, tags(params))
    return null
  },

  UntagUser (account, params) {
    const user = findUser(account, userName(params))
    for (const key of members(params, 'TagKeys')) user.tags.delete(key.toLowerCase())
    return null
  },

  ListUserTags (account, params) {
    const user = findUser(account, userName(params))
    const { items, trailer } = pageOfFew(params, user.tags.values(), ({ key }) => key.toLowerCase())
    return tagsXml(items) + trailer
  },

  PutUserPermissionsBoundary (account, params) {
    const user = findUser(account, userName(params))
    setBoundary(user, boundaryOf(account, params))
    return null
  },

  DeleteUserPermissionsBoundary (account, params) {
    setBoundary(findUser(account, userName(params)), null)
    return null
  },

  ListGroupsForUser (account, params) {
    findUser(account, userName(params))
    return list('Groups', []) + element('IsTruncated', false)
  }
}

export function tagsXml (tags: Iterable<Tag>): string {
  return list('Tags', Array.from(tags, ({ key, value }) => element('Key', key) + element('Value', value)))
}

function userXml (user: User): string {
  return element('Path', user.path) + element('UserName', user.name) + element('UserId', user.id) +
    element('Arn', user.arn) + instant('CreateDate', user.createdAt)
}

function refuseTaken (account: Account, name: string): void {
  if (account.users.has(name.toLowerCase())) throw new Refusal('EntityAlreadyExists', `User with name ${name} already exists.`)
}

function arnOf (account: Account, path: string, name: string): string {
  return `arn:aws:iam::${account.id}:user${path}${name}`
}

function insert (account: Account, user: User): void {
  account.users.set(user.name.toLowerCase(), user)
  account.usersByPath.set(user.path + user.name, user)
}

function remove (account: Account, user: User): void {
  account.users.delete(user.name.toLowerCase())
  account.usersByPath.delete(user.path + user.name)
}

function conflict (first: string): Refusal {
  return new Refusal('DeleteConflict', `Cannot delete entity, must ${first} first.`)
}
