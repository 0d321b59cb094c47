import type { Account, Action, Policy, PolicyVersion } from './account.ts'
import { fixedQuotas, quotaExceeded } from './account.ts'
import { uniqueId } from './identifiers.ts'
import { pageOf, pageOfFew } from './paging.ts'
import type { Params } from './params.ts'
import { arn, description, documentOf, flag, mergeTags, oneOf, param, pathOf, pathPrefixOf, policyName, tags, userName } from './params.ts'
import { checkDocument, countedSize, uriEncode } from './policy-document.ts'
import { Refusal } from './refusal.ts'
import { element, instant, list, optional } from './xml.ts'
import { findUser, tagsXml } from './users.ts'

/** The few of AWS's own policies that this server knows: enough for a boundary and for an attachment. */
const awsPolicies = {
  AdministratorAccess: '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
  AmazonS3FullAccess: '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}',
  AmazonS3ReadOnlyAccess: '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"*"}]}'
}

export function addAwsPolicies (account: Account): void {
  for (const [name, document] of Object.entries(awsPolicies)) {
    add(account, newPolicy(name, '/', `arn:aws:iam::aws:policy/${name}`, document, new Date(0), true))
  }
}

export const policyActions: Record<string, Action> = {
  CreatePolicy (account, params) {
    const name = policyName(params)
    const path = pathOf(params)
    const text = description(params)
    const given = tags(params)
    const document = managedDocument(params)
    if (account.policyNames.has(name.toLowerCase())) {
      throw new Refusal('EntityAlreadyExists', `A policy called ${name} already exists. Duplicate names are not allowed.`)
    }
    if (account.policyNames.size >= account.quotas.policies) throw quotaExceeded('PoliciesPerAccount', account.quotas.policies)
    const policy = newPolicy(name, path, `arn:aws:iam::${account.id}:policy${path}${name}`, document, account.now(), false)
    policy.description = text
    mergeTags(policy.tags, given)
    add(account, policy)
    return `<Policy>${policyXml(policy)}${given.length > 0 ? tagsXml(policy.tags.values()) : ''}</Policy>`
  },

  GetPolicy (account, params) {
    const policy = findPolicy(account, params)
    return `<Policy>${policyXml(policy)}${optional('Description', policy.description)}${tagsXml(policy.tags.values())}</Policy>`
  },

  ListPolicies (account, params) {
    const scope = oneOf(params, 'Scope', ['All', 'AWS', 'Local']) ?? 'All'
    const usage = oneOf(params, 'PolicyUsageFilter', ['PermissionsPolicy', 'PermissionsBoundary'])
    const onlyAttached = flag(params, 'OnlyAttached')
    const prefix = pathPrefixOf(params)
    const keep = (policy: Policy): boolean => {
      const asPolicy = policy.users.size > 0
      const asBoundary = policy.bounds.size > 0
      return policy.path.startsWith(prefix) && (scope === 'All' || policy.aws === (scope === 'AWS')) &&
        (!onlyAttached || asPolicy || asBoundary) &&
        (usage !== 'PermissionsPolicy' || asPolicy) && (usage !== 'PermissionsBoundary' || asBoundary)
    }
    const { items, trailer } = pageOf(params, (key) => account.policiesByPath.from(key), prefix, keep,
      (key) => !key.startsWith(prefix))
    return list('Policies', items.map(policyXml)) + trailer
  },

  DeletePolicy (account, params) {
    const policy = findOwnPolicy(account, params)
    if (policy.users.size > 0 || policy.bounds.size > 0) {
      throw new Refusal('DeleteConflict', 'Cannot delete a policy attached to entities.')
    }
    if (policy.versions.length > 1) {
      throw new Refusal('DeleteConflict', 'This policy has more than one version. Before you delete a policy, you must delete ' +
        'the policy\'s versions. The default version is deleted with the policy.')
    }
    account.policies.delete(policy.arn)
    account.policyNames.delete(policy.name.toLowerCase())
    account.policiesByPath.delete(pathKey(policy))
    return null
  },

  CreatePolicyVersion (account, params) {
    const policy = findOwnPolicy(account, params)
    const document = managedDocument(params)
    const isDefault = flag(params, 'SetAsDefault')
    if (policy.versions.length >= fixedQuotas.versionsPerPolicy) {
      throw new Refusal('LimitExceeded', 'A managed policy can have up to 5 versions. Before you create a new version, ' +
        'you must delete an existing version.')
    }
    const version: PolicyVersion = { id: `v${policy.nextVersion++}`, document, isDefault, createdAt: account.now() }
    policy.versions.push(version)
    policy.updatedAt = version.createdAt
    if (isDefault) setDefault(policy, version)
    return `<PolicyVersion>${versionXml(version)}</PolicyVersion>`
  },

  GetPolicyVersion (account, params) {
    const version = findVersion(findPolicy(account, params), params)
    return `<PolicyVersion>${element('Document', uriEncode(version.document))}${versionXml(version)}</PolicyVersion>`
  },

  ListPolicyVersions (account, params) {
    const policy = findPolicy(account, params)
    const { items, trailer } = pageOfFew(params, policy.versions, ({ id }) => id.slice(1).padStart(9, '0'))
    return list('Versions', items.map(versionXml)) + trailer
  },

  SetDefaultPolicyVersion (account, params) {
    const policy = findOwnPolicy(account, params)
    setDefault(policy, findVersion(policy, params))
    policy.updatedAt = account.now()
    return null
  },

  DeletePolicyVersion (account, params) {
    const policy = findOwnPolicy(account, params)
    const version = findVersion(policy, params)
    if (version.isDefault) throw new Refusal('DeleteConflict', 'Cannot delete the default version of a policy.')
    policy.versions.splice(policy.versions.indexOf(version), 1)
    policy.updatedAt = account.now()
    return null
  },

  AttachUserPolicy (account, params) {
    const user = findUser(account, userName(params))
    const name = policyArn(params)
    const policy = account.policies.get(name)
    if (!policy) throw new Refusal('NoSuchEntity', `Policy ${name} does not exist or is not attachable.`)
    if (!user.attached.has(policy) && user.attached.size >= fixedQuotas.policiesPerUser) {
      throw quotaExceeded('PoliciesPerUser', fixedQuotas.policiesPerUser)
    }
    user.attached.add(policy)
    policy.users.add(user)
    return null
  },

  DetachUserPolicy (account, params) {
    const user = findUser(account, userName(params))
    const name = policyArn(params)
    const policy = account.policies.get(name)
    if (!policy || !user.attached.delete(policy)) throw new Refusal('NoSuchEntity', `Policy ${name} was not found.`)
    policy.users.delete(user)
    return null
  },

  ListAttachedUserPolicies (account, params) {
    const user = findUser(account, userName(params))
    const prefix = pathPrefixOf(params)
    const within = Array.from(user.attached).filter(({ path }) => path.startsWith(prefix))
    const { items, trailer } = pageOfFew(params, within, ({ name }) => name)
    return list('AttachedPolicies', items.map(({ name, arn }) => element('PolicyName', name) + element('PolicyArn', arn))) + trailer
  },

  ListEntitiesForPolicy (account, params) {
    const policy = findPolicy(account, params)
    const prefix = pathPrefixOf(params)
    const kind = oneOf(params, 'EntityFilter', ['User', 'Role', 'Group', 'LocalManagedPolicy', 'AWSManagedPolicy'])
    const usage = oneOf(params, 'PolicyUsageFilter', ['PermissionsPolicy', 'PermissionsBoundary'])
    const entities = new Set([
      ...(usage === 'PermissionsBoundary' ? [] : policy.users),
      ...(usage === 'PermissionsPolicy' ? [] : policy.bounds)
    ])
    const within = Array.from(entities).filter((entity) =>
      entity.path.startsWith(prefix) && (kind === null || kind.toLowerCase() === entity.kind))
    const { items, trailer } = pageOfFew(params, within, (entity) => `${entity.kind}/${entity.name}`)
    const users = items.filter((entity) => entity.kind === 'user')
    const roles = items.filter((entity) => entity.kind === 'role')
    return list('PolicyGroups', []) +
      list('PolicyUsers', users.map(({ name, id }) => element('UserName', name) + element('UserId', id))) +
      list('PolicyRoles', roles.map(({ name, id }) => element('RoleName', name) + element('RoleId', id))) + trailer
  }
}

