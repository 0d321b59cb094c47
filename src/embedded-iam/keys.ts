import type { Action, Key, User } from './account.ts'
import { fixedQuotas, quotaExceeded } from './account.ts'
import * as identifiers from './identifiers.ts'
import { pageOfFew } from './paging.ts'
import { accessKeyId, oneOf, ownerName, param } from './params.ts'
import { Refusal } from './refusal.ts'
import { element, instant, list } from './xml.ts'
import { findUser } from './users.ts'

export const keyActions: Record<string, Action> = {
  CreateAccessKey (account, params) {
    const user = findUser(account, ownerName(params))
    if (user.keys.length >= fixedQuotas.keysPerUser) throw quotaExceeded('AccessKeysPerUser', fixedQuotas.keysPerUser)
    const createdAt = account.now()
    const key: Key = {
      id: identifiers.accessKeyId('AKIA', (id) => account.keys.has(id)),
      secret: identifiers.secretAccessKey(),
      active: true,
      createdAt,
      knownFrom: createdAt.getTime() + account.keyDelayMs,
      lastUsed: null,
      owner: { kind: 'user', user },
      signing: new Map()
    }
    user.keys.push(key)
    account.keys.set(key.id, key)
    return `<AccessKey>${element('UserName', user.name)}${element('AccessKeyId', key.id)}${element('Status', 'Active')}${
      element('SecretAccessKey', key.secret)}${instant('CreateDate', createdAt)}</AccessKey>`
  },

  ListAccessKeys (account, params) {
    const user = findUser(account, ownerName(params))
    const { items, trailer } = pageOfFew(params, user.keys, ({ id }) => id)
    return list('AccessKeyMetadata', items.map((key) => element('UserName', user.name) + element('AccessKeyId', key.id) +
      element('Status', statusOf(key)) + instant('CreateDate', key.createdAt))) + trailer
  },

  UpdateAccessKey (account, params) {
    const user = findUser(account, ownerName(params))
    const id = accessKeyId(params)
    param(params, 'Status')
    const status = oneOf(params, 'Status', ['Active', 'Inactive'])
    findKey(user, id).active = status === 'Active'
    return null
  },

  DeleteAccessKey (account, params) {
    const user = findUser(account, ownerName(params))
    const key = findKey(user, accessKeyId(params))
    user.keys.splice(user.keys.indexOf(key), 1)
    account.keys.delete(key.id)
    return null
  },

  GetAccessKeyLastUsed (account, params) {
    const id = accessKeyId(params)
    const key = account.keys.get(id)
    if (key?.owner.kind !== 'user') throw notFound(id)
    const used = key.lastUsed
      ? instant('LastUsedDate', key.lastUsed.at) + element('ServiceName', key.lastUsed.service) + element('Region', key.lastUsed.region)
      : element('ServiceName', 'N/A') + element('Region', 'N/A')
    return `${element('UserName', key.owner.user.name)}<AccessKeyLastUsed>${used}</AccessKeyLastUsed>`
  }
}

export function statusOf (key: Key): 'Active' | 'Inactive' {
  return key.active ? 'Active' : 'Inactive'
}

function findKey (user: User, id: string): Key {
  const key = user.keys.find((candidate) => candidate.id === id)
  if (!key) throw notFound(id)
  return key
}

function notFound (id: string): Refusal {
  return new Refusal('NoSuchEntity', `The Access Key with id ${id} cannot be found.`)
}
