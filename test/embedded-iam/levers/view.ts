import type { Account, Key } from '../../../src/embedded-iam/account.ts'
import { statusOf } from '../../../src/embedded-iam/keys.ts'

/** What the account holds, for tests: copies, and no secret. */
export interface State {
  readonly userCount: number
  readonly keyCount: number
  /** Sorted by path and name. */
  readonly users: UserView[]
  readonly policies: PolicyView[]
  readonly roles: RoleView[]
  /** Keys of users, not of the admin and of role sessions. */
  readonly keys: KeyView[]
  user: (name: string) => UserView | null
}

export interface UserView {
  name: string
  path: string
  arn: string
  createdAt: string
  tags: Record<string, string>
  /** ARN of the permissions boundary. */
  boundary: string | null
  /** Policy documents, as they were put, by policy name. */
  inline: Record<string, string>
  /** ARNs. */
  attached: string[]
  keys: KeyView[]
}

export interface KeyView { id: string, user: string, status: 'Active' | 'Inactive', createdAt: string }

export interface PolicyView {
  arn: string
  name: string
  path: string
  /** Documents by version id. */
  versions: Record<string, string>
  defaultVersion: string
  /** Names of users. */
  attachedTo: string[]
}

export interface RoleView { name: string, path: string, arn: string, inline: Record<string, string> }

export function viewOf (account: () => Account): State {
  const users = function * (): Generator<UserView> {
    for (const [, user] of account().usersByPath.from('')) {
      yield {
        name: user.name,
        path: user.path,
        arn: user.arn,
        createdAt: user.createdAt.toISOString(),
        tags: Object.fromEntries(Array.from(user.tags.values(), ({ key, value }) => [key, value])),
        boundary: user.boundary?.arn ?? null,
        inline: Object.fromEntries(user.inline),
        attached: Array.from(user.attached, ({ arn }) => arn),
        keys: user.keys.map((key) => keyView(key, user.name))
      }
    }
  }
  return {
    get userCount () { return account().users.size },
    get keyCount () { return Array.from(account().users.values()).reduce((sum, { keys }) => sum + keys.length, 0) },
    get users () { return Array.from(users()) },
    get keys () { return Array.from(users()).flatMap(({ keys }) => keys) },
    get policies () {
      return Array.from(account().policies.values()).filter(({ aws }) => !aws).map((policy) => ({
        arn: policy.arn,
        name: policy.name,
        path: policy.path,
        versions: Object.fromEntries(policy.versions.map(({ id, document }) => [id, document])),
        defaultVersion: policy.versions.find(({ isDefault }) => isDefault)?.id ?? '',
        attachedTo: Array.from(policy.users, ({ name }) => name)
      }))
    },
    get roles () {
      return Array.from(account().roles.values(), ({ name, path, arn, inline }) =>
        ({ name, path, arn, inline: Object.fromEntries(inline) }))
    },
    user: (name) => Array.from(users()).find((user) => user.name === name) ?? null
  }
}

function keyView (key: Key, user: string): KeyView {
  return { id: key.id, user, status: statusOf(key), createdAt: key.createdAt.toISOString() }
}