function add (account: Account, policy: Policy): void {
  account.policies.set(policy.arn, policy)
  account.policiesByPath.set(pathKey(policy), policy)
  if (!policy.aws) account.policyNames.add(policy.name.toLowerCase())
}

/** A name of AWS's may be taken a second time in the account; no name holds a `#`. */
function pathKey (policy: Policy): string {
  return policy.path + policy.name + (policy.aws ? '#aws' : '')
}

function policyXml (policy: Policy): string {
  const version = policy.versions.find(({ isDefault }) => isDefault)
  return element('PolicyName', policy.name) + element('PolicyId', policy.id) + element('Arn', policy.arn) +
    element('Path', policy.path) + element('DefaultVersionId', version?.id ?? '') + element('AttachmentCount', policy.users.size) +
    element('PermissionsBoundaryUsageCount', policy.bounds.size) + element('IsAttachable', true) +
    instant('CreateDate', policy.createdAt) + instant('UpdateDate', policy.updatedAt)
}

function versionXml (version: PolicyVersion): string {
  return element('VersionId', version.id) + element('IsDefaultVersion', version.isDefault) + instant('CreateDate', version.createdAt)
}

function newPolicy (name: string, path: string, arn: string, document: string, createdAt: Date, aws: boolean): Policy {
  return {
    name,
    path,
    arn,
    id: uniqueId('ANPA'),
    description: null,
    createdAt,
    updatedAt: createdAt,
    tags: new Map(),
    versions: [{ id: 'v1', document, isDefault: true, createdAt }],
    nextVersion: 2,
    users: new Set(),
    bounds: new Set(),
    aws
  }
}

function managedDocument (params: Params): string {
  const document = documentOf(params, 'PolicyDocument')
  checkDocument(document, 'identity')
  if (countedSize(document) > fixedQuotas.policySize) throw quotaExceeded('PolicySize', fixedQuotas.policySize)
  return document
}

function policyArn (params: Params): string {
  const name = arn(params, 'PolicyArn')
  if (!/^arn:aws:iam::(?:\d{12}|aws):policy\/.+$/.test(name)) throw new Refusal('InvalidInput', `ARN ${name} is not valid.`)
  return name
}

function findPolicy (account: Account, params: Params): Policy {
  const name = policyArn(params)
  const policy = account.policies.get(name)
  if (!policy) throw new Refusal('NoSuchEntity', `Policy ${name} was not found.`)
  return policy
}

function findOwnPolicy (account: Account, params: Params): Policy {
  const policy = findPolicy(account, params)
  if (policy.aws) throw new Refusal('AccessDenied', `${policy.arn} is owned by AWS and cannot be changed.`)
  return policy
}

function findVersion (policy: Policy, params: Params): PolicyVersion {
  const id = param(params, 'VersionId')
  const version = policy.versions.find((candidate) => candidate.id === id)
  if (!version) throw new Refusal('NoSuchEntity', `Policy ${policy.arn} version ${id} does not exist or is not attachable.`)
  return version
}

function setDefault (policy: Policy, version: PolicyVersion): void {
  for (const each of policy.versions) each.isDefault = each === version
}
